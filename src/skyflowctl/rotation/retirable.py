"""Whether an old key may be retired, and in which words it may not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from skyflowctl.clock import rfc3339
from skyflowctl.errors import Problem, Refused, SkyflowctlError
from skyflowctl.rotation.model import Job
from skyflowctl.vault.live import HistoryEntry, LiveConfig, LiveRotation


@dataclass(frozen=True, slots=True)
class OldKey:
    """The key that a committed rotation has replaced.

    Args:
        client_id: its service account.
        key_id: the key.
        successor: the key that the rotation made live, and that is live.
        kept: the credential versions under which the engine still keeps it.
        tokens_until: RFC 3339, when the last of its tokens ends; empty: not told.
        moved_account: the successor is of another service account.
    """

    client_id: str
    key_id: str
    successor: str
    kept: tuple[int, ...]
    tokens_until: str
    moved_account: bool = False


def old_key(
    job: Job, config: LiveConfig, history: Mapping[int, HistoryEntry] | None
) -> OldKey | None:
    """Return the old key of a mount whose rotation is over; None: it replaced no key.

    Raises:
        Refused: there is none to retire, or not yet.
    """
    rotation = config.rotation
    if rotation is None or not config.configured:
        raise _no_rotation(job, config)
    if rotation.state == "open":
        raise _still_open(job, rotation)
    if config.key_id != rotation.to_key:
        raise _other_live(job, config, rotation)
    # The live one is never an old one, not even of a rotation that renewed its content.
    if rotation.from_key in ("", config.key_id):
        return None
    entries = [one for one in (history or {}).values() if one.key_id == rotation.from_key]
    if not entries:
        raise _forgotten(job, rotation)
    newest = max(entries, key=lambda one: one.credential_version)
    who = (newest.client_id, newest.key_id)
    kept = (one for one in entries if one.kept and (one.client_id, one.key_id) == who)
    return OldKey(
        client_id=newest.client_id,
        key_id=newest.key_id,
        successor=config.key_id,
        kept=tuple(sorted(one.credential_version for one in kept)),
        tokens_until=rotation.old_tokens_valid_until or "",
        moved_account=newest.client_id != config.client_id,
    )


def killed_by_haste(config: LiveConfig) -> str:
    """Return what retiring the old key at once kills, in one line; "" when there is none."""
    rotation = config.rotation
    if rotation is None or not rotation.from_key:
        return ""
    until = rotation.old_tokens_valid_until
    end = f", the last until {until}" if until else ""
    return f"the key {rotation.from_key} and tokens minted with it that are still in use{end}"


def _no_rotation(job: Job, config: LiveConfig) -> Refused:
    why = "its config holds no rotation: none was made, or it was rolled back"
    if not config.configured:
        why = "the mount has no credential, so nothing has replaced its last one"
    return Refused(
        f"no old key of {job.path} is to be retired",
        why=why,
        fix=f"after 'skyflowctl rotate {job.name}', once the replaced key's tokens have ended",
        code="no-rotation",
    )


def _still_open(job: Job, rotation: LiveRotation) -> Refused:
    return Refused(
        f"the rotation of {job.path} is not done",
        why=f"{rotation.id} was begun at {rotation.started} by {rotation.by or 'nobody known'}",
        fix=f"finish it with 'skyflowctl rotate {job.name}'; the old key can go once its last "
        "tokens have ended",
        code="rotation-open",
    )


def _other_live(job: Job, config: LiveConfig, rotation: LiveRotation) -> Refused:
    return Refused(
        f"the last rotation of {job.path} is not what is live",
        why=f"it made {rotation.to_key} live, and now {config.key_id} is",
        fix=f"rotate again with 'skyflowctl rotate {job.name}'; that rotation's old key can go "
        "once its last tokens have ended",
        code="rotated-back",
    )


def _forgotten(job: Job, rotation: LiveRotation) -> Refused:
    return Refused(
        f"the history of {job.path} does not know the key {rotation.from_key}",
        why="so nobody can tell which service account it is of",
        fix="delete the key by hand in Skyflow's console",
        code="key-forgotten",
    )


def no_operator(old: OldKey, name: str) -> Refused:
    """Return the refusal where nobody can delete the key at Skyflow."""
    return Refused(
        f"nobody named who may delete the key {old.key_id} at Skyflow",
        why="without an operator token only the copy in the engine could be destroyed",
        fix="give --operator-token REF and --account-id ID (or rotation.operator_token and "
        f"account_id in the manifest), or 'skyflowctl rotate --retire {name} --kept-copy-only' "
        "and delete the key by hand",
        code="no-operator-token",
    )


def too_early(old: OldKey, name: str, ends: datetime) -> Refused:
    """Return the refusal while tokens of the old key may live."""
    return Refused(
        f"the old key of {name} can be retired from {rfc3339(ends)} on",
        why=f"tokens minted with {old.key_id} live until {old.tokens_until}, and then "
        "rotation.retire_margin runs",
        fix=f"run 'skyflowctl rotate --retire {name}' then, or add --retire-old to wait here",
        code="old-tokens-live",
    )


def interrupted(name: str) -> Refused:
    """Return the refusal of a run that was asked to stop before it destroyed anything."""
    return Refused(
        f"the old key of {name} was not retired",
        why="a signal asked this run to stop",
        fix=f"run 'skyflowctl rotate --retire {name}' when it suits",
        code="interrupted",
    )


def not_proven(name: str, error: SkyflowctlError) -> Refused:
    """Return the refusal where a node does not serve the new key, or does not say so."""
    first = error.problems[0]
    return Refused(
        f"the old key of {name} stays: the new one is not proven on every node",
        why=f"{first.summary}: {first.why}" if first.why else first.summary,
        fix=f"run 'skyflowctl rotate --retire {name}' again once every node answers; "
        f"'skyflowctl health {name} --refresh' asks them",
        code="cut-over-not-proven",
    )


def weak_roles(name: str, roles: Sequence[str]) -> Problem:
    """Return the warning where some roles cannot be minted at all."""
    return Problem(
        "roles-refused",
        f"{name} gives no token for {', '.join(roles)}",
        "Skyflow refuses these roles to the service account, whichever of its keys is live",
        f"assign the roles in Skyflow; 'skyflowctl config verify {name}' shows its own words",
    )


def used_elsewhere(old: OldKey, name: str, paths: Sequence[str]) -> Refused:
    """Return the refusal where another mount lives by the old key."""
    return Refused(
        f"the key {old.key_id} is live on {', '.join(paths)}",
        why=f"it is the old one of {name} only, and deleting it would end those mounts' tokens",
        fix=f"rotate {', '.join(paths)} first, then run 'skyflowctl rotate --retire {name}'",
        code="key-in-use",
    )


def others_unread(old: OldKey, unread: Mapping[str, str]) -> Problem:
    """Return the warning where some mounts may use the key without our seeing it."""
    places = ", ".join(path for path in unread if path) or "the server's other mounts"
    return Problem(
        "mounts-not-read",
        f"whether {old.key_id} is live elsewhere is not known of {places}",
        "; ".join(dict.fromkeys(unread.values())),
        "grant read on sys/mounts and on the mounts' config, or look there yourself",
    )


def changed_meanwhile(name: str) -> Refused:
    """Return the refusal where somebody changed the mount while the copy was destroyed."""
    return Refused(
        f"the live key of {name} was changed by somebody else meanwhile",
        why="a key is deleted at Skyflow only while the rotation that replaced it is live",
        fix=f"see 'skyflowctl config history {name}' for what is live now",
        code="changed-meanwhile",
    )


def half_done(old: OldKey, name: str) -> Problem:
    """Return what remains where the kept copy is destroyed and the key is not."""
    return Problem(
        "key-left",
        f"the kept copy of {old.key_id} is destroyed, the key at Skyflow is not deleted",
        "the step before this message failed in between; the mount itself is not touched by it",
        f"run 'skyflowctl rotate --retire {name}' again, or delete the key by hand",
    )


def left_at_skyflow(old: OldKey) -> Problem:
    """Return the warning where Skyflow was not asked to delete the key."""
    return Problem(
        "key-left",
        f"Skyflow was not asked to delete the key {old.key_id} of {old.client_id}",
        "no operator token was used; unless it is deleted there, a copy of it still mints",
        "delete it in Skyflow's console, or run the command again with --operator-token",
    )
