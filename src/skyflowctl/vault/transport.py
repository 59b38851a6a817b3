"""The port to a server: one request, one reply. Retries happen below this interface.

:class:`skyflowctl.vault.http_transport.HttpTransport` talks to a real server,
:class:`skyflowctl.vault.memory_transport.MemoryTransport` is a server inside this
process; ``tests/contract/test_gateway.py`` holds both to the same behaviour.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, field
from typing import Any, Protocol

from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.telemetry.spans import TraceSpan, outgoing_traceparent

READS = frozenset({"GET", "LIST"})


@dataclass(frozen=True, slots=True)
class WrapInfo:
    """A response that the server keeps behind a single-use wrapping token."""

    token: Secret
    accessor: str
    ttl: int
    creation_time: str
    creation_path: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer (status below 300). Its repr omits the body, which may contain a token.

    Args:
        status: the HTTP status.
        data: the body's ``data``; None if there is none (204, or a wrapped answer).
        body: the whole body; empty for 204.
        headers: response headers, names in lower case.
        request_id: the server's id of the request, as in its audit log; a 204 has none.
        warnings: the server's own warnings.
        wrap_info: set if a wrapped answer was requested.
        sent_by_run: the earlier run that sent the request, if this run only executed it.
    """

    status: int
    data: Mapping[str, Any] | None = field(default=None, repr=False)
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    request_id: str = ""
    warnings: tuple[str, ...] = ()
    wrap_info: WrapInfo | None = None
    sent_by_run: str = ""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The server that a transport leads to, as the user named it.

    Args:
        name: its address and namespace, for people.
        addresses: every address that the user named, the server's own first; empty for a
            server in this process.
        namespace: the namespace of relative paths; empty for the root.
        checks_certificates: whether the server's certificate is verified.
    """

    name: str
    addresses: tuple[str, ...] = ()
    namespace: str = ""
    checks_certificates: bool = True

    @property
    def address(self) -> str:
        """The server's own address, or its name if it has none."""
        return self.addresses[0] if self.addresses else self.name


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a server.

    Args:
        method: GET, LIST, POST, PUT, PATCH or DELETE.
        path: below ``/v1/``.
        body: JSON fields; a :class:`Secret` value is revealed only while encoding.
        params: query parameters (a server drops them on writes).
        headers: further request headers.
        idempotent: whether a write may be sent again although the server may already have
            executed it; a read always may.
        wrap_ttl: request a wrapped answer with this ttl (``5m``).
        fresh: whether the answer must show the leader's current state, not a standby's older
            one; otherwise only this transport's own writes are certain to be visible.
    """

    method: str
    path: str
    _: KW_ONLY
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    params: Mapping[str, str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    idempotent: bool = False
    wrap_ttl: str | None = None
    fresh: bool = False

    @property
    def reads(self) -> bool:
        """Whether it changes nothing on the server."""
        return self.method in READS


class Transport(Protocol):
    """Sends requests to one server (one cluster) with one token."""

    @property
    def server(self) -> ServerInfo:
        """The server."""

    @property
    def requests_made(self) -> int:
        """The number of calls of :meth:`send`; a resend is not counted again."""

    @property
    def cluster_id(self) -> str:
        """The cluster's id from replies; empty before the first reply with an id."""

    @property
    def newest_index(self) -> str:
        """The newest raft index of any reply, as a header's value; empty if no reply had one."""

    def at_node(self, address: str) -> "Transport":
        """Return a transport that asks only one node of the cluster.

        Raises:
            RedirectRefusedError: the user did not name this address.
        """

    def as_login(self, token: Secret | None, certificate: Secret | None = None) -> "Transport":
        """Return a transport to the same server with another token; close it after use.

        Args:
            token: None for none.
            certificate: a client certificate and its key in PEM form, instead of the target's.
        """

    def send(self, request: Request) -> Reply:
        """Send one request and return its successful answer.

        Raises:
            VaultError: the request failed, or there is no answer; see ``errors``.
        """

    def refuse_guarded(self, method: str, path: str) -> Problem | None:
        """Refuse to send a secret to a path whose approvers would see it; probed once per run.

        Returns:
            A warning if this login may not find out whether the path is guarded.

        Raises:
            GuardedError: a control group guards it; nothing was written.
        """

    def stop_waiting_when(self, stopping: Callable[[], bool]) -> None:
        """End every wait for an approval as soon as this function returns True."""

    def withdraw_unwanted(self, is_wanted: Callable[[str], bool]) -> None:
        """Withdraw parked requests of earlier applies of this manifest.

        Args:
            is_wanted: whether the manifest still requires a write to a path.
        """

    def close(self) -> None:
        """Close its connections."""


