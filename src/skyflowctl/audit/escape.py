"""Untrusted text made safe for a cell of CSV, which people open in a spreadsheet."""

import csv
import io
import unicodedata
from collections.abc import Iterable

# What a spreadsheet reads as the start of a formula, in their wide forms too.
_FORMULA = frozenset("=+-@|%\uff1d\uff0b\uff0d\uff20")
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str) -> str:
    """Return the text with every control, format and separator character written out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(each) for each in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE:
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def csv_cell(value: object) -> str:
    """Return a value as a cell that no spreadsheet takes for a formula.

    A text that begins as one gets an apostrophe in front, which spreadsheets do not show.
    Texts of a list are set apart by a blank.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    text = visible(" ".join(value) if isinstance(value, list) else str(value))
    return "'" + text if text.lstrip()[:1] in _FORMULA and text.strip() else text


def csv_line(values: Iterable[object]) -> str:
    """Return one line of CSV (RFC 4180), with its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow([csv_cell(each) for each in values])
    return line.getvalue()
