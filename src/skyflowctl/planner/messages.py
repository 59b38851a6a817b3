"""The warnings of a plan, and its actions and drift as text."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from skyflowctl.clock import time_or_none
from skyflowctl.credentials.model import CredentialId
from skyflowctl.errors import Problem
from skyflowctl.manifest.model import Mount
from skyflowctl.planner.plan import MOVES, NEEDS_MOVE, Action, ActionType, Change, DriftKind
from skyflowctl.vault.live import LiveConfig, LiveMount, way_out

_DRIFT_TITLES = {
    DriftKind.UNDECLARED: "is not in the manifest",
    DriftKind.REVOKED: "has been cut off",
    DriftKind.OPEN_ROTATION: "has an open rotation",
    DriftKind.MOVED: "is a mount that the manifest has at another path",
    DriftKind.DELETED: "was deleted",
}


def headers_unreadable() -> Problem:
    """Warn that it is unknown whether the audit log will show the run id."""
    return Problem(
        "audited-headers-unreadable",
        "the audited request headers are left as they are",
        "this login may not read sys/config/auditing/request-headers",
        "grant read and update (with sudo) there, to find runs in the audit log",
    )


def audited_headers_unwritable() -> Problem:
    """Warn that the audit log will not show the run id, and that this login cannot change that."""
    return Problem(
        "audited-headers-unwritable",
        "the audited request headers are left as they are",
        "this login may not write sys/config/auditing/request-headers",
        "grant update and sudo there, to find runs in the audit log",
    )


def type_differs(mount: Mount, wanted: str, live: LiveMount) -> Problem:
    """Warn that another engine is mounted at the path; a mount is never recreated."""
    return Problem(
        "type-differs",
        f"{mount.path} is left alone: a mount of type {live.type!r} is there, not {wanted!r}",
        "a mount's type cannot be changed in place, and skyflowctl recreates no mount",
        f"give {mount.name} another path_prefix or name, or move the other mount away",
        mount.where,
    )


def path_in_use(mount: Mount, other: str) -> Problem:
    """Warn that the path is above or below another mount, which the server forbids."""
    return Problem(
        "path-in-use",
        f"{mount.path} cannot be mounted: {other} is a mount already",
        "a server keeps no mount above or below another one",
        f"give {mount.name} another path_prefix or name",
        mount.where,
    )


def moved_both_live(mount: Mount, former: str) -> Problem:
    """Warn that a mount is at both paths of a declared move; only a person knows which is right."""
    return Problem(
        "moved-both-live",
        f"{mount.path} and {former} are both mounted",
        f"the manifest says that {former} was moved to {mount.path}, so one of them is not "
        f"{mount.name}",
        f"if {former} is another mount, remove the entry from `moved`; if {mount.path} was made "
        f"by mistake, 'bao secrets disable {mount.path}' destroys it",
        mount.where,
    )


def moves_mount(mount: Mount, former: str, readers: Sequence[str], *, allowed: bool) -> Problem:
    """Warn that the readers of a mount fail once it is moved.

    Args:
        mount: the mount, with its new path.
        former: where it is now.
        readers: the names of the consumers that read its creds.
        allowed: whether the caller permits the move.
    """
    logins = f"; consumers log in again: {', '.join(readers)}" if readers else ""
    files = mount.credentials is not None and bool(mount.credentials.server_file)
    file = f"; the engine then reads files only below DIRECTORY/{mount.path}/" if files else ""
    guarded = ", although it is protected" if mount.protect else ""
    return Problem(
        MOVES if allowed else NEEDS_MOVE,
        f"{former} is moved to {mount.path}{guarded}",
        f"from then on {former} answers 404: every reader of {former}/creds/… and every policy "
        f"for {former}/ fails{logins}{file}",
        f"have them read {mount.path}" if allowed else f"to move it: --allow-move={former}",
        mount.where,
    )


def owned_by_other(mount: Mount, owner: str) -> Problem:
    """Warn that another manifest owns the mount; two manifests must not manage one mount."""
    return Problem(
        "owned-by-other",
        f"{mount.path} is left alone: it belongs to the manifest {owner!r}",
        "its option `manifest` names that owner, and one mount has one manifest",
        f"remove {mount.name} from one of the two, or take it over: "
        f"--adopt={mount.path} --adopt-from={owner}",
        mount.where,
    )


def engine_unreadable(mount: Mount, problem: Problem) -> Problem:
    """Warn that the mount exists, but its engine could not be read."""
    return Problem(
        "engine-unreadable",
        f"roles and config of {mount.path} are left alone: {problem.summary}",
        problem.why,
        problem.fix,
        mount.where,
    )


def unresolved(mount: Mount, why: str) -> Problem:
    """Warn that the manifest's credential cannot be read on this machine."""
    text = mount.credentials.text if mount.credentials else ""
    return Problem(
        "credential-unresolved",
        f"the credential of {mount.name} ({text}) could not be resolved",
        why or "the reference leads to nothing that can be read here",
        "provide it: until then it is not known whether the live credential is this one",
        mount.credentials.where if mount.credentials else mount.where,
    )


