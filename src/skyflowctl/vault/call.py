"""One request for all its tries, and how one try ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.no_response import outcome_unknown
from skyflowctl.vault.outcome import (
    CallDone,
    CallForwarded,
    CallLost,
    CallOutcome,
    CallPending,
    CallRefused,
)
from skyflowctl.vault.retry_rules import Disposition
from skyflowctl.vault.transport import Reply


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """One request for all its tries.

    Args:
        method: GET, LIST, POST, PUT or DELETE.
        path: below ``/v1/``.
        params: query parameters.
        content: the encoded body, secrets revealed.
        headers: all headers except the token.
        idempotent: whether it may be sent again although the server may have executed it.
        fresh: whether the answer must be as new as the leader's state.
        wraps: whether a wrapped answer was requested, so that ``wrap_info`` is expected.
        secret: whether the body contains a secret that no approver may see.
    """

    method: str
    path: str
    params: Mapping[str, str] | None = field(repr=False)  # may contain a ctx
    content: bytes | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    idempotent: bool
    fresh: bool
    wraps: bool = False
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Try:
    """How one try ended: a reply, or why there is none. ``hurry``: try the next address at once."""

    verdict: Disposition
    error: VaultError | None = None
    reply: Reply | None = None
    asked_pause: float | None = None
    hurry: bool = False
    limited: bool = False


def call_outcome(call: OutgoingRequest, done: Try) -> CallOutcome:
    """Return the outcome of the request after one try."""
    if done.reply is not None:
        if done.verdict is Disposition.PENDING:
            return CallPending(done.reply, done.reply.wrap_info)
        return CallDone(done.reply)
    error = done.error or error_for(0, (), method=call.method, path=call.path)
    match done.verdict:
        case Disposition.FINAL | Disposition.NOT_APPLIED | Disposition.DONE | Disposition.PENDING:
            return CallRefused(error)
        case Disposition.UNKNOWN:
            return CallLost(
                error if call.idempotent else outcome_unknown(call.method, call.path, error)
            )
        case Disposition.REDIRECT:
            told = error if call.idempotent else outcome_unknown(call.method, call.path, error)
            return CallForwarded(told)
        case _:
            assert_never(done.verdict)
