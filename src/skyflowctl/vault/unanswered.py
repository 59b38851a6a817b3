"""The errors of requests without an answer to rely on: not sent, lost, or redirected."""

from skyflowctl.vault.failures import (
    OutcomeUnknown,
    RedirectRefused,
    ServerUnreachable,
    VaultError,
)


def no_connection(method: str, path: str, address: str, reason: str) -> ServerUnreachable:
    """Return the error for a request that never left."""
    return ServerUnreachable(
        f"cannot reach the server at {address}",
        why=reason,
        fix="check the address, the network and that the server runs",
        method=method,
        path=path,
    )


def no_answer(method: str, path: str, address: str, reason: str) -> OutcomeUnknown:
    """Return the error for a request that was sent and never answered."""
    return OutcomeUnknown(
        f"no answer from {address}: {method} v1/{path}",
        why=reason,
        fix="run the same command again: it continues where this one stopped",
        method=method,
        path=path,
    )


def unknown(method: str, path: str, cause: VaultError | None) -> OutcomeUnknown:
    """Return the error for a request that may have been done, and may not be sent twice."""
    return OutcomeUnknown(
        f"it is not known whether the server did it: {method} v1/{path}",
        why=cause.problems[0].why if cause else "",
        fix="run the same command again: it compares with what is live first",
        status=cause.status if cause else 0,
        messages=cause.messages if cause else (),
        method=method,
        path=path,
    )


def unnamed_host(method: str, path: str, origin: str, why: str = "") -> RedirectRefused:
    """Return the error for a host that would see the token and that the user never named."""
    return RedirectRefused(
        f"refused to send the token to {origin}",
        why=why or f"{method} v1/{path} was redirected there, and you never named that host",
        fix="if it is a node of your cluster, name it in SKYFLOWCTL_NODES, or use its address",
        method=method,
        path=path,
    )
