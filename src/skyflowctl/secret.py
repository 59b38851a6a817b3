"""A wrapper for secret text that never prints its content."""

import hmac
from typing import NoReturn, final

_MASK = "***"


@final
class Secret:
    """A credential, key or token.

    Every conversion to text (``str``, ``repr``, ``format``, f-strings, ``%s``, tracebacks that
    show locals) gives a mask, and pickling is refused. Only :meth:`reveal` returns the text, so a
    search for that name lists every use of a secret.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself. Never log, print or interpolate the result."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({_MASK})"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, spec: str) -> str:
        return format(_MASK, spec)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not copied or written anywhere")
