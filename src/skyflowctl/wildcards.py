"""Wildcards as regular expressions that never backtrack."""

from collections.abc import Iterable


def with_gaps(parts: Iterable[str], any_character: str = ".") -> str:
    """Return an expression, to be matched whole, for these parts with any text between them.

    Each part is taken where it is met first, which leaves most for the others, and is never
    tried elsewhere (an atomic group). So a match takes at most ``len(pattern) * len(text)``
    steps; with backtracking five gaps took minutes.

    Args:
        parts: regular expressions, each of one length.
        any_character: the expression for one character of a gap.
    """
    first, *others = parts
    if not others:
        return first
    middle = "".join(f"(?>{any_character}*?{part})" for part in others[:-1])
    return f"{first}{middle}{any_character}*{others[-1]}"
