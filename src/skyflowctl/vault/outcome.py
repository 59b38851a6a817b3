"""What became of one call to the server: a closed type, so that no caller can forget a case.

A server with control groups answers a guarded request with 200, too, and parks it until
somebody else approves it. Measured on OpenBao 2.7.2: the answer has ``wrap_info`` that was
not asked for; where the policy's control group has no ttl, every field is null.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.transport import Reply, WrapInfo


@dataclass(frozen=True, slots=True)
class CallDone:
    """The server did it, and answered."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class CallRefused:
    """The server surely did not do it."""

    error: VaultError


@dataclass(frozen=True, slots=True)
class CallForwarded:
    """It was redirected to a node that is not asked; maybe done."""

    error: VaultError


@dataclass(frozen=True, slots=True)
class CallLost:
    """No answer, or none to rely on; maybe done."""

    error: VaultError


@dataclass(frozen=True, slots=True)
class CallPending:
    """The server holds the request until it is approved; not done.

    Args:
        reply: the answer.
        parked: what opens the request; None: the control group has no ttl, so the request
            is lost and can never run.
        resent: an earlier try got no reply; it may have been parked too.
    """

    reply: Reply = field(repr=False)
    parked: WrapInfo | None
    resent: bool = False


CallOutcome = CallDone | CallRefused | CallForwarded | CallLost | CallPending


def parked_answer(body: Mapping[str, Any], reply: Reply, *, wrap_asked: bool) -> bool:
    """Whether a good answer says that the request waits, or never will run.

    Args:
        body: the parsed answer.
        reply: the same.
        wrap_asked: the answer was asked for wrapped, so ``wrap_info`` alone says nothing.
    """
    if reply.wrap_info is not None:
        return not wrap_asked
    nulls = all(name in body and body[name] is None for name in ("data", "auth", "wrap_info"))
    return nulls and not reply.warnings
