"""A tiny engine for tests of the plugin host: every answer that an engine can give."""

from __future__ import annotations

import asyncio
import os
import sys

from skyflowctl.engine.contract import EngineError, EngineReply, EngineRequest, Operation, Storage


class ProbeEngine:
    """Answers by the first word of the path; ``kv/`` is a plain store."""

    def __init__(self, storage: Storage) -> None:
        if "PROBE_FAILS" in os.environ:
            raise RuntimeError("as asked")
        self.storage = storage
        self.cancelled = 0
        self.waiting = 0
        self.slow = 0

    async def handle(self, request: EngineRequest) -> EngineReply:
        if request.operation is Operation.HELP:
            return EngineReply({"help": "probe", "see_also": [], "openapi": _OPENAPI})
        word, _, rest = request.path.partition("/")
        return await getattr(self, f"on_{word}")(request, rest)

    async def on_kv(self, request: EngineRequest, rest: str) -> EngineReply:
        if request.operation is Operation.LIST:
            return EngineReply({"keys": await self.storage.list(rest)})
        if request.operation is Operation.READ:
            value = await self.storage.get(rest)
            return EngineReply({"value": value.decode()} if value is not None else None)
        if request.operation is Operation.DELETE:
            await self.storage.delete(rest)
            return EngineReply()
        await self.storage.put(rest, str(request.data["value"]).encode())
        return EngineReply({"operation": request.operation.value})

    async def on_status(self, request: EngineRequest, rest: str) -> EngineReply:
        raise EngineError(int(rest), f"probe says {rest}")

    async def on_crash(self, request: EngineRequest, rest: str) -> EngineReply:
        raise RuntimeError(f"never shown {request.data}")

    async def on_echo(self, request: EngineRequest, rest: str) -> EngineReply:
        return EngineReply(
            {
                "data": dict(request.data),
                "mount_point": request.mount_point,
                "request_id": request.request_id,
                "display_name": request.display_name,
                "headers": {name: list(values) for name, values in request.headers.items()},
            },
            warnings=("mind this",),
        )

    async def on_env(self, request: EngineRequest, rest: str) -> EngineReply:
        return EngineReply({"pid": os.getpid(), "names": sorted(os.environ), "argv": sys.argv})

    async def on_large(self, request: EngineRequest, rest: str) -> EngineReply:
        return EngineReply({"text": "x" * int(rest)})

    async def on_wait(self, request: EngineRequest, rest: str) -> EngineReply:
        self.waiting += 1
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        return EngineReply({})

    async def on_counts(self, request: EngineRequest, rest: str) -> EngineReply:
        return EngineReply(
            {"cancelled": self.cancelled, "waiting": self.waiting, "slow": self.slow}
        )

    async def on_nothing(self, request: EngineRequest, rest: str) -> EngineReply:
        return EngineReply()

    async def exists(self, request: EngineRequest) -> bool | None:
        word, _, rest = request.path.partition("/")
        if word != "kv":
            return None
        return await self.storage.get(rest) is not None

    def invalidate(self, key: str) -> None:
        """Nothing is cached."""

    def special_paths(self) -> tuple[str, ...]:
        return ("sealed/",)

    async def aclose(self) -> None:
        """Nothing is held."""


_OPENAPI = {
    "openapi": "3.0.2",
    "info": {"title": "probe", "version": "1"},
    "paths": {"/kv/{name}": {"description": "probe store", "get": {"responses": {}}}},
}


def main() -> int:
    from skyflowctl.plugin.__main__ import main as run

    return run(make_factory=lambda _settings: lambda storage, _options: ProbeEngine(storage))
