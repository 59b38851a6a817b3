"""What a token source hands out, and how it keeps text that nobody may see."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

_MASK = "***"


class MaskedText:
    """A text that prints as a mask and cannot be pickled; only :meth:`reveal` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return _MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskedText) and self._text == other._text

    def __hash__(self) -> int:
        return hash((MaskedText, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not copied or written anywhere")


class SystemTime:
    """The time of this machine; tests pass another one."""

    def wall(self) -> float:
        """Return seconds since 1970. It may jump."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never jump back. They may pause while a machine is suspended."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class Moment:
    """A point in time, whose age is right although a clock was set or the machine slept.

    Args:
        clock: tells the time, now and later.
    """

    __slots__ = ("_clock", "_monotonic", "_wall")

    def __init__(self, clock: SystemTime) -> None:
        self._clock = clock
        self._wall = clock.wall()
        self._monotonic = clock.monotonic()

    def age(self) -> float:
        """Return the seconds since then: the larger of both clocks' answers."""
        clock = self._clock
        return max(clock.wall() - self._wall, clock.monotonic() - self._monotonic)


class BearerToken:
    """A Skyflow token. ``repr`` and ``str`` show no part of it.

    Attributes:
        token_type: ``Bearer``.
        expires_at: RFC 3339, as the server said; empty if it did not.
        key_id: the id of the Skyflow key that it was minted with; empty if unknown.
    """

    __slots__ = ("_asked", "_text", "_ttl", "expires_at", "key_id", "token_type")

    def __init__(self, data: Mapping[str, Any], ttl: float, asked: Moment) -> None:
        self._text = MaskedText(str(data["access_token"]))
        self._ttl = ttl
        self._asked = asked
        self.token_type = str(data.get("token_type") or "Bearer")
        self.expires_at = str(data.get("expires_at") or "")
        self.key_id = str(data.get("key_id") or "")

    @property
    def access_token(self) -> str:
        """The token itself."""
        return self._text.reveal()

    @property
    def authorization(self) -> str:
        """The value of an ``Authorization`` header."""
        return f"{self.token_type} {self._text.reveal()}"

    def seconds_left(self) -> float:
        """Return the seconds until it ends, by this machine's clocks; below 0 if it has ended."""
        return self._ttl - self._asked.age()

    def __repr__(self) -> str:
        return f"BearerToken({_MASK}, expires_at={self.expires_at!r}, key_id={self.key_id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not copied or written anywhere")


class SecretFields(Mapping[str, Any]):
    """The fields of a KV secret. ``repr`` shows their names only.

    Attributes:
        version: the secret's version.
    """

    __slots__ = ("_fields", "version")

    def __init__(self, fields: Mapping[str, Any], version: int) -> None:
        self._fields = dict(fields)
        self.version = version

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name!r}: {_MASK}" for name in self._fields)
        return f"SecretFields({{{shown}}}, version={self.version})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not copied or written anywhere")


class SignedToken(NamedTuple):
    """A data token and its signed form, which prints as a mask."""

    data_token: str
    signed_data_token: str

    def __repr__(self) -> str:
        return f"SignedToken({_MASK}, {_MASK})"