def server_file_unread(mount: Mount, live: LiveConfig) -> Problem:
    """Warn that only the engine reads that file, and only on a config write."""
    return Problem(
        "server-file-unread",
        f"whether {mount.path} runs on what its server_file holds now was not checked",
        f"the file is on the server; live is key {live.key_id or 'that the engine does not name'}",
        f"if the file was replaced: 'skyflowctl rotate {mount.name}' reads it and proves it",
        mount.credentials.where if mount.credentials else mount.where,
    )


def no_credential(mount: Mount) -> Problem:
    """Warn that a new config needs a credential."""
    return Problem(
        "no-credential",
        f"{mount.path} stays unconfigured: the manifest names no credential for {mount.name}",
        "the first write of a config needs one",
        f"add `credentials:` to {mount.name}",
        mount.where,
    )


def rotated_past(mount: Mount, live: LiveConfig, wanted: CredentialId, version: int) -> Problem:
    """Warn that the manifest names an older key, which is never written back.

    ``version`` is the kept version with that key; 0 if it was destroyed and cannot be
    rolled back to.
    """
    back = f"'skyflowctl rotate --rollback {mount.name} --to {version}'"
    return Problem(
        "rotated-past",
        f"{mount.path} was rotated past the manifest: it runs on key {live.key_id}",
        f"the manifest's key {wanted.key_id} was live before, and is never written back",
        f"point the credentials of {mount.name} at the live key"
        + (f"; to go back to the manifest's: {back}" if version else ""),
        mount.where,
    )


def invalid(mount: Mount, problems: Sequence[Problem]) -> Problem:
    """Warn that the manifest's credential is invalid; other mounts are not affected."""
    problem = problems[0]
    others = f" (and {len(problems) - 1} more: 'skyflowctl validate')" if problems[1:] else ""
    return Problem(
        "credential-invalid",
        f"{problem.summary}{others}",
        problem.why,
        problem.fix,
        problem.where or mount.where,
    )


def revoked_past(mount: Mount, live: LiveConfig, wanted: CredentialId) -> Problem:
    """Warn that a new key has ended the cut-off, but the manifest still names the revoked key."""
    return Problem(
        "rotated-past",
        f"the manifest's key {wanted.key_id} was revoked on {mount.path}, "
        f"which runs on {_live_key(live)}",
        "a key that was cut off is never written back unasked",
        f"point the credentials of {mount.name} at the live key; if the revoked one is to serve "
        f"again: 'skyflowctl apply --replace-credential {mount.name} "
        f"--allow-revoked-key={wanted.key_id}'",
        mount.where,
    )


def _live_key(live: LiveConfig) -> str:
    return f"key {live.key_id}" if live.key_id else "one that its engine does not tell"


def revoked_key_forced(mount: Mount, live: LiveConfig, wanted: CredentialId) -> Problem:
    """Warn that the caller asked for a revoked key without naming it in ``--allow-revoked-key``."""
    stays = f"stays on {_live_key(live)}" if live.configured else "stays cut off"
    return Problem(
        "revoked-key",
        f"{mount.path} {stays}: the manifest's key {wanted.key_id} was revoked",
        "a key that was cut off is never written back, and --replace-credential does not name it",
        f"{way_out(mount.name, live.api)}; if this very key is to serve again: "
        f"--allow-revoked-key={wanted.key_id}",
        mount.where,
    )


