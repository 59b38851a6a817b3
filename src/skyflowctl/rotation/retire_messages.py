"""In which words an old key is not retired, or is left somewhere."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from skyflowctl.clock import rfc3339
from skyflowctl.errors import Problem, RefusedError, SkyflowctlError
from skyflowctl.rotation.model import RotationJob
from skyflowctl.vault.live import LiveConfig, LiveRotation

NOT_PROVEN = "cut-over-not-proven"

_CONSOLE = "in Skyflow Studio"


def unread_mounts(what: str, unread: Mapping[str, str]) -> Problem:
    """Return the warning where mounts may live by such a key without our seeing it."""
    places = ", ".join(path for path in unread if path) or "the server's other mounts"
    return Problem(
        "mounts-not-read",
        f"whether {what} is live elsewhere is not known of {places}",
        "; ".join(dict.fromkeys(unread.values())),
        "grant read on sys/mounts and on the mounts' config, or look there yourself",
    )


def no_rotation(job: RotationJob, config: LiveConfig) -> RefusedError:
    """Return the refusal where no rotation is over."""
    why = "its config holds no rotation: none was made, or it was rolled back"
    if not config.configured:
        why = "the mount has no credential, so nothing has replaced its last one"
    return RefusedError(
        f"no old key of {job.path} is to be retired",
        why=why,
        fix=f"after 'skyflowctl rotate {job.name}', once the replaced key's tokens have ended",
        code="no-rotation",
    )


def open_rotation_refusal(job: RotationJob, rotation: LiveRotation) -> RefusedError:
    """Return the refusal where one is not over."""
    return RefusedError(
        f"the rotation of {job.path} is not done",
        why=f"{rotation.id} was begun at {rotation.started} by {rotation.by or 'nobody known'}",
        fix=f"finish it with 'skyflowctl rotate {job.name}'; the old key can go once its last "
        "tokens have ended",
        code="rotation-open",
    )


def other_live(job: RotationJob, config: LiveConfig, rotation: LiveRotation) -> RefusedError:
    """Return the refusal where another key is live than the last rotation's."""
    return RefusedError(
        f"the last rotation of {job.path} is not what is live",
        why=f"it made {rotation.to_key} live, and now {config.key_id} is",
        fix=f"rotate again with 'skyflowctl rotate {job.name}'; that rotation's old key can go "
        "once its last tokens have ended",
        code="rotated-back",
    )


def forgotten(job: RotationJob, rotation: LiveRotation) -> RefusedError:
    """Return the refusal where the replaced key is not in the history."""
    return RefusedError(
        f"the history of {job.path} does not know the key {rotation.from_key}",
        why="so nobody can tell which service account it is of",
        fix=f"delete the key {_CONSOLE}",
        code="key-forgotten",
    )


def no_operator(keys: Sequence[str], name: str) -> RefusedError:
    """Return the refusal where nobody can delete the keys at Skyflow."""
    return RefusedError(
        f"nobody named who may delete {_keys(keys)} at Skyflow",
        why="without an operator token only the copy in the engine could be destroyed",
        fix="give --operator-token REF and --account-id ID (or rotation.operator_token and "
        f"account_id in the manifest), or 'skyflowctl rotate --retire {name} --kept-copy-only' "
        f"and delete the key {_CONSOLE}",
        code="no-operator-token",
    )


def too_early(key_id: str, name: str, tokens_until: str, ends: datetime) -> RefusedError:
    """Return the refusal while tokens of the old key may live."""
    return RefusedError(
        f"the old key of {name} can be retired from {rfc3339(ends)} on",
        why=f"tokens minted with {key_id} live until {tokens_until}, and then "
        "rotation.retire_margin runs",
        fix=f"run 'skyflowctl rotate --retire {name}' again after {rfc3339(ends)}, or add "
        "--wait to wait here",
        code="old-tokens-live",
    )


def interrupted(name: str) -> RefusedError:
    """Return the refusal of a run that was asked to stop before it destroyed anything."""
    return RefusedError(
        f"the old key of {name} was not retired",
        why="a signal asked this run to stop",
        fix=f"run 'skyflowctl rotate --retire {name}' when it suits",
        code="interrupted",
    )


