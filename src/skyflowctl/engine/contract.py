"""The contract between a host and the engine.

The engine knows neither gRPC nor HTTP. A host (the plugin process, or the in-process
server of a dry run) turns what it receives into a :class:`EngineRequest`, and a
:class:`EngineReply`, :class:`EngineError` or :class:`StorageError` into its own protocol.
"""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any, Protocol

from skyflowctl.frozen import dataclass


class Operation(StrEnum):
    """The logical operations of the server that the engine answers."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    LIST = "list"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request to a mount.

    Args:
        operation: the operation; a write is ``CREATE`` if the host's existence check found nothing,
            else ``UPDATE``.
        path: relative to the mount, without a leading slash; a list may end in one.
        data: the body's fields; on reads and lists the query parameters, whose
            values are strings, or lists of strings when repeated.
        mount_point: the mount's path as the server sends it, namespace included,
            with a trailing slash (``skyflow/order/``).
        request_id: the server's id of this request, as in its audit log.
        display_name: the caller's login, as the server names it.
        entity_id: the caller's identity entity; empty for root.
        headers: those that the mount passes through, names in lower case.
    """

    operation: Operation
    path: str
    data: Mapping[str, Any] = field(default_factory=dict)
    mount_point: str = ""
    request_id: str = ""
    display_name: str = ""
    entity_id: str = ""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineReply:
    """A successful answer. ``data`` None means nothing: 204 to a write, 404 to a read or list."""

    data: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()


class EngineError(Exception):
    """An error answer with its HTTP status; the message holds no field's value and no ctx.

    A host sends a 400 as response data ``{"error": message}``, because the server
    hashes response data in its audit log and writes coded errors in plain. The reason is one of few
    words, for metrics; empty: the status says enough.
    """

    def __init__(self, status: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


class StorageError(Exception):
    """The server's storage refused. A host passes the text on unchanged.

    ``cannot write to readonly storage`` makes a standby forward the request to the
    leader; reworded, it would be a plain 500 (measured on OpenBao 2.7.2).
    """


class Storage(Protocol):
    """A mount's own storage. Keys are relative to the mount; values are JSON bytes.

    Every method raises :class:`StorageError` with the server's own text.
    """

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None when there is none."""

    async def put(self, key: str, value: bytes) -> None:
        """Store the value under the key."""

    async def delete(self, key: str) -> None:
        """Remove the key; a missing key is not an error."""

    async def list(self, prefix: str) -> list[str]:
        """Return the names directly below the prefix; a folder's name ends in ``/``."""


class MemoryStorage:
    """A :class:`~skyflowctl.engine.contract.Storage` that keeps values in a dict."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None when there is none."""
        return self._values.get(key)

    async def put(self, key: str, value: bytes) -> None:
        """Store the value under the key."""
        self._values[key] = value

    async def delete(self, key: str) -> None:
        """Remove the key; a missing key is not an error."""
        self._values.pop(key, None)

    async def list(self, prefix: str) -> list[str]:
        """Return the names directly below the prefix, sorted; a folder's name ends in ``/``."""
        rests = (key[len(prefix) :] for key in self._values if key.startswith(prefix))
        names = {name + slash for name, slash, _ in (rest.partition("/") for rest in rests)}
        return sorted(names - {""})
