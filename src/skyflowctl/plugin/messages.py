"""The protobuf messages that a server and the plugin exchange, as one table.

Only the fields that the plugin uses are named: on the wire a field is its number, and a
number that a message does not name is skipped, so client tokens and leases are never
even looked at. The descriptors are made when the module is imported; generated code
would tie the package to one protobuf release's runtime check and save nothing.
"""

from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool

_PACKAGE = "skyflowctl.wire"

# message: {field: (number, type)}; "type*" is repeated, "type@" a map from string.
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

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _FIELD.TYPE_BOOL,
    "bytes": _FIELD.TYPE_BYTES,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "string": _FIELD.TYPE_STRING,
    "uint32": _FIELD.TYPE_UINT32,
}


def _set_type(field: Any, type_name: str) -> None:
    if type_name in _SCALARS:
        field.type = _SCALARS[type_name]
    else:
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{type_name}"


def _add_field(message: Any, name: str, number: int, type_name: str) -> Any:
    field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
    if type_name[-1] in "*@":
        field.label = _FIELD.LABEL_REPEATED
    if type_name.endswith("@"):
        # On the wire a map is a repeated message of key (1) and value (2).
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, type_name[:-1])
        _set_type(field, f"{message.name}.{entry.name}")
    else:
        _set_type(field, type_name.rstrip("*"))
    return field


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="skyflowctl/wire.proto", package=_PACKAGE, syntax="proto3"
    )
    for message_name, fields in _TABLE.items():
        message = file.message_type.add(name=message_name)
        for name, (number, type_name) in fields.items():
            _add_field(message, name, number, type_name)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _TABLE
    }


_CLASSES = _build()


def message_type(name: str) -> Any:
    """Return the class of one message of the table.

    The classes are made at run time, so a type checker sees ``Any``; the modules
    that use them turn what they read into typed values at once.
    """
    return _CLASSES[name]
