"""Requests to the server with one login, sent again where that may help."""

import base64
import json
import random
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .connections import NoReplyError, ServerConnections, ServerReply, ServerRequest
from .errors import (
    LoginRefusedError,
    PermissionDeniedError,
    RequestRefusedError,
    ServerUnavailableError,
    TokenSourceError,
    closed_error,
)
from .logins import ServerLogin
from .server import ServerEndpoint
from .values import MaskedText, Moment, SystemTime

_FIRST_PAUSE, _LONGEST_PAUSE, _FACTOR = 0.5, 8.0, 2.5
_RENEW_EARLY = 60.0
"""A login is renewed this long before it ends, or at nine tenths of its time."""
_DENIED_FOR = 60.0
"""How long a path that a new login was denied gets no further login."""
_MOST_TEXT = 300
_INDEX, _MODE = "x-vault-index", "X-Vault-Inconsistent"
_FUTURE = 2**62


class ClientLimits(NamedTuple):
    """How long, how often and how much. Times are in seconds.

    Args:
        min_left: what a token has left, at least, when it is handed out.
        attempts: how often a request is sent at most.
        deadline: for all attempts of one call together.
        timeout: for one request.
        entries: the most tokens and secrets that are kept.
        secrets_fresh: how long a secret is handed out before it is read again.
        secrets_stale: how much longer it is handed out while the server does not answer.
    """

    min_left: float = 300.0
    attempts: int = 5
    deadline: float = 30.0
    timeout: float = 10.0
    entries: int = 1024
    secrets_fresh: float = 300.0
    secrets_stale: float = 3600.0


class _LoggedIn(NamedTuple):
    """A login that was made: its token, and when it is no longer used."""

    token: MaskedText | None
    made: Moment
    lasts: float | None
    requested: bool

    def is_over(self) -> bool:
        return self.lasts is not None and self.made.age() >= self.lasts


