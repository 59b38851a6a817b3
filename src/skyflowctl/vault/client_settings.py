"""The settings of the stock client's environment that control how requests are sent.

Numbers, durations and booleans are parsed as that client, a Go program, does: None for a text that
it rejects.
"""

import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from skyflowctl.errors import Problem, UsageError
from skyflowctl.secret import Secret
from skyflowctl.vault.environment import set_but_not_used, shown_name, variable

_DEFAULT_SECONDS, _LONGEST_SECONDS = 60.0, 86_400.0
_PROXY_SCHEMES = frozenset({"http", "https"})
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
_DAY = 86_400
_TRUTH = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True)


class RateLimit:
    """At most so many requests a second, for all threads together.

    Args:
        rate: requests a second.
        burst: how many requests may be sent at once after a pause.
        monotonic: the clock, replaceable in tests.
        sleep: waits, replaceable in tests.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rate = rate
        self.burst = burst
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._left = float(burst)
        self._at = monotonic()

    def wait(self, longest: float = math.inf) -> None:
        """Return when the next request may be sent.

        Args:
            longest: the seconds left for the request. A request that would have to wait longer
                is sent at once and not counted, as in the stock client.
        """
        with self._lock:
            now = self._monotonic()
            self._left = min(self.burst, self._left + (now - self._at) * self.rate)
            self._at = now
            pause = (1 - self._left) / self.rate
            if pause > longest:
                return
            self._left -= 1
        if pause > 0:
            self._sleep(pause)


def client_timeout(environ: Mapping[str, str]) -> float:
    """Return the seconds that one request may take, a day at most; 60 if unset or 0.

    Raises:
        UsageError: the value is neither a number of seconds nor a span such as ``1m30s``.
    """
    seconds = go_seconds(variable(environ, "CLIENT_TIMEOUT") or "0")
    if seconds is None:
        raise _bad_setting(environ, "CLIENT_TIMEOUT", "it is not a duration", "30s")
    if seconds < 0:
        raise _bad_setting(environ, "CLIENT_TIMEOUT", "no request ends in less than 0 s", "30s")
    return min(seconds, _LONGEST_SECONDS) or _DEFAULT_SECONDS


def max_retries(environ: Mapping[str, str]) -> int | None:
    """Return how often a failed request is sent again; None if not set.

    Raises:
        UsageError: the value is no whole number.
    """
    text = variable(environ, "MAX_RETRIES")
    if not text:
        return None
    number = go_int(text)
    if number is None or number < 0:
        why = "it is not a whole number of 0 or more"
        raise _bad_setting(environ, "MAX_RETRIES", why, "2; 0 asks once")
    return number


def rate_limit(environ: Mapping[str, str]) -> RateLimit | None:
    """Return the limit of requests per second; None if there is none.

    The stock client's limiter allows every request if its rate is not above 0, or if its burst
    is below 1. The burst defaults to the integer part of the rate.

    Raises:
        UsageError: the value is neither ``RATE`` nor ``RATE:BURST``.
    """
    text = variable(environ, "RATE_LIMIT")
    if not text:
        return None
    found = go_rate(text)
    if found is None:
        raise _bad_setting(environ, "RATE_LIMIT", "it is not a rate", "10 or 10:20")
    rate, burst = found
    return RateLimit(rate, burst) if 0 < rate < math.inf and burst >= 1 else None


def proxy(environ: Mapping[str, str]) -> Secret | None:
    """Return the URL of the proxy for every request, which may have a password; None if not set.

    Raises:
        UsageError: the value is no usable proxy.
    """
    name = "PROXY_ADDR" if variable(environ, "PROXY_ADDR") else "HTTP_PROXY"
    text = (variable(environ, name) or "").strip()
    return checked_proxy(text, shown_name(environ, name)) if text else None


def checked_proxy(text: str, name: str) -> Secret:
    """Return a proxy's URL in its full form.

    Raises:
        UsageError: the value is no usable proxy; the error text does not repeat it.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.scheme not in _PROXY_SCHEMES or not url.isprintable() or " " in url:
        raise UsageError(
            f"{name} is not a usable proxy",
            why="only http:// and https:// proxies are",
            fix="set it to http://HOST:PORT, or unset it",
            code="bad-environment",
        )
    return Secret(url)


def not_used(environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """Return a warning for each variable that is set but not used here."""
    found = [(shown_name(environ, one.name), one) for one in set_but_not_used(environ)]
    return _limits_nothing(environ) + tuple(
        Problem(
            "environment-not-used",
            f"{name} is set and not used",
            "the stock client uses it; skyflowctl has no such setting",
            f"{one.instead}; unset {name} to remove this warning",
        )
        for name, one in found
    )


def _limits_nothing(environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """Return a warning for a rate above 0 that limits nothing, such as ``0.5``."""
    rate, burst = go_rate(variable(environ, "RATE_LIMIT") or "0") or (0.0, 0)
    if not 0 < rate < math.inf or burst >= 1:
        return ()
    name = shown_name(environ, "RATE_LIMIT")
    why = "the stock client reads it as 0 requests at once, and then limits nothing"
    fix = f"name the burst as well, as in {name}=0.5:1, or unset it"
    return (Problem("environment-not-used", f"{name} limits nothing", why, fix),)


def _bad_setting(environ: Mapping[str, str], name: str, why: str, example: str) -> UsageError:
    shown = shown_name(environ, name)
    return UsageError(
        f"{shown} cannot be used",
        why=why,
        fix=f"unset it, or set it to a value such as {example}",
        code="bad-environment",
    )


_UNITS |= {"s": 1e9, "m": 60e9, "h": 3600e9}
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
