"""What a mount stores, as frozen values with their JSON forms.

A stored record is read leniently (unknown keys are dropped, later ones get defaults),
so that an older engine can run next to a newer one during an upgrade. Each has a format
number. It grows only where an older engine would misread a record: such a one is refused
by name. Records without a number are those of our own first release, or of an engine
with the basic API (:mod:`skyflowctl.engine.foreign`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Literal, Self, TypeVar

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.engine.contract import EngineError
from skyflowctl.engine.ctx import Ctx, CtxRule
from skyflowctl.engine.names import PER_ENTITY, SIGN_MAX_TTL
from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.service_account import ServiceAccount

_Record = TypeVar("_Record")

CONFIG_KEY = "config"
CREDENTIAL_PREFIX = "credential/"
ROLE_PREFIX = "role/"
WAL_PREFIX = "wal/"
REVOKED_PREFIX = "revoked/"

RECORD_FORMAT = 1
_FORMAT_KEY = "format"

KEPT_CREDENTIALS = 3
# Keeps the record far below the storage's entry limit; by then a key is long expired.
HISTORY_LENGTH = 200


class UnusableRecordError(EngineError):
    """400: a stored record that this engine cannot use; the message names it and says why.

    Args:
        key: the storage key.
        reason: why, without anything of the record's content.
        foreign: another engine left it, so a write may replace it.
        newer: a newer engine wrote it; it is never written over.
    """

    def __init__(
        self, key: str, reason: str, *, foreign: bool = False, newer: bool = False
    ) -> None:
        super().__init__(400, f"skyflow: the stored record {key} {reason}")
        self.foreign = foreign
        self.newer = newer


def load_record(key: str, raw: bytes) -> dict[str, Any]:
    """Return a stored JSON object whose format this engine reads; 0 for one without number.

    Raises:
        UnusableRecordError: it is damaged, or a newer engine wrote it.
    """
    try:
        stored = json.loads(raw)
        number = stored.get(_FORMAT_KEY, 0)
    except (ValueError, AttributeError, RecursionError):
        raise UnusableRecordError(key, "is damaged: it is not a JSON object") from None
    if type(number) is not int or not 0 <= number <= RECORD_FORMAT:
        shown = number if type(number) is int else "unknown"
        raise UnusableRecordError(
            key,
            f"was written by a newer engine (format {shown}; this one reads up to "
            f"{RECORD_FORMAT}): run that engine's version again",
            newer=True,
        )
    return dict(stored)


def presence_mark() -> bytes:
    """Return the stored form of a record that says nothing but that it is there."""
    return _dump({})


@dataclass(frozen=True, slots=True)
class ForeignCredential:
    """The credential inside a config that another engine left.

    Args:
        slot: where the first write of our own stores it; empty for one that is unusable.
        account: None when it is unusable.
        reason: why it is.
        identity: client id and key id, also of an unusable one; empty where it names none.
    """

    slot: str = ""
    account: ServiceAccount | None = None
    reason: str = ""
    identity: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class RevocationRecord:
    """A cut-off: when, by which login and why.

    Args:
        reason: empty where none was given.
        run: the id of the command's run; empty where none was given.
        key_id: the key that was live; empty where it could not be read.
        tokens_until: when the last token of a destroyed credential ends; None: not stored.
    """

    at: datetime
    by: str = ""
    reason: str = ""
    run: str = ""
    key_id: str = ""
    tokens_until: datetime | None = None

    def public(self) -> dict[str, Any]:
        """Return the fields that a request may see."""
        shown = {**asdict(self), "at": rfc3339(self.at)}
        del shown["tokens_until"]
        return shown


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One credential version: who it was, and whether its credential is still stored.

    Args:
        slot: the name below ``credential/`` under which it is, or was, stored.
        revoked: the cut-off that destroyed this version's credential.
    """

    credential_version: int
    client_id: str
    key_id: str
    written_at: datetime
    written_by: str
    description: str
    kept: bool
    slot: str
    revoked: RevocationRecord | None = None

    @property
    def identity(self) -> tuple[str, str]:
        """Client id and key id."""
        return self.client_id, self.key_id

    def public(self) -> dict[str, Any]:
        """Return the fields that a request may see."""
        return {
            "credential_version": self.credential_version,
            "client_id": self.client_id,
            "key_id": self.key_id,
            "written_at": rfc3339(self.written_at),
            "written_by": self.written_by,
            "description": self.description,
            "kept": self.kept,
            "revoked": self.revoked.public() if self.revoked else None,
        }


