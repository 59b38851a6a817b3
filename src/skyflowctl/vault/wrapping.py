"""What a wrapping token stands for: an answer that waits, or a request that is parked."""

from typing import Protocol

from skyflowctl.secret import Secret
from skyflowctl.vault import parked
from skyflowctl.vault.approvals import writes
from skyflowctl.vault.call import Call
from skyflowctl.vault.failures import BadRequest, Forbidden, VaultError
from skyflowctl.vault.outcome import CallPending
from skyflowctl.vault.transport import Transport

UNWRAP = "sys/wrapping/unwrap"


class _HasLogins(Transport, Protocol):
    def as_login(self, token: Secret) -> Transport:
        """Return a transport to the same server with another token."""


def is_delivered(transport: Transport, token: Secret) -> bool:
    """Whether unwrapping gives something now: an answer, or the run of an approved request.

    A parked request that is not approved and a token that is gone look alike: False.
    """
    try:
        transport.request("POST", "sys/wrapping/lookup", body={"token": token}, idempotent=True)
    except BadRequest:
        return False
    return True


def withdraw(transport: _HasLogins, token: Secret) -> bool:
    """Have the server forget a parked request; False: it may still be approved and run.

    A wrapping token has one use, and its own revocation is the only one that is not lost
    on anything else.
    """
    login = transport.as_login(token)
    try:
        login.request("POST", "auth/token/revoke-self", idempotent=True)
    except Forbidden:
        return True  # the token is gone already
    except VaultError:
        return False
    finally:
        login.close()
    return True


def given_up(transport: _HasLogins, call: Call, outcome: CallPending) -> VaultError:
    """Withdraw a request that nobody waits for, and return the error that says so."""
    if outcome.parked is None:
        return parked.never_runs(call.method, call.path, outcome.reply)
    gone = withdraw(transport, outcome.parked.token)
    if call.wraps:
        return parked.wrapped_never_runs(call.method, call.path, gone=gone)
    return parked.withdrawn(call.method, call.path, writes=writes(call), gone=gone)
