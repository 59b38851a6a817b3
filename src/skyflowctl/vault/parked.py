"""Errors of requests that a control group has parked, or that can never run."""

from skyflowctl.errors import AwaitingApprovalError, Problem
from skyflowctl.vault.errors import ForbiddenError, GuardedError, VaultError
from skyflowctl.vault.pending_store import StoredRequest
from skyflowctl.vault.transport import Reply

_CAPABILITY = {"GET": "read", "LIST": "list"}


class ApprovalNeededError(ForbiddenError):
    """A control group guards a read; the request was withdrawn."""

    default_code = "read-needs-approval"


class PendingError(VaultError, AwaitingApprovalError):
    """The server holds the request until it is approved.

    Attributes:
        request: the request, with its wrapping token.
        stored: where it is kept: ``keyring``, ``file``, or ``none`` (only in memory).
    """

    default_code = "approval-pending"

    def __init__(
        self, summary: str, *, why: str, fix: str, request: StoredRequest, stored: str
    ) -> None:
        super().__init__(summary, why=why, fix=fix, method=request.method, path=request.path)
        self.request = request
        self.stored = stored

    def to_json(self) -> dict[str, str]:
        """Return the published form, without the wrapping token."""
        return {
            "accessor": self.request.accessor,
            "creation_path": self.request.path,
            "expires_at": self.request.expires_at,
            "stored": self.stored,
        }


def never_runs(method: str, path: str, reply: Reply) -> GuardedError:
    """Return the error for a request that a control group without a ttl has discarded."""
    return GuardedError(
        f"the server accepted the request and will never run it: {method} v1/{path}",
        why="the control group in this login's policy has no ttl, so no approval is possible",
        fix='add ttl = "1h" to its control_group, then run the same command again',
        code="control_group_without_ttl",
        status=reply.status,
        method=method,
        path=path,
        request_id=reply.request_id,
    )


def withdrawn(method: str, path: str, *, writes: bool, gone: bool) -> VaultError:
    """Return the error for a parked request that this command does not wait for.

    Args:
        method: the request's method.
        path: the request's path.
        writes: whether the request is a write.
        gone: whether the server no longer holds it; otherwise it stays there until it expires.
    """
    left = "" if gone else "; it could not be withdrawn: do not approve it"
    if not writes:
        return ApprovalNeededError(
            f"this request needs an approval: {method} v1/{path}",
            why=f"a control group guards it, and it changes nothing, so no command waits{left}",
            fix=f"take {_CAPABILITY.get(method, 'update')} on {path} out of the control group in "
            "this login's policy",
            method=method,
            path=path,
        )
    return GuardedError(
        f"this write needs an approval: {method} v1/{path}",
        why=f"a control group guards it, and this command stores no requests{left}",
        fix=f"take {path} out of the control group in this login's policy",
        method=method,
        path=path,
    )


def pending(request: StoredRequest, stored: str) -> PendingError:
    """Return the error for a request that is stored until the next run."""
    where = {"keyring": "the keyring", "file": "the --pending file"}.get(stored, "memory alone")
    return PendingError(
        f"the request waits for an approval: {request.method} v1/{request.path}",
        why=f"run {request.run} sent it; it is stored in {where} until {request.expires_at}",
        fix=f"ask an approver to run 'skyflowctl approvals approve {request.accessor}', "
        "then run the same command again",
        request=request,
        stored=stored,
    )


def no_entity(method: str, path: str, *, gone: bool) -> ForbiddenError:
    """Return the error for a guarded request of a login without an entity.

    Measured on OpenBao 2.7.2: the server parks it, and runs it once it is approved, maybe by the
    same person.
    """
    left = "it was withdrawn" if gone else "it could not be withdrawn: do not approve it"
    return ForbiddenError(
        f"this login cannot request an approval: {method} v1/{path}",
        why=f"its token has no entity, so no approver can tell who asks; {left}",
        fix="log in with a login method, such as userpass or oidc, and run the same command again",
        code="no-entity",
        method=method,
        path=path,
    )


