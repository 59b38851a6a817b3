"""go-plugin's broker: the addresses of the server's listeners for the mounts' storage."""

import asyncio
from typing import Any

_WAIT_SECONDS = 5.0


class NoStorageError(Exception):
    """The server's storage cannot be reached; the message says why."""


class Broker:
    """Matches the ids in a mount's set-up with the announced addresses.

    Announcement and set-up arrive in different calls, in either order.
    """

    def __init__(self) -> None:
        self._addresses: dict[int, asyncio.Future[str]] = {}
        self.known_sockets: set[str] = set()

    def _slot(self, broker_id: int) -> asyncio.Future[str]:
        loop = asyncio.get_running_loop()
        return self._addresses.setdefault(broker_id, loop.create_future())

    def announce(self, info: Any) -> None:
        """Record one announcement (a ``ConnInfo`` message) of the server."""
        if info.network != "unix":
            return
        slot = self._slot(info.service_id)
        if not slot.done():
            slot.set_result(info.address)
            self.known_sockets.add(info.address)

    async def address(self, broker_id: int) -> str:
        """Return the unix socket of an id.

        Raises:
            NoStorageError: nothing was announced within 5 seconds.
        """
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                return await asyncio.shield(self._slot(broker_id))
        except TimeoutError:
            raise NoStorageError(
                "the server announced no socket for this mount's storage; its TMPDIR may be "
                "missing, or too long for the path of a unix socket"
            ) from None
        finally:
            self._addresses.pop(broker_id, None)
