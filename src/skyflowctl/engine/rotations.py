"""A rotation from its intent to its end: pure functions from one record to the next.

The config records the rotation that was opened last. It is open until it is committed, and
retired once the credential that it replaced is destroyed. An open rotation has *written*
once the key that it names as the new one is live.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Self

from skyflowctl.engine.contract import EngineError
from skyflowctl.engine.records import ConfigRecord, HistoryEntry, RotationRecord
from skyflowctl.frozen import dataclass

# What Skyflow's tokens live, where this engine has seen none of the old credential's.
TOKEN_SECONDS = 3600
# How long another node may go on minting before it has learnt of a cut-off.
NODES_LEARN = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Intent:
    """The rotation fields of a config write.

    Args:
        id: the caller's own id; empty closes the rotation.
        to_key: the new key's id, sent before its credential is written; None: not sent.
        keys: the key ids that are known before one is created; None: not sent.
        checked: the caller named the config's version, so it knows what it takes over.
    """

    id: str
    to_key: str | None
    keys: tuple[str, ...] | None
    checked: bool

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self | None:
        """Return the intent in a write's fields, or None when there is none.

        Raises:
            EngineError: 400, its details are given without its id.
        """
        to_key, keys = values.get("rotation_to"), values.get("rotation_keys")
        if not values.get("rotation_id") and (to_key is not None or keys is not None):
            raise EngineError(400, "rotation_to and rotation_keys need a rotation_id")
        if "rotation_id" not in values:
            return None
        return cls(values["rotation_id"], to_key, keys, "cas" in values)


def written(record: ConfigRecord) -> bool:
    """Tell whether the rotation is open and its new credential is live."""
    rotation, live = record.rotation, record.live
    return bool(rotation and rotation.state == "open" and live and live.key_id == rotation.to_key)


def ends_cut_off(record: ConfigRecord, intent: Intent | None) -> bool:
    """Return whether a write is the intent of a rotation that ends a cut-off.

    It needs no credential: the intent is recorded before the new key is created.
    """
    return intent is not None and record.cut_off is not None


def opened(record: ConfigRecord, intent: Intent, by: str, now: datetime) -> ConfigRecord:
    """Return the record with this rotation open, or gone on with; an empty id closes it.

    Raises:
        EngineError: 409, the rotation is over, another one has written its credential, or
            another one is open and the caller did not name the config's version.
    """
    if not intent.id:
        return replace(record, rotation=None)
    known = record.rotation
    if known is None or known.id != intent.id:
        _check_free(record, intent)
        live = record.live
        known = RotationRecord(intent.id, live.key_id if live else "", "", now, by)
    elif known.state != "open":
        raise EngineError(409, "this rotation is committed already")
    if written(record) and intent.to_key not in (None, known.to_key):
        raise EngineError(409, "this rotation has written its credential already")
    known = replace(
        known,
        by=by,
        to_key=known.to_key if intent.to_key is None else intent.to_key,
        keys=known.keys if intent.keys is None else intent.keys,
    )
    return replace(record, rotation=known)


def _check_free(record: ConfigRecord, intent: Intent) -> None:
    known = record.rotation
    if known is None or known.state != "open":
        return
    if written(record):
        raise EngineError(
            409, "another rotation has written its credential: commit it or roll it back"
        )
    if not intent.checked:
        raise EngineError(409, "another rotation is open: to take it over, give cas")


def rotated_to(record: ConfigRecord, key_id: str, old_token_life: timedelta | None) -> ConfigRecord:
    """Return the record whose open rotation makes this key live.

    Raises:
        EngineError: 409, the rotation has recorded or written another key.
    """
    known = record.rotation
    if known is None:
        return record
    if known.to_key not in ("", key_id):
        raise EngineError(409, "this rotation has recorded another key")
    seconds = max(known.old_token_seconds, _seconds(old_token_life))
    return replace(record, rotation=replace(known, to_key=key_id, old_token_seconds=seconds))


def committed(
    record: ConfigRecord, rotation_id: str, old_token_life: timedelta | None, now: datetime
) -> ConfigRecord:
    """Return the record with this rotation committed; a committed one does not change.

    Args:
        record: the live one.
        rotation_id: which rotation.
        old_token_life: the longest life of a token of the old credential that was seen.
        now: the cut-over's time.

    Raises:
        EngineError: 409, there is another rotation or none, or it has not written.
    """
    known = record.rotation
    if known is None or known.id != rotation_id:
        raise EngineError(409, "this rotation is not the mount's")
    if known.state != "open":
        return record
    if not written(record):
        raise EngineError(409, "this rotation has written no credential")
    seen = timedelta(seconds=max(known.old_token_seconds, _seconds(old_token_life)))
    known = replace(
        known,
        state="committed",
        cut_over_at=now,
        old_tokens_valid_until=end_of_tokens(now, seen) if known.from_key else None,
    )
    return replace(record, rotation=known, version=record.version + 1, last_updated=now)


def end_of_tokens(now: datetime, seen: timedelta | None) -> datetime:
    """Return when the last token of a credential ends that has just been replaced.

    Not the latest exp that was seen: another node may have minted until this moment.

    Args:
        now: the last moment at which a token may have been minted.
        seen: the longest life of one of its tokens; None or zero: none was seen.
    """
    return now + timedelta(seconds=_seconds(seen) or TOKEN_SECONDS)


def tokens_after_cut_off(
    record: ConfigRecord, live_token_life: timedelta | None, now: datetime
) -> datetime:
    """Return when the last token ends that a mount has given out until its cut-off.

    Args:
        record: the one that is cut off.
        live_token_life: the longest life of a token of the live credential that was seen.
        now: the cut-off's time; other nodes may mint until they learn of it.
    """
    known = record.rotation
    # An open one may have written: then the credential before it minted until a moment ago.
    is_open = known is not None and known.state == "open"
    life = timedelta(seconds=known.old_token_seconds) if known and is_open else timedelta()
    until = end_of_tokens(now, max(life, live_token_life or timedelta())) + NODES_LEARN
    earlier = known.old_tokens_valid_until if known else None
    return max(until, earlier) if earlier else until


def rolled_back(before: ConfigRecord, after: ConfigRecord) -> ConfigRecord:
    """Return the record after a rollback, with the new state of its rotation.

    A rollback ends the rotation. A rotation that may have created a key at Skyflow stays
    open, as before its write: the next run reads which key to delete there, and closes
    the rotation. That key is never the live one.
    """
    known, live = before.rotation, after.live
    key_id = live.key_id if live else ""
    if known is None or known.state != "open" or not known.keys or known.to_key == key_id:
        return replace(after, rotation=None)
    return replace(after, rotation=replace(known, from_key=key_id))


def check_destroyable(record: ConfigRecord, entry: HistoryEntry) -> None:
    """Refuse to destroy the credential that an open rotation replaced.

    Raises:
        EngineError: 409.
    """
    known = record.rotation
    if known is not None and written(record) and known.from_key == entry.key_id:
        raise EngineError(409, "the open rotation may need this credential: commit it first")


def retired(record: ConfigRecord, entry: HistoryEntry) -> ConfigRecord:
    """Return the record whose rotation is retired if this was the credential it replaced."""
    known, live = record.rotation, record.live
    if known is None or known.state != "committed" or known.from_key != entry.key_id:
        return record
    if live is not None and live.key_id == entry.key_id:
        return record
    return replace(record, rotation=replace(known, state="retired"))


def _seconds(life: timedelta | None) -> int:
    # Rounded up: a token must not be thought dead while it lives.
    return -int(-life.total_seconds() // 1) if life else 0
