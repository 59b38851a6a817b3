"""Which keys of a mount can be retired, and from what time."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from skyflowctl.clock import rfc3339
from skyflowctl.errors import Problem, RefusedError, SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.rotation.messages import mounts_not_read
from skyflowctl.rotation.model import RotationJob
from skyflowctl.rotation.ports import KeyService
from skyflowctl.rotation.session import RotationSession
from skyflowctl.rotation.sibling_mounts import sibling_mounts
from skyflowctl.vault.live import CredentialVersion, LiveConfig, LiveRotation

_History = Mapping[int, CredentialVersion] | None


@dataclass(frozen=True, slots=True)
class OldKey:
    """A key that was live before the current one.

    Args:
        client_id: its service account.
        key_id: the key.
        kept: the credential versions in which the engine still keeps it.
    """

    client_id: str
    key_id: str
    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Retirement:
    """The old keys of a committed rotation.

    Args:
        keys: the old keys: the replaced one first, then earlier ones, newest first.
        successor: the key that the rotation made live and that is still live.
        tokens_until: RFC 3339, when the last token of the replaced key ends, and so all tokens of
            earlier keys; empty: unknown.
        moved_account: the successor belongs to another service account than the replaced key.
    """

    keys: tuple[OldKey, ...]
    successor: str
    tokens_until: str
    moved_account: bool = False


def retirement(job: RotationJob, config: LiveConfig, history: _History) -> Retirement | None:
    """Return the old keys of a mount's finished rotation; None: no key.

    Raises:
        RefusedError: no key can be retired, or not yet.
    """
    rotation = _committed_rotation(job, config)
    keys = retirable_keys(config, history)
    replaced = rotation.from_key
    if replaced not in ("", config.key_id) and (not keys or keys[0].key_id != replaced):
        raise RefusedError(
            f"the history of {job.path} does not know the key {replaced}",
            why="so its service account is not known",
            fix="delete the key in Skyflow Studio",
            code="key-forgotten",
        )
    if not keys:
        return None
    return Retirement(
        keys=keys,
        successor=config.key_id,
        tokens_until=rotation.old_tokens_valid_until or "",
        moved_account=keys[0].client_id != config.client_id,
    )


def _committed_rotation(job: RotationJob, config: LiveConfig) -> LiveRotation:
    """Return the mount's last rotation, which is committed and live.

    Raises:
        RefusedError: there is no rotation, it is open, or another key is live.
    """
    rotation = config.rotation
    if rotation is None or not config.configured:
        why = "its config holds no rotation: none was made, or it was rolled back"
        if not config.configured:
            why = "the mount has no credential, so nothing has replaced its last one"
        raise RefusedError(
            f"no old key of {job.path} is to be retired",
            why=why,
            fix=f"after 'skyflowctl rotate {job.name}', once the replaced key's tokens have ended",
            code="no-rotation",
        )
    if rotation.state == "open":
        raise RefusedError(
            f"the rotation of {job.path} is not done",
            why=f"{rotation.id} was started at {rotation.started} "
            f"by {rotation.by or 'an unknown run'}",
            fix=f"finish it with 'skyflowctl rotate {job.name}'; the old key can go once its last "
            "tokens have ended",
            code="rotation-open",
        )
    if config.key_id != rotation.to_key:
        raise RefusedError(
            f"the last rotation of {job.path} is not what is live",
            why=f"it made {rotation.to_key} live, and now {config.key_id} is",
            fix=f"rotate again with 'skyflowctl rotate {job.name}'; that rotation's old key can go "
            "once its last tokens have ended",
            code="rotated-back",
        )
    return rotation


def too_early(key_id: str, name: str, tokens_until: str, ends: datetime) -> RefusedError:
    """Return the refusal while tokens of the old key may be valid."""
    return RefusedError(
        f"the old key of {name} can be retired from {rfc3339(ends)} on",
        why=f"tokens minted with {key_id} live until {tokens_until}, and then "
        "rotation.retire_margin runs",
        fix=f"run 'skyflowctl rotate --retire {name}' again after {rfc3339(ends)}, or add "
        "--wait to wait here",
        code="old-tokens-live",
    )


def retirable_keys(config: LiveConfig, history: _History) -> tuple[OldKey, ...]:
    """Return the keys that ``rotate --retire`` ends: those live before the last commit.

    Skyflow may have deleted some of them already. The key that the last rotation replaced is the
    first. Empty if no rotation is committed, or if the last one replaced no key: then it is unknown
    how long tokens of earlier keys are valid.
    """
    rotation = config.rotation
    if rotation is None or not _is_over(config, rotation) or not rotation.from_key:
        return ()
    found: dict[tuple[str, str], list[int]] = {}
    for number in sorted(history or {}, reverse=True):
        entry = (history or {})[number]
        # The live key is never an old one, even if a rotation only renewed its content.
        if number >= config.credential_version or entry.key_id == config.key_id:
            continue
        kept = found.setdefault((entry.client_id, entry.key_id), [])
        kept += [number] if entry.kept else []
    keys = [OldKey(*who, tuple(sorted(kept))) for who, kept in found.items()]
    return tuple(sorted(keys, key=lambda key: key.key_id != rotation.from_key))


def _is_over(config: LiveConfig, rotation: LiveRotation) -> bool:
    return config.configured and rotation.state != "open" and config.key_id == rotation.to_key


def killed_by_haste(config: LiveConfig, history: _History = None) -> str:
    """Return in one line what stops working if the old keys are retired now; or "".

    Args:
        config: of the mount.
        history: its history; None: only the last replaced key is named.
    """
    rotation = config.rotation
    if rotation is None or not rotation.from_key:
        return ""
    ids = [key.key_id for key in retirable_keys(config, history)] or [rotation.from_key]
    until = rotation.old_tokens_valid_until
    end = f", the last until {until}" if until else ""
    many = len(ids) > 1
    what = f"the {'keys' if many else 'key'} {', '.join(ids)}"
    return f"{what} and tokens minted with {'them' if many else 'it'} that are still in use{end}"


@dataclass(frozen=True, slots=True)
class RetirementMeans:
    """The operator that deletes keys at Skyflow; ``kept_copy_only``: leave them on purpose."""

    operator: KeyService | None
    kept_copy_only: bool


@dataclass(frozen=True, slots=True)
class Remainder:
    """An old key that still exists somewhere; ``at_skyflow``: Skyflow lists it."""

    key: OldKey
    at_skyflow: bool


def remainders(
    session: RotationSession, means: RetirementMeans, found: Retirement
) -> list[Remainder]:
    """Return the old keys that still exist, at Skyflow or in the engine.

    Raises:
        RefusedError: no operator token is named, and there is a copy to destroy.
    """
    if means.operator is None:
        kept = [key for key in found.keys if key.kept]
        if kept and not means.kept_copy_only:
            name = session.job.name
            raise RefusedError(
                "no operator was given who may delete "
                f"{key_names([key.key_id for key in kept])} at Skyflow",
                why="without an operator token only the copy in the engine could be destroyed",
                fix="give --operator-token REF and --account-id ID (or rotation.operator_token "
                f"and account_id in the manifest), or 'skyflowctl rotate --retire {name} "
                "--kept-copy-only' and delete the key in Skyflow Studio",
                code="no-operator-token",
            )
        return [Remainder(key, at_skyflow=False) for key in kept]
    listed = _listed(session, means.operator, found)
    known = [key for key in found.keys if key.client_id in listed]
    left = [Remainder(key, key.key_id in listed[key.client_id]) for key in known]
    return [one for one in left if one.at_skyflow or one.key.kept]


def _listed(
    session: RotationSession, operator: KeyService, found: Retirement
) -> dict[str, set[str]]:
    """Return the keys at Skyflow by account, which also verifies the operator token.

    An earlier account of the mount that this operator may not see does not block the others.
    """
    listed: dict[str, set[str]] = {}
    for client_id in dict.fromkeys(key.client_id for key in found.keys):
        try:
            listed[client_id] = {key.key_id for key in operator.list_keys(client_id)}
        except SkyflowctlError as error:
            if client_id == found.keys[0].client_id:
                raise
            ids = [key.key_id for key in found.keys if key.client_id == client_id]
            session.warn(
                Problem(
                    "keys-not-listed",
                    f"{key_names(ids)} of service account {client_id} cannot be retired now",
                    error.problems[0].summary,
                    "run the command again with an operator token for that account, or look in "
                    "Skyflow Studio",
                )
            )
    return listed


def without_used(
    session: RotationSession, found: Retirement, left: list[Remainder]
) -> list[Remainder]:
    """Leave out earlier keys that are live on another mount.

    Raises:
        RefusedError: the last replaced key is live on another mount.
    """
    if not any(one.at_skyflow for one in left):
        return left
    siblings = sibling_mounts(session.gateway, session.path)
    free, name = [], session.job.name
    for one in left:
        key_id = one.key.key_id
        users = siblings.using(one.key.client_id, key_id) if one.at_skyflow else ()
        paths = ", ".join(users)
        if users and one.key == found.keys[0]:
            raise RefusedError(
                f"the key {key_id} is live on {paths}",
                why=f"it is the old one of {name} only, and deleting it would end those mounts' "
                "tokens",
                fix=f"rotate {paths} first, then run 'skyflowctl rotate --retire {name}'",
                code="key-in-use",
            )
        if not users:
            free.append(one)
            continue
        session.warn(
            Problem(
                "key-in-use",
                f"the key {key_id} is left: it is live on {paths}",
                f"{name} had it before, and deleting it would end those mounts' tokens",
                f"rotate {paths} first, then run 'skyflowctl rotate --retire {name}' again",
            )
        )
    if siblings.unread:
        ids = ", ".join(one.key.key_id for one in free if one.at_skyflow)
        session.warn(mounts_not_read(ids, siblings.unread))
    return free


def key_names(ids: Sequence[str]) -> str:
    """Return the keys' names, as messages show them."""
    return f"the key {ids[0]}" if len(ids) == 1 else f"the keys {', '.join(ids)}"
