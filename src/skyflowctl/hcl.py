"""Parses the language of policies and client settings: HCL (version 1), or its JSON form.

A server refuses a malformed policy, so the policies that it returns are well-formed. Text that
this parser does not support is still an error; it never guesses.
"""

import re
from collections.abc import Iterable
from typing import Any

from skyflowctl.frozen import dataclass

Item = tuple[tuple[str, ...], Any]
"""The keys before a value, such as ``("path", "sys/mounts")``, and the value."""

_SKIP = re.compile(r"(?:\s|#[^\n]*|//[^\n]*|/\*.*?\*/)+", re.DOTALL)
_NUMBER = re.compile(r"-?(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)")
_WORD = re.compile(r"[^\W\d][\w.\-]*")
_HEREDOC = re.compile(r"<<-?([^\W\d]\w*)[ \t]*\r?\n(.*?\n)??[ \t]*\1(?=\s|\Z)", re.DOTALL)
_ESCAPE = re.compile(r"(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|[0-7]{3}|.)", re.DOTALL)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_JSON_TOKEN = re.compile(
    r'(?P<text>"(?:[^"\\\n]|\\(?:[abfnrtv\\"]|[0-7]{3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))*")'
    r"|(?P<number>-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])"
    r"|(?P<word>true|false|null)\b|(?P<mark>[\[\]{},:])|(?P<end>\Z)",
    re.ASCII,
)
_JSON_WORDS = {"true": True, "false": False, "null": None}
_JSON_BLANK = re.compile(r"[ \t\r\n]*")
_MAX_DEPTH = 50


class HclError(ValueError):
    """The text is not valid HCL. The message quotes nothing of the text."""


@dataclass(frozen=True, slots=True)
class Block:
    """An object: its items in order; a key may occur more than once."""

    items: tuple[Item, ...]

    def values(self, key: str) -> list[Any]:
        """Return the value of every item with exactly this key."""
        return [value for keys, value in self.items if keys == (key,)]


