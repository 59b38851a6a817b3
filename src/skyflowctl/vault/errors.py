"""The errors of requests to the server, each with its texts and its exit code.

A server returns only a status and a list of texts. The relevant texts were measured on
OpenBao 2.7.2. No error here contains a request's body or a response's data.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from skyflowctl import errors
from skyflowctl.retry import NO_ANSWER, TOO_MANY_REQUESTS, is_transient
from skyflowctl.skyflow.token_uri import token_uri_refused

_MAX_TEXT = 500
_REFUSED = 502
_TOKEN_SERVICE_STATUS = re.compile(r"token service refused: (\d{3})\b")
_ENGINE_PATH = re.compile(r"/(?:config|creds|health|roles)(?:/|$)")


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
    """403: the token is dead, or its policies do not allow this."""

    default_code = "forbidden"


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


class PluginMissingError(NotFoundError):
    """404 ``backend is nil``: the mount exists, but its plugin does not run on that node."""

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
        return self.status == _REFUSED

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
    """The server reported success but stored other values than the request had."""

    default_code = "silently-ignored"


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


def server_texts(body: Any) -> tuple[str, ...]:
    r"""Return the texts of an error body, each as one line of at most 500 characters.

    Go joins several errors as ``1 error occurred:\n\t* permission denied\n\n``; the
    frame is dropped.
    """
    listed = body.get("errors") if isinstance(body, Mapping) else None
    if listed is None and isinstance(body, Mapping) and isinstance(body.get("data"), Mapping):
        listed = [body["data"]["error"]] if "error" in body["data"] else []
    return tuple(_one_line(str(text)) for text in listed or ())


def _one_line(text: str) -> str:
    lines = [line.strip().removeprefix("* ") for line in text.splitlines()]
    kept = [line for line in lines if line and not line.endswith("occurred:")]
    return "; ".join(kept)[:_MAX_TEXT]


def error_for(
    status: int,
    messages: tuple[str, ...],
    *,
    method: str,
    path: str,
    request_id: str = "",
    namespace: str = "",
) -> VaultError:
    """Return the error for a failed answer."""
    kind = _kind(status, "\n".join(messages))
    about = namespace if kind is NamespaceMissingError and namespace else f"{method} v1/{path}"
    return kind(
        f"{_SUMMARIES.get(kind, 'the server failed')}: {about}",
        why=f"the server answered {status}" + (f": {'; '.join(messages)}" if messages else ""),
        fix=_fix(kind, status, path),
        status=status,
        messages=messages,
        method=method,
        path=path,
        request_id=request_id,
    )


def _fix(kind: type[VaultError], status: int, path: str) -> str:
    if kind is TokenServiceFailedError:
        asks = f"'skyflowctl health {_ENGINE_PATH.split(path)[0]}' checks it now"
        answered = "the message above is from the token service"
        return f"{asks}; {answered}" if status == _REFUSED else asks
    return _FIXES.get(kind, "see the server's log for this request, then run the command again")


def _kind(status: int, text: str) -> type[VaultError]:
    if "replication DR secondary" in text:
        return DrSecondaryError
    if status == 404:
        return _not_found_kind(text)
    if _is_token_service(status, text):
        return TokenUriRefusedError if token_uri_refused(text) else TokenServiceFailedError
    if status in {501, 503} and "namespace" not in text:
        down = SealedError if "sealed" in text else ServerUnreachableError
        return UninitializedError if status == 501 else down
    if status == 409 and "this key was revoked" in text:
        return RevokedKeyError
    return _KINDS.get(status, BadRequestError if 400 <= status < 500 else VaultError)


def _not_found_kind(text: str) -> type[VaultError]:
    if "backend is nil" in text:
        return PluginMissingError
    if "namespace not found" in text:
        return NamespaceMissingError
    return NotMountedError if "no handler for route" in text else NotFoundError


def _is_token_service(status: int, text: str) -> bool:
    return (status == _REFUSED and "token service" in text) or (
        status == 503 and "skyflow:" in text
    )


_KINDS: dict[int, type[VaultError]] = {
    401: ForbiddenError,
    403: ForbiddenError,
    409: ConflictError,
    TOO_MANY_REQUESTS: BusyError,
}
_SUMMARIES: dict[type[VaultError], str] = {
    ForbiddenError: "not permitted",
    NotFoundError: "not found",
    PluginMissingError: "the engine does not run on the node that answered",
    NotMountedError: "nothing is mounted there",
    NamespaceMissingError: "the server has no such namespace",
    BadRequestError: "the server refused the request",
    ConflictError: "it was changed by someone else, or exists already",
    RevokedKeyError: "a revoked key is not written back",
    TokenServiceFailedError: "Skyflow's token service returned no token",
    TokenUriRefusedError: "the engine may not call the credential's token service",
    ServerUnreachableError: "the server has no active node",
    SealedError: "the server is sealed",
    UninitializedError: "the server is not initialised",
    DrSecondaryError: "the server is a disaster recovery secondary",
    BusyError: "the rate limit of the server was exceeded",
}
_FIXES: dict[type[VaultError], str] = {
    ForbiddenError: "use a valid token whose policies allow this path",
    NotFoundError: "check the path's spelling, the namespace and the address",
    PluginMissingError: "on that node: skyflowctl plugin list --directory PLUGIN_DIRECTORY",
    NotMountedError: "check the mount's name and the namespace, or create it with "
    "'skyflowctl apply'",
    NamespaceMissingError: "correct --namespace or BAO_NAMESPACE; without one it is the root",
    BadRequestError: "correct what the server names, then run the command again",
    ConflictError: "look at the live state with 'skyflowctl plan', then run the command again",
    RevokedKeyError: "create a new key at Skyflow and write that one; if the revoked one must "
    "serve again, give --allow-revoked-key=<its key id>",
    TokenUriRefusedError: ALLOW_HOST_FIX,
    ServerUnreachableError: "wait for the cluster to elect a leader, then run the command again",
    SealedError: "unseal the server, then run the command again",
    UninitializedError: "initialise it with 'bao operator init', then run the command again",
    DrSecondaryError: "name a node of the primary cluster; a secondary serves no requests",
    BusyError: "lower --parallelism, or raise the server's rate limit quota",
}
