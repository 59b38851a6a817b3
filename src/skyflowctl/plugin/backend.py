"""The backend service: one engine instance per mount, found by its multiplex id."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from skyflowctl.engine.contract import (
    EngineError,
    EngineReply,
    EngineRequest,
    Storage,
    StorageError,
)
from skyflowctl.frozen import dataclass
from skyflowctl.plugin.broker import NoStorageError
from skyflowctl.plugin.messages import message_type
from skyflowctl.plugin.protection import TooManyFilesError, check_room_for_mount
from skyflowctl.plugin.translate import (
    constant_reply,
    from_error,
    from_existence,
    from_existence_error,
    from_reply,
    to_request,
)
from skyflowctl.plugin.transport import Service
from skyflowctl.version import semver

_LOG = logging.getLogger(__name__)
_ID = "multiplex_id"
_LOGICAL = 1
_CLOSE_SECONDS = 1.0
_NO_SETUP = "skyflow: the mount could not be set up; the server's log has the place"

_Empty = message_type("Empty")
_SetupReply = message_type("SetupReply")


class HostedEngine(Protocol):
    """The part of an engine that the host uses; implemented by ``engine.engine.Engine``."""

    async def handle(self, request: EngineRequest) -> EngineReply:
        """Answer one request."""

    async def exists(self, request: EngineRequest) -> bool | None:
        """Return whether the path exists; None if existence has no meaning there."""

    def invalidate(self, key: str) -> None:
        """Drop cached data of a storage key."""

    def special_paths(self) -> tuple[str, ...]:
        """Return the storage prefixes that are declared for seal wrapping."""

    async def aclose(self) -> None:
        """Release what the engine holds."""


class MountStorage(Storage, Protocol):
    """A mount's storage with its connection."""

    def close(self) -> None:
        """Close the connection."""


EngineFactory = Callable[[Storage, Mapping[str, str]], HostedEngine]
"""Makes an engine from its storage and the mount's options as the server sends them."""
ConnectStorage = Callable[[int], Awaitable[MountStorage]]


@dataclass(frozen=True, slots=True)
class _Instance:
    engine: HostedEngine
    storage: MountStorage


class Backend:
    """All mounts of this process.

    Args:
        make_engine: makes the engine of one mount.
        connect: opens the storage of a broker id.
    """

    def __init__(self, make_engine: EngineFactory, connect: ConnectStorage) -> None:
        self._make_engine = make_engine
        self._connect = connect
        self._instances: dict[str, _Instance] = {}

    @property
    def mounts(self) -> int:
        """How many mounts are set up."""
        return len(self._instances)

    def services(self) -> list[Service]:
        """Return the gRPC services that this object answers."""
        backend = Service("pb.Backend")
        for name, function, request in (
            ("Setup", self.setup, "SetupArgs"),
            ("Initialize", self._initialize, "Empty"),
            ("Type", self._type, "Empty"),
            ("SpecialPaths", self._special_paths, "Empty"),
            ("HandleExistenceCheck", self.check, "ExistenceCheckArgs"),
            ("InvalidateKey", self._invalidate, "InvalidateKeyArgs"),
            ("Cleanup", self.clean_up, "Empty"),
        ):
            backend.unary(name, function, message_type(request))
        arguments = message_type("HandleRequestArgs")
        backend.unary("HandleRequest", self.handle_request, arguments, quick=_constant_reply)
        version = Service("logical.PluginVersion")
        version.unary("Version", self._version, _Empty)
        return [backend, version]

    async def setup(self, message: Any, metadata: Mapping[str, str]) -> Any:
        """Make a mount's instance; during registration the server sets up one without storage."""
        await self.clean_up(None, metadata)
        try:
            check_room_for_mount(len(self._instances))
            instance = await self._make_instance(message.broker_id, dict(message.config))
        except (NoStorageError, TooManyFilesError) as error:
            return _SetupReply(err=f"skyflow: {error}")
        except Exception:  # noqa: BLE001 - an exception would not name the plugin
            _LOG.exception("a mount could not be set up")
            return _SetupReply(err=_NO_SETUP)
        self._instances[metadata.get(_ID, "")] = instance
        return _SetupReply()

    async def _make_instance(self, broker_id: int, options: Mapping[str, str]) -> _Instance:
        storage = await self._connect(broker_id)
        try:
            return _Instance(self._make_engine(storage, options), storage)
        except BaseException:
            storage.close()
            raise

    async def clean_up(self, _message: Any, metadata: Mapping[str, str]) -> Any:
        """Drop a mount's instance; the server asks for it more than once."""
        instance = self._instances.pop(metadata.get(_ID, ""), None)
        if instance:
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await instance.engine.aclose()
            except Exception:  # noqa: BLE001 - the mount goes away in any case
                _LOG.exception("an engine did not close")
            instance.storage.close()
        return _Empty()

    async def handle_request(self, message: Any, metadata: Mapping[str, str]) -> Any:
        """Answer one operation; any error becomes a reply, never a gRPC error."""
        try:
            instance = self._instance(metadata)
            return from_reply(await instance.engine.handle(to_request(message.request)))
        except Exception as error:  # noqa: BLE001 - the last line of defence
            _log_unexpected(error)
            return from_error(error)

    async def check(self, message: Any, metadata: Mapping[str, str]) -> Any:
        """Answer an existence check, which comes before the server's access decision."""
        try:
            instance = self._instance(metadata)
            return from_existence(await instance.engine.exists(to_request(message.request)))
        except Exception as error:  # noqa: BLE001 - as above
            _log_unexpected(error)
            return from_existence_error(error)

    def _instance(self, metadata: Mapping[str, str]) -> _Instance:
        instance = self._instances.get(metadata.get(_ID, ""))
        if instance is None:
            raise EngineError(503, "skyflow: this mount is being reloaded; try again")
        return instance

    async def _invalidate(self, message: Any, metadata: Mapping[str, str]) -> Any:
        instance = self._instances.get(metadata.get(_ID, ""))
        if instance:
            instance.engine.invalidate(message.key)
        return _Empty()

    async def _special_paths(self, _message: Any, metadata: Mapping[str, str]) -> Any:
        instance = self._instances.get(metadata.get(_ID, ""))
        wrapped = instance.engine.special_paths() if instance else ()
        paths = message_type("Paths")(seal_wrap_storage=wrapped)
        return message_type("SpecialPathsReply")(paths=paths)

    async def _type(self, _message: Any, _metadata: Mapping[str, str]) -> Any:
        return message_type("TypeReply")(type=_LOGICAL)

    async def _initialize(self, _message: Any, _metadata: Mapping[str, str]) -> Any:
        return message_type("InitializeReply")()

    async def _version(self, _message: Any, _metadata: Mapping[str, str]) -> Any:
        return message_type("VersionReply")(plugin_version=semver())


def _constant_reply(message: Any) -> Any:
    return constant_reply(message.request.operation)


def _log_unexpected(error: Exception) -> None:
    if not isinstance(error, EngineError | StorageError):
        _LOG.error("a request failed unexpectedly", exc_info=error)
