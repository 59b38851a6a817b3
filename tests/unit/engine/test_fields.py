"""Declared fields: how values are read, and what is refused."""

import re

import pytest

from skyflowctl.engine.contract import EngineError
from skyflowctl.engine.fields import Field, FieldType, parse_fields
from skyflowctl.secret import Secret

FIELDS = (
    Field("text", FieldType.TEXT, "a text", limit=20),
    Field("flag", FieldType.BOOLEAN, "a flag", clearable=True),
    Field("number", FieldType.INTEGER, "a number"),
    Field("texts", FieldType.TEXTS, "texts", limit=20),
    Field("labels", FieldType.TEXTS, "labels", distinct=True),
    Field("word", FieldType.TEXT, "word", pattern=re.compile("[a-z]+")),
    Field("ctx", FieldType.CTX, "a ctx", clearable=True),
    Field("secret", FieldType.SECRET, "a secret", limit=20),
)


def parse(query=False, **data):
    return parse_fields(FIELDS, data, query=query)


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("text", "", ""),
        ("text", "two\nlines\tand", "two\nlines\tand"),
        ("flag", True, True),
        ("flag", "false", False),
        ("flag", "", None),
        ("number", 0, 0),
        ("number", "12", 12),
        ("texts", [], ()),
        ("texts", "", ()),
        ("texts", "a, b,a", ("a", "b", "a")),
        ("labels", "a, b,a", ("a", "b")),
        ("labels", ["b", "a", "b"], ("b", "a")),
        ("word", "abc", "abc"),
        ("word", "", ""),
        ("ctx", {"a": 1}, {"a": 1}),
        ("ctx", "", None),
        ("secret", "s3", Secret("s3")),
    ],
)
def test_values(name, raw, value):
    assert parse(**{name: raw}) == {name: value}


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("word", "a\nb"),
        ("word", "A"),
        ("text", None),
        ("text", 5),
        ("text", "x" * 21),
        ("text", "bell\x07"),
        ("text", "\ud800"),
        ("flag", 1),
        ("flag", "True"),
        ("flag", "yes"),
        ("flag", None),
        ("number", True),
        ("number", 1.0),
        ("number", -1),
        ("number", "-1"),
        ("number", "1e3"),
        ("number", "٣"),
        ("number", 10**18),
        ("texts", {"a": 1}),
        ("texts", [1]),
        ("texts", ["a", ""]),
        ("texts", "a,,b"),
        ("texts", ["x" * 21]),
        ("texts", [str(number) for number in range(257)]),
        ("ctx", []),
        ("secret", {"a": 1}),
        ("secret", "x" * 21),
        ("secret", "\udc00"),
    ],
)
def test_refused(name, raw):
    with pytest.raises(EngineError) as caught:
        parse(**{name: raw})
    assert caught.value.status == 400
    assert caught.value.message.startswith(f"{name}: ")


def test_an_unknown_field_is_named_only_if_it_looks_like_a_name():
    with pytest.raises(EngineError, match=r"^unknown field: txet$"):
        parse(txet="x")
    with pytest.raises(EngineError, match=r"^unknown field$"):
        parse(**{"order:42 Jane": "x"})


def test_a_repeated_parameter():
    with pytest.raises(EngineError, match="ctx: given more than once"):
        parse(query=True, ctx=["a", "b"])


def test_a_default_stands_for_what_was_not_given():
    fields = (
        Field("flag", FieldType.BOOLEAN, "x", default=True),
        Field("text", FieldType.TEXT, "x"),
    )
    assert parse_fields(fields, {}, query=True) == {"flag": True}
    assert parse_fields(fields, {"flag": "false"}, query=True) == {"flag": False}


def test_a_missing_required_field():
    with pytest.raises(EngineError, match="needed: missing"):
        parse_fields((Field("needed", FieldType.TEXT, "x", required=True),), {}, query=False)
