"""Logs in with OIDC: the identity provider's page in a browser, and its answer on loopback.

The server does OpenID Connect: it makes state, nonce and PKCE's challenge, and exchanges the code.
A port is chosen by the system; for a loopback address the server ignores the port of the allowed
redirect addresses (RFC 8252, section 7.3).
"""

import http.server
import secrets
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from skyflowctl.clock import Clock
from skyflowctl.errors import NotPermittedError
from skyflowctl.text import duration
from skyflowctl.vault.contexts import LoginSettings
from skyflowctl.vault.login_api import IssuedLogin, issue_login
from skyflowctl.vault.transport import Request, Transport

_PATH = "/oidc/callback"
_LONGEST_QUERY = 16_384
_DONE = "<!doctype html><title>skyflowctl</title><p>You can close this page."


class _Answers:
    """What the browser brought back; the first answer with the right state counts."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.code = ""
        self.error = ""
        self.arrived = threading.Event()


def log_in_with_browser(
    transport: Transport,
    settings: LoginSettings,
    show: Callable[[str], None],
    clock: Clock,
    seconds: float,
) -> IssuedLogin:
    """Log in with the identity provider's page.

    Args:
        transport: to the server, without a token.
        settings: the mount and the login role.
        show: opens the page, or prints its address.
        clock: tells the time.
        seconds: how long to wait for the person.

    Raises:
        NotPermittedError: the provider or the server refuses the login, or nobody logged in.
        VaultError: the server does not answer.
    """
    mount = settings.mount or "oidc"
    answers = _Answers("")
    with _listening(answers) as port:
        nonce = secrets.token_urlsafe(24)
        redirect = f"http://localhost:{port}{_PATH}"
        body = {"role": settings.role, "redirect_uri": redirect, "client_nonce": nonce}
        reply = transport.send(Request("POST", f"auth/{mount}/oidc/auth_url", body=body))
        page = str((reply.data or {}).get("auth_url") or "")
        answers.state = _state(page)
        if not answers.state:
            raise _refused(
                "the server returned no page to log in on",
                f"the login role does not allow {redirect.replace(str(port), 'PORT')}",
                "add http://localhost/oidc/callback to its allowed_redirect_uris, and check --role",
            )
        show(page)
        if not answers.arrived.wait(seconds):
            waited = duration(timedelta(seconds=seconds))
            fix = "run the command again, and log in on the page; --wait gives more time"
            raise _refused("nobody logged in", f"it took longer than {waited}", fix)
    if answers.error:
        fix = "log in with an account that may use this server"
        raise _refused("the identity provider refused the login", answers.error, fix)
    query = {"state": answers.state, "code": answers.code, "client_nonce": nonce}
    return issue_login(transport, f"auth/{mount}/oidc/callback", query, clock, method="GET")


def _state(page: str) -> str:
    """Return the state in the address of a login page; empty if it is no such address."""
    parts = urlsplit(page)
    if parts.scheme not in {"https", "http"} or not parts.netloc or not page.isprintable():
        return ""
    return parse_qs(parts.query).get("state", [""])[0]


def _refused(summary: str, why: str, fix: str) -> NotPermittedError:
    return NotPermittedError(summary, why=why, fix=fix, code="cannot-log-in")


class _listening:  # noqa: N801 - used like a function
    """Answers the browser on loopback while the block runs; the value is the port."""

    def __init__(self, answers: _Answers) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(answers))
        self._server.daemon_threads = True

    def __enter__(self) -> int:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return int(self._server.server_address[1])

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(answers: _Answers) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10
        server_version, sys_version = "skyflowctl", ""

        def do_GET(self) -> None:
            """Take the provider's answer; anything else on this machine is turned away."""
            parts = urlsplit(self.path)
            query = {
                name: values[0] for name, values in parse_qs(parts.query[:_LONGEST_QUERY]).items()
            }
            is_ours = answers.state and secrets.compare_digest(
                query.get("state", "").encode(), answers.state.encode()
            )
            if parts.path != _PATH or not is_ours or answers.arrived.is_set():
                self.send_error(404)
                return
            answers.code = query.get("code", "")
            answers.error = _printable(query) if not answers.code else ""
            self._page()
            answers.arrived.set()

        def _page(self) -> None:
            raw = _DONE.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(raw)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """Write no log: the query has the code."""

    return Handler


def _printable(query: dict[str, str]) -> str:
    text = query.get("error_description") or query.get("error") or "it gave no code"
    return "".join(char for char in text if char.isprintable())[:200]
