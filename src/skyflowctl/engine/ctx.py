"""The rules of ctx, the context that is bound into a token: pure, shared with the manifest.

A ctx is one string, or a flat object of strings, numbers and booleans. No message of
this module repeats a ctx or a pattern: they may name people, and messages are logged.
"""

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Self

from skyflowctl.frozen import dataclass

Ctx = str | Mapping[str, str | int | float | bool]

MAX_TEXT = 512
MAX_KEYS = 16
CTX_MAX_BYTES = 4096
# Skyflow reads whole numbers as 64-bit ones; larger ones would change on the way.
_MAX_INTEGER = 2**63
# What the server makes of bytes that are no UTF-8 before the engine sees them (measured on
# OpenBao 2.7.2, in queries and bodies): two different texts would become one.
_UNDECODABLE = "\ufffd"
_NOT_PRINTED = "\u2028\u2029" + _UNDECODABLE
_KEY = re.compile(r"[a-zA-Z0-9_]+")


class InvalidCtxError(ValueError):
    """A ctx, pattern or probe breaks a rule; ``reason`` says which, without any value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check_ctx(ctx: object) -> Ctx:
    """Return the ctx as it was given.

    Raises:
        InvalidCtxError: it is no string of 1 to 512 printable characters, and no flat object
            of 1 to 16 keys and at most 4 KiB.
    """
    if isinstance(ctx, str):
        _check_text(ctx, "it")
        return ctx
    if isinstance(ctx, Mapping):
        return _check_object(ctx)
    raise InvalidCtxError("it is neither a string nor an object")


@dataclass(frozen=True, slots=True)
class CtxPattern:
    """What a role's string ctx must look like, as a whole and case-sensitively.

    ``*`` matches any text, including none; at most one at each end.
    """

    core: str
    open_start: bool
    open_end: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the pattern that the text means.

        Raises:
            InvalidCtxError: a ``*`` elsewhere than at the ends, or text that no ctx may hold.
        """
        _check_text(text, "the pattern")
        core = text.removeprefix("*")
        open_end = core.endswith("*")
        core = core[:-1] if open_end else core
        if "*" in core:
            raise InvalidCtxError("the pattern has a * elsewhere than at its start or end")
        return cls(core, text.startswith("*"), open_end)

    def matches(self, ctx: str) -> bool:
        """Tell whether the whole ctx is of this form."""
        if self.open_start and self.open_end:
            return self.core in ctx
        if self.open_start:
            return ctx.endswith(self.core)
        return ctx.startswith(self.core) if self.open_end else ctx == self.core


@dataclass(frozen=True, slots=True)
class CtxRule:
    """What a role asks of the ctx of its tokens."""

    required: bool = False
    pattern: CtxPattern | None = None

    @classmethod
    def of(cls, required: bool | None, pattern: str) -> Self:
        """Return the rule of a role's fields; a pattern implies required unless that is said.

        Args:
            required: None when the role does not say.
            pattern: empty for none.

        Raises:
            InvalidCtxError: the pattern is none.
        """
        effective = bool(pattern) if required is None else required
        return cls(effective, CtxPattern.parse(pattern) if pattern else None)

    def check(self, ctx: Ctx | None) -> None:
        """Accept a ctx that :func:`check_ctx` accepted, or None for a request without one.

        Raises:
            InvalidCtxError: the role refuses it.
        """
        if ctx is None:
            if self.required:
                raise InvalidCtxError("this role requires one")
            return
        if self.pattern is None:
            return
        if not isinstance(ctx, str):
            raise InvalidCtxError("this role has a pattern, so it must be a string")
        if not self.pattern.matches(ctx):
            raise InvalidCtxError("it does not match the pattern of this role")

    def needs_probe(self) -> bool:
        """Tell whether a token of this role can be tried only with a ctx of its own."""
        return self.required or self.pattern is not None


def check_probe(rule: CtxRule, probe: object) -> None:
    """Accept what a role gives for trying it out: a ctx, or empty for none.

    Raises:
        InvalidCtxError: it breaks the rules of ctx or the role's own, or is missing where
            the role needs one.
    """
    if probe is None or probe == "":
        if rule.needs_probe():
            raise InvalidCtxError("a role that requires a ctx, or has a pattern, needs a probe")
        return
    rule.check(check_ctx(probe))


def _check_text(text: str, what: str) -> None:
    if not text.strip():
        raise InvalidCtxError(f"{what} is empty or blank")
    if len(text) > MAX_TEXT:
        raise InvalidCtxError(f"{what} has more than {MAX_TEXT} characters")
    if _UNDECODABLE in text:
        raise InvalidCtxError(f"{what} is not UTF-8 text")
    if not is_printable(text):
        raise InvalidCtxError(f"{what} holds control characters or others that do not print")


def is_printable(text: str) -> bool:
    """Tell whether a text has only characters that print, blanks of any width included."""
    return not any(
        unicodedata.category(letter)[0] == "C" or letter in _NOT_PRINTED for letter in text
    )


def _check_object(ctx: Mapping[object, object]) -> Ctx:
    if not 1 <= len(ctx) <= MAX_KEYS:
        raise InvalidCtxError(f"an object must have 1 to {MAX_KEYS} keys")
    for key, value in ctx.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise InvalidCtxError("a key holds other characters than letters, digits and _")
        _check_value(value)
    encoded = json.dumps(dict(ctx), separators=(",", ":"), ensure_ascii=False).encode()
    if len(encoded) > CTX_MAX_BYTES:
        raise InvalidCtxError(f"the object is larger than {CTX_MAX_BYTES} bytes")
    return ctx  # type: ignore[return-value]  # every key and value was looked at above


def _check_value(value: object) -> None:
    if isinstance(value, str):
        _check_text(value, "a value")
    elif isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise InvalidCtxError("a number is too large")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidCtxError("a number is not finite")
    else:
        raise InvalidCtxError("a value is neither a string nor a number nor a boolean")