def quoted(text: str) -> str:
    """Return a text as a quoted one of HCL, or of Go's templates.

    ``${`` would begin an interpolation, in which nothing is escaped.
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\u0024{")
    plain = "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in escaped)
    return f'"{plain}"'


def policy_rule(path: str, capabilities: Iterable[str]) -> str:
    """Return a rule of a policy in one line, its capabilities in the given order."""
    words = ", ".join(map(quoted, capabilities))
    return f"path {quoted(path)} {{ capabilities = [{words}] }}"


def rules_to_add(*rules: str) -> str:
    """Return the advice to add rules to a policy; two blanks tell where they begin."""
    return f"add to a policy of this login:  {' '.join(rules)}"


def parse_hcl(text: str) -> Block:
    """Return the whole text as one object.

    Raises:
        HclError: the text is malformed, or nested too deeply.
    """
    if text.lstrip().startswith("{"):
        return Block(tuple(_flat((), _JsonReader(text).whole())))
    reader = _Reader(text)
    found = reader.items(closing="", depth=0)
    return Block(tuple(found))


def _flat(keys: tuple[str, ...], value: Any) -> list[Item]:
    """Convert ``{"path": {"a": {…}}}`` to the form of ``path "a" {…}``; lists of objects too."""
    if isinstance(value, Block) and len(keys) < 2 and (value.items or not keys):
        return [one for inner, held in value.items for one in _flat(keys + inner, held)]
    if (
        isinstance(value, list)
        and len(keys) == 1
        and value
        and all(isinstance(v, Block) for v in value)
    ):
        return [one for block in value for one in _flat(keys, block)]
    return [(keys, value)]


class _Reader:
    """Reads one text from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def items(self, *, closing: str, depth: int) -> list[Item]:
        """Read ``key value`` items up to the closing bracket, or the end of the text."""
        found: list[Item] = []
        while True:
            mark = self._peek()
            if mark == closing:
                self._at += len(closing)
                return found
            found.append(self._item(depth))
            if self._peek() == ",":
                self._at += 1

    def _item(self, depth: int) -> Item:
        keys = [self._key()]
        while (mark := self._peek()) not in {"=", "{"}:
            if not mark:
                raise self._error("a value is missing")
            keys.append(self._key())
        if mark == "=":
            self._at += 1
        return tuple(keys), self._value(depth)

    def _key(self) -> str:
        if self._peek() == '"':
            return self._string()
        return self._match(_WORD, "a key is malformed")[0]

    def _value(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise self._error("it is nested too deeply")
        mark = self._peek()
        if mark == '"':
            return self._string()
        if mark == "{":
            self._at += 1
            return Block(tuple(self.items(closing="}", depth=depth + 1)))
        if mark == "[":
            return self._list(depth + 1)
        if mark == "<":
            return self._match(_HEREDOC, "a heredoc does not end")[2] or ""
        return self._plain()

    def _list(self, depth: int) -> list[Any]:
        self._at += 1
        found: list[Any] = []
        while self._peek() != "]":
            found.append(self._value(depth))
            if self._peek() == ",":
                self._at += 1
            elif self._peek() != "]":
                raise self._error("a list has no comma between two values")
        self._at += 1
        return found

    def _plain(self) -> Any:
        number = _NUMBER.match(self._text, self._at)
        if number:
            self._at = number.end()
            text = number[0]
            return int(text, 0) if text.lstrip("-").startswith("0x") else float(text)
        word = self._match(_WORD, "a value is malformed")[0]
        if word not in {"true", "false"}:
            raise self._error("a text has no quotation marks")
        return word == "true"

    def _string(self) -> str:
        """Read a text in quotation marks; the content of ``${…}`` is kept unchanged."""
        self._at += 1
        pieces: list[str] = []
        braces = 0
        while True:
            mark = self._text[self._at : self._at + 1]
            if not mark or (mark == "\n" and not braces):
                raise self._error("a text does not end")
            self._at += 1
            if mark == '"' and not braces:
                return "".join(pieces)
            if mark == "\\" and not braces:
                pieces.append(self._escaped())
                continue
            braces += _brace_change(mark, self._text, self._at, braces)
            pieces.append(mark)

    def _escaped(self) -> str:
        return _unescaped(self._match(_ESCAPE, "a text does not end", skip=False))

    def _peek(self) -> str:
        """Return the next character that is neither space nor comment; empty at the end."""
        blank = _SKIP.match(self._text, self._at)
        if blank:
            self._at = blank.end()
        return self._text[self._at : self._at + 1]

    def _match(self, pattern: re.Pattern[str], why: str, *, skip: bool = True) -> re.Match[str]:
        if skip:
            self._peek()
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._error(why)
        self._at = found.end()
        return found

    def _error(self, why: str) -> HclError:
        return HclError(f"{why}, in line {self._text.count(chr(10), 0, self._at) + 1}")


class _EndOfTextError(Exception):
    """The text ends where a key or a value is expected; this ends each open object."""


class _JsonReader:
    """Reads JSON as the server and its client do, token by token.

    An object ends at the first token that cannot continue it: a comma before its end, a missing
    end, and any text after it are no errors.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._kind: str | None = ""
        self._mark = ""

    def whole(self) -> Block:
        """Return the object at the start of the text."""
        self._next()
        return self._object(1)

    def _object(self, depth: int) -> Block:
        found: list[Item] = []
        try:
            while True:
                keys = self._keys()
                found.append((keys, self._value(depth)))
                if self._next() != ",":
                    break
        except _EndOfTextError:
            pass
        except HclError:
            if self._mark != "}":
                raise
        return Block(tuple(found))

    def _keys(self) -> tuple[str, ...]:
        keys: list[str] = []
        while self._next() != ":":
            if self._kind == "end":
                raise _EndOfTextError
            if self._kind != "text":
                raise self._error("a key is malformed")
            keys.append(_unquoted(self._mark))
        if not keys:
            raise self._error("a key is missing")
        return tuple(keys)

    def _value(self, depth: int) -> Any:
        self._next()
        if self._kind == "end":
            raise _EndOfTextError
        return self._this(depth)

    def _this(self, depth: int) -> Any:
        """Return the value that the current token is, or starts."""
        if self._kind == "text":
            return _unquoted(self._mark)
        if self._kind == "number":
            return float(self._mark)
        if self._kind == "word":
            return _JSON_WORDS[self._mark]
        if self._mark not in {"{", "["}:
            raise self._error("a value is malformed")
        if depth > _MAX_DEPTH:
            raise self._error("it is nested too deeply")
        return self._object(depth + 1) if self._mark == "{" else self._list(depth + 1)

    def _list(self, depth: int) -> list[Any]:
        found: list[Any] = []
        while self._next() != "]":
            if self._mark != ",":
                found.append(self._this(depth))
        return found

    def _next(self) -> str:
        """Read one token and return it; empty at the end."""
        blank = _JSON_BLANK.match(self._text, self._at)
        found = _JSON_TOKEN.match(self._text, blank.end() if blank else self._at)
        if found is None:
            self._mark = ""
            raise self._error("it is no JSON")
        self._at, self._kind, self._mark = found.end(), found.lastgroup, found[0]
        return self._mark

    def _error(self, why: str) -> HclError:
        return HclError(f"{why}, in line {self._text.count(chr(10), 0, self._at) + 1}")


def _unquoted(text: str) -> str:
    """Return the text between quotation marks, its escapes replaced."""
    return re.sub(r"\\" + _ESCAPE.pattern, _unescaped, text[1:-1], flags=re.DOTALL)


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] in "uUx" and len(code) > 1:
        return _character(int(code[1:], 16))
    return _character(int(code, 8)) if len(code) == 3 else _SIMPLE.get(code, code)


def _brace_change(mark: str, text: str, at: int, braces: int) -> int:
    """Return the change of the nesting depth of ``${…}`` by this character."""
    if mark == "{" and (braces or text[at - 2 : at - 1] == "$"):
        return 1
    return -1 if mark == "}" and braces else 0


def _character(number: int) -> str:
    if number > 0x10FFFF or 0xD800 <= number < 0xE000:
        raise HclError("a text names a character that there is not")
    return chr(number)
