"""Escapes untrusted text for a cell of CSV, which people open in a spreadsheet."""

import csv
import io
import unicodedata
from collections.abc import Iterable

# Characters that start a formula in a spreadsheet, and their full-width forms.
_FORMULA = frozenset("=+-@|%\uff1d\uff0b\uff0d\uff20")
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str) -> str:
    """Return the text with every control, format and separator character escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(each) for each in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE:
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def csv_cell(value: object) -> str:
    """Return a value as a cell that no spreadsheet reads as a formula.

    A text that begins like a formula gets an apostrophe in front, which spreadsheets hide.
    The items of a list are separated by a space.
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
    """Return one line of CSV (RFC 4180), with its line end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow([csv_cell(each) for each in values])
    return line.getvalue()
