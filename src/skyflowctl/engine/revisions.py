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
    RevocationRecord,
)
from skyflowctl.skyflow.service_account import ServiceAccount


def check_cas(record: ConfigRecord, expected: int | None) -> None:
    """Accept the version that the caller expects; 0 means "not configured".

    Raises:
        EngineError: 409, another one is live.
    """
    if expected is None or expected == record.version:
        return
    if expected != 0 or record.configured:
        raise EngineError(409, "check-and-set failed: another version of the config is live")


def check_credential_cas(record: ConfigRecord, expected: int | None) -> None:
    """Accept the credential version that the caller expects to be live.

    Raises:
        EngineError: 409, another one is.
    """
    if expected is not None and expected != record.credential_version:
        raise EngineError(409, "check-and-set failed: another credential version is live")


def with_fields(record: ConfigRecord, values: Mapping[str, Any], now: datetime) -> ConfigRecord:
    """Return the record with the description and tags that were given."""
    given = {name: values[name] for name in ("description", "tags") if name in values}
    return replace(record, version=record.version + 1, last_updated=now, **given)


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
        revoked=None,
    )


def revoked_record(record: ConfigRecord, revocation: RevocationRecord) -> ConfigRecord:
    """Return the record of a mount without any credential; all other fields stay.

    Each version whose credential this destroys keeps the mark. On a mount that is cut off
    already the first mark stays, but one without a reason takes the reason given now, and a
    rotation that was to end it is forgotten.
    """
    if record.configured or record.foreign:
        foreign = record.foreign.identity if record.foreign else ("", "")
        _, key_id = record.live.identity if record.live else foreign
        mark = replace(revocation, key_id=key_id)
        return _changed(
            record,
            mark.at,
            configured=False,
            credential_updated=mark.at,
            history=tuple(
                replace(entry, kept=False, revoked=mark) if entry.kept else entry
                for entry in record.history
            ),
            rotation=None,
            revoked=mark,
        )
    known = record.cut_off
    if known is None:
        return record
    mark = known
    if not known.reason and revocation.reason:
        mark = replace(known, reason=revocation.reason, run=revocation.run)
    if mark == known and record.rotation is None:
        return record
    # Also a rotation that was to end the cut-off loses, with a new version.
    return _changed(record, revocation.at, revoked=mark, rotation=None)


def _changed(record: ConfigRecord, now: datetime, **fields: Any) -> ConfigRecord:
    return replace(record, version=record.version + 1, last_updated=now, **fields)


def rollback_target(record: ConfigRecord, wanted: int | None) -> HistoryEntry:
    """Return the entry to roll back to; None: the one that was live before the current.

    Raises:
        EngineError: 400, the mount or the version has never been; 409, there is none
            before, or its credential is destroyed.
    """
    if not record.history:
        raise EngineError(400, "mount not configured")
    if wanted is None:
        # After a cut-off the last entry is the one that was live.
        earlier = record.history[:-1] if record.configured else record.history
        if not earlier:
            raise EngineError(409, "there is no earlier credential")
        entry: HistoryEntry | None = earlier[-1]
    else:
        entry = find_entry(record, wanted)
    if entry is None or not entry.kept:
        raise EngineError(409, "the credential of that version is destroyed")
    return entry


def find_entry(record: ConfigRecord, wanted: int) -> HistoryEntry | None:
    """Return the entry of a version; None for one that the history has dropped.

    Raises:
        EngineError: 400, no credential has ever had that version.
    """
    if not 0 < wanted <= record.credential_version:
        raise EngineError(400, "there is no such credential version")
    return record.entry(wanted)


def without_credential(record: ConfigRecord, entry: HistoryEntry, now: datetime) -> ConfigRecord:
    """Return the record without a kept credential, under all of its versions.

    A rollback stores a credential a second time; only the live copy remains.
    """
    who = (entry.client_id, entry.key_id)
    history = tuple(
        replace(one, kept=False)
        if one != record.live and (one.client_id, one.key_id) == who
        else one
        for one in record.history
    )
    return replace(record, version=record.version + 1, last_updated=now, history=history)


def _next_slot(live: HistoryEntry) -> str:
    number, _, edition = live.slot.partition(".")
    return f"{number}.{int(edition or 0) + 1}"


def _pruned(history: tuple[HistoryEntry, ...]) -> tuple[HistoryEntry, ...]:
    kept = [entry.credential_version for entry in history if entry.kept][-KEPT_CREDENTIALS:]
    return tuple(
        replace(entry, kept=entry.credential_version in kept) for entry in history[-HISTORY_LENGTH:]
    )
