"""One request for all its tries, how one try ended, and the outcome for the caller.

The outcome is a closed type, so that callers must handle every case. A server with control groups
answers a guarded request with 200, too, and parks it until another person approves it. Measured on
OpenBao 2.7.2: the answer has ``wrap_info`` that was not requested; if the policy's control group
has no ttl, every field is null.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, assert_never

from skyflowctl.frozen import dataclass
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.no_response import outcome_unknown
from skyflowctl.vault.retry_rules import Disposition
from skyflowctl.vault.transport import Reply, WrapInfo


@dataclass(frozen=True, slots=True)
class CallDone:
    """The server executed it and answered."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class CallRefused:
    """The server certainly did not execute it."""

    error: VaultError


@dataclass(frozen=True, slots=True)
class CallForwarded:
    """It was redirected to a node that is not asked; maybe executed."""

    error: VaultError


@dataclass(frozen=True, slots=True)
class CallLost:
    """No answer, or an unreliable one; maybe executed."""

    error: VaultError


@dataclass(frozen=True, slots=True)
class CallPending:
    """The server holds the request until it is approved; not executed.

    Args:
        reply: the answer.
        parked: the wrapping token of the request; None: the control group has no ttl, so the
            request is lost and can never run.
        resent: whether an earlier try got no reply; it may have been parked too.
    """

    reply: Reply = field(repr=False)
    parked: WrapInfo | None
    resent: bool = False


CallOutcome = CallDone | CallRefused | CallForwarded | CallLost | CallPending


def parked_answer(body: Mapping[str, Any], reply: Reply, *, wrap_asked: bool) -> bool:
    """Whether a successful answer shows that the request waits, or will never run.

    Args:
        body: the parsed answer.
        reply: the same answer as a reply.
        wrap_asked: whether a wrapped answer was requested, so that ``wrap_info`` is expected.
    """
    if reply.wrap_info is not None:
        return not wrap_asked
    nulls = all(name in body and body[name] is None for name in ("data", "auth", "wrap_info"))
    return nulls and not reply.warnings


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
    """How one try ended: a reply, or an error; ``immediate``: try the next address at once."""

    verdict: Disposition
    error: VaultError | None = None
    reply: Reply | None = None
    asked_pause: float | None = None
    immediate: bool = False
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
            shown = error if call.idempotent else outcome_unknown(call.method, call.path, error)
            return CallForwarded(shown)
        case _:
            assert_never(done.verdict)
