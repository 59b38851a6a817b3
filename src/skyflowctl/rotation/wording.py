"""What a rotation has to say, in the three lines of every problem."""

from collections.abc import Iterable

from skyflowctl.errors import Problem, Refused, SkyflowctlError
from skyflowctl.vault.answers import RoleProof
from skyflowctl.vault.live import HistoryEntry, LiveRotation

UNCHANGED = "unchanged-credential"

_THREE_WAYS = (
    "put a new key behind the reference, or name one with --credentials REF, "
    "or have one made with --generate"
)


def unchanged(path: str, key_id: str) -> Refused:
    """The reference holds the key that is live."""
    return Refused(
        f"nothing to rotate to: {path}",
        why=f"the reference holds key {key_id}, which is live already",
        fix=_THREE_WAYS,
        code=UNCHANGED,
    )


def no_source(path: str) -> Refused:
    """Nobody said where the new credential comes from."""
    return Refused(
        f"nothing to rotate to: {path}",
        why="no new credential was named, and the manifest names none for this mount",
        fix=_THREE_WAYS,
        code=UNCHANGED,
    )


def was_live_before(path: str, name: str, entry: HistoryEntry) -> Refused:
    """The reference holds a key that the mount was rotated past."""
    way = f"to go back: 'skyflowctl rotate --rollback {name} --to {entry.credential_version}'; else"
    return Refused(
        f"this would go back, not forward: {path}",
        why=f"key {entry.key_id} was this mount's credential version {entry.credential_version}"
        + ("" if entry.kept else ", and was destroyed or dropped since"),
        fix=f"{way} {_THREE_WAYS}" if entry.kept else _THREE_WAYS,
        code="earlier-credential",
    )


def other_account(path: str, live: str, new: str) -> Refused:
    """The reference holds a credential of another service account."""
    return Refused(
        f"the new credential is of another service account: {path}",
        why=f"service account {live} is live, the new credential is of {new}",
        fix="name a key of the same account, or allow it with --allow-different-account",
        code="different-account",
    )


def nothing_live(path: str, name: str) -> Refused:
    """There is no account for which a key could be made."""
    return Refused(
        f"no key can be made for {path}",
        why="the mount has no credential, so its service account is not known",
        fix=f"write the first credential with 'skyflowctl config write {name} --credentials REF'",
        code="nothing-live",
    )


def at_work(path: str, rotation: LiveRotation | None) -> Refused:
    """Somebody else rotates this mount."""
    who = f"{rotation.id}, begun by {rotation.by} at {rotation.started}" if rotation else "its own"
    return Refused(
        f"another rotation is at work: {path}",
        why=f"rotation {who} has the mount; this run wrote nothing",
        fix="wait until it has ended, then run the same command again",
        code="another-rotation",
    )


def overtaken(path: str, live_key: str) -> Refused:
    """Somebody else's later write stands."""
    return Refused(
        f"somebody else replaced the credential meanwhile: {path}",
        why=f"key {live_key or 'none'} is live now, and it is not this rotation's; "
        "this run touches it no more",
        fix="find out who wrote it with 'skyflowctl config history', then decide",
        code="lost-check-and-set",
    )


def not_taken(path: str, error: SkyflowctlError) -> Refused:
    """The engine tried the new credential itself, and took it not."""
    first = error.problems[0]
    return Refused(
        f"the engine did not take the new credential: {path}",
        why=first.why or first.summary,
        fix="the old credential is live as before; when the cause is gone, run the command again",
        code="candidate-refused",
    )


def role_lost(path: str, role: str, proof: RoleProof) -> Refused:
    """The new credential cannot do what the live one can."""
    return Refused(
        f"the new credential does not mint for {_role(role)}: {path}",
        why=f"the live one does; the token service said {_said(proof)}",
        fix="give its service account the same Skyflow roles; the old credential is still live",
        code="role-lost",
    )


def mints_nothing(path: str, role: str, proof: RoleProof) -> Refused:
    """The new credential is good for nothing."""
    return Refused(
        f"the new credential mints for no role: {path}",
        why=f"for {_role(role)} the token service said {_said(proof)}",
        fix="check the key and its account's roles in Skyflow; what was live is untouched",
        code="candidate-mints-nothing",
    )


def no_answer(path: str, role: str, proof: RoleProof) -> Refused:
    """Nobody knows whether the new credential mints."""
    return Refused(
        f"the new credential could not be tried for {_role(role)}: {path}",
        why=f"the token service said {_said(proof)}",
        fix="wait until it answers, see 'skyflowctl health', then run the same command again",
        code="token-service-no-answer",
    )


