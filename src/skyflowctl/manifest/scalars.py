"""Parses plain YAML scalars whose meaning is the same for every reader.

YAML 1.1 tools read ``on``, ``2024-10-21`` or ``20:30`` as a boolean, a date or a number;
YAML 1.2 tools read text. This module does not guess: such a scalar must be quoted.
"""

import re

from skyflowctl.manifest.nodes import Scalar

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
