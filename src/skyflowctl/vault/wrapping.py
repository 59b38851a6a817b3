"""Handles wrapping tokens, each of which holds a stored answer or a parked request."""

from skyflowctl.secret import Secret
from skyflowctl.vault import parked
from skyflowctl.vault.approvals import writes
from skyflowctl.vault.call import CallPending, OutgoingRequest
from skyflowctl.vault.errors import BadRequestError, ForbiddenError, VaultError
from skyflowctl.vault.namespaces import NAMESPACE_HEADER, namespace_of
from skyflowctl.vault.transport import Request, Transport

UNWRAP = "sys/wrapping/unwrap"


def namespace_header(transport: Transport, path: str) -> dict[str, str]:
    """Return the header that names the namespace in which a request to a path is parked."""
    named = transport.server.namespace
    return {NAMESPACE_HEADER: namespace_of(path, named)} if named else {}


def is_delivered(transport: Transport, token: Secret, path: str) -> bool:
    """Whether unwrapping returns something now: an answer, or the result of an approved request.

    False for a parked request that is not approved and for a token that is gone; they cannot be
    distinguished.
    """
    lookup, headers = "sys/wrapping/lookup", namespace_header(transport, path)
    try:
        transport.send(
            Request("POST", lookup, body={"token": token}, headers=headers, idempotent=True)
        )
    except BadRequestError:
        return False
    return True


def withdraw(transport: Transport, token: Secret, path: str) -> bool:
    """Withdraw the parked request to a path; False if it may still be approved and run.

    A wrapping token can be used only once, and this use must be to revoke itself.
    """
    login = transport.as_login(token)
    headers = namespace_header(transport, path)
    try:
        login.send(Request("POST", "auth/token/revoke-self", headers=headers, idempotent=True))
    except ForbiddenError:
        return True  # the token is already gone
    except VaultError:
        return False
    finally:
        login.close()
    return True


def given_up(transport: Transport, call: OutgoingRequest, outcome: CallPending) -> VaultError:
    """Withdraw a request that this command does not wait for, and return its error."""
    if outcome.parked is None:
        return parked.never_runs(call.method, call.path, outcome.reply)
    gone = withdraw(transport, outcome.parked.token, call.path)
    if call.secret:
        return parked.secret_parked(call.method, call.path, gone=gone)
    if call.wraps:
        return parked.wrapped_never_runs(call.method, call.path, gone=gone)
    return parked.withdrawn(call.method, call.path, writes=writes(call), gone=gone)
