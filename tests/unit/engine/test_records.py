"""Stored records: what is written is read back, and other versions' records are too."""

import json
from datetime import timedelta

import pytest
from support.engine import START, scenario
from support.keys import account

from skyflowctl.engine import revisions
from skyflowctl.engine.contract import MemoryStorage
from skyflowctl.engine.records import (
    HISTORY_LENGTH,
    ConfigRecord,
    HistoryEntry,
    RoleRecord,
    RotationRecord,
)


def full_config():
    entry = HistoryEntry(1, "client", "key", START, "alice", "d", True, "1.2")
    rotation = RotationRecord(
        "rot", "a", "b", START, "alice", "committed", START, START + timedelta(hours=1)
    )
    return ConfigRecord(4, 1, True, "d", ("a", "b"), START, START, (entry,), rotation)


@pytest.mark.parametrize("record", [ConfigRecord(), full_config()])
def test_config_round_trip(record):
    assert ConfigRecord.from_bytes(record.to_bytes()) == record


@pytest.mark.parametrize("probe", ["", "text", {"a": 1, "b": True, "c": "x"}])
def test_role_round_trip(probe):
    role = RoleRecord(("r",), 3, START, START, "d", ("t",), False, "a*", probe)
    assert RoleRecord.from_bytes(role.to_bytes()) == role


def test_unknown_and_missing_fields_are_no_error():
    stored = json.loads(full_config().to_bytes())
    stored["later"] = {"any": "thing"}
    stored["history"][0]["later"] = 1
    stored["rotation"]["later"] = 1
    del stored["tags"]
    record = ConfigRecord.from_bytes(json.dumps(stored).encode())
    assert record.tags == ()
    assert record.history == full_config().history


def test_the_history_is_bounded():
    record = ConfigRecord()
    for _ in range(HISTORY_LENGTH + 5):
        record = revisions.with_credential(record, _new_account(), "alice", START)
    assert len(record.history) == HISTORY_LENGTH
    assert record.credential_version == HISTORY_LENGTH + 5
    assert [entry.kept for entry in record.history[-4:]] == [False, True, True, True]
    assert record.kept_slots() == ["203", "204", "205"]


def _new_account():
    return account(now=START)


def test_other_content_of_one_identity_gets_a_slot_of_its_own():
    who = _new_account()
    record = revisions.with_credential(ConfigRecord(), who, "alice", START)
    for slot in ("1.1", "1.2"):
        record = revisions.with_credential(record, who, "alice", START)
        assert (record.credential_version, record.live.slot) == (1, slot)
        assert record.kept_slots() == [slot]


@scenario
async def test_storage_in_memory():
    storage = MemoryStorage()
    assert await storage.get("a") is None
    for key in ("a", "f/x", "f/y", "f/g/z"):
        await storage.put(key, key.encode())
    assert await storage.get("f/x") == b"f/x"
    assert await storage.list("") == ["a", "f/"]
    assert await storage.list("f/") == ["g/", "x", "y"]
    assert await storage.list("none/") == []
    for _ in range(2):
        await storage.delete("f/x")
    assert await storage.list("f/") == ["g/", "y"]