def live_key_unknown(mount: Mount, wanted: CredentialId) -> Problem:
    """Warn that the live key is unknown; an engine with the basic API does not return it."""
    return Problem(
        "live-key-unknown",
        f"{mount.path} has a credential, but its engine does not report which",
        f"the manifest's is key {wanted.key_id}; whether it is the live one cannot be read",
        f"to write it all the same: --replace-credential {mount.name}",
        mount.where,
    )


def unusable_role(mount: Mount, role: str, why: str) -> Problem:
    """Warn of a role from another or newer engine; it gives no token."""
    return Problem(
        "unusable-role",
        f"{mount.path}/roles/{role} is stored, and its engine refuses it",
        why,
        f"declare the role under a valid name, then 'bao delete {mount.path}/roles/{role}'",
        mount.where,
    )


def _other_engine(mount: Mount, setting: str, engine: str) -> str:
    """Return the fix for roles with a setting that the mount's engine lacks."""
    return (
        f"remove {setting} from these roles, or put {engine} there: "
        f"'skyflowctl plugin register FILE' and reload {mount.path}"
    )


def ctx_not_enforced(mount: Mount, roles: Iterable[str]) -> Problem:
    """Warn that the engine ignores ctx rules, so it would mint without checking them."""
    return Problem(
        "ctx-not-enforced",
        f"the engine at {mount.path} knows no ctx rules: {', '.join(roles)}",
        "it would accept the role, ignore the rule and mint without ctx",
        _other_engine(mount, "ctx", "skyflowctl's own engine"),
        mount.where,
    )


def cannot_sign(mount: Mount, roles: Iterable[str]) -> Problem:
    """Warn that the engine has no ``sign/`` path, which ``sign: true`` gives to consumers."""
    return Problem(
        "cannot-sign",
        f"the engine at {mount.path} cannot sign data tokens: {', '.join(roles)}",
        "it has no sign/ path, so a consumer that asks it gets 404",
        _other_engine(mount, "sign", "skyflowctl's own engine"),
        mount.where,
    )


def cannot_reuse(mount: Mount, roles: Iterable[str]) -> Problem:
    """Warn that the engine knows no ``reuse``, so that every token stays fresh."""
    return Problem(
        "cannot-reuse",
        f"the engine at {mount.path} hands out no token twice: {', '.join(roles)}",
        "it is older than the setting, so reuse was left out",
        _other_engine(mount, "reuse", "this release's engine"),
        mount.where,
    )


def replacement_withheld(mount: Mount, live: LiveConfig, wanted: CredentialId) -> Problem:
    """Warn that without a history, a new key cannot be distinguished from an old one."""
    return Problem(
        "replacement-withheld",
        f"{mount.path} runs on key {live.key_id}, not on the manifest's {wanted.key_id}",
        "this engine keeps no history, so the manifest's key may be one from before a rotation",
        f"if it is the newer one: --replace-credential {mount.name}",
        mount.where,
    )


def place(action: Action) -> str:
    """Return the object of an action in the reader's terms, which is not always its API path."""
    if action.action is ActionType.MOVE:
        return str(action.body["to"])
    path = action.path.removeprefix("sys/mounts/").removesuffix("/tune")
    return path.removeprefix("sys/config/auditing/request-headers/")


def change_text(change: Change) -> str:
    """Return one change as ``field: before -> after``, or ``field: after`` when new."""
    if change.before is None:
        return f"{change.field}: {_value(change.after)}"
    return f"{change.field}: {_value(change.before)} -> {_value(change.after)}"


def drift_title(kind: str, path: str, since: str, by: str) -> str:
    """Return one drift in one line, without its cause and fix."""
    if kind == DriftKind.UNDECLARED:
        created = f", created {since}," if since else ""
        return f"{path}{created} {_DRIFT_TITLES[DriftKind.UNDECLARED]}"
    moment = time_or_none(since) if kind == DriftKind.DELETED else None
    when = f" at {moment:%Y-%m-%d %H:%M:%S} UTC" if moment else f" since {since}" if since else ""
    who = f" by {by}" if by else ""
    return f"{path} {_DRIFT_TITLES[DriftKind(kind)]}{when}{who}"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
