"""What every fake transport has besides its answers."""

from __future__ import annotations

from collections.abc import Callable

from skyflowctl.secret import Secret
from skyflowctl.vault.memory_transport import IN_PROCESS
from skyflowctl.vault.no_response import unnamed_host
from skyflowctl.vault.transport import ServerInfo, Transport, TransportWrapper


class FakeTransport:
    """A server of one node in this process, without control groups."""

    server: ServerInfo = IN_PROCESS
    newest_index = ""

    def at_node(self, address: str) -> Transport:
        """No node has an address."""
        raise unnamed_host("GET", "", address)

    def as_login(self, token: Secret | None, certificate: Secret | None = None) -> Transport:  # noqa: ARG002 - it knows no logins
        """The same server; every token may do everything there."""
        return TransportWrapper(self)

    def refuse_guarded(self, method: str, path: str) -> None:
        """No path is guarded."""

    def stop_waiting_when(self, stopping: Callable[[], bool]) -> None:
        """Nothing waits for an approval."""

    def withdraw_unwanted(self, is_wanted: Callable[[str], bool]) -> None:
        """Nothing waits for an approval."""

    def close(self) -> None:
        """Nothing to close."""