def ran_unapproved(method: str, path: str, reply: Reply) -> GuardedError:
    """Return the error for a write that ran although it had to wait for an approval."""
    return GuardedError(
        f"the write ran without an approval: {method} v1/{path}",
        why="its guard was lifted after it was probed; what was written is on the server",
        fix="look at 'skyflowctl audit posture', then review what was written",
        code="ran-unapproved",
        status=reply.status,
        method=method,
        path=path,
        request_id=reply.request_id,
    )


def nowhere_to_keep(request: StoredRequest, why: str, *, gone: bool) -> GuardedError:
    """Return the error for a parked request that cannot be stored.

    Args:
        request: the request.
        why: why it cannot be stored.
        gone: whether the server no longer holds it.
    """
    left = "it was withdrawn" if gone else "it could not be withdrawn: do not approve it"
    return GuardedError(
        f"this request needs an approval: {request.method} v1/{request.path}",
        why=f"{why}; {left}",
        fix="add --wait-approval 30m, or --pending FILE, or unlock an OS keyring",
        method=request.method,
        path=request.path,
    )


def object_changed(request: StoredRequest) -> GuardedError:
    """Return the error for an approved request whose object changed before it ran."""
    return GuardedError(
        f"the object changed after the request was sent: v1/{request.path}",
        why=f"run {request.run} sent the request for an older state; it was withdrawn and not run",
        fix="run the same command again: it sends a new request for the live state",
        code="changed-meanwhile",
        method=request.method,
        path=request.path,
    )


def gone_meanwhile(request: StoredRequest) -> GuardedError:
    """Return the error for a request that ended while this command waited for its approval."""
    return GuardedError(
        f"the request was not approved and is gone: {request.method} v1/{request.path}",
        why="it was withdrawn, it expired, or its login ended; the server does not say which",
        fix="run the same command again: it sends a new request",
        code="approval-gone",
        method=request.method,
        path=request.path,
    )


def wrapped_never_runs(method: str, path: str, *, gone: bool) -> GuardedError:
    """Return the error for a guarded request that asks for a wrapped answer.

    Measured on OpenBao 2.7.2: unwrapping the approved request parks it again, without end.
    """
    left = "it was withdrawn" if gone else "it could not be withdrawn"
    return GuardedError(
        f"a guarded request cannot be answered wrapped: {method} v1/{path}",
        why=f"the server parks it again each time it is approved; {left}",
        fix="leave out --wrap-ttl: the token is returned once the request is approved",
        code="wrapped-never-runs",
        method=method,
        path=path,
    )


def secret_refused(method: str, path: str) -> GuardedError:
    """Return the error for a secret that was not sent because its approvers would see it."""
    fix = "put the key on the server and write `credentials: {server_file: /ABSOLUTE/PATH}` in the"
    fix += " manifest: it sends no secret"
    if path.endswith("/config/verify"):  # the proof of a new key waits for no approval
        fix = f"take {path} out of the control group in this login's policy: it changes nothing"
    elif not path.endswith("/config"):
        fix = f"log in with a policy that has no control group on {path}"
    return GuardedError(
        f"the secret was not sent: {method} v1/{path}",
        why="a control group guards this path, and approvers see the whole request",
        fix=fix,
        code="guarded_secret",
        method=method,
        path=path,
    )


def guard_unknown(method: str, path: str) -> Problem:
    """Return the warning for a path that this login may write and may not probe."""
    return Problem(
        "guard-unknown",
        f"it is not known whether a control group guards {method} v1/{path}",
        "this login's policy names the parameters that it allows there, and so forbids the probe",
        f"add skyflowctl_guard_probe to the allowed parameters of {path}; until then the secret "
        "is sent, and withdrawn if it is parked",
    )


def secret_parked(method: str, path: str, *, gone: bool) -> GuardedError:
    """Return the error for a secret that was parked although no probe found a guard."""
    left = "it was withdrawn" if gone else "it could not be withdrawn"
    return GuardedError(
        f"a request with a secret was parked: {method} v1/{path}",
        why=f"its guard came after the probe, or no probe was allowed; {left}; nothing was written",
        fix="replace the key if an approver may have seen it, then name it with server_file",
        code="secret_parked",
        method=method,
        path=path,
    )
