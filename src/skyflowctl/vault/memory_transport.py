"""A transport to the in-process server: without sockets, so it needs no network."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from skyflowctl.clock import Clock, SystemClock
from skyflowctl.engine.contract import MemoryStorage
from skyflowctl.engine.engine import Engine
from skyflowctl.engine.settings import EngineSettings
from skyflowctl.secret import Secret
from skyflowctl.skyflow.token_service import TokenService
from skyflowctl.vault import seeding
from skyflowctl.vault.failed_answers import error_for, server_texts
from skyflowctl.vault.live import LiveConfig, LiveState
from skyflowctl.vault.memory_server import MemoryRequest, MemoryServer
from skyflowctl.vault.no_response import unnamed_host
from skyflowctl.vault.transport import (
    Reply,
    Request,
    ServerInfo,
    Transport,
    TransportWrapper,
    encode_body,
    make_reply,
)
from skyflowctl.version import semver

_T = TypeVar("_T")
IN_PROCESS = ServerInfo("a server in this process")


class MemoryTransport:
    """A transport to a server inside this process that hosts the real engine.

    Several threads may send requests; the server and its engines run on one event loop in a
    separate thread.

    Args:
        token_service: the service at which the engines mint; called on that loop.
        settings: the settings of every engine.
        plugin_name: the mount type that is hosted.
        clock: the clock of every engine.
    """

    def __init__(
        self,
        token_service: TokenService,
        settings: EngineSettings,
        *,
        plugin_name: str = "skyflow",
        clock: Clock | None = None,
    ) -> None:
        self._token_service = token_service
        self._settings = settings
        self._clock = clock or SystemClock()
        self._storages: dict[str, MemoryStorage] = {}
        self._engines: list[Engine] = []
        self._server = MemoryServer(plugin_name, semver(), self._make_engine)
        self._lock = threading.Lock()
        self._made = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def server(self) -> ServerInfo:
        """The server in this process."""
        return IN_PROCESS

    @property
    def requests_made(self) -> int:
        """The number of requests so far."""
        return self._made

    @property
    def cluster_id(self) -> str:
        """This server's own id; each server has a new one."""
        return self._server.cluster_id

    @property
    def newest_index(self) -> str:
        """Always empty: there is one node."""
        return ""

    def at_node(self, address: str) -> Transport:
        """Refuse any address: there is one node, and it has none.

        Raises:
            RedirectRefusedError: always.
        """
        raise unnamed_host("GET", "", address, "the server is in this process")

    def seed(self, state: LiveState, credential_for: Callable[[str, LiveConfig], Secret]) -> None:
        """Take over a real server's mounts, with their versions, before the first request.

        Args:
            state: the real server's state.
            credential_for: returns, for a mount path and its live config, the normalised
                credential JSON that replaces the live credential; its client id and key id
                must be the live ones.
        """
        self._run(self._seed(state, credential_for))

    async def _seed(
        self, state: LiveState, credential_for: Callable[[str, LiveConfig], Secret]
    ) -> None:
        for path, engine in state.engines.items():
            credential = credential_for(path, engine.config) if engine.config.configured else None
            self._storages[path] = MemoryStorage()
            await seeding.seed_storage(self._storages[path], engine, credential, self._clock.now())
        seeding.seed_server(self._server, state)

    def send(self, request: Request) -> Reply:
        """Answer one request; see :class:`skyflowctl.vault.transport.Transport`."""
        with self._lock:
            self._made += 1
        method, path, body = request.method, request.path, request.body
        sent = {**(request.headers or {})}
        if request.wrap_ttl:
            sent["X-Vault-Wrap-TTL"] = request.wrap_ttl
        plain = {} if body is None else json.loads(encode_body(body))
        question = MemoryRequest(method, path, plain, request.params or {}, sent)
        status, answer = self._run(self._server.answer(question))
        if status >= 300:
            raise error_for(status, server_texts(answer), method=method, path=path)
        return make_reply(status, answer, {})

    def as_login(self, token: Secret | None, certificate: Secret | None = None) -> Transport:  # noqa: ARG002 - this server has no logins
        """Return a transport to the same server; every token may do everything there."""
        return TransportWrapper(self)

    def refuse_guarded(self, method: str, path: str) -> None:
        """Accept any path: this server has no control groups."""

    def stop_waiting_when(self, stopping: Callable[[], bool]) -> None:
        """Do nothing: no request here waits for an approval."""

    def withdraw_unwanted(self, is_wanted: Callable[[str], bool]) -> None:
        """Do nothing: no request here waits for an approval."""

    def close(self) -> None:
        """End the engines, their token service and the loop."""
        if self._loop.is_closed():
            return
        self._run(self._aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _aclose(self) -> None:
        for engine in self._engines:
            await engine.aclose()
        await self._token_service.aclose()

    def _make_engine(self, path: str, options: Mapping[str, str]) -> Engine:
        storage = self._storages.pop(path, None) or MemoryStorage()
        engine = Engine(storage, self._token_service, self._settings, self._clock, options)
        self._engines.append(engine)
        return engine

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
