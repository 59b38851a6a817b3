"""Parses numbers, durations and booleans as the stock client, a Go program, does.

Each function returns None for a text that the client rejects.
"""

import math
import re

_INT = re.compile(r"([+-]?)0*([0-9]{1,19})")
_MAX_INT = 2**63 - 1
_DECIMAL = r"[+-]?(?:[0-9_]+(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)?"
_HEX = r"[+-]?0[xX][0-9a-fA-F]*(?:\.[0-9a-fA-F]*)?[pP][+-]?[0-9]+"
_NO_NUMBER = r"(?i:[+-]?inf(?:inity)?|nan)"
_FLOAT = re.compile(rf"\A(?:{_HEX}|{_DECIMAL}|{_NO_NUMBER})")
# What the client's scanner accepts as RATE:BURST; it ignores any text after that.
_RATE = re.compile(
    rf"\A[^\S\n]*(?P<rate>{_HEX}|{_DECIMAL}|(?i:[+-]?inf|nan)):[^\S\n]*(?P<burst>[+-]?[0-9]+)"
)
_PART = re.compile(r"([0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 1e3, "\u00b5s": 1e3, "\u03bcs": 1e3, "ms": 1e6}
_UNITS |= {"s": 1e9, "m": 60e9, "h": 3600e9}
_DAY = 86_400
_TRUTH = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True)
_TRUTH |= dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)


def go_bool(text: str) -> bool | None:
    """Parse a boolean: ``true``, ``True`` and ``TRUE``, but not ``tRuE``."""
    return _TRUTH.get(text)


def go_int(text: str) -> int | None:
    """Parse a 64-bit integer."""
    found = _INT.fullmatch(text)
    number = int(found[1] + found[2]) if found else None
    return number if number is not None and -_MAX_INT - 1 <= number <= _MAX_INT else None


def go_float(text: str) -> float | None:
    """Parse a number, infinity or ``nan``."""
    if not _FLOAT.fullmatch(text):
        return None
    try:
        number = float.fromhex(text) if "x" in text.lower() else float(text)
    except (ValueError, OverflowError):
        return None
    return None if math.isinf(number) and "i" not in text.lower() else number


def go_rate(text: str) -> tuple[float, int] | None:
    """Parse ``RATE`` or ``RATE:BURST``; a burst below 1 means a limiter that allows everything."""
    scanned = _RATE.match(text)
    rate = go_float(scanned["rate"] if scanned else text)
    if rate is None:
        return None
    if scanned is None:
        return rate, int(rate) if abs(rate) < _MAX_INT else 0
    burst = go_int(scanned["burst"])
    return None if burst is None else (rate, burst)


def go_seconds(text: str) -> float | None:
    """Parse a duration to seconds: ``30``, ``1m30s``, ``.5s`` or ``2d``; it may be negative."""
    whole = go_int(text.removesuffix("d"))
    if whole is not None:
        seconds = float(whole * (_DAY if text.endswith("d") else 1))
    elif (parsed := _go_duration(text)) is not None:
        seconds = parsed
    else:
        return None
    return seconds if abs(seconds) * 1e9 <= _MAX_INT else None


def _go_duration(text: str) -> float | None:
    unsigned = text[1:] if text[:1] in {"+", "-"} else text
    parts = _PART.findall(unsigned)
    if not parts or "".join(number + unit for number, unit in parts) != unsigned:
        return None
    try:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts) / 1e9
    except OverflowError:
        return None
    return -seconds if text.startswith("-") else seconds
