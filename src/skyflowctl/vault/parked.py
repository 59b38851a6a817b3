"""The errors of requests that a control group holds, or that can never run."""

from skyflowctl.errors import AwaitsApproval, NotPermitted, Refused
from skyflowctl.vault.failures import VaultError
from skyflowctl.vault.transport import Reply

READS = frozenset({"GET", "LIST"})


class ApprovalNeededError(VaultError, NotPermitted):
    """A control group guards what had to be read; the request was withdrawn."""

    default_code = "read-needs-approval"


class GuardedError(VaultError, Refused):
    """A control group guards a write that cannot wait; nothing was written."""

    default_code = "approval-needed"


class PendingError(VaultError, AwaitsApproval):
    """The server holds the request until somebody else approves it; it is kept here."""

    default_code = "approval-pending"


def never_runs(method: str, path: str, reply: Reply) -> GuardedError:
    """Return the error for a request that a control group without a ttl has swallowed."""
    return GuardedError(
        f"the server took the request and will never run it: {method} v1/{path}",
        why="the control group in the policy of this login has no ttl, so nobody can approve it",
        fix='add ttl = "1h" to its control_group, then run the same command again',
        code="control_group_without_ttl",
        status=reply.status,
        method=method,
        path=path,
        request_id=reply.request_id,
    )


def withdrawn(method: str, path: str, *, gone: bool) -> VaultError:
    """Return the error for a parked request that nobody waits for.

    Args:
        method: of the request.
        path: of the request.
        gone: the server has forgotten it; else it stays there until its own end.
    """
    left = "" if gone else "; it could not be withdrawn, and must not be approved"
    if method in READS:
        return ApprovalNeededError(
            f"reading this needs somebody's approval: {method} v1/{path}",
            why=f"a control group guards it, and this command does not wait for reads{left}",
            fix=f"have read on {path} left out of the control group for this login",
            method=method,
            path=path,
        )
    return GuardedError(
        f"this needs somebody's approval: {method} v1/{path}",
        why=f"a control group guards it, and this command keeps no requests{left}",
        fix=f"have {path} left out of the control group for this login",
        method=method,
        path=path,
    )
