"""Sends what is no read through hvac, over the connections that reads use.

hvac hands each request to its adapter, its public extension point. The adapter here sends it
through our pool instead of through requests, which costs a millisecond of CPU a request.

This module imports hvac (and with it requests, 150 ms), so it is imported only when the first
write or login is sent.
"""

from collections.abc import Callable, Mapping
from typing import Any

from hvac.adapters import RawAdapter

from skyflowctl.vault.connection import OneRequest, Received

Send = Callable[[str, OneRequest], Received]
"""Sends one request once to an address; see :meth:`TargetPool.send`."""


class _PoolAdapter(RawAdapter):  # type: ignore[misc]  # hvac has no types
    """Sends the requests of hvac through a pool. Its answers are ours, whatever their status."""

    def __init__(self, address: str, send: Send) -> None:
        super().__init__(address)
        self._send = send

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        data: bytes | None = None,
        timeout: float = 30.0,
        **_: Any,
    ) -> Received:
        return self._send(self.base_uri, OneRequest(method, url, headers or {}, data, timeout))


class HvacSender:
    """Sends requests with hvac. Safe for threads.

    Args:
        send: sends one request.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._adapters: dict[str, _PoolAdapter] = {}

    def send(self, address: str, request: OneRequest) -> Received:
        """Send one request once and return any answer; see :meth:`TargetPool.send`."""
        adapter = self._adapters.get(address)
        if adapter is None:
            adapter = self._adapters.setdefault(address, _PoolAdapter(address, self._send))
        return adapter.request(
            request.method,
            request.path,
            request.headers,
            data=request.content,
            timeout=request.seconds,
        )
