"""Globs in which only ``*`` (any text) and ``?`` (one character) have a meaning."""

import re
from collections.abc import Callable, Iterable

_MARKS = re.compile(r"[*?]")


def is_glob(text: str) -> bool:
    """Return whether a text can stand for others."""
    return _MARKS.search(text) is not None


def literals(glob: str) -> tuple[str, ...]:
    """Return the parts that every text which fits must hold."""
    return tuple(_MARKS.split(glob))


def any_glob(globs: Iterable[str]) -> Callable[[str], bool]:
    """Return the test that a text passes which fits one of these globs, whole."""
    patterns = [_pattern(glob).fullmatch for glob in globs]
    return lambda text: any(fits(text) for fits in patterns)


def _pattern(glob: str) -> re.Pattern[str]:
    # Stars in a row mean one, and would take long to fail.
    shortened = re.sub(r"\*+", "*", glob)
    parts = (".*" if one == "*" else "." if one == "?" else re.escape(one) for one in shortened)
    return re.compile("".join(parts), re.DOTALL)
