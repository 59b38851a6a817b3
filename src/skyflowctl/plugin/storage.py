"""A mount's storage, over the connection that the server opens for each mount."""

import asyncio
import ssl
from typing import Any

from skyflowctl.engine.contract import StorageError
from skyflowctl.plugin.certificates import SERVER_NAME
from skyflowctl.plugin.http2.client import GrpcClient
from skyflowctl.plugin.http2.grpc import GrpcError
from skyflowctl.plugin.http2.tls import connect_tls
from skyflowctl.plugin.messages import message_type

_Entry = message_type("StorageEntry")
_GetArgs, _GetReply = message_type("StorageGetArgs"), message_type("StorageGetReply")
_PutArgs, _DeleteArgs = message_type("StoragePutArgs"), message_type("StorageGetArgs")
_ListArgs, _ListReply = message_type("StorageListArgs"), message_type("StorageListReply")
_ErrorReply = message_type("StorageErrorReply")


class BrokerStorage:
    """The :class:`~skyflowctl.engine.contract.Storage` of one mount.

    The server's own error texts are not changed: on ``cannot write to readonly storage`` a standby
    forwards the request to the leader.
    """

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        self._address = address
        self._context = context
        self._connection: GrpcClient | None = None
        self._dialing = asyncio.Lock()

    async def connect(self) -> None:
        """Open the connection now, so that a mount without storage fails at once.

        Raises:
            OSError: the server does not listen there, or TLS failed.
        """
        await self._connected()

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None if there is none."""
        reply = await self._call(b"/pb.Storage/Get", _GetArgs(key=key), _GetReply)
        return reply.entry.value if reply.HasField("entry") else None

    async def put(self, key: str, value: bytes) -> None:
        """Store the value under the key."""
        args = _PutArgs(entry=_Entry(key=key, value=value))
        await self._call(b"/pb.Storage/Put", args, _ErrorReply)

    async def delete(self, key: str) -> None:
        """Remove the key; a missing one is no error."""
        await self._call(b"/pb.Storage/Delete", _DeleteArgs(key=key), _ErrorReply)

    async def list(self, prefix: str) -> list[str]:
        """Return the names directly below the prefix; a folder's name ends in ``/``."""
        reply = await self._call(b"/pb.Storage/List", _ListArgs(prefix=prefix), _ListReply)
        return list(reply.keys)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close_with()

    async def _connected(self) -> GrpcClient:
        """Return the connection; a lost one is made again."""
        connection = self._connection
        if connection is not None and connection.usable:
            return connection
        async with self._dialing:
            if self._connection is None or not self._connection.usable:
                made = GrpcClient(SERVER_NAME.encode())
                await connect_tls(self._address, self._context, SERVER_NAME, made)
                self._connection = made
            return self._connection

    async def _call(self, method: bytes, args: Any, reply_type: Any) -> Any:
        try:
            connection = await self._connected()
            reply = reply_type.FromString(await connection.call(method, args.SerializeToString()))
        except GrpcError as fault:
            raise StorageError(fault.message or fault.status_name) from fault
        except OSError as error:
            raise StorageError("skyflow: the server's storage connection is lost") from error
        if reply.err:
            raise StorageError(reply.err)
        return reply
