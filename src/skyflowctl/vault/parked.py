"""The errors of requests that a control group holds, or that can never run."""

from skyflowctl.errors import AwaitingApprovalError
from skyflowctl.vault.failures import Forbidden, GuardedError, VaultError
from skyflowctl.vault.pending_store import StoredRequest
from skyflowctl.vault.transport import Reply


class ApprovalNeededError(Forbidden):
    """A control group guards what had to be read; the request was withdrawn."""

    default_code = "read-needs-approval"


class PendingError(VaultError, AwaitingApprovalError):
    """The server holds the request until somebody else approves it; it is kept here.

    Attributes:
        request: what is kept.
        stored: where: ``keyring``, ``file``, or ``none`` while only this process knows it.
    """

    default_code = "approval-pending"

    def __init__(
        self, summary: str, *, why: str, fix: str, request: StoredRequest, stored: str
    ) -> None:
        super().__init__(summary, why=why, fix=fix, method=request.method, path=request.path)
        self.request = request
        self.stored = stored

    def to_json(self) -> dict[str, str]:
        """Return the published form, without what could run the request."""
        return {
            "accessor": self.request.accessor,
            "creation_path": self.request.path,
            "expires_at": self.request.expires_at,
            "stored": self.stored,
        }


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


def withdrawn(method: str, path: str, *, writes: bool, gone: bool) -> VaultError:
    """Return the error for a parked request that nobody waits for.

    Args:
        method: of the request.
        path: of the request.
        writes: whether it was to change something.
        gone: the server has forgotten it; else it stays there until its own end.
    """
    left = "" if gone else "; it could not be withdrawn, and must not be approved"
    if not writes:
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


def pending(request: StoredRequest, stored: str) -> PendingError:
    """Return the error for a request that is kept until the next run."""
    kept = {"keyring": "the keyring", "file": "the file of --pending"}.get(stored, "memory alone")
    return PendingError(
        f"it waits for somebody's approval: {request.method} v1/{request.path}",
        why=f"sent by run {request.run}, kept in {kept} until {request.expires_at}",
        fix=f"have 'bao write sys/control-group/authorize accessor={request.accessor}' run by an"
        " approver, then run the same command again",
        request=request,
        stored=stored,
    )


def nowhere_to_keep(request: StoredRequest, why: str, *, gone: bool) -> GuardedError:
    """Return the error for a request that could only have been lost.

    Args:
        request: it.
        why: what kept it from being stored.
        gone: the server has forgotten it.
    """
    left = "it was withdrawn" if gone else "it could not be withdrawn, and must not be approved"
    return GuardedError(
        f"this needs somebody's approval: {request.method} v1/{request.path}",
        why=f"{why}; {left}",
        fix="add --wait-approval 30m, or --pending FILE, or unlock an OS keyring",
        method=request.method,
        path=request.path,
    )


def changed_meanwhile(request: StoredRequest) -> GuardedError:
    """Return the error for an approved request whose object is another one by now."""
    return GuardedError(
        f"what the request was to change has changed: v1/{request.path}",
        why=f"run {request.run} sent it for another state; it was withdrawn and not run",
        fix="run the same command again: it sends a new request for what is live now",
        code="changed-meanwhile",
        method=request.method,
        path=request.path,
    )


def gone_meanwhile(request: StoredRequest) -> GuardedError:
    """Return the error for a request that the server forgot while somebody waited for it."""
    return GuardedError(
        f"the request was not approved and is gone: {request.method} v1/{request.path}",
        why="it was withdrawn, has expired, or its login has ended: these look alike",
        fix="run the same command again: it sends a new request",
        code="approval-gone",
        method=request.method,
        path=request.path,
    )


def wrapped_never_runs(method: str, path: str, *, gone: bool) -> GuardedError:
    """Return the error for a guarded request whose answer was to come wrapped.

    Measured on OpenBao 2.7.2: running it once it is approved parks it again, without end.
    """
    left = "it was withdrawn" if gone else "it could not be withdrawn"
    return GuardedError(
        f"a wrapped answer needs an approval that never ends: {method} v1/{path}",
        why=f"the server parks such a request again each time it is approved; {left}",
        fix="leave out --wrap-ttl: the token comes once the request is approved",
        code="wrapped-never-runs",
        method=method,
        path=path,
    )


def secret_refused(method: str, path: str) -> GuardedError:
    """Return the error for a secret that was not sent, because approvers would see it."""
    return GuardedError(
        f"the secret was not sent: {method} v1/{path}",
        why="a control group guards this path, and whoever approves a request sees all of it",
        fix="put the key on the server and name it with server_file, which sends no secret",
        code="guarded_secret",
        method=method,
        path=path,
    )


def secret_parked(method: str, path: str, *, gone: bool) -> GuardedError:
    """Return the error for a secret that was parked although its path was free a moment ago."""
    left = "it was withdrawn" if gone else "it could not be withdrawn"
    return GuardedError(
        f"a request with a secret was parked: {method} v1/{path}",
        why=f"a control group guards this path since a moment ago; {left}, and nothing was written",
        fix="replace the key if an approver may have seen it, then use server_file",
        code="secret_parked",
        method=method,
        path=path,
    )
