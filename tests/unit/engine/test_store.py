"""Caches: dropped on own writes and on the server's word; overlapping loads are not kept."""

import asyncio

import pytest
from support.engine import START, Bench, WatchedStorage, scenario

from skyflowctl.engine.contract import EngineError, StorageError
from skyflowctl.engine.records import ConfigRecord, RoleRecord
from skyflowctl.engine.store import MountStore

A, B = "skyflow-role-a", "skyflow-role-b"


class SlowStorage(WatchedStorage):
    """Reads the value, then waits before it hands it over."""

    def __init__(self, values=None):
        super().__init__(values)
        self.gate = asyncio.Event()

    async def get(self, key):
        value = await super().get(key)
        await self.gate.wait()
        return value


def role(version):
    return RoleRecord((A,), version, START, START)


@scenario
async def test_another_nodes_write_is_seen_after_invalidation():
    bench = Bench()
    await bench.configured(A)
    other = bench.restarted()
    before = bench.engine
    assert (await bench.read("creds/r1"))["credential_version"] == 1
    bench.engine = other
    await bench.write("config", credentials_json=bench.key(A), description="other node")
    await bench.write("roles/r1", role_ids=[A], description="changed")
    bench.engine = before
    assert (await bench.read("creds/r1"))["credential_version"] == 1
    for key in ("credential/2", "config", "role/r1"):
        bench.engine.invalidate(key)
    assert (await bench.read("creds/r1"))["credential_version"] == 2
    assert (await bench.read("roles/r1"))["description"] == "changed"


@scenario
async def test_a_cut_off_on_another_node_ends_minting_here():
    bench = Bench()
    await bench.configured(A)
    await bench.read("creds/r1")
    here, bench.engine = bench.engine, bench.restarted()
    await bench.delete("config")
    bench.engine = here
    bench.engine.invalidate("config")
    assert await bench.fails(400, "read", "creds/r1") == "mount not configured"


@scenario
async def test_an_empty_key_forgets_everything():
    bench = Bench()
    await bench.configured(A)
    await bench.read("creds/r1")
    bench.storage.calls.clear()
    bench.engine.invalidate("")
    await bench.read("creds/r1")
    assert [key for _, key in bench.storage.calls] == ["config", "credential/1", "role/r1"]


@pytest.mark.parametrize("during", ["invalidate", "own write"])
@scenario
async def test_a_load_that_overlaps_a_change_is_not_kept(during):
    storage = SlowStorage({"role/r": role(1).to_bytes()})
    store = MountStore(storage)
    load = asyncio.create_task(store.role("r"))
    await asyncio.sleep(0)
    if during == "invalidate":
        await WatchedStorage.put(storage, "role/r", role(2).to_bytes())
        store.invalidate("role/r")
    else:
        await store.put_role("r", role(2))
    storage.gate.set()
    assert (await load).version == 1
    assert (await store.role("r")).version == 2


@scenario
async def test_an_overlapping_config_load_is_not_kept():
    storage = SlowStorage({"config": ConfigRecord(version=1).to_bytes()})
    store = MountStore(storage)
    load = asyncio.create_task(store.config())
    await asyncio.sleep(0)
    await store.put_config(ConfigRecord(version=2))
    storage.gate.set()
    assert (await load).record.version == 1
    assert (await store.config()).record.version == 2


@scenario
async def test_unknown_roles_are_not_remembered():
    bench = Bench()
    await bench.configured(A)
    assert await bench.fails(400, "read", "creds/later") == "unknown role"
    await bench.restarted().handle(bench_request("roles/later"))
    assert (await bench.read("creds/later"))["access_token"]


def bench_request(path):
    from skyflowctl.engine.contract import EngineRequest, Operation

    return EngineRequest(Operation.UPDATE, path, {"role_ids": [A]})


@scenario
async def test_a_credential_that_another_node_just_pruned():
    bench = Bench()
    await bench.configured(A)
    values = bench.storage.dump()
    del values["credential/1"]
    bench.engine = bench.restarted(WatchedStorage(values))
    message = await bench.fails(503, "read", "creds/r1")
    assert message == "skyflow: the stored credential cannot be read on this node"


@scenario
async def test_storage_errors_pass_through_untouched():
    bench = Bench()
    await bench.configured(A)
    bench.storage.writes_left = -1
    bench.engine = bench.restarted()
    for operation, path in (("read", "config"), ("list", "roles"), ("read", "creds/r1")):
        with pytest.raises(StorageError, match="the storage is gone"):
            await bench.call(operation, path)


@scenario
async def test_writes_wait_for_each_other():
    bench = Bench()
    await bench.configured(A)
    await asyncio.gather(*(bench.write("config", description=f"d{n}") for n in range(20)))
    assert (await bench.read("config"))["version"] == 21
    results = await asyncio.gather(
        *(bench.write("roles/new", role_ids=[A], cas=0) for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(result, EngineError) for result in results) == 19


@scenario
async def test_parsed_once_per_credential(monkeypatch):
    from skyflowctl.engine import store as module

    bench = Bench()
    await bench.configured(A)
    parsed = []
    monkeypatch.setattr(
        module,
        "load_trusted",
        lambda text, real=module.load_trusted: parsed.append(1) or real(text),
    )
    bench.engine = bench.restarted()
    await bench.read("creds/r1")
    for number in range(3):
        await bench.write("config", description=f"d{number}")
        await bench.read("creds/r1")
    assert parsed == [1]
