"""A transport that remembers what the writes sent through it were answered besides."""

from collections.abc import Callable, Mapping
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.vault.transport import Reply, ServerInfo, Transport

_READS = frozenset({"GET", "LIST"})


class WriteRecorder:
    """Passes everything on; one is made for each action, so it needs no lock.

    ``request_id`` is that of the last write, ``warnings`` are those of all of them, and
    ``sent_by_run`` is the earlier run whose approved request was run.
    """

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.request_id = ""
        self.warnings: tuple[str, ...] = ()
        self.sent_by_run = ""

    @property
    def requests_made(self) -> int:
        """The inner transport's count."""
        return self._inner.requests_made

    @property
    def cluster_id(self) -> str:
        """The inner transport's cluster."""
        return self._inner.cluster_id

    @property
    def server(self) -> ServerInfo:
        """The inner transport's server."""
        return self._inner.server

    @property
    def newest_index(self) -> str:
        """The inner transport's newest index."""
        return self._inner.newest_index

    def at_node(self, address: str) -> Transport:
        """Return a transport to one node, whose writes are not recorded."""
        return self._inner.at_node(address)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool,
        wrap_ttl: str | None = None,
        fresh: bool = False,
    ) -> Reply:
        """Send one request; see :class:`skyflowctl.vault.transport.Transport`."""
        reply = self._inner.request(
            method,
            path,
            body=body,
            params=params,
            headers=headers,
            idempotent=idempotent,
            wrap_ttl=wrap_ttl,
            fresh=fresh,
        )
        if method not in _READS and not path.endswith("/config/verify"):
            self.request_id = reply.request_id
            self.sent_by_run = reply.sent_by_run or self.sent_by_run
            self.warnings = tuple(dict.fromkeys((*self.warnings, *_warnings(reply))))
        return reply

    def refuse_guarded(self, method: str, path: str) -> Problem | None:
        """Refuse to send a secret to a path that a control group guards."""
        return self._inner.refuse_guarded(method, path)

    def stop_waiting_when(self, stopping: Callable[[], bool]) -> None:
        """Pass it on to the inner transport."""
        self._inner.stop_waiting_when(stopping)

    def withdraw_unwanted(self, is_wanted: Callable[[str], bool]) -> None:
        """Pass it on to the inner transport."""
        self._inner.withdraw_unwanted(is_wanted)

    def close(self) -> None:
        """Do nothing: the connections are the inner transport's."""


def _warnings(reply: Reply) -> tuple[str, ...]:
    """Return the server's own, and those that the engine has in its data as well.

    Each in one line. Only a real server has both; most are then there twice.
    """
    listed = (reply.data or {}).get("warnings")
    texts = (*reply.warnings, *(listed if isinstance(listed, list | tuple) else ()))
    return tuple(" ".join(str(text).split()) for text in texts)
