"""A transport that remembers the request id of the last write sent through it."""

from collections.abc import Mapping
from typing import Any

from skyflowctl.vault.transport import Reply, Transport

_READS = frozenset({"GET", "LIST"})


class WriteRecorder:
    """Passes everything on; one is made for each action, so it needs no lock."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.request_id = ""

    @property
    def requests_made(self) -> int:
        """The inner transport's count."""
        return self._inner.requests_made

    @property
    def cluster_id(self) -> str:
        """The inner transport's cluster."""
        return self._inner.cluster_id

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
        if method not in _READS:
            self.request_id = reply.request_id
        return reply

    def close(self) -> None:
        """Do nothing: the connections are the inner transport's."""