@dataclass(frozen=True, slots=True)
class RotationRecord:
    """The rotation that was opened last: its intent and its state.

    Args:
        id: the caller's id, by which it recognises its own write.
        from_key: the key id that was live when it was opened; empty for none.
        to_key: the key id that it makes live; it may be told before it is written, and is
            empty until then.
        by: the login that opened it.
        keys: the key ids that the token service listed before a new one was created;
            empty where the rotation creates none.
        old_token_seconds: how long a token of the old credential lives, as far as it was
            known when the new one was written; 0 for unknown.
    """

    id: str
    from_key: str
    to_key: str
    started: datetime
    by: str
    state: Literal["open", "committed", "retired"] = "open"
    cut_over_at: datetime | None = None
    old_tokens_valid_until: datetime | None = None
    keys: tuple[str, ...] = ()
    old_token_seconds: int = 0

    def public(self) -> dict[str, Any]:
        """Return the fields that a request may see."""
        return {
            "id": self.id,
            "from": self.from_key,
            "to": self.to_key,
            "started": rfc3339(self.started),
            "by": self.by,
            "state": self.state,
            "cut_over_at": _text(self.cut_over_at),
            "old_tokens_valid_until": _text(self.old_tokens_valid_until),
            "keys": list(self.keys),
        }


@dataclass(frozen=True, slots=True)
class ConfigRecord:
    """A mount's config without its credential.

    Args:
        version: grows with every write; 0 when nothing was ever written.
        credential_version: the last one that was given out.
        configured: a credential is live: the history's last entry.
        history: oldest first.
        revoked: the cut-off that no new credential has ended.
        foreign: the credential that the stored record itself holds, because another engine
            wrote it; never stored again in that form.
    """

    version: int = 0
    credential_version: int = 0
    configured: bool = False
    description: str = ""
    tags: tuple[str, ...] = ()
    last_updated: datetime | None = None
    credential_updated: datetime | None = None
    history: tuple[HistoryEntry, ...] = ()
    rotation: RotationRecord | None = None
    revoked: RevocationRecord | None = None
    foreign: ForeignCredential | None = None

    @property
    def live(self) -> HistoryEntry | None:
        """The entry of the live credential."""
        return self.history[-1] if self.configured and self.history else None

    @property
    def cut_off(self) -> RevocationRecord | None:
        """The cut-off that no new credential has ended; also one by an earlier release.

        That release stored neither who nor why.
        """
        if self.configured or self.revoked or not self.history:
            return self.revoked
        last = self.history[-1]
        return RevocationRecord(self.credential_updated or last.written_at, key_id=last.key_id)

    def kept_slots(self) -> list[str]:
        """Return the slots whose credentials stay stored."""
        return [entry.slot for entry in self.history if entry.kept]

    def entry(self, credential_version: int) -> HistoryEntry | None:
        """Return the entry of one credential version, or None."""
        wanted = (one for one in self.history if one.credential_version == credential_version)
        return next(wanted, None)

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        stored = asdict(replace(self, foreign=None))
        del stored["foreign"]
        return _dump(stored)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Return the record that :meth:`to_bytes` stored."""
        return cls.from_stored(json.loads(raw))

    @classmethod
    def from_stored(cls, raw: Mapping[str, Any]) -> Self:
        """Return the record in a stored object of this engine."""
        stored = _known(cls, raw)
        stored.pop("foreign", None)
        history = tuple(_history_entry(entry) for entry in stored.pop("history", ()))
        stored["revoked"] = _revocation(stored.get("revoked"))
        rotation = stored.pop("rotation", None)
        stored["tags"] = tuple(stored.get("tags", ()))
        if rotation:
            rotation = _dated(
                RotationRecord, rotation, "started", "cut_over_at", "old_tokens_valid_until"
            )
            rotation = replace(rotation, keys=tuple(rotation.keys))
        record = _dated(cls, stored, "last_updated", "credential_updated")
        return replace(record, history=history, rotation=rotation or None)


@dataclass(frozen=True, slots=True)
class RoleRecord:
    """A role: a use of the mount, mapped to one Skyflow role id.

    Args:
        ctx_required: None when it was never said; a pattern then implies it.
        ctx_probe: the ctx with which the role is tried out; empty for none.
        sign_max_ttl: the longest life of a signed data token, in seconds.
        reuse_min_ttl: how long a token must still be valid to be handed out again, in seconds; 0:
            every token is fresh.
        reuse_per: who shares a token: the callers of one ``entity``, or all of the ``role``.
    """

    role_ids: tuple[str, ...]
    version: int
    created: datetime
    last_updated: datetime
    description: str = ""
    tags: tuple[str, ...] = ()
    ctx_required: bool | None = None
    ctx_pattern: str = ""
    ctx_probe: Ctx = ""
    sign_max_ttl: int = SIGN_MAX_TTL
    reuse_min_ttl: int = 0
    reuse_per: str = PER_ENTITY

    def rule(self) -> CtxRule:
        """Return what the role asks of ctx."""
        return CtxRule.of(self.ctx_required, self.ctx_pattern)

    def public(self) -> dict[str, Any]:
        """Return the fields that a request may see; ``ctx_required`` is the effective one."""
        probe = self.ctx_probe
        return {
            "role_ids": list(self.role_ids),
            "description": self.description,
            "tags": list(self.tags),
            "ctx_required": self.rule().required,
            "ctx_pattern": self.ctx_pattern,
            "ctx_probe": probe if isinstance(probe, str) else dict(probe),
            "sign_max_ttl": self.sign_max_ttl,
            "reuse_min_ttl": self.reuse_min_ttl,
            "reuse_per": self.reuse_per,
            "version": self.version,
            "created": rfc3339(self.created),
            "last_updated": rfc3339(self.last_updated),
        }

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        return _dump(asdict(self))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Return the record that :meth:`to_bytes` stored."""
        return cls.from_stored(json.loads(raw))

    @classmethod
    def from_stored(cls, raw: Mapping[str, Any]) -> Self:
        """Return the record in a stored object of this engine."""
        stored = _known(cls, raw)
        stored["tags"] = tuple(stored.get("tags", ()))
        stored["role_ids"] = tuple(stored["role_ids"])
        return _dated(cls, stored, "created", "last_updated")


