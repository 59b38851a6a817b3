"""The YAML parser: libyaml if it is built in, else PyYAML's own; it yields only events.

``yaml_tree`` composes the document, because libyaml's composer recurses in C and crashes the
process on 200,000 nested lists (measured with PyYAML 6.0.3).

A scalar without quotes must mean the same for every reader. YAML 1.1 tools read ``on``,
``2024-10-21`` or ``20:30`` as a boolean, a date or a number; YAML 1.2 tools read text. This module
does not guess: such a scalar must be quoted.
"""

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import yaml

from skyflowctl.manifest.messages import shown
from skyflowctl.manifest.nodes import Scalar

# PyYAML's stubs have the classes of events, but not the attributes of each.
YamlEvent: TypeAlias = Any

_WORDS = {
    "that cannot start any token": ("a tab or a reserved character is not allowed here",
                                    "indent with spaces; quote texts that start with @ or `"),
    "mapping values are not allowed": ("a ': ' is not allowed here",
                                       "quote the text, or look for a missing ':' above"),
    "could not find expected ':'": ("a ':' is missing after a key", "write KEY: VALUE"),
    "did not find expected key": ("a key is expected here", "check the indentation and the quotes"),
    "did not find expected '-' indicator": ("a list item must start with '- '",
                                            "check the indentation"),
    "unexpected end of stream": ("a quoted text does not end", "add the closing quote"),
    "did not find expected ',' or": ("a ',' or the closing bracket is missing",
                                     "check the brackets"),
    "unknown escape": ("an escape in double quotes is unknown",
                       "write \\\\ for a backslash, or use single quotes"),
}  # fmt: skip


_VARIABLE = re.compile(
    r"\$\{([A-Za-z_][A-Za-z0-9_]{0,254})(?::-[^}\n]{0,200})?\}[^\s,\]}\[{\"]{0,200}"
)
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False,
             "FALSE": False}  # fmt: skip
_SWITCHES = frozenset({"yes", "no", "on", "off"})
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,17}\.[0-9]{0,17}|\.[0-9]{1,17})(?:[eE][-+]?[0-9]{1,3})?")
_READ_DIFFERENTLY = re.compile(
    r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"  # 20:30, base 60 in YAML 1.1
    r"|[-+]?[0-9]+_[0-9_]*(?:\.[0-9_]*)?"  # 1_000
    r"|[-+]?0[0-9]+|[-+]?0[xob][0-9a-fA-F_]+"  # 010, 0x1f
    r"|[-+]?[0-9]{19,}(?:\.[0-9]*)?|[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?"  # a date
)
_FIRST_OF_SPECIAL = frozenset("0123456789+-.~nNtTfFyYoO")


class YamlSyntaxError(Exception):
    """The text is no YAML. ``line`` and ``column`` count from 1."""

    def __init__(self, line: int, column: int, why: str, fix: str) -> None:
        super().__init__(why)
        self.line = line
        self.column = column
        self.why = why
        self.fix = fix


def _parser(text: str) -> Any:
    if yaml.__with_libyaml__:
        from yaml import cyaml

        return cyaml.CParser(text)  # type: ignore[attr-defined]  # missing in the stubs
    return yaml.SafeLoader(text)


def yaml_events(text: str) -> Iterator[YamlEvent]:
    """Yield the document's events, the stream's end last.

    Raises:
        YamlSyntaxError: at the first position that is no YAML; it quotes nothing of the text.
    """
    try:
        next_event = _parser(text).get_event
        while True:
            event = next_event()
            yield event
            if type(event) is yaml.StreamEndEvent:
                return
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if "end of stream" in (error.problem or "") and error.context_mark:
            mark = error.context_mark  # the start of a quoted text without an end
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        words = _unquoted_variable(text, mark) or _explain(error.problem or "")
        raise YamlSyntaxError(line, column, *words) from None
    except yaml.YAMLError:
        raise YamlSyntaxError(1, 1, "it cannot be read as YAML", "check the file") from None


def _unquoted_variable(text: str, mark: Any) -> tuple[str, str] | None:
    """Return the texts for a ``${NAME}`` without quotes in a flow map or list."""
    lines = text.splitlines()
    if mark is None or mark.line >= len(lines) or not mark.column:
        return None
    value = _VARIABLE.match(lines[mark.line], mark.column - 1)
    if value is None:
        return None
    name, whole = value[1], value[0]
    example = whole if shown(whole) == whole else f"${{{name}}}"
    return f"the }} of ${{{name}}} ends the map around it", f'quote it: "{example}"'


def _explain(problem: str) -> tuple[str, str]:
    for part, words in _WORDS.items():
        if part in problem:
            return words
    # The parser's other texts use YAML's terms; a quoted part could be the user's.
    known = problem.split("'", maxsplit=1)[0].split('"', maxsplit=1)[0].strip()
    return known or "it cannot be read as YAML", "check the line and the one above it"


class AmbiguousScalarError(Exception):
    """This scalar means different things to different YAML readers."""


def scalar_value(text: str) -> Scalar:
    """Return the value of a scalar without quotes.

    Raises:
        AmbiguousScalarError: readers differ about it, so it must be quoted.
    """
    if text and text[0] not in _FIRST_OF_SPECIAL:
        return text
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _READ_DIFFERENTLY.fullmatch(text) or text.lower() in _SWITCHES:
        raise AmbiguousScalarError(text)
    if _FLOAT.fullmatch(text):
        return _finite(text)
    return text


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise AmbiguousScalarError(text)
    return number