class ServerSession:
    """Sends requests as one login. Safe for threads: they share the login.

    Args:
        endpoint: the server.
        login: how to log in.
        limits: attempts and times.
        application: what the caller says it is, for the server's audit log; empty: nothing.
        clock: tells the time.
    """

    def __init__(
        self,
        endpoint: ServerEndpoint,
        login: ServerLogin,
        limits: ClientLimits,
        application: str,
        clock: SystemTime,
    ) -> None:
        self._addresses = endpoint.addresses
        self._pool = ServerConnections(endpoint)
        self._login, self._limits, self._clock = login, limits, clock
        self._headers = {"Application-Source": application} if application else {}
        self._lock = threading.Lock()
        self._current: _LoggedIn | None = None
        self._failed: TokenSourceError | None = None
        self._failures = 0
        self._denied: dict[str, float] = {}
        self._index = ""
        self._closed = False

    def close(self) -> None:
        """Close the connections, and send nothing more. The login ends by itself."""
        self._closed = True
        self._current = None
        self._pool.close()

    def call(self, request: ServerRequest) -> Mapping[str, Any]:
        """Return the data of the answer to a request that may be sent more than once.

        Raises:
            TokenSourceError: there is none; the class says why.
        """
        ends = self._clock.monotonic() + self._limits.deadline
        login = self._logged_in(ends)
        reply = self._answered(request._replace(token=login.token), ends)
        if reply.status == 403 and self._may_log_in_again(request.path):
            again = self._logged_in(ends, instead_of=login)
            if again.token != login.token:
                reply = self._answered(request._replace(token=again.token), ends)
                if reply.status == 403:
                    self._remember_denied(request.path)
        return _data(request.path, reply)

    def _may_log_in_again(self, path: str) -> bool:
        """Whether a denial may be the end of the login, and not the server's decision: without
        this, every call to a path that is not permitted would log in."""
        at = self._denied.get(path)
        return at is None or self._clock.monotonic() - at >= _DENIED_FOR

    def _remember_denied(self, path: str) -> None:
        if len(self._denied) >= self._limits.entries:
            self._denied.clear()
        self._denied[path] = self._clock.monotonic()

    def _logged_in(self, ends: float, instead_of: _LoggedIn | None = None) -> _LoggedIn:
        """Return the login that all threads share; log in if there is none.

        Args:
            ends: when to give up, on the monotonic clock.
            instead_of: a login that the server refused.
        """
        current = self._current
        if current is not None and current is not instead_of and not current.is_over():
            return current
        failures = self._failures
        if not self._lock.acquire(timeout=max(0.0, ends - self._clock.monotonic())):
            raise ServerUnavailableError("the login of another thread takes too long")
        try:
            current = self._current
            if current is not None and current is not instead_of and not current.is_over():
                return current
            if self._failed is not None and self._failures > failures:
                raise self._failed.again()  # another thread's, while this one waited
            self._current = self._log_in(ends)
            return self._current
        except TokenSourceError as error:
            self._failed, self._failures = error, self._failures + 1
            raise
        finally:
            self._lock.release()

    def _log_in(self, ends: float) -> _LoggedIn:
        made = Moment(self._clock)
        asked = self._login.request()
        if asked is None:
            return _LoggedIn(self._login.held_token(), made, None, requested=False)
        request = ServerRequest("POST", asked.path, body=asked.body)
        decided = _leader_decides(_cluster_of(self._index))
        reply = self._answered(request._replace(headers=decided), ends)
        if reply.status in {400, 403} and not decided:
            # A standby refuses a secret id that was made within the last second by itself, and
            # such an answer has no index (measured on OpenBao 2.7.2: 60 of 60).
            decided = _leader_decides(self._ask_cluster(ends))
            reply = self._answered(request._replace(headers=decided), ends) if decided else reply
        auth = reply.data.get("auth")
        if reply.status != 200 or not isinstance(auth, dict) or not auth.get("client_token"):
            raise LoginRefusedError(f"{asked.path}: {_said(reply)}", reply.status)
        lasts = auth.get("lease_duration") or 0
        if not isinstance(lasts, int | float) or not isinstance(auth["client_token"], str):
            raise LoginRefusedError(f"{asked.path}: the answer is malformed", reply.status)
        used = max(lasts - _RENEW_EARLY, lasts * 0.9) if lasts else None
        return _LoggedIn(MaskedText(auth["client_token"]), made, used, requested=True)

    def _ask_cluster(self, ends: float) -> str:
        """Return the cluster's id from a node's health; empty if it is not told."""
        health = ServerRequest("GET", "sys/health", params={"standbyok": MaskedText("true")})
        return str(self._answered(health, ends).data.get("cluster_id") or "")

    def _answered(self, request: ServerRequest, ends: float) -> ServerReply:
        """Return an answer that another attempt would not change.

        Raises:
            ServerUnavailableError: there is none within attempts and deadline.
        """
        started = self._clock.monotonic()
        reason, status = "there was no time to ask", 0
        for attempt in range(self._limits.attempts):
            if self._closed:
                raise closed_error()
            round_ = self._asked(request, ends)
            if isinstance(round_, ServerReply):
                return round_
            reason, status = round_.reason, round_.status
            pause = round_.pause or _backoff(attempt)
            last = attempt + 1 == self._limits.attempts
            if last or self._clock.monotonic() + pause >= ends:
                break
            self._clock.sleep(pause)
        spent = self._clock.monotonic() - started
        raise ServerUnavailableError(f"{request.path}: {reason} (tried for {spent:.0f} s)", status)

    def _asked(self, request: ServerRequest, ends: float) -> "ServerReply | _Failure":
        """Ask each address once, until one answers for good."""
        left = list(self._addresses)
        failure = _Failure("there was no time to ask")
        while left:
            seconds = min(self._limits.timeout, ends - self._clock.monotonic())
            if seconds <= 0:
                break
            address = left.pop(0)
            try:
                reply = self._pool.send(address, self._with_headers(request), seconds)
            except NoReplyError as error:
                failure = _Failure(f"{address}: {error}")
                continue
            self._index = reply.headers.get(_INDEX) or self._index
            found = _failure_of(address, reply)
            if found is None:
                self._prefer(address)
                return reply
            failure = found
            if failure.elsewhere in left:
                left.remove(failure.elsewhere)
                left.insert(0, failure.elsewhere)
            if failure.final_here:
                break
        return failure

    def _with_headers(self, request: ServerRequest) -> ServerRequest:
        # A standby lags behind by up to a second: without the index of the login's answer it may
        # not know the login yet, and deny the request. Servers before OpenBao 2.7 ignore it.
        consistent = {_INDEX: self._index, _MODE: "forward-active-node"} if self._index else {}
        return request._replace(headers={**self._headers, **consistent, **request.headers})

    def _prefer(self, address: str) -> None:
        if self._addresses[0] != address:
            others = tuple(one for one in self._addresses if one != address)
            self._addresses = (address, *others)


