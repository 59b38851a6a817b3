"""Changes that affect tokens but change no credential: roles, mounts, policies, plugins, audit
devices, snapshots and root tokens. Values before and after are given where the log has them."""

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec

from skyflowctl.audit.changes import AuditTarget
from skyflowctl.audit.ctx import ctx_text
from skyflowctl.audit.entries import Entry, LoggedRequest
from skyflowctl.audit.model import ChangeKind, FieldChange

WRITES = frozenset({"update", "create", "delete", "patch"})
_LOOKS = frozenset({"read", "list"})
_STATES_MAX = 20_000
"""The most objects whose last known fields are kept."""
_FIELDS_MAX = 40
_VALUE_MAX = 1024
_LINE_MAX = 256 << 10
"""The fields of longer lines (in bytes) are not decoded."""
_OWN = frozenset({"cas", "version", "created", "last_updated", "name"})
"""Fields that belong to the request, or that the server counts; they are not settings."""
_PATHS: tuple[tuple[str, ChangeKind, ChangeKind | None], ...] = (
    (r"sys/mounts/(?P<mount>.+)/tune", ChangeKind.MOUNT_TUNED, None),
    (r"sys/mounts/(?P<mount>.+)", ChangeKind.MOUNT_ENABLED, ChangeKind.MOUNT_DISABLED),
    (r"sys/remount", ChangeKind.MOUNT_MOVED, None),
    (
        r"sys/polic(?:y|ies/acl)/(?P<name>.+)",
        ChangeKind.POLICY_WRITTEN,
        ChangeKind.POLICY_DELETED,
    ),
    (
        r"sys/plugins/catalog/(?P<name>.+)",
        ChangeKind.PLUGIN_REGISTERED,
        ChangeKind.PLUGIN_REMOVED,
    ),
    (r"sys/plugins/reload/(?P<name>.+)", ChangeKind.PLUGIN_RELOADED, None),
    (
        r"sys/audit/(?P<name>.+)",
        ChangeKind.AUDIT_DEVICE_ENABLED,
        ChangeKind.AUDIT_DEVICE_DISABLED,
    ),
    (r"sys/storage/raft/snapshot(?:-force)?", ChangeKind.SNAPSHOT_RESTORED, None),
    (r"sys/generate-root/update", ChangeKind.ROOT_TOKEN_GENERATED, None),
)


def admin_target(path: str, operation: str) -> tuple[AuditTarget, ChangeKind] | None:
    """Return what a write on the server's own paths changes; None if it does not affect tokens."""
    if operation not in WRITES or not path.startswith("sys/"):
        return None
    for pattern, written, deleted in _PATHS:
        if match := re.fullmatch(pattern, path):
            kind = deleted if operation == "delete" else written
            if kind is None:
                return None
            names = match.groupdict()
            mount = (names.get("mount") or "").strip("/")
            return AuditTarget("sys", mount, names.get("name") or ("" if mount else path)), kind
    return None


def is_change(request: LoggedRequest) -> bool:
    """Return whether a request on the server's own paths makes a change that affects tokens."""
    return request.operation in WRITES and admin_target(request.path, request.operation) is not None


def role_change(operation: str) -> ChangeKind | None:
    """Return how an operation on a role changes it; None for a read."""
    if operation not in WRITES:
        return None
    return ChangeKind.ROLE_DELETED if operation == "delete" else ChangeKind.ROLE_WRITTEN


def has_details(request: LoggedRequest) -> bool:
    """Return whether the fields of the answer may be needed: for a change, or a read of a role."""
    path = request.path
    return "/roles" in path or (request.operation in WRITES and path.startswith("sys/"))


class _Part(msgspec.Struct):
    data: dict[str, Any] | None = None


class _Whole(msgspec.Struct):
    request: _Part
    response: _Part | None = None


_decode = msgspec.json.Decoder(_Whole).decode


def details(line: bytes) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return all fields of the request and of the answer in a line; none: not decoded."""
    if len(line) > _LINE_MAX:
        return {}, {}
    try:
        whole = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}, {}
    answer = whole.response.data if whole.response is not None else None
    return whole.request.data or {}, answer or {}


class KnownFields:
    """The last known fields of roles, mounts and the like, as each device hashed them."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, str], dict[str, str]] = OrderedDict()

    def look(self, entry: Entry, stream: int) -> None:
        """Remember the fields that an answer shows of a role, or of all roles of a mount."""
        request = entry.request
        if entry.details is None or request.operation not in _LOOKS or entry.error:
            return
        answer = entry.details[1]
        listed = answer.get("key_info")
        if request.operation == "read":
            self._keep((stream, request.path), _fields(answer))
        elif isinstance(listed, dict):
            for name, fields in listed.items():
                if isinstance(fields, dict):
                    self._keep((stream, f"{request.path.strip('/')}/{name}"), _fields(fields))

    def change(self, entry: Entry, stream: int, kind: ChangeKind) -> tuple[FieldChange, ...]:
        """Record a change that was made; return its fields before and after."""
        if entry.details is None:
            return ()
        key = (stream, _object(entry.request.path, entry.details[0]))
        before = self._known.get(key)
        sent = _fields(entry.details[0])
        if entry.request.operation == "delete":
            self._known.pop(key, None)
            return tuple(FieldChange(name, value, None) for name, value in (before or {}).items())
        if kind is ChangeKind.ROLE_WRITTEN and entry.request.operation == "create":
            before = {}
        self._keep(key, {**(before or {}), **sent})
        return tuple(
            FieldChange(name, (before or {}).get(name), value)
            for name, value in sent.items()
            if before is None or before.get(name) != value
        )

    def _keep(self, key: tuple[int, str], fields: dict[str, str]) -> None:
        self._known[key] = fields
        self._known.move_to_end(key)
        if len(self._known) > _STATES_MAX:
            self._known.popitem(last=False)


def _object(path: str, sent: Mapping[str, Any]) -> str:
    """Return the path under which an object's fields are remembered."""
    if path.startswith("sys/plugins/catalog/"):
        return f"{path}@{sent.get('version') or ''}"  # each version is an entry of its own
    return path.removesuffix("/tune")


def _fields(found: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return settings by name as text; a nested object's settings have its name as prefix."""
    fields: dict[str, str] = {}
    for name, value in found.items():
        if name in _OWN or len(fields) >= _FIELDS_MAX:
            continue
        if isinstance(value, dict) and not prefix:
            fields |= _fields(value, f"{name}.")
        else:
            fields[f"{prefix}{name}"[:_VALUE_MAX]] = _text(value)
    return fields


def _text(value: object) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)[:_VALUE_MAX]
    return (value if isinstance(value, str) else ctx_text(value)[0])[:_VALUE_MAX]
