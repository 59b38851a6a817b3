"""A write that is killed anywhere leaves the old state or the new one, never half."""

import asyncio
import contextlib
import json

import pytest
from support.engine import READONLY, Bench, WatchedStorage, scenario

from skyflowctl.engine.contract import EngineError, EngineRequest, Operation, StorageError

A = "skyflow-role-a"


async def rotating():
    """A mount with three credentials, of which an open rotation wrote the last."""
    bench = Bench()
    await bench.configured(A)
    await bench.write("config", credentials_json=bench.key(A))
    await bench.write("config", credentials_json=bench.key(A), rotation_id="rot-0")
    return bench


async def before(name):
    """The mount on which a write is tried out, and the write's body."""
    bench = await rotating()
    _, _, with_credential, body = WRITES[name]
    if name in ROTATED:
        await bench.write("config/commit", rotation_id="rot-0")
    return bench, body | ({"credentials_json": bench.key(A)} if with_credential else {})


async def seen(engine):
    """What a request may see of a mount, and whether its credential mints."""
    config = (await engine.handle(EngineRequest(Operation.READ, "config"))).data
    roles = (await engine.handle(EngineRequest(Operation.LIST, "roles"))).data
    history = (await engine.handle(EngineRequest(Operation.LIST, "config/history"))).data
    try:
        creds = (await engine.handle(EngineRequest(Operation.READ, "creds/r1"))).data["key_id"]
    except EngineError as error:
        creds = error.message
    return json.loads(json.dumps([config, roles, history, creds]))


WRITES = {
    "commit": ("update", "config/commit", False, {"rotation_id": "rot-0"}),
    "roll back": ("update", "config/rollback", False, {"credential_version": 2}),
    "destroy": ("delete", "config/history/2", False, {}),
    "record": ("update", "config", False, {"rotation_id": "rot-0", "rotation_keys": ["k"]}),
    "replace": ("update", "config", True, {"description": "new"}),
    "rotate": ("update", "config", True, {"rotation_id": "rot-1"}),
    "describe": ("update", "config", False, {"description": "new"}),
    "cut off": ("delete", "config", False, {}),
    "role": ("update", "roles/r1", False, {"description": "new"}),
    "new role": ("update", "roles/r2", False, {"role_ids": [A]}),
    "no role": ("delete", "roles/r1", False, {}),
}


# Another rotation may open, and the old credential go, only once the last is committed.
ROTATED = {"rotate", "destroy"}


@pytest.mark.parametrize("name", WRITES)
@scenario
async def test_dies_after_each_write(name):
    operation, path = WRITES[name][:2]
    bench, body = await before(name)
    start = bench.storage.copy()
    old = await seen(bench.restarted(start.copy()))
    # A whole run tells the new state, and how many writes it takes.
    whole = start.copy()
    request = EngineRequest(Operation(operation), path, body, "skyflow/order/")
    await bench.restarted(whole).handle(request)
    writes = sum(what in ("put", "delete") for what, _ in whole.calls)
    new = await seen(bench.restarted(whole.copy()))
    assert old != new

    states = []
    for allowed in range(writes):
        dying = start.copy()
        dying.writes_left = allowed
        engine = bench.restarted(dying)
        with contextlib.suppress(StorageError):
            await engine.handle(request)
        left = dying.copy()
        now = await seen(bench.restarted(left))
        assert now in (old, new), allowed
        # A process that lives on sees the same as a new one: no cache is left behind.
        dying.writes_left = None
        assert await seen(engine) == now
        states.append(now == new)
        # The same command again ends in the new state, but for its counters.
        again = left.copy()
        await bench.restarted(again).handle(request)
        assert not [key for key in again.dump() if key.startswith("wal/")]
        kept = {key for key in again.dump() if key.startswith("credential/")}
        entries = (await seen(bench.restarted(again.copy())))[2]["key_info"].values()
        assert len(kept) == sum(entry["kept"] for entry in entries)
    # One commit point: once new, never old again.
    assert states == sorted(states)
    assert not states[0]


class StoppingStorage(WatchedStorage):
    """Waits for ever in one call: before the value is stored, or after."""

    def __init__(self, values, call, applied):
        super().__init__(values)
        self.call, self.applied = call, applied
        self.reached = asyncio.Event()

    async def put(self, key, value):
        await self._stop_or(super().put(key, value))

    async def delete(self, key):
        await self._stop_or(super().delete(key))

    async def _stop_or(self, work):
        self.call -= 1
        if self.call != -1 or self.applied:
            await work
        else:
            work.close()
        if self.call == -1:
            self.reached.set()
            await asyncio.Event().wait()


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("name", sorted({*WRITES} - {"rotate", "new role", "no role"}))
@scenario
async def test_cancelled_in_each_write(name, applied):
    operation, path = WRITES[name][:2]
    bench, body = await before(name)
    start = bench.storage.dump()
    request = EngineRequest(Operation(operation), path, body, "skyflow/order/")
    whole = WatchedStorage(start)
    await bench.restarted(whole).handle(request)
    states = [
        await seen(bench.restarted(WatchedStorage(start))),
        await seen(bench.restarted(whole)),
    ]
    for call in range(sum(what in ("put", "delete") for what, _ in whole.calls)):
        storage = StoppingStorage(start, call, applied)
        engine = bench.restarted(storage)
        await engine.handle(EngineRequest(Operation.READ, "config"))
        task = asyncio.create_task(engine.handle(request))
        await storage.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        now = await seen(engine)
        assert now in states
        assert now == await seen(bench.restarted(WatchedStorage(storage.dump())))
        # The lock is free: the same write, asked again, is done.
        await engine.handle(request)


@pytest.mark.parametrize("name", WRITES)
@scenario
async def test_a_standby_hears_the_storages_own_words_before_anything_else(name):
    operation, path = WRITES[name][:2]
    bench, body = await before(name)
    asked = bench.tokens.state.counters.exchanges
    standby = bench.storage.copy()
    standby.read_only = True
    engine = bench.restarted(standby)
    with pytest.raises(StorageError) as caught:
        await engine.handle(EngineRequest(Operation(operation), path, body, "skyflow/order/"))
    assert str(caught.value) == READONLY
    assert [what for what, _ in standby.calls] == ["put"]
    assert bench.tokens.state.counters.exchanges == asked


@scenario
async def test_reads_creds_health_and_verify_work_on_a_standby():
    bench = Bench()
    await bench.configured(A)
    bench.storage.read_only = True
    for operation, path in (
        ("read", "config"),
        ("read", "creds/r1"),
        ("update", "creds/r1"),
        ("read", "health"),
        ("update", "config/verify"),
    ):
        assert (await bench.call(operation, path)).data


@scenario
async def test_a_refused_write_leaves_nothing_behind():
    bench = Bench()
    await bench.configured(A)
    before = bench.storage.dump()
    await bench.fails(409, "update", "config", description="x", cas=9)
    await bench.fails(502, "update", "config", credentials_json=bench.key("other"))
    await bench.fails(400, "update", "config", credentials_json="{}")
    await bench.fails(400, "update", "roles/r1", role_ids=[])
    assert bench.storage.dump() == before
