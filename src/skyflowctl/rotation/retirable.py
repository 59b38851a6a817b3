"""Which keys of a mount are over and may be retired."""

from collections.abc import Mapping
from dataclasses import dataclass

from skyflowctl.rotation import retire_messages as words
from skyflowctl.rotation.model import RotationJob
from skyflowctl.vault.live import CredentialVersion, LiveConfig, LiveRotation

_History = Mapping[int, CredentialVersion] | None


@dataclass(frozen=True, slots=True)
class OldKey:
    """A key that was live before the one that is.

    Args:
        client_id: its service account.
        key_id: the key.
        kept: the credential versions under which the engine still keeps it.
    """

    client_id: str
    key_id: str
    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Retirement:
    """What a committed rotation left behind.

    Args:
        keys: the old keys: the one that it replaced, then those of before, the newest first.
        successor: the key that it made live, and that is live.
        tokens_until: RFC 3339, when the last token of the replaced key ends, and with it
            those of the keys before; empty: not told.
        moved_account: the successor is of another service account than the replaced key.
    """

    keys: tuple[OldKey, ...]
    successor: str
    tokens_until: str
    moved_account: bool = False


def retirement(job: RotationJob, config: LiveConfig, history: _History) -> Retirement | None:
    """Return what a mount's rotation left behind once it is over; None: no key.

    Raises:
        RefusedError: there is none to retire, or not yet.
    """
    rotation = config.rotation
    if rotation is None or not config.configured:
        raise words.no_rotation(job, config)
    if rotation.state == "open":
        raise words.open_rotation_refusal(job, rotation)
    if config.key_id != rotation.to_key:
        raise words.other_live(job, config, rotation)
    keys = retirable_keys(config, history)
    replaced = rotation.from_key
    if replaced not in ("", config.key_id) and (not keys or keys[0].key_id != replaced):
        raise words.forgotten(job, rotation)
    if not keys:
        return None
    return Retirement(
        keys=keys,
        successor=config.key_id,
        tokens_until=rotation.old_tokens_valid_until or "",
        moved_account=keys[0].client_id != config.client_id,
    )


def retirable_keys(config: LiveConfig, history: _History) -> tuple[OldKey, ...]:
    """Return the keys that ``rotate --retire`` ends: those live before the last commit.

    Whether Skyflow still has them is not known here. The one that the last rotation replaced
    is the first. None where no rotation is over, or where it replaced nothing: then nobody
    knows until when tokens of the keys before live.
    """
    rotation = config.rotation
    if rotation is None or not _is_over(config, rotation) or not rotation.from_key:
        return ()
    found: dict[tuple[str, str], list[int]] = {}
    for number in sorted(history or {}, reverse=True):
        entry = (history or {})[number]
        # The live one is never an old one, not even of a rotation that renewed its content.
        if number >= config.credential_version or entry.key_id == config.key_id:
            continue
        kept = found.setdefault((entry.client_id, entry.key_id), [])
        kept += [number] if entry.kept else []
    keys = [OldKey(*who, tuple(sorted(kept))) for who, kept in found.items()]
    return tuple(sorted(keys, key=lambda key: key.key_id != rotation.from_key))


def _is_over(config: LiveConfig, rotation: LiveRotation) -> bool:
    return config.configured and rotation.state != "open" and config.key_id == rotation.to_key


def killed_by_haste(config: LiveConfig, history: _History = None) -> str:
    """Return what retiring the old keys at once kills, in one line; "" when there is none.

    Args:
        config: of the mount.
        history: its history; None: only the key that was replaced last is named.
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
