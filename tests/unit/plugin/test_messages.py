"""Our encoding of the plugin's messages against the protobuf library's, message by message."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from skyflowctl.plugin import messages
from skyflowctl.plugin.messages import MalformedMessageError, message_type

_FIELD = descriptor_pb2.FieldDescriptorProto
# Characters of one to four bytes; lengths of one and of two.
_TEXT = st.text(st.sampled_from("a\0é€\N{MUSICAL SYMBOL G CLEF}"), max_size=90)
_SCALARS = {
    "bool": (_FIELD.TYPE_BOOL, st.booleans()),
    "bytes": (_FIELD.TYPE_BYTES, st.binary(max_size=140)),
    "int32": (_FIELD.TYPE_INT32, st.integers(-(2**31), 2**31 - 1)),
    "int64": (_FIELD.TYPE_INT64, st.integers(-(2**63), 2**63 - 1)),
    "string": (_FIELD.TYPE_STRING, _TEXT),
    "uint32": (_FIELD.TYPE_UINT32, st.integers(0, 2**32 - 1)),
}


def _add_field(message: Any, name: str, number: int, type_name: str) -> None:
    field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
    plain = type_name.rstrip("*@")
    if plain != type_name:
        field.label = _FIELD.LABEL_REPEATED
    if type_name.endswith("@"):
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, plain)
        plain = f"{message.name}.{entry.name}"
    if plain in _SCALARS:
        field.type = _SCALARS[plain][0]
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".wire.{plain}"


def _oracle() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="wire.proto", package="wire", syntax="proto3")
    for name, fields in messages._TABLE.items():
        message = file.message_type.add(name=name)
        for field, (number, type_name) in fields.items():
            _add_field(message, field, number, type_name)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    find = pool.FindMessageTypeByName
    return {name: message_factory.GetMessageClass(find(f"wire.{name}")) for name in messages._TABLE}


THEIRS = _oracle()


@functools.cache
def contents(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Field values of a message; those of an inner message are a dict as well."""
    fields = {}
    for field, (_, type_name) in messages._TABLE[name].items():
        plain = type_name.rstrip("*@")
        one = _SCALARS[plain][1] if plain in _SCALARS else contents(plain)
        if type_name.endswith("*"):
            one = st.lists(one, max_size=3)
        elif type_name.endswith("@"):
            one = st.dictionaries(_TEXT, one, max_size=3)
        fields[field] = one
    return st.fixed_dictionaries({}, optional=fields)


def made(name: str, content: dict[str, Any]) -> Any:
    """Our message of such a content."""
    values: dict[str, Any] = {}
    for field, value in content.items():
        plain = messages._TABLE[name][field][1].rstrip("*@")
        if plain in _SCALARS:
            values[field] = value
        elif messages._TABLE[name][field][1].endswith("@"):
            values[field] = {key: made(plain, inner) for key, inner in value.items()}
        else:
            values[field] = made(plain, value)
    return message_type(name)(**values)


def read_off(name: str, message: Any) -> dict[str, Any]:
    """What every field of a message reads as, ours or theirs."""
    found: dict[str, Any] = {}
    for field, (_, type_name) in messages._TABLE[name].items():
        plain = type_name.rstrip("*@")
        value = getattr(message, field)
        if type_name.endswith("@"):
            inner = plain not in _SCALARS
            found[field] = {k: read_off(plain, v) if inner else v for k, v in value.items()}
        elif type_name.endswith("*"):
            found[field] = list(value)
        elif plain in _SCALARS:
            found[field] = value
        else:
            found[field] = read_off(plain, value) if message.HasField(field) else None
    return found


named = pytest.mark.parametrize("name", sorted(messages._TABLE))


@named
@settings(deadline=None)
@given(data=st.data())
def test_each_reads_what_the_other_writes(name: str, data: st.DataObject):
    content = data.draw(contents(name))
    ours, theirs = made(name, content), THEIRS[name](**content)
    assert read_off(name, ours) == read_off(name, theirs)
    assert read_off(name, THEIRS[name].FromString(ours.SerializeToString())) == read_off(name, ours)
    read = message_type(name).FromString(theirs.SerializeToString())
    assert read_off(name, read) == read_off(name, theirs)


@named
@settings(deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_read_alike_or_refused(name: str, data: st.DataObject):
    raw = bytearray(THEIRS[name](**data.draw(contents(name))).SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        ours = message_type(name).FromString(bytes(raw))
    except MalformedMessageError:
        return
    try:
        theirs = THEIRS[name].FromString(bytes(raw))
    except DecodeError:
        return
    assert read_off(name, ours) == read_off(name, theirs)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x0a\x05abc",  # shorter than it says
        b"\x0a",
        b"\x08",
        b"\x0d\0\0",
        b"\x09\0",
        b"\x0a\x01\xff",  # no UTF-8
        b"\x0b\x0c",  # a group
        b"\x08" + b"\xff" * 11,
    ],
)
def test_what_is_no_message_is_refused_without_quoting_it(raw: bytes):
    with pytest.raises(MalformedMessageError) as caught:
        message_type("SetupReply").FromString(raw)
    assert "abc" not in str(caught.value)


def test_unknown_fields_of_every_kind_are_skipped():
    theirs = b"\x7a\x02xy\x78\x96\x01\x79" + b"\0" * 8 + b"\x7d" + b"\0" * 4
    assert message_type("SetupReply").FromString(theirs + b"\x0a\x02ok").err == "ok"
    # A known number with another kind of content is an unknown field.
    assert message_type("SetupReply").FromString(b"\x08\x05").err == ""


def test_a_message_that_comes_in_parts_is_one():
    parts = [
        message_type("HandleRequestArgs")(
            request=message_type("Request")(**one)
        ).SerializeToString()
        for one in ({"path": "a", "id": "1"}, {"path": "b", "operation": "read"})
    ]
    request = message_type("HandleRequestArgs").FromString(b"".join(parts)).request
    assert (request.id, request.path, request.operation) == ("1", "b", "read")


def test_a_message_does_not_change_takes_only_its_fields_and_shows_no_content():
    reply = message_type("SetupReply")(err="secret")
    with pytest.raises(AttributeError):
        reply.err = "other"
    with pytest.raises(TypeError, match="has no error"):
        message_type("SetupReply")(error="x")
    assert "secret" not in repr(reply)
