"""How a config changes: pure functions from one record to the next."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from skyflowctl.engine.contract import EngineError
from skyflowctl.engine.records import (
    HISTORY_LENGTH,
    KEPT_CREDENTIALS,
    ConfigRecord,
    HistoryEntry,
    RotationRecord,
)
from skyflowctl.skyflow.service_account import ServiceAccount


def check_cas(record: ConfigRecord, expected: int | None) -> None:
    """Accept the version that the caller expects; 0 stands for "not configured".

    Raises:
        EngineError: 409, another one is live.
    """
    if expected is None or expected == record.version:
        return
    if expected != 0 or record.configured:
        raise EngineError(409, "check-and-set failed: another version of the config is live")


def with_fields(record: ConfigRecord, values: Mapping[str, Any], now: datetime) -> ConfigRecord:
    """Return the record with the description and tags that were given."""
    given = {name: values[name] for name in ("description", "tags") if name in values}
    return replace(record, version=record.version + 1, last_updated=now, **given)


def with_rotation(record: ConfigRecord, rotation_id: str, by: str, now: datetime) -> ConfigRecord:
    """Return the record with this rotation open; an empty id closes it unseen."""
    if not rotation_id:
        return replace(record, rotation=None)
    known = record.rotation
    if known is not None and known.id == rotation_id:
        return replace(record, rotation=replace(known, by=by))
    from_key = record.live.key_id if record.live else ""
    return replace(record, rotation=RotationRecord(rotation_id, from_key, "", now, by))


def with_credential(
    record: ConfigRecord, account: ServiceAccount, by: str, now: datetime
) -> ConfigRecord:
    """Return the record with this credential live.

    The version of the credential grows only with a new identity; new content of the
    same identity gets a slot of its own, so that what is stored changes in one step.
    """
    live = record.live
    if live and (live.client_id, live.key_id) == (account.client_id, account.key_id):
        number, earlier = live.credential_version, record.history[:-1]
        slot = _next_slot(live)
    else:
        number, earlier = record.credential_version + 1, record.history
        slot = str(number)
    entry = HistoryEntry(
        credential_version=number,
        client_id=account.client_id,
        key_id=account.key_id,
        written_at=now,
        written_by=by,
        description=record.description,
        kept=True,
        slot=slot,
    )
    return replace(
        record,
        configured=True,
        credential_version=number,
        credential_updated=now,
        history=_pruned((*earlier, entry)),
    )


def rotated_to(record: ConfigRecord, key_id: str) -> ConfigRecord:
    """Return the record whose open rotation made this key live."""
    if record.rotation is None:
        return record
    return replace(record, rotation=replace(record.rotation, to_key=key_id))


def cut_off(record: ConfigRecord, now: datetime) -> ConfigRecord:
    """Return the record of a mount without any credential; all other words stay."""
    return replace(
        record,
        configured=False,
        version=record.version + 1,
        last_updated=now,
        credential_updated=now,
        history=tuple(replace(entry, kept=False) for entry in record.history),
        rotation=None,
    )


def kept_slots(record: ConfigRecord) -> list[str]:
    """Return the slots whose credentials stay stored."""
    return [entry.slot for entry in record.history if entry.kept]


def _next_slot(live: HistoryEntry) -> str:
    number, _, edition = live.slot.partition(".")
    return f"{number}.{int(edition or 0) + 1}"


def _pruned(history: tuple[HistoryEntry, ...]) -> tuple[HistoryEntry, ...]:
    kept = [entry.credential_version for entry in history if entry.kept][-KEPT_CREDENTIALS:]
    return tuple(
        replace(entry, kept=entry.credential_version in kept) for entry in history[-HISTORY_LENGTH:]
    )