def trace_headers() -> dict[str, str]:
    """Return the header by which the server's engine continues the current trace, if there is
    one."""
    traceparent = outgoing_traceparent()
    return {"Traceparent": traceparent} if traceparent else {}


def record_request(span: TraceSpan, request: Request, status: int, request_id: str) -> None:
    """Record a request in its span; a query or body is never recorded.

    Args:
        span: the request's.
        request: what was sent.
        status: the answer's HTTP status; 0: there was none.
        request_id: the server's id, which its audit log and the engine's span have too.
    """
    span.set("http.request.method", request.method)
    span.set("url.path", f"/v1/{request.path}")
    if status:
        span.set("http.response.status_code", status)
    if request_id:
        span.set("skyflow.request_id", request_id)


class TransportWrapper:
    """A transport that forwards everything; a subclass changes what it sends.

    Args:
        inner: sends the requests.
    """

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    @property
    def server(self) -> ServerInfo:
        """The inner transport's server."""
        return self._inner.server

    @property
    def requests_made(self) -> int:
        """The inner transport's count."""
        return self._inner.requests_made

    @property
    def cluster_id(self) -> str:
        """The inner transport's cluster."""
        return self._inner.cluster_id

    @property
    def newest_index(self) -> str:
        """The inner transport's newest index."""
        return self._inner.newest_index

    def at_node(self, address: str) -> Transport:
        """Return the inner transport's transport to one node; it is not wrapped."""
        return self._inner.at_node(address)

    def as_login(self, token: Secret | None, certificate: Secret | None = None) -> Transport:
        """Return the inner transport's transport with another token; it is not wrapped."""
        return self._inner.as_login(token, certificate)

    def send(self, request: Request) -> Reply:
        """Send one request; see :class:`Transport`."""
        return self._inner.send(request)

    def refuse_guarded(self, method: str, path: str) -> Problem | None:
        """Refuse to send a secret to a path that a control group guards."""
        return self._inner.refuse_guarded(method, path)

    def stop_waiting_when(self, stopping: Callable[[], bool]) -> None:
        """End every wait for an approval as soon as this function returns True."""
        self._inner.stop_waiting_when(stopping)

    def withdraw_unwanted(self, is_wanted: Callable[[str], bool]) -> None:
        """Withdraw parked requests of earlier applies of this manifest."""
        self._inner.withdraw_unwanted(is_wanted)

    def close(self) -> None:
        """Do nothing, because the inner transport owns the connections."""


def holds_secret(value: object) -> bool:
    """Whether a request body contains a :class:`Secret`, at any depth."""
    if isinstance(value, str):
        return False  # the usual value; asking an abstract class about it takes ten times as long
    if isinstance(value, Mapping):
        return any(holds_secret(one) for one in value.values())
    if isinstance(value, list | tuple):
        return any(holds_secret(one) for one in value)
    return isinstance(value, Secret)


def encode_body(body: Mapping[str, Any]) -> bytes:
    """Return the JSON text of a request body, with secrets revealed."""
    return json.dumps(body, default=_reveal, ensure_ascii=False).encode()


def _reveal(value: object) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def make_reply(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> Reply:
    """Return the reply for a server's parsed body and headers."""
    data = body.get("data")
    wrap = body.get("wrap_info")
    return Reply(
        status=status,
        data=data if isinstance(data, Mapping) else None,
        body=body,
        headers={name.lower(): value for name, value in headers.items()},
        request_id=str(body.get("request_id") or ""),
        warnings=tuple(body.get("warnings") or ()),
        wrap_info=_wrap_info(wrap) if wrap else None,
    )


def _wrap_info(raw: Mapping[str, Any]) -> WrapInfo:
    return WrapInfo(
        token=Secret(str(raw["token"])),
        accessor=str(raw.get("accessor", "")),
        ttl=int(raw.get("ttl", 0)),
        creation_time=str(raw.get("creation_time", "")),
        creation_path=str(raw.get("creation_path", "")),
    )
