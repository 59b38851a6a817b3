"""Reads the records of an engine with the basic API, in that engine's format.

The public Go plugin of the same name stores one record ``config``, with the credential's
text or a file's path in it, and ``role/<name>``. They have no mark, so they are
recognised by their fields. Our first write of a record converts it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import UTC, datetime
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from skyflowctl.clock import parse_rfc3339
from skyflowctl.engine.ctx import InvalidCtxError
from skyflowctl.engine.names import role_refusal
from skyflowctl.engine.records import (
    CONFIG_KEY,
    ROLE_PREFIX,
    ConfigRecord,
    ForeignCredential,
    HistoryEntry,
    RoleRecord,
    UnusableRecordError,
    load_record,
)
from skyflowctl.skyflow.service_account import (
    InvalidCredentialError,
    parse_service_account,
)
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS, token_host

LEFT = "was left by another engine and cannot be taken over"
_INLINE, _FILE = "credentials_json", "credentials_file_path"
_SLOT = "1"
_SLOT_FORM = re.compile(r"[a-z0-9]{1,16}(?:\.[0-9]{1,9})?")
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, InvalidCtxError)
_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def decode_config(raw: bytes) -> ConfigRecord:
    """Return a stored config, of this or another engine's.

    A foreign credential that cannot be used leaves the mount unconfigured, with the
    reason; description, tags and version are there all the same.

    Raises:
        UnusableRecordError: the record is damaged, of a newer engine, or of no known form.
    """
    stored = load_record(CONFIG_KEY, raw)
    try:
        if "credential_version" in stored:
            return _checked_config(ConfigRecord.from_stored(stored))
        if _INLINE in stored or _FILE in stored:
            return _foreign_config(stored)
    except _DAMAGE:
        raise UnusableRecordError(CONFIG_KEY, "is damaged: a field has no such value") from None
    raise UnusableRecordError(CONFIG_KEY, "has no form that this engine knows", foreign=True)


def decode_role(name: str, raw: bytes) -> RoleRecord:
    """Return a stored role, of this or another engine's.

    Raises:
        UnusableRecordError: it is damaged, of a newer engine, of no known form, or another
            engine's with a name or a role id that this engine does not take.
    """
    key = ROLE_PREFIX + name
    stored = load_record(key, raw)
    try:
        if "created" in stored and "role_ids" in stored:
            return _checked_role(RoleRecord.from_stored(stored))
        if "created_at" in stored and "role_ids" in stored:
            return _foreign_role(name, stored)
    except _DAMAGE:
        raise UnusableRecordError(key, "is damaged: a field has no such value") from None
    raise UnusableRecordError(key, "has no form that this engine knows", foreign=True)


def _checked_config(record: ConfigRecord) -> ConfigRecord:
    if not fits(record, ConfigRecord) or (record.configured and not record.history):
        raise TypeError
    if not all(_SLOT_FORM.fullmatch(entry.slot) for entry in record.history):
        raise ValueError
    return record


def _checked_role(role: RoleRecord) -> RoleRecord:
    if not fits(role, RoleRecord) or len(role.role_ids) != 1:
        raise TypeError
    role.rule()  # one that is none is damage as well
    return role


def _foreign_config(stored: Mapping[str, Any]) -> ConfigRecord:
    written, version = _time(stored.get("last_updated")), stored.get("version")
    credential = _credential(stored, written)
    account, description = credential.account, _text(stored.get("description"))
    history: tuple[HistoryEntry, ...] = ()
    if account is not None:
        entry = HistoryEntry(
            credential_version=1,
            client_id=account.client_id,
            key_id=account.key_id,
            written_at=written,
            written_by="",
            description=description,
            kept=True,
            slot=credential.slot,
        )
        history = (entry,)
    return ConfigRecord(
        # At least 1, so that a check-and-set of 0 never matches this mount.
        version=max(1, version if type(version) is int else 0),
        credential_version=len(history),
        configured=bool(history),
        description=description,
        tags=_texts(stored.get("tags")),
        last_updated=written,
        credential_updated=written if history else None,
        history=history,
        foreign=credential,
    )


def _credential(stored: Mapping[str, Any], written: datetime) -> ForeignCredential:
    text = stored.get(_INLINE)
    if not isinstance(text, str) or not text:
        reason = "its config names a file on the server, which was read again for every token"
        return ForeignCredential(reason=reason)
    try:
        # Valid when it was written is enough; the token service knows what it is now. Its
        # host is held to the allowed ones at every mint.
        account, _ = parse_service_account(text, allowed_hosts=_own_host(text), now=written)
    except InvalidCredentialError as error:
        reason = "; ".join(one.message for one in error.findings)
        return ForeignCredential(reason=reason, identity=_identity(text))
    return ForeignCredential(_SLOT, account, identity=(account.client_id, account.key_id))


def _identity(text: str) -> tuple[str, str]:
    """Return client id and key id as an unusable credential names them: what a mark needs."""
    try:
        named = json.loads(text)
        return _text(named["clientID"]), _text(named["keyID"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "", ""


def _own_host(text: str) -> frozenset[str]:
    try:
        return frozenset({token_host(json.loads(text)["tokenURI"])})
    except (ValueError, TypeError, KeyError, RecursionError):
        return SKYFLOW_HOSTS


def _foreign_role(name: str, stored: Mapping[str, Any]) -> RoleRecord:
    role_ids = _texts(stored["role_ids"])
    if reason := role_refusal(name, role_ids):
        raise UnusableRecordError(ROLE_PREFIX + name, f"{LEFT}: {reason}", foreign=True)
    return RoleRecord(
        role_ids=role_ids,
        version=1,
        created=_time(stored["created_at"]),
        last_updated=_time(stored.get("updated_at")),
        description=_text(stored.get("description")),
        tags=_texts(stored.get("tags")),
    )


def _time(text: Any) -> datetime:
    try:
        return parse_rfc3339(str(text))
    except (ValueError, OverflowError):
        return _UNKNOWN_TIME


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


@cache
def _hints(record: type) -> Mapping[str, Any]:
    return get_type_hints(record)


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of a declared type, down to the fields of a dataclass."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(one, get_args(hint)[0]) for one in value)
    if hint in (int, bool):
        return type(value) is hint  # True is an int to Python, and no number here
    return isinstance(value, origin or hint) and (not is_dataclass(value) or _fields_fit(value))


def _fields_fit(record: Any) -> bool:
    kind: type = type(record)
    return all(fits(getattr(record, name), hint) for name, hint in _hints(kind).items())
