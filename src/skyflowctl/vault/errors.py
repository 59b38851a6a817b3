"""The errors of requests to the server, each with its exit code.

:mod:`skyflowctl.vault.failed_answers` decides which of them an answer is. No error here contains
a request's body or a response's data.
"""

import re
from collections.abc import Sequence
from typing import ClassVar

from skyflowctl import errors
from skyflowctl.retry import NO_ANSWER, is_transient

TOKEN_SERVICE_REFUSED = 502
"""The engine's status for a refusal of the token service."""
_TOKEN_SERVICE_STATUS = re.compile(r"token service refused: (\d{3})\b")


class VaultError(errors.SkyflowctlError):
    """Base of every failed request.

    Attributes:
        status: the HTTP status; 0 without an answer.
        messages: the server's own texts, in one line each.
        method: the request's method.
        path: the request's path, below ``/v1/``.
        request_id: the server's id of the request, if the answer had one.
    """

    default_code = "server-error"

    def __init__(
        self,
        summary: str,
        *,
        why: str = "",
        fix: str = "",
        code: str = "",
        status: int = 0,
        messages: tuple[str, ...] = (),
        method: str = "",
        path: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(summary, why=why, fix=fix, code=code)
        self.status = status
        self.messages = messages
        self.method = method
        self.path = path
        self.request_id = request_id

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status != NO_ANSWER and is_transient(self.status)

    def says(self, text: str) -> bool:
        """Whether one of the server's texts contains this one."""
        return any(text in message for message in self.messages)


class ForbiddenError(VaultError, errors.NotPermittedError):
    """403: the token is dead, or its policies do not allow this.

    Attributes:
        by_policy: whether the server said so of a valid token's policies.
    """

    default_code = "forbidden"
    by_policy = False


class NotFoundError(VaultError):
    """404. Without a text, the path is served but empty.

    If the caller does not expect that, the user has named a wrong path.
    """

    exit_code: ClassVar[errors.ExitCode] = errors.ExitCode.USAGE
    default_code = "not-found"

    @property
    def empty(self) -> bool:
        """True if the path exists but is empty."""
        return not self.messages


class PluginMissingError(VaultError):
    """The mount exists, but its plugin does not run on that node.

    404 ``backend is nil``, if it did not start with the server; 403 or 500 with the reason, if it
    ended and does not start again.
    """

    exit_code = errors.ExitCode.UNREACHABLE
    default_code = "plugin-missing"


class NotMountedError(NotFoundError):
    """404 ``no handler for route``: nothing is mounted there."""

    default_code = "not-mounted"


class NamespaceMissingError(NotFoundError):
    """404 ``namespace not found``."""

    default_code = "no-such-namespace"


class NotAnEngineError(VaultError, errors.UsageError):
    """The mount at that path is no engine for Skyflow."""

    default_code = "not-an-engine"

    @classmethod
    def at(cls, path: str, *, cause: VaultError | None = None) -> "NotAnEngineError":
        """Return the error for a mount of another kind at this path."""
        return cls(
            f"no skyflow engine is at {path}",
            why=cause.problems[0].why if cause else "another type of engine is mounted there",
            fix="'skyflowctl mount list' lists the Skyflow mounts",
            path=path,
        )


class BadRequestError(VaultError, errors.InvalidInputError):
    """400, 405, 412, 413: the request is invalid by the server's or the engine's rules."""

    default_code = "bad-request"


class ConflictError(VaultError, errors.RefusedError):
    """409: the object exists, or a check-and-set failed. Nothing was written."""

    default_code = "conflict"


class PathInUseError(ConflictError):
    """400 ``path is already in use``: a mount exists at, above or below the path."""

    default_code = "path-in-use"

    @classmethod
    def at(cls, path: str, cause: VaultError) -> "PathInUseError":
        """Return the error for a path that was free a moment before."""
        return cls(
            f"something else was mounted meanwhile: {path}",
            why=cause.problems[0].why,
            fix="if another apply is changing this server, run this one again when it has ended",
            status=cause.status,
            messages=cause.messages,
            method=cause.method,
            path=cause.path,
        )


class RevokedKeyError(ConflictError):
    """409: a cut-off revoked this key, and the request does not allow it. Nothing was written."""

    default_code = "revoked-key"

    @classmethod
    def of_key(cls, path: str, key_id: str, why: str = "") -> "RevokedKeyError":
        """Return the error for a known key, with its two fixes."""
        return cls(
            f"key {key_id} is revoked, and is not made live again: {path}",
            why=why or "a cut-off of this mount destroyed it",
            fix="create a new key at Skyflow and write that one; if this very key must serve "
            f"again, add --allow-revoked-key={key_id}",
            status=409,
            path=path,
        )


class TokenServiceFailedError(VaultError, errors.UnhealthyError):
    """502 or 503 from the engine: Skyflow's token service refused, or did not answer."""

    default_code = "token-service-failed"

    @property
    def refused(self) -> bool:
        """True if the token service answered with a refusal; False if it did not answer."""
        return self.status == TOKEN_SERVICE_REFUSED

    @property
    def transient(self) -> bool:
        """Whether the token service did not judge the credential: no answer, 429, 5xx."""
        answered = (_TOKEN_SERVICE_STATUS.search(text) for text in self.messages)
        return not self.refused or any(is_transient(int(one[1])) for one in answered if one)


class TokenUriRefusedError(TokenServiceFailedError):
    """503 from the engine itself: it may not use the credential's tokenURI."""

    default_code = "token-uri-refused"

    @property
    def refused(self) -> bool:
        """True, because a retry gets the same answer."""
        return True


class ServerUnreachableError(VaultError, errors.UnreachableError):
    """No answer in time, and certainly nothing was done."""

    default_code = "unreachable"
    transient = True


class OutcomeUnknownError(ServerUnreachableError):
    """No answer, or an unreliable one: the server may or may not have executed the request."""

    default_code = "outcome-unknown"


class SealedError(VaultError, errors.UnreachableError):
    """The server is sealed or not initialised."""

    default_code = "sealed"
    transient = True


class UninitializedError(SealedError):
    """501: the server was never initialised."""

    default_code = "not-initialized"


class DrSecondaryError(ServerUnreachableError):
    """472: a disaster recovery secondary, which serves no requests until it is promoted."""

    default_code = "dr-secondary"


class StandbyWithoutLeaderError(ServerUnreachableError):
    """474: a standby that cannot reach its active node."""

    default_code = "standby-without-leader"


class RemovedFromClusterError(ServerUnreachableError):
    """530: the node is no longer a member of its cluster."""

    default_code = "removed-from-cluster"


class AuditBlockedError(ServerUnreachableError):
    """The server answers ``sys/health``, and no request that its audit devices must record."""

    default_code = "audit-blocked"


class NotAServerError(ServerUnreachableError):
    """The peer is no OpenBao or Vault server but a proxy, a login page or another web server."""

    default_code = "not-a-server"


class BusyError(VaultError, errors.UnreachableError):
    """429 until the deadline: a quota, or a node that lags behind."""

    default_code = "busy"


class RedirectRefusedError(VaultError, errors.RefusedError):
    """The answer was a redirect to a host that the user did not name."""

    default_code = "redirect-refused"


class SilentlyIgnoredError(VaultError):
    """The server reported success but stored other values than the request had.

    Something was written, so a command that stops here is partly done.
    """

    default_code = "silently-ignored"
    exit_code = errors.ExitCode.PARTIAL

    @classmethod
    def by_engine(cls, path: str, names: Sequence[str]) -> "SilentlyIgnoredError":
        """Return the error for fields that were read back with other values."""
        return cls(
            f"the engine accepted and ignored {', '.join(names)}: {path}",
            why="the value that was read back differs: this engine does not support it, or "
            "another client wrote meanwhile",
            fix="'skyflowctl status' shows what the engine lacks; remove these fields from the "
            "manifest, or register skyflowctl's engine",
            path=path,
        )


class BadRoleNameError(VaultError, errors.UsageError):
    """The role's name is invalid and would change the path. The request was not sent."""

    default_code = "bad-role-name"


BASIC_MINT_FAILED = "failed to generate token"
"""The start of the 400 of an engine with the basic API whenever its token service gave no token."""


def says_not_configured(error: VaultError) -> bool:
    """Whether the engine (full or basic API) reports that it has no credential."""
    return error.says("mount not configured") or error.says("backend not configured")


class GuardedError(VaultError, errors.RefusedError):
    """A control group guards a request that cannot wait for approval; nothing was written."""

    default_code = "approval-needed"


ALLOW_HOST_FIX = (
    "'skyflowctl plugin list' shows the file and the arguments of the version that runs; register "
    "that file again with these arguments, --allow-host HOST:PORT and --reload"
)
