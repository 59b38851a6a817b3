"""Reads an answer, and decides what it means for the request and whether to send it again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from skyflowctl.errors import UsageError
from skyflowctl.retry import TOO_MANY_REQUESTS, retry, retry_after
from skyflowctl.vault.call import OutgoingRequest, Try, parked_answer
from skyflowctl.vault.errors import ForbiddenError, VaultError
from skyflowctl.vault.failed_answers import denied_by_policy, error_for, server_texts
from skyflowctl.vault.foreign_answers import ServerAnswer, is_the_servers, not_a_server
from skyflowctl.vault.no_response import broken_answer, no_response_error, no_token
from skyflowctl.vault.retry_rules import (
    Disposition,
    RetryBudget,
    classify,
    may_be_election,
)
from skyflowctl.vault.server_state import is_health
from skyflowctl.vault.target import Target, check_address
from skyflowctl.vault.transport import make_reply

if TYPE_CHECKING:
    from skyflowctl.vault.connection import NoResponseError, Received

_MOST_SEEN = 4096
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class AnswerReader:
    """Interprets answers, and remembers that an OpenBao or Vault server has answered.

    Args:
        target: the server that answers.
        local: whether only one node is asked.
        ask_health: asks an address for ``sys/health`` without a token; returns None without an
            answer.
    """

    def __init__(
        self, target: Target, *, local: bool, ask_health: Callable[[str], ServerAnswer | None]
    ) -> None:
        self._target = target
        self._local = local
        self._ask_health = ask_health
        self.server_was_seen = False

    def read(self, call: OutgoingRequest, answer: ServerAnswer, address: str) -> Try:
        """Return what an answer from this address means."""
        if not self.is_the_servers(answer, address):
            return self._foreign(call, answer, address)
        self.server_was_seen = True
        body = answer.body or {}
        if answer.path == "sys/health" and is_health(body):
            # Its status is the state of the node, so every status is a valid answer.
            return Try(Disposition.DONE, reply=make_reply(answer.status, body, answer.headers))
        texts = server_texts(body)
        verdict = classify(answer.status, texts)
        if verdict is Disposition.DONE:
            reply = make_reply(answer.status, body, answer.headers)
            waits = parked_answer(body, reply, wrap_asked=call.wraps)
            return Try(Disposition.PENDING if waits else verdict, reply=reply)
        error = self._error(answer, texts)
        # A single node that lags behind answers 429 without a text.
        if self._local and answer.status == TOO_MANY_REQUESTS and not texts:
            return Try(Disposition.FINAL, error)
        return Try(
            verdict,
            error,
            asked_pause=retry_after(answer.headers.get("retry-after", "")),
            limited=verdict is Disposition.UNKNOWN and not may_be_election(answer.status, texts),
        )

    def lost(self, call: OutgoingRequest, address: str, lost: NoResponseError) -> Try:
        """Return why no answer can be read. A server that has answered before may answer again."""
        verdict = Disposition.FINAL if lost.lasting and call.idempotent else Disposition.UNKNOWN
        if lost.broken and not self.server_was_seen:
            error = broken_answer(call.method, call.path, address, lost)
            return Try(verdict, error, limited=True)
        return Try(verdict, no_response_error(call.method, call.path, address, lost.reason))

    def ask_who(self, address: str, sleep: Callable[[float], None]) -> ServerAnswer | None:
        """Return the ``sys/health`` of the server; ask again if a proxy answers.

        Raises:
            NotAServerError: something else answers.
        """
        budget = RetryBudget(math.inf, 0, self._target.max_retries)

        def final(answer: ServerAnswer | None) -> bool:
            return answer is None or bool(is_the_servers(answer)) or not answer.transient

        def on_wait(_answer: ServerAnswer | None, tries: int) -> bool:
            budget.tries = tries
            allowed = budget.tries_left(limited=True)
            if allowed:
                sleep(budget.pause(None))
            return allowed

        answer = retry(lambda: self._ask_health(address), final, on_wait)
        if answer is not None:
            if not is_the_servers(answer):
                raise not_a_server(answer, address)
            self.server_was_seen = True
        return answer

    def is_the_servers(self, answer: ServerAnswer, address: str) -> bool:
        """Return whether an OpenBao or Vault server gave this answer.

        If the answer alone does not show that, ``sys/health`` is asked once, unless such a
        server has answered before. Without an answer to that, the answer is accepted.
        """
        genuine = is_the_servers(answer)
        if genuine is None and not self.server_was_seen:
            health = self._ask_health(address)
            genuine = None if health is None else is_the_servers(health)
        return genuine is not False

    def _foreign(self, call: OutgoingRequest, answer: ServerAnswer, address: str) -> Try:
        """Return the error for a foreign answer. A proxy may have forwarded the request first."""
        error = not_a_server(answer, address)
        if answer.transient:
            limited = answer.status == TOO_MANY_REQUESTS
            verdict = Disposition.NOT_APPLIED if limited else Disposition.UNKNOWN
            waits = self.server_was_seen and not self._local
            pause = retry_after(answer.headers.get("retry-after", "")) if waits else None
            return Try(verdict, error, asked_pause=pause, limited=not waits)
        passed_on = not call.idempotent and not 400 <= answer.status < 500
        return Try(Disposition.UNKNOWN if passed_on else Disposition.FINAL, error)

    def _error(self, answer: ServerAnswer, texts: tuple[str, ...]) -> VaultError:
        error = error_for(
            answer.status,
            texts,
            method=answer.method,
            path=answer.path,
            request_id=str((answer.body or {}).get("request_id") or ""),
            namespace=self._target.namespace,
        )
        if isinstance(error, ForbiddenError):
            if self._target.token is None:
                return no_token(error, self._target.source)
            error.by_policy = denied_by_policy(answer.body)
        return error


def as_answer(method: str, path: str, raw: Received) -> ServerAnswer:
    """Return an HTTP answer as one value."""
    return ServerAnswer(
        method, path, raw.status, _parsed(raw), raw.headers, raw.content[:_MOST_SEEN]
    )


def _parsed(answer: Received) -> dict[str, Any] | None:
    """Return an answer's JSON object, {} for a successful one without body, else None."""
    if not answer.content:
        return {} if answer.status < 300 else None
    try:
        body = json.loads(answer.content.decode(), parse_constant=_no_number, parse_float=_finite)
        if _SURROGATE.search(answer.content):
            body = _without_surrogates(body)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _no_number(_: str) -> Any:
    raise ValueError("NaN and Infinity are no JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _without_surrogates(value: Any) -> Any:
    """Return JSON whose texts can all be encoded: a lone surrogate becomes U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {
            _without_surrogates(name): _without_surrogates(item) for name, item in value.items()
        }
    return value


def origin(location: str, address: str) -> str:
    """Return the scheme, host and port that a Location header names."""
    parts = urlsplit(location)
    if not parts.netloc:
        return address
    host = parts.netloc.rpartition("@")[2]
    try:
        return check_address(f"{parts.scheme}://{host}")
    except UsageError:
        return f"{parts.scheme}://{host}"
