"""What a rotation has to say, in the three lines of every problem."""

from collections.abc import Iterable, Mapping

from skyflowctl.errors import Problem, RefusedError, SkyflowctlError
from skyflowctl.vault.live import (
    CredentialVersion,
    LiveConfig,
    LiveRevocation,
    LiveRotation,
    way_out,
)
from skyflowctl.vault.responses import RoleProof

UNCHANGED = "unchanged-credential"

NO_SOURCE = "no-new-credential"
EARLIER = "earlier-credential"
OTHER_ACCOUNT = "different-account"


def _three_ways(path: str) -> str:
    return (
        "put a new key behind the reference, "
        f"or name one with 'skyflowctl rotate {path} --credentials REF', "
        f"or have one made with 'skyflowctl rotate {path} --generate'"
    )


def _live_again(name: str, version: int) -> str:
    return f"'skyflowctl rotate --rollback {name} --to {version}' makes this key live again"


def already_live(path: str, key_id: str) -> RefusedError:
    """The reference holds the key that is live."""
    return RefusedError(
        f"nothing to rotate to: {path}",
        why=f"the reference holds key {key_id}, which is live already",
        fix=_three_ways(path),
        code=UNCHANGED,
    )


def no_source(path: str) -> RefusedError:
    """Nobody said where the new credential comes from."""
    return RefusedError(
        f"nothing to rotate to: {path}",
        why="no new credential was named, and the manifest names none for this mount",
        fix=_three_ways(path),
        code=NO_SOURCE,
    )


def was_live_before(path: str, name: str, entry: CredentialVersion) -> RefusedError:
    """The reference holds a key that the mount was rotated past."""
    way = f"{_live_again(name, entry.credential_version)} (it is proved first); else"
    return RefusedError(
        f"this would go back, not forward: {path}",
        why=f"key {entry.key_id} was this mount's credential version {entry.credential_version}"
        + ("" if entry.kept else ", and was destroyed or dropped since"),
        fix=f"{way} {_three_ways(path)}" if entry.kept else _three_ways(path),
        code=EARLIER,
    )


def other_account(path: str, live: str, new: str) -> RefusedError:
    """The reference holds a credential of another service account."""
    return RefusedError(
        f"the new credential is of another service account: {path}",
        why=f"service account {live} is live, the new credential is of {new}",
        fix="name a key of the same account, or allow it with --allow-different-account",
        code=OTHER_ACCOUNT,
    )


def nothing_live(path: str, name: str, revoked: LiveRevocation | None) -> RefusedError:
    """There is no account for which a key could be made."""
    cut_off = f": it was {revoked.sentence()}" if revoked else ""
    return RefusedError(
        f"no key can be made for {path}",
        why=f"the mount has no credential, so its service account is not known{cut_off}",
        fix=f"write a new credential with 'skyflowctl config write {name} --credentials REF'",
        code="nothing-live",
    )


def not_recorded(path: str) -> RefusedError:
    """An earlier release of the engine: a created key would be lost if the run were killed."""
    return RefusedError(
        f"no key is made for {path}",
        why="its engine is of an earlier release: after a cut-off it cannot record which key a "
        "rotation makes, so a killed run would lose one",
        fix=f"name a new key: 'skyflowctl rotate {path} --credentials REF'; or upgrade the "
        "engine first: 'skyflowctl plugin list' names what runs",
        code="not-recorded",
    )


def at_work(path: str, rotation: LiveRotation) -> RefusedError:
    """Somebody else rotates this mount."""
    who = f"{rotation.id}, begun by {rotation.by} at {rotation.started},"
    return RefusedError(
        f"another rotation is at work: {path}",
        why=f"rotation {who} has the mount; this run has made no credential live",
        fix="wait until it has ended, then run the same command again",
        code="another-rotation",
    )


def config_changed_meanwhile(path: str, who: str) -> RefusedError:
    """Somebody else wrote the config between the look and this run's own write."""
    return RefusedError(
        f"the config was changed meanwhile: {path}",
        why=f"{who}; this run has made no credential live",
        fix="run the same command again: it looks anew",
        code="config-changed",
    )


def superseded(path: str, to_key: str, version: int, live_key: str) -> Problem:
    """Somebody else's later write stands, over the one of this run."""
    return Problem(
        "lost-check-and-set",
        f"this run's credential was written, and then replaced by somebody else: {path}",
        f"key {to_key} was live as credential version {version}, and now "
        f"{f'key {live_key}' if live_key else 'none'} is; this run touches it no more",
        f"find out who wrote it with 'skyflowctl config history {path}', then decide",
    )


def finished_elsewhere(path: str, rotation_id: str, to_key: str) -> Problem:
    """Another run has committed the rotation of this one."""
    return Problem(
        "another-rotation",
        f"another run has finished this rotation: {path}",
        f"rotation {rotation_id} is committed while this run was watching it; key {to_key} is live",
        "nothing; 'skyflowctl config history' shows what is live",
    )


def rolled_back_message(path: str, name: str, to_key: str, version: int) -> Problem:
    """What was rolled back, and how its key is made live after all."""
    return Problem(
        "rolled-back",
        f"the credential of before is live again: {path}",
        f"key {to_key}, credential version {version}, was live and did not hold",
        f"fix the cause, then {_live_again(name, version)} (it is proved first), or rotate "
        "to a new key",
    )


def rolled_back_created(path: str, to_key: str) -> Problem:
    """The same of a key that was created for the rotation, and goes with it."""
    return Problem(
        "rolled-back",
        f"the credential of before is live again: {path}",
        f"key {to_key} was created for this rotation, was live and did not hold",
        f"fix the cause, then 'skyflowctl rotate {path} --generate' makes another one",
    )


