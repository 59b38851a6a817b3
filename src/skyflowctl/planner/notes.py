"""The warnings of a plan: what the reader should know and no action will change."""

from collections.abc import Iterable, Mapping

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import Mount
from skyflowctl.planner.identity import CredentialIdentity
from skyflowctl.vault.live import LiveConfig, LiveMount, LiveRotation


def headers_unreadable() -> Problem:
    """Nobody can tell whether the audit log will show a run's id."""
    return Problem(
        "audited-headers-unreadable",
        "the audited request headers are left as they are",
        "this login may not read sys/config/auditing/request-headers",
        "grant read and update (with sudo) there, to find runs in the audit log",
    )


def audited_headers_unwritable() -> Problem:
    """The audit log will not show a run's id, and this login cannot change that."""
    return Problem(
        "audited-headers-unwritable",
        "the audited request headers are left as they are",
        "this login may not write sys/config/auditing/request-headers",
        "grant update and sudo there, to find runs in the audit log",
    )


def type_differs(mount: Mount, wanted: str, live: LiveMount) -> Problem:
    """Another engine sits at the path; a mount is never recreated."""
    return Problem(
        "type-differs",
        f"{mount.path} is left alone: a mount of type {live.type!r} is there, not {wanted!r}",
        "a mount's type cannot be changed in place, and skyflowctl recreates no mount",
        f"give {mount.name} another path_prefix or name, or move the other mount away",
        mount.where,
    )


def path_in_use(mount: Mount, other: str) -> Problem:
    """The server allows no mount above or below another one."""
    return Problem(
        "path-in-use",
        f"{mount.path} cannot be mounted: {other} is a mount already",
        "a server keeps no mount above or below another one",
        f"give {mount.name} another path_prefix or name",
        mount.where,
    )


def owned_by_other(mount: Mount, owner: str) -> Problem:
    """Two manifests must not pull at one mount."""
    return Problem(
        "owned-by-other",
        f"{mount.path} is left alone: it belongs to the manifest {owner!r}",
        "its option `manifest` names that owner, and one mount has one manifest",
        f"remove {mount.name} from one of the two, or set the option `manifest` anew by hand",
        mount.where,
    )


def engine_unreadable(mount: Mount, problem: Problem) -> Problem:
    """The mount is there, and its engine does not say what it holds."""
    return Problem(
        "engine-unreadable",
        f"roles and config of {mount.path} are left alone: {problem.summary}",
        problem.why,
        problem.fix,
        mount.where,
    )


def unmanaged_mounts(paths: Iterable[str], manifest_id: str) -> list[Problem]:
    """Mounts that this manifest made once and no longer names."""
    return [
        Problem(
            "unmanaged-mount",
            f"{path} was made by this manifest and is not in it any more",
            f"its option `manifest` says {manifest_id!r}; nothing is removed for being absent",
            "put it back into the manifest, or disable the mount by hand",
        )
        for path in paths
    ]


def unmanaged_role(mount: Mount, role: str) -> Problem:
    """A role nobody declared; applications may read it all the same."""
    return Problem(
        "unmanaged-role",
        f"{mount.path}/roles/{role} is not in the manifest",
        "nothing is removed for being absent",
        "add it to the manifest, or delete it by hand",
        mount.where,
    )


def unresolved(mount: Mount, why: str) -> Problem:
    """The manifest's credential cannot be looked at from here."""
    text = mount.credentials.text if mount.credentials else ""
    return Problem(
        "credential-unresolved",
        f"the credential of {mount.name} ({text}) could not be resolved",
        why or "the reference leads to nothing that can be read here",
        "provide it: until then nobody can tell whether the live credential is this one",
        mount.credentials.where if mount.credentials else mount.where,
    )


def no_credential(mount: Mount) -> Problem:
    """A config cannot begin without a credential."""
    return Problem(
        "no-credential",
        f"{mount.path} stays unconfigured: the manifest names no credential for {mount.name}",
        "the first write of a config needs one",
        f"add `credentials:` to {mount.name}",
        mount.where,
    )


def rotated_past(
    mount: Mount, live: LiveConfig, wanted: CredentialIdentity, version: int
) -> Problem:
    """The manifest is the one that is old; its key is never written back."""
    return Problem(
        "rotated-past",
        f"{mount.path} was rotated past the manifest: it runs on key {live.key_id}",
        f"the manifest's key {wanted.key_id} was live before, and is never written back",
        f"point the credentials of {mount.name} at the live key; to go back to the "
        f"manifest's: 'skyflowctl rotate --rollback {mount.name} --to {version}'",
        mount.where,
    )


def rotation_open(mount: Mount, rotation: LiveRotation, *, written: bool) -> Problem:
    """Somebody's rotation was not ended; an apply neither commits it nor undoes it."""
    by = f" by {rotation.by}" if rotation.by else ""
    stands = f"its key {rotation.to_key} is live" if written else "it has made no key live"
    return Problem(
        "rotation-open",
        f"a rotation of {mount.path} is not finished: {rotation.id}",
        f"it was begun{by} at {rotation.started}, and {stands}",
        f"if nobody is at it: 'skyflowctl rotate {mount.name}' finishes or undoes it",
        mount.where,
    )


def cut_off(mount: Mount, wanted: CredentialIdentity, history: Mapping[int, str]) -> Problem:
    """The credential was destroyed on purpose; an apply must not undo that."""
    had = wanted.key_id in history.values()
    why = f"the manifest's key {wanted.key_id} is {'one that it had' if had else 'a new one'}"
    return Problem(
        "cut-off-credential",
        f"{mount.path} stays unconfigured: its credential was cut off",
        f"{why}, and no apply ends a cut-off unasked",
        (f"point the credentials of {mount.name} at a new key, then" if had else "to end it:")
        + f" 'skyflowctl apply --replace-credential {mount.name}'",
        mount.where,
    )


def live_key_unknown(mount: Mount, wanted: CredentialIdentity) -> Problem:
    """An engine with the basic API keeps the identity to itself: it may be the very same."""
    return Problem(
        "live-key-unknown",
        f"{mount.path} has a credential, and its engine does not tell which",
        f"the manifest's is key {wanted.key_id}; whether it is the live one cannot be read",
        f"to write it all the same: --replace-credential {mount.name}",
        mount.where,
    )


def ctx_not_enforced(mount: Mount, roles: Iterable[str]) -> Problem:
    """A ctx rule that an engine drops without a word would only look like one."""
    return Problem(
        "ctx-not-enforced",
        f"the engine at {mount.path} knows no ctx rules: {', '.join(roles)}",
        "it would take the role, drop the rule and mint without ctx for everybody",
        f"remove ctx from these roles, or put skyflowctl's own engine there: "
        f"'skyflowctl plugin register' and reload {mount.path}",
        mount.where,
    )


def replacement_withheld(mount: Mount, live: LiveConfig, wanted: CredentialIdentity) -> Problem:
    """Without a history nobody can tell a new key from an old one."""
    return Problem(
        "replacement-withheld",
        f"{mount.path} runs on key {live.key_id}, not on the manifest's {wanted.key_id}",
        "this engine keeps no history, so the manifest's key may be one from before a rotation",
        f"if it is the newer one: --replace-credential {mount.name}",
        mount.where,
    )
