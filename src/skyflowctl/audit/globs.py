"""Globs in which only ``*`` (any text) and ``?`` (one character) have a meaning.

Callers write the texts, so a match takes at most ``len(glob) * len(text)`` steps: each part
between two stars is taken where it is met first, which leaves most for the others, and is
never tried elsewhere (an atomic group). With backtracking five stars took minutes.
"""

import re
from collections.abc import Callable, Iterable

from skyflowctl.errors import UsageError

GLOB_MAX = 1024
"""Characters of a glob. A ctx has at most 512, a mount's path with its namespace fewer."""

_MARKS = re.compile(r"[*?]")
_STARS = re.compile(r"\*+")


def is_glob(text: str) -> bool:
    """Return whether a text can stand for others."""
    return _MARKS.search(text) is not None


def literals(glob: str) -> tuple[str, ...]:
    """Return the parts that every text which fits must hold."""
    return tuple(_MARKS.split(glob))


def any_glob(globs: Iterable[str]) -> Callable[[str], bool]:
    """Return the test that a text passes which fits one of these globs, whole.

    Raises:
        UsageError: a glob has more than ``GLOB_MAX`` characters.
    """
    patterns = [_pattern(glob).fullmatch for glob in globs]
    return lambda text: any(fits(text) is not None for fits in patterns)


def _pattern(glob: str) -> re.Pattern[str]:
    if len(glob) > GLOB_MAX:
        raise UsageError(
            f"a pattern has {len(glob)} characters, more than {GLOB_MAX}",
            why="no name, path or ctx that it could stand for is that long",
            fix="shorten it, for example by a * in place of its middle",
            code="pattern-too-long",
        )
    first, *others = (_literal(part) for part in _STARS.split(glob))
    if not others:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{part})" for part in others[:-1])
    return re.compile(f"{first}{middle}.*{others[-1]}", re.DOTALL)


def _literal(part: str) -> str:
    return ".".join(re.escape(piece) for piece in part.split("?"))
