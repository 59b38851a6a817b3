"""Globs with two wildcards: ``*`` (any text) and ``?`` (one character).

Callers control the texts, so a match never backtracks; see ``wildcards``.
"""

import re
from collections.abc import Callable, Iterable

from skyflowctl.errors import UsageError
from skyflowctl.wildcards import with_gaps

GLOB_MAX = 1024
"""The most characters of a glob. A ctx has at most 512, a mount path with namespace fewer."""

_MARKS = re.compile(r"[*?]")
_STARS = re.compile(r"\*+")


def is_glob(text: str) -> bool:
    """Return whether a text contains a wildcard."""
    return _MARKS.search(text) is not None


def literals(glob: str) -> tuple[str, ...]:
    """Return the parts that every matching text must contain."""
    return tuple(_MARKS.split(glob))


def any_glob(globs: Iterable[str]) -> Callable[[str], bool]:
    """Return a test for whether a whole text matches one of these globs.

    Raises:
        UsageError: a glob has more than ``GLOB_MAX`` characters.
    """
    patterns = [_pattern(glob).fullmatch for glob in globs]
    return lambda text: any(fits(text) is not None for fits in patterns)


def _pattern(glob: str) -> re.Pattern[str]:
    if len(glob) > GLOB_MAX:
        raise UsageError(
            f"a pattern has {len(glob)} characters, more than {GLOB_MAX}",
            why="no name, path or ctx is that long",
            fix="shorten it, for example with a * in the middle",
            code="pattern-too-long",
        )
    return re.compile(with_gaps(map(_literal, _STARS.split(glob))), re.DOTALL)


def _literal(part: str) -> str:
    return ".".join(re.escape(piece) for piece in part.split("?"))
