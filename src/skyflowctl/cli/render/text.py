"""Text from outside made safe for a terminal, and its width in columns."""

import re
import unicodedata

# Control characters, line and paragraph separators, and the marks that reorder text:
# a name that carries them could clear the screen or hide what is really there.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e"}
_TOKEN_LIKE = re.compile(r"[A-Za-z0-9+/=_.~-]{20,}")


def safe(text: object) -> str:
    """Return the text with every character escaped that could act on a terminal."""
    return _UNSAFE.sub(_escape, str(text))


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    number = ord(character)
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def clipped(text: str, longest: int = 100) -> str:
    """Return one safe line of at most so many characters."""
    return safe(text if len(text) <= longest else text[: longest - 3] + "...")


def mask_tokens(text: str) -> str:
    """Return one safe line in which every word that could be a secret is masked.

    For messages of exceptions nobody foresaw: a library may have put a header's value
    into one.
    """
    return safe(_TOKEN_LIKE.sub("***", text))


def columns(text: str) -> int:
    """Return how many columns the text takes, without colour, on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def show(value: object) -> str:
    """Return a value of JSON as people read it: ``-`` for nothing, lists with commas."""
    if value is None or value in ("", [], ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={show(item)}" for key, item in value.items())
    return str(value)