def neither(path: str, role: str, proof: RoleProof) -> Problem:
    """A role that was broken before."""
    return Problem(
        "role-mints-with-neither",
        f"{path}: {_role(role)} mints neither with the old nor with the new credential",
        f"with the new one the token service said {_said(proof)}",
        "assign the role to the service account in Skyflow, or delete it here",
    )


def no_such_canary(path: str, role: str) -> Refused:
    """A canary role that the mount does not have."""
    return Refused(
        f"the mount has no role {role} to be a canary: {path}",
        why="a canary reads a token of a role through creds",
        fix=f"name a role that 'skyflowctl role list {path}' lists",
        code="unknown-canary",
    )


def canary_failed(path: str, role: str, key_id: str, wanted: str) -> SkyflowctlError:
    """A token came from another key than the new one."""
    return SkyflowctlError(
        f"the canary {role} got a token of another key: {path}",
        why=f"it was minted with {key_id}, and {wanted} is the new one",
        fix="see which node answered it; the rotation is rolled back",
        code="canary",
    )


def stopped(path: str) -> Refused:
    """It was asked to stop before it had written."""
    return Refused(
        f"stopped before the new credential was written: {path}",
        why="the run was interrupted",
        fix="the old credential is live; run the same command again when it suits",
        code="stopped",
    )


def stopped_watching(path: str) -> SkyflowctlError:
    """It was asked to stop while it watched the new credential."""
    return SkyflowctlError(
        f"stopped while the new credential was watched: {path}",
        why="the run was interrupted before the commit, so it is rolled back",
        fix="run the same command again when it suits",
        code="stopped",
    )


def serves_not(path: str) -> Problem:
    """The worst that can be said at the end."""
    return Problem(
        "mount-does-not-serve",
        f"the mount serves no token: {path}",
        "its live credential mints for no role, as the engine's own check says",
        "see 'skyflowctl health'; a good key with 'skyflowctl rotate --credentials REF' mends it",
    )


def unexpected(path: str, error: Exception) -> Problem:
    """A fault of ours; its text may hold anything, so only its kind is told."""
    return Problem(
        "unexpected",
        f"the rotation ended by a fault of skyflowctl: {path}",
        f"{type(error).__name__} was raised where nothing should be",
        "run the same command again: it goes on from what the engine knows",
    )


def resumed(path: str, rotation_id: str, begun: str, key_id: str) -> Problem:
    """This run did not begin one."""
    return Problem(
        "resumed-rotation",
        f"this run finished rotation {rotation_id}: {path}",
        f"it was begun {begun}, and had made key {key_id} live",
        "to rotate once more, run the command again",
    )


def key_left(path: str, client_id: str, key_id: str, reason: str) -> Problem:
    """A key that was created for a rotation and is not in use."""
    return Problem(
        "key-left-at-skyflow",
        f"key {key_id} of service account {client_id} is left at Skyflow, unused: {path}",
        reason,
        "run the command again with an operator token, or delete the key in Skyflow Studio",
    )


def unrecorded(path: str, client_id: str, key_ids: Iterable[str]) -> Problem:
    """Keys that appeared at Skyflow, and no record says whose they are."""
    return Problem(
        "unrecorded-keys",
        f"service account {client_id} has keys that no rotation recorded: {', '.join(key_ids)}",
        f"a rotation of {path} began before they were created; it may have made one of them, "
        "or somebody else did",
        "find out whose they are, then delete what nobody uses in Skyflow Studio",
    )


def still_open(path: str, error: SkyflowctlError, live: str) -> Problem:
    """A rotation that could be neither finished nor undone now."""
    first = error.problems[0]
    return Problem(
        "rotation-left-open",
        f"the rotation is left open: {path}",
        f"{first.summary}; live is {live}",
        "run the same command again: it finishes the rotation or rolls it back",
    )


def no_way_back(path: str, error: SkyflowctlError) -> Problem:
    """The engine keeps nothing to go back to, or what it keeps does not mint."""
    first = error.problems[0]
    return Problem(
        "no-way-back",
        f"the new credential stays live, for there is no way back: {path}",
        first.why or first.summary,
        "mend the cause, then run the same command again: it proves the nodes and commits",
    )


def nodes_behind(path: str, error: SkyflowctlError) -> Problem:
    """After a rollback a node was not seen on the old key."""
    first = error.problems[0]
    return Problem(
        "node-not-proved",
        f"not every node was seen on the credential that was rolled back to: {path}",
        first.why or first.summary,
        f"'skyflowctl config verify {path}' against that node says what it serves",
    )


def _role(name: str) -> str:
    return f"role {name}" if name else "an exchange without a role"


def _said(proof: RoleProof) -> str:
    words = proof.message or "nothing"
    return f"{proof.status}: {words}" if proof.status else f"nothing: {words}"
