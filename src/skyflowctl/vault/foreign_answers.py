"""Decides whether an OpenBao or Vault server sent an answer, and what else it may be.

The status alone does not identify the sender: proxies, load balancers, login pages and other web
servers use the same ones. A server's own answers are JSON objects with fields that this module
knows. An error has a list ``errors``, which other APIs have as well, so for a short one
``sys/health`` is asked once.
"""

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any
from urllib.parse import unquote, urlsplit

from skyflowctl.frozen import dataclass
from skyflowctl.retry import TOO_MANY_REQUESTS, is_gateway_failure
from skyflowctl.vault.errors import NotAServerError
from skyflowctl.vault.failed_answers import server_texts
from skyflowctl.vault.server_state import is_health

_OWN_HEADERS = frozenset({"x-vault-index", "x-vault-hostname", "x-vault-raft-node-id"})
_OWN_FIELDS = frozenset({"request_id", "wrap_info", "auth", "lease_id", "ha_enabled", "sealed"})
_OWN_TEXTS = re.compile(
    r"permission denied|no handler for route|namespace not found|backend is nil|sealed"
    r"|active (?:cluster )?node|active (?:Vault )?instance|internal error|leadership lost"
    r"|token service|skyflow:|mount not configured|unsupported (?:path|operation)"
    r"|missing client token|namespace has been locked|quota exceeded|path is already in use"
    r"|DR secondary|not yet initialized"
)
_TLS_PORT = re.compile(
    rb"HTTP request to an HTTPS|plain HTTP (?:request )?(?:was sent )?to", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """One HTTP answer. ``body`` is its JSON object, {} for a successful one without content,
    else None; ``headers`` have names in lower case; ``content`` is the raw body."""

    method: str
    path: str
    status: int
    body: Mapping[str, Any] | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(default=b"", repr=False)

    @property
    def transient(self) -> bool:
        """Whether this is a proxy's status for a server that may be back soon."""
        return self.status == TOO_MANY_REQUESTS or is_gateway_failure(self.status)


def is_the_servers(answer: ServerAnswer) -> bool | None:
    """Return whether an OpenBao or Vault server sent this answer; None if that is unclear."""
    body = answer.body
    if _OWN_HEADERS & answer.headers.keys():
        return True
    if body is None:
        return False
    if answer.path == "sys/health":
        return is_health(body)
    if _OWN_FIELDS & body.keys() or is_health(body):
        return True
    if answer.status < 300:
        # A server answers a read with content, and a write usually with 204.
        return None if answer.status == 204 and answer.method not in {"GET", "LIST"} else False
    return _is_the_servers_error(answer.status, body)


def _is_the_servers_error(status: int, body: Mapping[str, Any]) -> bool | None:
    if not isinstance(body.get("errors"), list):
        return False
    texts = server_texts(body)
    if _OWN_TEXTS.search("\n".join(texts)):
        return True
    return None if texts or status < 500 else False


def is_the_servers_redirect(answer: ServerAnswer) -> bool:
    """Return whether a redirect is a standby's: 307 to the same path on another host."""
    parts = urlsplit(answer.headers.get("location", ""))
    return answer.status == 307 and unquote(parts.path) == f"/v1/{answer.path}"


def not_a_server(answer: ServerAnswer, address: str) -> NotAServerError:
    """Return the error for a foreign answer, with its likely cause."""
    cause, fix = _likely_cause(answer, address)
    return NotAServerError(
        f"this is no OpenBao or Vault: {address}",
        why=f"{answer.method} v1/{answer.path} was answered {answer.status} {cause}",
        fix=fix,
        status=answer.status,
        messages=("the answer is not that of an OpenBao or Vault server",),
        method=answer.method,
        path=answer.path,
    )


_CHECK = "check the address, its scheme and port, and the proxy"
_PROXY = "check BAO_PROXY_ADDR or HTTPS_PROXY and the login in it; NO_PROXY counts for the second"


def _likely_cause(answer: ServerAnswer, address: str) -> tuple[str, str]:
    """Return the likely sender of the answer, and the fix."""
    status = answer.status
    if 300 <= status < 400:
        return _redirect_cause(answer, address)
    if status in {400, 497} and _TLS_PORT.search(answer.content):
        secure = address.replace("http://", "https://", 1)
        return "because that port speaks TLS", f"use {secure} as the address"
    if answer.transient:
        cause = "by a proxy or load balancer that does not reach the server behind it"
        return cause, f"check that the server behind it runs; else {_CHECK}"
    if status < 300 and _is_page(answer):
        return "with a web page: a login page, or another web server", _CHECK
    return _CAUSES.get(status, ("in a form that neither of them uses", _CHECK))


_CAUSES: Mapping[int, tuple[str, str]] = {
    401: ("by a proxy or another web server that wants a login", _CHECK),
    403: ("by a proxy or another web server that does not let it pass", _CHECK),
    404: ("by a web server that does not know /v1", _CHECK),
    407: ("by a proxy that wants a login", _PROXY),
}


def _redirect_cause(answer: ServerAnswer, address: str) -> tuple[str, str]:
    parts = urlsplit(answer.headers.get("location", ""))
    if parts.scheme == "https" and parts.hostname == urlsplit(address).hostname:
        secure = f"https://{parts.netloc.rpartition('@')[2]}"
        if secure != address:
            return f"with a redirect to {secure}", f"use {secure} as the address"
    return "with a redirect to a login page, or to another web server", _CHECK


def _is_page(answer: ServerAnswer) -> bool:
    kind = answer.headers.get("content-type", "")
    return "html" in kind or answer.content.lstrip()[:1] == b"<"