def not_taken(path: str, error: SkyflowctlError) -> RefusedError:
    """The engine tried the new credential itself, and took it not."""
    first = error.problems[0]
    return RefusedError(
        f"the engine did not take the new credential: {path}",
        why=first.why or first.summary,
        fix="the old credential is live as before; when the cause is gone, run the command again",
        code="candidate-refused",
    )


def role_lost(path: str, role: str, proof: RoleProof) -> RefusedError:
    """The new credential cannot do what the live one can."""
    return RefusedError(
        f"the new credential does not mint for {_role(role)}: {path}",
        why=f"the live one does; the token service said {_said(proof)}",
        fix="give its service account the same Skyflow roles; the old credential is still live",
        code="role-lost",
    )


def mints_nothing(path: str, role: str, proof: RoleProof) -> RefusedError:
    """The new credential is good for nothing."""
    return RefusedError(
        f"the new credential mints for no role: {path}",
        why=f"for {_role(role)} the token service said {_said(proof)}",
        fix="check the key and its account's roles in Skyflow; what was live is untouched",
        code="candidate-mints-nothing",
    )


def unproven_credential(path: str, role: str, proof: RoleProof) -> RefusedError:
    """Nobody knows whether the new credential mints."""
    return RefusedError(
        f"the new credential could not be tried for {_role(role)}: {path}",
        why=f"the token service said {_said(proof)}",
        fix=f"wait until it answers, see 'skyflowctl health {path} --refresh', then run the same "
        "command again",
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


def no_such_canary(path: str, role: str) -> RefusedError:
    """A canary role that the mount does not have."""
    return RefusedError(
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


def stopped_watching(path: str) -> SkyflowctlError:
    """It was asked to stop while it watched the new credential."""
    return SkyflowctlError(
        f"stopped while the new credential was watched: {path}",
        why="the run was interrupted before the commit, so it is rolled back",
        fix="nothing is to be mended; how to go on is said with the rollback",
        code="stopped",
    )


def serves_not(path: str) -> Problem:
    """The worst that can be said at the end."""
    return Problem(
        "mount-does-not-serve",
        f"the mount serves no token: {path}",
        "its live credential mints for no role, as the engine's own check says",
        f"see 'skyflowctl health {path}'; a good key mends it: "
        f"'skyflowctl rotate {path} --credentials REF'",
    )


def no_service(path: str) -> Problem:
    """The same, for a reason that no other key mends."""
    return Problem(
        "mount-does-not-serve",
        f"the mount serves no token: {path}",
        "the token service gives the engine no clear answer, which says nothing of the key",
        f"see 'skyflowctl health {path} --refresh'; it serves again once the service answers",
    )


def not_configured(path: str, name: str, live: LiveConfig | None) -> Problem:
    """The same of a mount that has no credential, as after a cut-off; None: as health says."""
    revoked = live.revoked if live else None
    return Problem(
        "mount-does-not-serve",
        f"the mount serves no token: {path}",
        f"it has no credential: it has been {revoked.sentence()}"
        if revoked
        else "it has no credential",
        way_out(name, live.api)
        if live and revoked
        else f"give it one: 'skyflowctl rotate {path} --credentials REF', or the manifest's with "
        "'skyflowctl apply'",
    )


def internal_fault(path: str, error: Exception) -> Problem:
    """A fault of ours; its text may hold anything, so only its kind is told."""
    return Problem(
        "unexpected",
        f"the work on the mount ended by a fault of skyflowctl: {path}",
        f"{type(error).__name__} was raised where nothing should be",
        f"'skyflowctl health {path}' says whether it serves; then run the same command again",
    )


def resumed(path: str, rotation_id: str, begun: str, key_id: str) -> Problem:
    """This run did not begin one."""
    return Problem(
        "resumed-rotation",
        f"this run finished rotation {rotation_id}: {path}",
        f"it was begun {begun}, and had made key {key_id} live",
        "to rotate once more, run the command again",
    )


def created_key_left(path: str, client_id: str, key_id: str, reason: str) -> Problem:
    """A key that was created for a rotation and is not in use."""
    return Problem(
        "key-left-at-skyflow",
        f"key {key_id} of service account {client_id} is left at Skyflow: {path}",
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


def rotation_unfinished(path: str, reason: str, live: str) -> Problem:
    """A rotation that could be neither finished nor undone now."""
    return Problem(
        "rotation-left-open",
        f"the rotation is left open: {path}",
        f"{reason}; live is {live}, and while nobody answers no key can be proved, neither the "
        "new one nor the one before",
        "once they answer, run the same command again: it finishes the rotation or rolls it back",
    )


def nothing_kept(path: str, reason: str) -> Problem:
    """The engine keeps nothing to go back to."""
    return Problem(
        "cannot-roll-back",
        f"the new credential stays live, for there is no way back: {path}",
        reason,
        "fix the cause, then run the same command again: it proves the nodes and commits",
    )


def nodes_lagging(path: str, error: SkyflowctlError) -> Problem:
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
    if not proof.status:
        return f"nothing ({proof.message})" if proof.message else "nothing"
    return f"{proof.status}: {proof.message}" if proof.message else str(proof.status)


def mounts_not_read(what: str, unread: Mapping[str, str]) -> Problem:
    """Mounts that this login cannot read may be live with such a key."""
    places = ", ".join(path for path in unread if path) or "the server's other mounts"
    return Problem(
        "mounts-not-read",
        f"whether {what} is live elsewhere is not known of {places}",
        "; ".join(dict.fromkeys(unread.values())),
        "grant read on sys/mounts and on the mounts' config, or look there yourself",
    )
