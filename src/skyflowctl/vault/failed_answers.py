"""Decides which error a failed answer is, with its texts.

A server returns only a status and a list of texts. The relevant texts were measured on
OpenBao 2.7.2.
"""

import re
from collections.abc import Mapping
from typing import Any

from skyflowctl.retry import TOO_MANY_REQUESTS
from skyflowctl.skyflow.token_uri import token_uri_refused
from skyflowctl.vault.errors import (
    ALLOW_HOST_FIX,
    TOKEN_SERVICE_REFUSED,
    BadRequestError,
    BusyError,
    ConflictError,
    DrSecondaryError,
    ForbiddenError,
    NamespaceMissingError,
    NotFoundError,
    NotMountedError,
    PluginMissingError,
    RevokedKeyError,
    SealedError,
    ServerUnreachableError,
    TokenServiceFailedError,
    TokenUriRefusedError,
    UninitializedError,
    VaultError,
)

_MAX_TEXT = 500
_ENGINE_PATH = re.compile(r"/(?:config|creds|health|roles)(?:/|$)")
_NO_START = re.compile(
    r"validating the command path|checksums did not match|^Unrecognized remote plugin message|"
    r"plugin exited before we could connect|timeout while waiting for plugin to start|"
    r"^fork/exec |plugin not found in the catalog"
)
"""A server's answer for a mount whose plugin ended and does not start again."""


def server_texts(body: Any) -> tuple[str, ...]:
    r"""Return the texts of an error body, each as one line of at most 500 characters.

    Go joins several errors as ``1 error occurred:\n\t* permission denied\n\n``; the
    frame is dropped.
    """
    listed = body.get("errors") if isinstance(body, Mapping) else None
    if listed is None and isinstance(body, Mapping) and isinstance(body.get("data"), Mapping):
        listed = [body["data"]["error"]] if "error" in body["data"] else []
    return tuple(_one_line(str(text)) for text in listed or ())


def denied_by_policy(body: Any) -> bool:
    """Return whether a 403 is about the policies of a valid token.

    Only that text is framed; an invalid token's is the bare ``permission denied`` (measured).
    """
    listed = body.get("errors") if isinstance(body, Mapping) else None
    return any("occurred:" in str(text) for text in listed or ())


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
    text = "\n".join(messages)
    of_mount = not path.startswith(("sys/", "auth/"))
    no_start = of_mount and status in {403, 500} and _NO_START.search(text)
    kind = PluginMissingError if no_start else _kind(status, text)
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
        return f"{asks}; {answered}" if status == TOKEN_SERVICE_REFUSED else asks
    return _FIXES.get(kind, "see the server's log for this request, then run the command again")


def _kind(status: int, text: str) -> type[VaultError]:
    if status == 404:
        return _not_found_kind(text)
    if kind := next((_TEXTS[one] for one in _TEXTS if one in text), None):
        return kind
    if _is_token_service(status, text):
        return TokenUriRefusedError if token_uri_refused(text) else TokenServiceFailedError
    if status in {501, 503} and "namespace" not in text:
        down = SealedError if "sealed" in text else ServerUnreachableError
        return UninitializedError if status == 501 else down
    if status == 500 and "local node not active" in text:
        return (
            ServerUnreachableError  # it cannot forward: its cluster has no leader, or it is cut off
        )
    revoked = status == 409 and "this key was revoked" in text
    other = BadRequestError if 400 <= status < 500 else VaultError
    return RevokedKeyError if revoked else _KINDS.get(status, other)


def _not_found_kind(text: str) -> type[VaultError]:
    if "backend is nil" in text:
        return PluginMissingError
    if "namespace not found" in text:
        return NamespaceMissingError
    return NotMountedError if "no handler for route" in text else NotFoundError


def _is_token_service(status: int, text: str) -> bool:
    return (status == TOKEN_SERVICE_REFUSED and "token service" in text) or (
        status == 503 and "skyflow:" in text
    )


_KINDS: dict[int, type[VaultError]] = {
    401: ForbiddenError,
    403: ForbiddenError,
    409: ConflictError,
    TOO_MANY_REQUESTS: BusyError,
}
_TEXTS: dict[str, type[VaultError]] = {
    "replication DR secondary": DrSecondaryError,
    # A standby that cannot forward: there is no leader, or it is cut off from the others.
    "local node not active": ServerUnreachableError,
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
    ServerUnreachableError: "wait until there is a leader, or name the other nodes (--node); then "
    "run the command again",
    SealedError: "unseal the server, then run the command again",
    UninitializedError: "initialise it with 'bao operator init', then run the command again",
    DrSecondaryError: "name a node of the primary cluster; a secondary serves no requests",
    BusyError: "lower --parallelism, or raise the server's rate limit quota",
}
