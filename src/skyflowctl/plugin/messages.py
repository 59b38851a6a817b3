"""The protobuf messages that a server and the plugin exchange, as one table, and their encoding.

Only the fields that the plugin uses are named: on the wire a field is its number, and a
number that a message does not name is skipped, so client tokens and leases are never
even looked at.

The encoding is written here because the protobuf library would cost every start 8 to 15 ms and
every process 1.3 to 2.7 MB; the messages need six of its types (ADR 0027). The tests compare
both, message by message. The specification: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Self

# message: {field: (number, type)}; "type*" is repeated, "type@" a map from string. A message
# stands after those that it holds.
_TABLE: dict[str, dict[str, tuple[int, str]]] = {
    "Empty": {},
    "ConnInfo": {
        "service_id": (1, "uint32"),
        "network": (2, "string"),
        "address": (3, "string"),
    },
    "StdioData": {"channel": (1, "int32"), "data": (2, "bytes")},
    "MultiplexingSupportReply": {"supported": (1, "bool")},
    "VersionReply": {"plugin_version": (1, "string")},
    "HealthCheckReply": {"status": (1, "int32")},
    "SetupArgs": {
        "broker_id": (1, "uint32"),
        "config": (2, "string@"),
        "backend_uuid": (3, "string"),
    },
    "SetupReply": {"err": (1, "string")},
    "TypeReply": {"type": (1, "uint32")},
    "Paths": {"seal_wrap_storage": (4, "string*")},
    "SpecialPathsReply": {"paths": (1, "Paths")},
    "ProtoError": {
        "err_type": (1, "uint32"),
        "err_msg": (2, "string"),
        "err_code": (3, "int64"),
    },
    "InitializeReply": {"err": (1, "ProtoError")},
    "InvalidateKeyArgs": {"key": (1, "string")},
    "Header": {"values": (1, "string*")},
    "Request": {
        "id": (1, "string"),
        "operation": (3, "string"),
        "path": (4, "string"),
        "data": (5, "string"),
        "headers": (8, "Header@"),
        "display_name": (11, "string"),
        "mount_point": (12, "string"),
        "entity_id": (17, "string"),
    },
    "Response": {"data": (3, "string"), "warnings": (5, "string*")},
    "HandleRequestArgs": {"request": (2, "Request")},
    "HandleRequestReply": {"response": (1, "Response"), "err": (2, "ProtoError")},
    "ExistenceCheckArgs": {"request": (2, "Request")},
    "ExistenceCheckReply": {
        "check_found": (1, "bool"),
        "exists": (2, "bool"),
        "err": (3, "ProtoError"),
    },
    "StorageEntry": {"key": (1, "string"), "value": (2, "bytes")},
    "StorageGetArgs": {"key": (1, "string")},
    "StorageGetReply": {"entry": (1, "StorageEntry"), "err": (2, "string")},
    "StoragePutArgs": {"entry": (1, "StorageEntry")},
    "StorageListArgs": {"prefix": (1, "string")},
    "StorageListReply": {"keys": (1, "string*"), "err": (2, "string")},
    "StorageErrorReply": {"err": (1, "string")},
}

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_DEFAULTS: Mapping[str, Any] = {"string": "", "bytes": b"", "bool": False}
_CONVERTERS: Mapping[str, Callable[[bytes], Any]] = {"string": bytes.decode, "bytes": bytes}
_NO_ENTRIES: Mapping[str, Any] = MappingProxyType({})


class MalformedMessageError(ValueError):
    """Bytes that are no encoded message; the text quotes none of them."""


class WireMessage:
    """A message: its fields are read as attributes, and given to the constructor.

    A field that is missing reads as the default of its type. The methods are named as those of
    protobuf's classes. No text of a message shows its content.
    """

    # By key: name, what makes the value of it, and what adds it; None: the last value counts.
    _fields: ClassVar[dict[int, tuple[str, Callable[[Any], Any], Any]]]
    _writers: ClassVar[dict[str, Callable[[bytearray, Any], None]]]

    def __init__(self, **values: Any) -> None:
        if unknown := values.keys() - self._writers.keys():
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        self.__dict__.update((name, value) for name, value in values.items() if value is not None)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a message does not change; {name} is given when it is made")

    @classmethod
    def FromString(cls, data: bytes) -> Self:  # noqa: N802 - see the class
        """Return the message of these bytes.

        Raises:
            MalformedMessageError: they are none.
        """
        message = cls.__new__(cls)
        try:
            _read(message, data)
        except (IndexError, UnicodeDecodeError):
            raise MalformedMessageError(f"{cls.__name__}: truncated, or no UTF-8") from None
        return message

    def SerializeToString(self) -> bytes:  # noqa: N802
        """Return the encoded message."""
        wire = bytearray()
        values = self.__dict__
        for name, write in self._writers.items():
            if value := values.get(name):
                write(wire, value)
        return bytes(wire)

    def HasField(self, name: str) -> bool:  # noqa: N802
        """Return whether a message in this message is present."""
        return name in self.__dict__


def _read(message: WireMessage, data: bytes) -> None:
    """Read the fields of ``data`` into a new message: a loop without calls, as each request is."""
    fields, values = message._fields, message.__dict__  # noqa: SLF001 - one with the class
    at, end = 0, len(data)
    while at < end:
        key = data[at]
        at += 1
        if key > 0x7F:
            key, at = _read_varint(data, at - 1)
        kind = key & 7
        if kind == _LENGTH:
            start = at + 1
            length = data[at]
            if length > 0x7F:
                length, start = _read_varint(data, at)
            at = start + length
            read: Any = data[start:at]
        elif kind == _VARINT:
            read, at = _read_varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
            continue
        else:
            raise MalformedMessageError(f"{type(message).__name__}: an unknown kind of field")
        if field := fields.get(key):
            name, convert, add = field
            if add is None:
                values[name] = convert(read)
            else:
                add(values, name, convert(read))
    if at != end:
        raise IndexError


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of at most 64 bits, and the place after it."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise MalformedMessageError("a number of more than ten bytes")


def _varint(number: int) -> bytes:
    if 0 <= number <= 0x7F:
        return bytes((number,))
    encoded = bytearray()
    number &= 0xFFFF_FFFF_FFFF_FFFF
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _to_number(type_name: str, number: int) -> int:
    """Return what a varint means in a field of this type."""
    if type_name == "bool":
        return bool(number)
    bits = 64 if type_name == "int64" else 32
    number &= (1 << bits) - 1
    return number - (1 << bits) if type_name != "uint32" and number >> (bits - 1) else number


def _append(values: dict[str, Any], name: str, one: Any) -> None:
    values.setdefault(name, []).append(one)


def _put(values: dict[str, Any], name: str, entry: Any) -> None:
    values.setdefault(name, {})[entry.key] = entry.value


def _merge(values: dict[str, Any], name: str, one: WireMessage) -> None:
    # A message may come in parts; what two parts say is what their bytes say in a row.
    if earlier := values.get(name):
        one = one.FromString(earlier.SerializeToString() + one.SerializeToString())
    values[name] = one


def _writer(key: bytes, mark: str, entry: Any) -> Callable[[bytearray, Any], None]:
    """Return the function that encodes a field's value; the entry is the message of a map's."""

    def write(wire: bytearray, value: Any) -> None:
        wire += key
        if isinstance(value, int):
            wire += _varint(value)
            return
        if isinstance(value, WireMessage):
            value = value.SerializeToString()
        content = value.encode() if isinstance(value, str) else value
        wire += _varint(len(content)) + content

    def write_each(wire: bytearray, values: Any) -> None:
        for value in values:
            write(wire, value)

    def write_entries(wire: bytearray, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            write(wire, entry(key=name, value=value))

    return {"*": write_each, "@": write_entries}.get(mark, write)


def _make(name: str, fields: Mapping[str, tuple[int, str]], made: Mapping[str, Any]) -> Any:
    """Return the class of a message, whose own messages are ``made`` already."""
    content: dict[str, Any] = {"_fields": {}, "_writers": {}}
    for field, (number, type_name) in fields.items():
        plain = type_name.rstrip("*@")
        mark = type_name[len(plain) :]
        inner = made.get(plain)
        if mark == "@":
            # On the wire a map is a repeated message of key (1) and value (2).
            inner = _make(f"{name}.{field}", {"key": (1, "string"), "value": (2, plain)}, made)
        is_number = inner is None and plain not in ("string", "bytes")
        key = number << 3 | (_VARINT if is_number else _LENGTH)
        convert = (
            inner.FromString if inner else _CONVERTERS.get(plain) or partial(_to_number, plain)
        )
        adders = {"*": _append, "@": _put, "": _merge if inner else None}
        content["_fields"][key] = field, convert, adders[mark]
        content["_writers"][field] = _writer(_varint(key), mark, inner)
        default = inner() if inner else _DEFAULTS.get(plain, 0)
        content[field] = {"*": (), "@": _NO_ENTRIES}.get(mark, default)
    return type(name, (WireMessage,), content)


def _make_all() -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, fields in _TABLE.items():
        made[name] = _make(name, fields, made)
    return made


_CLASSES = _make_all()


def message_type(name: str) -> Any:
    """Return the class of one message of the table.

    The classes are made at run time, so a type checker sees ``Any``; the modules
    that use them turn what they read into typed values at once.
    """
    return _CLASSES[name]