def revoked_key_path(client_id: str, key_id: str) -> str:
    """Return the storage key of the mark that a service account's key is revoked."""
    # Hashed: a storage key must not depend on what characters an id has.
    digest = hashlib.sha256(json.dumps([client_id, key_id]).encode()).hexdigest()
    return REVOKED_PREFIX + digest


def revoked_bytes(client_id: str, key_id: str, revocation: RevocationRecord) -> bytes:
    """Return the stored form of that mark; ``key_id`` is the marked key's own."""
    return _dump({**asdict(revocation), "client_id": client_id, "key_id": key_id})


def credential_bytes(account: ServiceAccount) -> bytes:
    """Return the stored form of a credential: its JSON with our format number."""
    return _dump(json.loads(account.to_json().reveal()))


def _dump(value: Mapping[str, Any]) -> bytes:
    value = {_FORMAT_KEY: RECORD_FORMAT, **value}
    return json.dumps(value, default=rfc3339, separators=(",", ":")).encode()


def _known(record: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    return {name: stored[name] for name in record.__dataclass_fields__ if name in stored}  # type: ignore[attr-defined]


def _history_entry(stored: Mapping[str, Any]) -> HistoryEntry:
    marked = {**stored, "revoked": _revocation(stored.get("revoked"))}
    return _dated(HistoryEntry, marked, "written_at")


def _revocation(stored: Mapping[str, Any] | None) -> RevocationRecord | None:
    return _dated(RevocationRecord, stored, "at", "tokens_until") if stored else None


def _dated(record: type[_Record], stored: Mapping[str, Any], *dates: str) -> _Record:
    values = _known(record, stored)
    values |= {name: parse_rfc3339(values[name]) for name in dates if values.get(name)}
    return record(**values)


def _text(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None