def not_proven(name: str, error: SkyflowctlError) -> RefusedError:
    """Return the refusal where a node does not serve the new key, or does not say so."""
    first = error.problems[0]
    return RefusedError(
        f"the old key of {name} stays: the new one is not proven on every node",
        why=f"{first.summary}: {first.why}" if first.why else first.summary,
        fix=f"run 'skyflowctl rotate --retire {name}' again once every node answers; "
        f"'skyflowctl health {name} --refresh' asks them",
        code=NOT_PROVEN,
    )


def not_every_node(name: str, gap: Problem) -> RefusedError:
    """Return the refusal to delete at Skyflow what an unproved node may still mint with."""
    return RefusedError(
        f"the old key of {name} stays: not every node can be asked",
        why=f"{gap.summary}: {gap.why}",
        fix=f"'skyflowctl rotate --retire {name}' without --allow-unverified-nodes says how each "
        "can; or give --kept-copy-only, and delete the key by hand",
        code=NOT_PROVEN,
    )


def weak_roles(name: str, roles: Sequence[str]) -> Problem:
    """Return the warning where some roles cannot be minted at all."""
    return Problem(
        "roles-refused",
        f"{name} gives no token for {', '.join(roles)}",
        "Skyflow refuses these roles to the service account, whichever of its keys is live",
        f"assign the roles in Skyflow; 'skyflowctl config verify {name}' shows its own words",
    )


def used_elsewhere(key_id: str, name: str, paths: Sequence[str]) -> RefusedError:
    """Return the refusal where another mount lives by the old key."""
    return RefusedError(
        f"the key {key_id} is live on {', '.join(paths)}",
        why=f"it is the old one of {name} only, and deleting it would end those mounts' tokens",
        fix=f"rotate {', '.join(paths)} first, then run 'skyflowctl rotate --retire {name}'",
        code="key-in-use",
    )


def earlier_used(key_id: str, name: str, paths: Sequence[str]) -> Problem:
    """Return the warning where another mount lives by a key of long ago, which is left."""
    return Problem(
        "key-in-use",
        f"the key {key_id} is left: it is live on {', '.join(paths)}",
        f"{name} had it before, and deleting it would end those mounts' tokens",
        f"rotate {', '.join(paths)} first, then run 'skyflowctl rotate --retire {name}' again",
    )


def account_unasked(client_id: str, keys: Sequence[str], error: SkyflowctlError) -> Problem:
    """Return the warning where Skyflow does not tell the keys of an account of long ago."""
    return Problem(
        "keys-not-listed",
        f"{_keys(keys)} of service account {client_id} cannot be retired now",
        error.problems[0].summary,
        f"run the command again with an operator token for that account, or look {_CONSOLE}",
    )


def kept_copy_changed(name: str) -> RefusedError:
    """Return the refusal where somebody changed the mount while the copy was destroyed."""
    return RefusedError(
        f"the live key of {name} was changed by somebody else meanwhile",
        why="a key is deleted at Skyflow only while the rotation that replaced it is live",
        fix=f"see 'skyflowctl config history {name}' for what is live now",
        code="changed-meanwhile",
    )


def half_done(keys: Sequence[str], name: str) -> Problem:
    """Return what remains where kept copies are destroyed and the keys are not."""
    return Problem(
        "key-left",
        f"the kept copies are destroyed, and not deleted at Skyflow: {_keys(keys)}",
        "the step before this message failed in between; the mount itself is not touched by it",
        f"run 'skyflowctl rotate --retire {name}' again, or delete what is left {_CONSOLE}",
    )


def left_at_skyflow(keys: Sequence[str], client_id: str) -> Problem:
    """Return the warning where Skyflow was not asked to delete the keys."""
    return Problem(
        "key-left",
        f"Skyflow was not asked to delete {_keys(keys)} of {client_id}",
        "this run had no operator token; what is not deleted there mints with each copy of it",
        f"delete it {_CONSOLE}, or run the command again with --operator-token",
    )


def _keys(ids: Sequence[str]) -> str:
    return f"the key {ids[0]}" if len(ids) == 1 else f"the keys {', '.join(ids)}"
