"""One engine with everything around it replaceable: storage that counts or dies, a clock
that stands still, the emulator in process."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from skyflowctl.engine.contract import (
    EngineError,
    EngineReply,
    EngineRequest,
    MemoryStorage,
    Operation,
    StorageError,
)
from skyflowctl.engine.engine import Engine, EngineSettings
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.state import EmulatorState
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.skyflow.token_service import Exchange, TokenServiceRefusedError
from support.faulty_emulator import FaultyTokenService
from support.keys import credential, rsa_key, unsigned_token

READONLY = "cannot write to readonly storage"
START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in a loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class FrozenClock:
    """A clock that moves only by hand."""

    def __init__(self, start: datetime = START) -> None:
        self.time = start

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def pass_seconds(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class WatchedStorage(MemoryStorage):
    """Records what is asked; can be read-only, or die after so many writes."""

    def __init__(self, values: Mapping[str, bytes] | None = None) -> None:
        super().__init__()
        self._values |= values or {}
        self.calls: list[tuple[str, str]] = []
        self.read_only = False
        self.writes_left: int | None = None

    def copy(self) -> WatchedStorage:
        return WatchedStorage(self._values)

    def dump(self) -> dict[str, bytes]:
        return dict(self._values)

    async def get(self, key: str) -> bytes | None:
        self._seen("get", key)
        return await super().get(key)

    async def list(self, prefix: str) -> list[str]:
        self._seen("list", prefix)
        return await super().list(prefix)

    async def put(self, key: str, value: bytes) -> None:
        self._seen("put", key)
        self._write()
        await super().put(key, value)

    async def delete(self, key: str) -> None:
        self._seen("delete", key)
        self._write()
        await super().delete(key)

    def _seen(self, what: str, key: str) -> None:
        self.calls.append((what, key))
        if self.writes_left is not None and self.writes_left < 0:
            raise StorageError("the storage is gone")

    def _write(self) -> None:
        if self.read_only:
            raise StorageError(READONLY)
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                raise StorageError("the storage is gone")


class ScriptedTokenService:
    """Answers every exchange as it is told; counts them."""

    def __init__(self) -> None:
        self.scopes: list[str | None] = []
        self.answer: Any = None
        self.lifetime = 3600
        self.closed = 0

    async def exchange(
        self, token_uri: str, assertion: Secret, scope: str | None, *, deadline: float
    ) -> Exchange:
        self.scopes.append(scope)
        if self.answer is not None:
            await self.answer(scope, assertion)
        return Exchange(Secret(unsigned_token(self.lifetime)), "Bearer", "req-1")

    async def aclose(self) -> None:
        self.closed += 1

    def refuse(self, status: int, message: str, request_id: str = "req-no") -> None:
        async def answer(scope: str | None, assertion: Secret) -> None:
            raise TokenServiceRefusedError(status, message, request_id)

        self.answer = answer


@dataclass
class Bench:
    """An engine and its surroundings. ``tokens`` is the emulator unless replaced."""

    storage: WatchedStorage = field(default_factory=WatchedStorage)
    clock: FrozenClock = field(default_factory=FrozenClock)
    settings: EngineSettings = field(default_factory=EngineSettings)
    tokens: Any = None
    mount_point: str = "skyflow/order/"

    def __post_init__(self) -> None:
        if self.tokens is None:
            state = EmulatorState(clock=self.clock, signing_key=rsa_key("emulator"))
            self.tokens = FaultyTokenService(state)
        self.engine = self.restarted()

    def restarted(self, storage: WatchedStorage | None = None) -> Engine:
        """A fresh engine on the same (or another) storage, as after a reload."""
        return Engine(storage or self.storage, self.tokens, self.settings, self.clock)

    async def call(
        self, operation: str, path: str, data: Mapping[str, Any] | None = None, **more: Any
    ) -> EngineReply:
        more = {"mount_point": self.mount_point, "display_name": "token-alice", **more}
        return await self.engine.handle(
            EngineRequest(Operation(operation), path, data or {}, **more)
        )

    async def outcome(
        self, operation: str, path: str, data: Mapping[str, Any]
    ) -> EngineReply | EngineError:
        """Make a call that may fail; return the reply or the error."""
        try:
            return await self.call(operation, path, data)
        except EngineError as error:
            return error

    async def read(self, path: str, **query: Any) -> Any:
        return (await self.call("read", path, query)).data

    async def list(self, path: str, **query: Any) -> Any:
        return (await self.call("list", path, query)).data

    async def write(self, path: str, **body: Any) -> Any:
        return (await self.call("update", path, body)).data

    async def delete(self, path: str, **query: Any) -> Any:
        return (await self.call("delete", path, query)).data

    async def fails(self, status: int, operation: str, path: str, **data: Any) -> str:
        """Make a call that must fail with this status; return the message."""
        with pytest.raises(EngineError) as caught:
            await self.call(operation, path, data)
        assert caught.value.status == status, caught.value.message
        return caught.value.message

    def key(self, *role_ids: str, enforce_ctx: bool = False, **changes: Any) -> str:
        """A new credential's text, which the emulator trusts with these roles."""
        fields = credential(now=self.clock.now(), **changes)
        text = json.dumps(fields)
        if hasattr(self.tokens, "trust"):
            self.tokens.trust(load_trusted(text), role_ids, enforce_ctx=enforce_ctx)
        return text

    async def configured(self, *role_ids: str) -> str:
        """Write one role per role id (named r1, r2, …) and a credential; return its text."""
        for number, role_id in enumerate(role_ids, 1):
            await self.write(f"roles/r{number}", role_ids=[role_id])
        text = self.key(*role_ids)
        await self.write("config", credentials_json=text)
        return text
