"""Declared fields: the one source of validation, of help texts and of the OpenAPI document.

A field's value arrives in one of two ways: as JSON in a body, or as text, because it is
a query parameter or because the stock client writes every value as a string. Both are
read strictly here, and no message repeats a value.
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from skyflowctl.clock import parse_duration
from skyflowctl.engine.contract import EngineError
from skyflowctl.engine.ctx import Ctx, InvalidCtxError, check_ctx, is_printable
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_BOOLEANS = {"true": True, "false": False}


class FieldType(StrEnum):
    """The types of fields, each with the Python type of its parsed values."""

    TEXT = "text"  # str
    BOOLEAN = "boolean"  # bool
    INTEGER = "integer"  # int, not negative
    DURATION = "duration"  # int, whole seconds
    TEXTS = "texts"  # tuple[str, ...]
    CTX = "ctx"  # str or a flat mapping, already checked
    SECRET = "secret"  # noqa: S105 - a type; Secret, never shown again


@dataclass(frozen=True, slots=True)
class Field:
    """One field or parameter of an operation.

    Args:
        name: as it is written in requests.
        kind: its type.
        description: one sentence for help and OpenAPI.
        required: the operation fails without it.
        default: what its absence means; None when absence means "as it was".
        clearable: ``""`` is accepted and means "no value" (parsed as None).
        limit: the most characters of a text, or of each text of a list.
        distinct: a text that occurs twice in a list counts once.
        pattern: the pattern of the whole text; None: anything printable.
    """

    name: str
    kind: FieldType
    description: str
    required: bool = False
    default: bool | int | str | None = None
    clearable: bool = False
    limit: int = 1024
    distinct: bool = False
    pattern: re.Pattern[str] | None = None


MAX_TEXTS = 256


def parse_fields(
    fields: Sequence[Field], data: Mapping[str, Any], *, query: bool
) -> dict[str, Any]:
    """Return the values by field name, as their kinds' Python types.

    A field that was not given is there only if it has a default.

    Args:
        fields: all that the operation knows.
        data: the body, or the query parameters.
        query: the data are query parameters: strings, and lists where repeated.

    Raises:
        EngineError: 400, naming the field: unknown, repeated, missing or of another type.
    """
    known = {field.name: field for field in fields}
    for name in data:
        if name not in known:
            raise EngineError(400, _unknown(name))
    for field in known.values():
        if field.required and field.name not in data:
            raise EngineError(400, f"{field.name}: missing")
    values: dict[str, Any] = {
        field.name: field.default for field in fields if field.default is not None
    }
    return values | {name: _value(known[name], value, query=query) for name, value in data.items()}


def _unknown(name: str) -> str:
    # A name of another form may be a misplaced value: do not repeat it.
    return f"unknown field: {name}" if _IDENTIFIER.fullmatch(name) else "unknown field"


def _value(field: Field, value: Any, *, query: bool) -> Any:
    if query and isinstance(value, list | tuple):
        raise EngineError(400, f"{field.name}: given more than once")
    if field.clearable and value == "" and field.kind is not FieldType.TEXT:
        return None
    return _READERS[field.kind](field, value)


def _text(field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise EngineError(400, f"{field.name}: not a string")
    if len(value) > field.limit:
        raise EngineError(400, f"{field.name}: more than {field.limit} characters")
    if not is_printable(value.translate({10: None, 9: None})):
        raise EngineError(400, f"{field.name}: holds control characters")
    if field.pattern and value and not field.pattern.fullmatch(value):
        raise EngineError(400, f"{field.name}: has characters that are not allowed in it")
    return value


def _boolean(field: Field, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in _BOOLEANS:
        return _BOOLEANS[value]
    raise EngineError(400, f"{field.name}: neither true nor false")


def _integer(field: Field, value: Any) -> int:
    number = int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise EngineError(400, f"{field.name}: not a whole number")
    if not 0 <= number < 10**18:
        raise EngineError(400, f"{field.name}: negative or too large")
    return number


def _duration(field: Field, value: Any) -> int:
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        try:
            return int(parse_duration(value).total_seconds())
        except ValueError:
            raise EngineError(
                400, f"{field.name}: neither whole seconds nor a duration such as 5m"
            ) from None
    return _integer(field, value)


def _texts(field: Field, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        # The stock client sends `tags=a,b` as one string.
        value = [part.strip() for part in value.split(",")] if value.strip() else []
    if not isinstance(value, list | tuple):
        raise EngineError(400, f"{field.name}: not a list of strings")
    if len(value) > MAX_TEXTS:
        raise EngineError(400, f"{field.name}: more than {MAX_TEXTS} entries")
    texts = tuple(_text(field, part) for part in value)
    if not all(text.strip() for text in texts):
        raise EngineError(400, f"{field.name}: holds an empty entry")
    return tuple(dict.fromkeys(texts)) if field.distinct else texts


def _ctx(field: Field, value: Any) -> Ctx:
    try:
        return check_ctx(value)
    except InvalidCtxError as error:
        raise EngineError(400, f"{field.name}: {error.reason}") from None


def _secret(field: Field, value: Any) -> Secret:
    if not isinstance(value, str):
        raise EngineError(400, f"{field.name}: not a string")
    if len(value) > field.limit:
        raise EngineError(400, f"{field.name}: more than {field.limit} characters")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise EngineError(400, f"{field.name}: is not Unicode text")
    return Secret(value)


_READERS = {
    FieldType.TEXT: _text,
    FieldType.BOOLEAN: _boolean,
    FieldType.INTEGER: _integer,
    FieldType.DURATION: _duration,
    FieldType.TEXTS: _texts,
    FieldType.CTX: _ctx,
    FieldType.SECRET: _secret,
}
