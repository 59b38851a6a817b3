"""The outcome of one call to the server: a closed type, so that callers must handle every case.

A server with control groups answers a guarded request with 200, too, and parks it until another
person approves it. Measured on OpenBao 2.7.2: the answer has ``wrap_info`` that was not
requested; if the policy's control group has no ttl, every field is null.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skyflowctl.vault.errors import VaultError
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
