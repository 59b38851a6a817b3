"""A mount's storage, over the connection that the server opens for each mount."""

import ssl
from typing import Any

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.config import Configuration
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError, StreamTerminatedError

from skyflowctl.engine.contract import StorageError
from skyflowctl.plugin.certificates import SERVER_NAME
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
        self._channel = Channel(
            path=address,
            ssl=context,
            codec=ProtoCodec(),
            config=Configuration(ssl_target_name_override=SERVER_NAME),
        )
        self._get = self._method("Get", _GetArgs, _GetReply)
        self._put = self._method("Put", _PutArgs, _ErrorReply)
        self._delete = self._method("Delete", _DeleteArgs, _ErrorReply)
        self._list = self._method("List", _ListArgs, _ListReply)

    def _method(self, name: str, args: Any, reply: Any) -> UnaryUnaryMethod[Any, Any]:
        return UnaryUnaryMethod(self._channel, f"/pb.Storage/{name}", args, reply)

    async def connect(self) -> None:
        """Open the connection now, so that a mount without storage fails at once.

        Raises:
            OSError: the server does not listen there, or TLS failed.
        """
        await self._channel.__connect__()

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None if there is none."""
        reply = await _call(self._get, _GetArgs(key=key))
        return reply.entry.value if reply.HasField("entry") else None

    async def put(self, key: str, value: bytes) -> None:
        """Store the value under the key."""
        await _call(self._put, _PutArgs(entry=_Entry(key=key, value=value)))

    async def delete(self, key: str) -> None:
        """Remove the key; a missing one is no error."""
        await _call(self._delete, _DeleteArgs(key=key))

    async def list(self, prefix: str) -> list[str]:
        """Return the names directly below the prefix; a folder's name ends in ``/``."""
        reply = await _call(self._list, _ListArgs(prefix=prefix))
        return list(reply.keys)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


async def _call(method: UnaryUnaryMethod[Any, Any], args: Any) -> Any:
    try:
        reply = await method(args)
    except GRPCError as error:
        raise StorageError(error.message or error.status.name) from error
    except (OSError, StreamTerminatedError) as error:
        raise StorageError("skyflow: the server's storage connection is lost") from error
    if reply.err:
        raise StorageError(reply.err)
    return reply