class _Failure(NamedTuple):
    """An answer, or none, after which the request is sent again.

    Args:
        reason: for a person.
        status: the answer's; 0 for none.
        pause: what the server asked for, in seconds; 0 if nothing.
        elsewhere: the address that a redirect names.
        final_here: whether other nodes would say the same.
    """

    reason: str
    status: int = 0
    pause: float = 0.0
    elsewhere: str = ""
    final_here: bool = False


def _failure_of(address: str, reply: ServerReply) -> _Failure | None:
    """Return what is wrong with an answer that may change; None if it is final."""
    status, text = reply.status, _said(reply)
    if 300 <= status < 400:
        to = _origin(reply.headers.get("location", ""))
        return _Failure(f"{address} redirects to a server that was not named", status, 0.0, to)
    # A login is a write: if the leader changes, raft's own words come with any status.
    if status < 500 and status not in {412, 429} and "leadership lost" not in text:
        return None
    if status == 501 or "token service refused" in text:
        return None
    asked = reply.headers.get("retry-after", "")
    pause = float(asked) if asked.isascii() and asked.isdigit() else 0.0
    # The engine's own: asking every node would be as many exchanges.
    return _Failure(f"{address}: {text}", status, pause, final_here=text.startswith("skyflow:"))


def _leader_decides(cluster: str) -> Mapping[str, str]:
    """Return the headers that have a standby of OpenBao 2.7 forward a request: an index that it
    cannot have reached. Empty if the cluster is not known."""
    if not cluster:
        return {}
    future = json.dumps({"cluster": cluster, "value": str(_FUTURE)}).encode()
    return {_INDEX: base64.b64encode(future).decode(), _MODE: "forward-active-node"}


def _cluster_of(index: str) -> str:
    """Return the cluster's id in an answer's index; empty if it has none."""
    try:
        return str(json.loads(base64.b64decode(index))["cluster"])
    except (ValueError, KeyError, TypeError):
        return ""


def _origin(location: str) -> str:
    try:
        parts = urlsplit(location)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def _backoff(attempt: int) -> float:
    """Return the pause after an attempt, counted from 0; clients that failed together come back
    apart. Four pauses take 9 to 13 s: the longest election that was measured took 8 s."""
    pause = min(_FIRST_PAUSE * _FACTOR**attempt, _LONGEST_PAUSE)
    return pause * random.uniform(0.75, 1.25)  # noqa: S311 - a spread, no secret


def _data(path: str, reply: ServerReply) -> Mapping[str, Any]:
    data = reply.data.get("data")
    if reply.status == 200 and isinstance(data, dict):
        return data
    if reply.status == 403:
        raise PermissionDeniedError(f"{path}: {_said(reply)}", 403)
    if reply.status == 200 and reply.data.get("wrap_info"):
        raise PermissionDeniedError(f"{path}: the server holds the request for approval", 200)
    raise RequestRefusedError(f"{path}: {_said(reply)}", reply.status)


def _said(reply: ServerReply) -> str:
    """Return the server's own words for a failure, in one short line."""
    data = reply.data.get("data")
    own = data.get("error") if isinstance(data, dict) else None
    errors = reply.data.get("errors")
    texts = [own] if isinstance(own, str) else errors if isinstance(errors, list) else []
    text = " ".join(" ".join(str(one) for one in texts).split())
    shown = "".join(character for character in text if character.isprintable())[:_MOST_TEXT]
    return shown or f"it answered {reply.status}"
