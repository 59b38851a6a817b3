"""The errors of requests without a reliable answer: not sent, lost, or redirected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from skyflowctl.vault.errors import (
    ForbiddenError,
    NotAServerError,
    OutcomeUnknownError,
    RedirectRefusedError,
    ServerUnreachableError,
    VaultError,
)
from skyflowctl.vault.target import TargetSource

if TYPE_CHECKING:
    from skyflowctl.vault.connection import NoResponseError, NotSentError


def no_connection(
    method: str, path: str, address: str, gone: NotSentError
) -> ServerUnreachableError:
    """Return the error for a request that was not sent."""
    kind = NotAServerError if gone.foreign else ServerUnreachableError
    summary = "this is no OpenBao or Vault:" if gone.foreign else "cannot reach the server at"
    return kind(
        f"{summary} {address}",
        why=gone.reason,
        fix=gone.fix or "check the address, the network and that the server runs",
        method=method,
        path=path,
    )


def no_token(refusal: ForbiddenError, source: TargetSource) -> ForbiddenError:
    """Return the error for a request without a token that needs one.

    Args:
        refusal: what the server said.
        source: where the target's address came from, which determines how to log in.
    """
    return ForbiddenError(
        f"no token was sent: {refusal.method} v1/{refusal.path}",
        why=_WHY_NO_TOKEN[source],
        fix=_TOKEN_FIXES[source],
        code="no-token",
        status=refusal.status,
        messages=refusal.messages,
        method=refusal.method,
        path=refusal.path,
        request_id=refusal.request_id,
    )


_WHY_NO_TOKEN: Mapping[TargetSource, str] = {
    "flags": "the login of the environment does not serve an address given by flag",
    "environment": "there is no BAO_TOKEN, VAULT_TOKEN, token helper or token file",
    "context": "the context has no login",
}
_TOKEN_FIXES: Mapping[TargetSource, str] = {
    "flags": "give --token-file as well, or name the server in BAO_ADDR instead",
    "environment": "set BAO_TOKEN, log in with 'bao login', or give --token-file",
    "context": "'skyflowctl login' logs in; or give --token-file",
}


_FIX_READ = "'skyflowctl health' shows which mounts answer, and a fix for the others"
_FIX_WRITE = "run the same command again: it continues where this one stopped"


def no_response_error(method: str, path: str, address: str, reason: str) -> OutcomeUnknownError:
    """Return the error for a request that was sent but not answered."""
    reads = method in {"GET", "LIST"}
    return OutcomeUnknownError(
        f"no answer from {address}: {method} v1/{path}",
        why=reason,
        fix=_FIX_READ if reads else _FIX_WRITE,
        method=method,
        path=path,
    )


def broken_answer(method: str, path: str, address: str, lost: NoResponseError) -> NotAServerError:
    """Return the error for an incomplete HTTP answer, if no server has answered before."""
    return NotAServerError(
        f"this is no OpenBao or Vault answer: {address}",
        why=f"{method} v1/{path}: {lost.reason}",
        fix="check the address, its scheme and port, and the proxy",
        method=method,
        path=path,
    )


def outcome_unknown(method: str, path: str, cause: VaultError | None) -> OutcomeUnknownError:
    """Return the error for a request that may have been executed and must not be sent twice."""
    return OutcomeUnknownError(
        f"it is not known whether the server executed the request: {method} v1/{path}",
        why=cause.problems[0].why if cause else "",
        fix="run the same command again: it compares with what is live first",
        status=cause.status if cause else 0,
        messages=cause.messages if cause else (),
        method=method,
        path=path,
    )


def unnamed_host(method: str, path: str, origin: str, why: str = "") -> RedirectRefusedError:
    """Return the error for a host that would see the token although the user did not name it."""
    return RedirectRefusedError(
        f"refused to send the token to {origin}",
        why=why or f"{method} v1/{path} was redirected to this host, which you did not name",
        fix="if it is a node of your cluster, name it in SKYFLOWCTL_NODES, or use its address",
        method=method,
        path=path,
    )
