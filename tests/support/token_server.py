"""A server that answers what a token source asks, by a script, and the time that it lives in."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

from skyflowctl.client import ClientLimits, FixedToken, ServerEndpoint, TokenSource
from skyflowctl.client.values import SystemTime
from support.scripted import Answer, ScriptedServer, Seen, scripted

SECRET_ID = "the-secret-id-of-order"
MOUNT, ROLE = "skyflow/order", "producer"


class HandTime(SystemTime):
    """A time that passes only by hand, and while the main thread sleeps."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if threading.current_thread() is threading.main_thread():
            self.now += seconds


class TokenServer:
    """Logs in, and answers creds and KV secrets that it counts.

    ``before`` may answer first: a status, an Answer, or None to go on.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.before: Callable[[Seen], Answer | None] = lambda _seen: None
        self.token_ttl = 3600
        self.login_ttl = 1200
        self.logins = 0
        self.reads: list[str] = []
        self.valid: set[str] = {"given"}
        self.denied: set[str] = set()
        self._lock = threading.Lock()
        server.script = self.answer

    def answer(self, seen: Seen) -> Answer:
        found = self.before(seen)
        if found is not None:
            return found
        path = urlsplit(seen.path).path.removeprefix("/v1/")
        if path.startswith("auth/"):
            return self._log_in(json.loads(seen.body))
        if seen.headers.get("x-vault-token") not in self.valid or path in self.denied:
            return refusal(403, "permission denied")
        with self._lock:
            self.reads.append(path)
            number = len(self.reads)
        if "/data/" in path:
            fields = {"user": "app", "password": f"pw-{number}"}
            return Answer(200, {"data": {"data": fields, "metadata": {"version": number}}})
        if "/sign/" in path:
            body = json.loads(seen.body)
            signed = [
                {"data_token": one, "signed_data_token": f"signed_token_{one}"}
                for one in body["data_tokens"]
            ]
            return Answer(200, {"data": {"signed_data_tokens": signed}})
        ctx = parse_qs(urlsplit(seen.path).query).get("ctx", [""])[0]
        data = {
            "access_token": f"bearer-{number}-{ctx}",
            "token_type": "Bearer",
            "expires_at": "2026-11-29T20:00:00Z",
            "ttl": self.token_ttl,
            "key_id": "k1",
        }
        return Answer(200, {"data": data})

    def _log_in(self, body: dict[str, str]) -> Answer:
        if SECRET_ID not in body.values():
            return refusal(400, "invalid role or secret ID")
        self.logins += 1
        token = f"login-{self.logins}"
        self.valid.add(token)
        auth = {"client_token": token, "lease_duration": self.login_ttl}
        return Answer(200, {"auth": auth})

    @property
    def creds(self) -> int:
        """How many tokens were handed out."""
        return sum("/creds/" in path for path in self.reads)


def refusal(status: int, *texts: str, **headers: str) -> Answer:
    return Answer(status, {"errors": list(texts)}, headers)


@contextlib.contextmanager
def token_server() -> Iterator[TokenServer]:
    """Run a token server."""
    with scripted(Answer()) as server:
        yield TokenServer(server)


@contextlib.contextmanager
def source_of(
    server: TokenServer, clock: HandTime | None = None, login=None, **limits: float
) -> Iterator[TokenSource]:
    """A source of the server that lives in the given time."""
    made = TokenSource(
        login or FixedToken("given"),
        server=ServerEndpoint(server.server.address),
        limits=ClientLimits(**limits),
        clock=clock or HandTime(),
    )
    with made:
        yield made
