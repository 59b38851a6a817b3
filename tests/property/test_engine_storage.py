"""Whatever lies in the storage: every answer is a good one or a named refusal, never a 500."""

from __future__ import annotations

import asyncio
import json

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.engine import Bench

from skyflowctl.engine.contract import EngineError

A = "skyflow-role-a"
TEXTS = st.sampled_from(["", "x", "1", "2026-11-28T04:37:28.123456789+01:00", "{}", "\ud800"])
LEAVES = st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner), max_leaves=5
)
CONFIG_NAMES = (
    "format", "version", "credential_version", "configured", "description", "tags", "history",
    "rotation", "revoked", "last_updated", "credentials_json", "credentials_file_path",
)  # fmt: skip
ROLE_NAMES = (
    "format", "name", "role_ids", "version", "created", "last_updated", "created_at", "updated_at",
    "tags", "ctx_required", "ctx_pattern", "ctx_probe",
)  # fmt: skip
CREDENTIAL_NAMES = ("format", "clientID", "clientName", "tokenURI", "keyID", "privateKey")


def records(names: tuple[str, ...]) -> st.SearchStrategy[dict]:
    return st.dictionaries(st.sampled_from(names), VALUES)


async def answers(key: str, changes: dict) -> None:
    bench = Bench()
    await bench.configured(A)
    stored = json.loads(bench.storage.dump()[key])
    for whole in ({**stored, **changes}, changes):
        await bench.storage.put(key, json.dumps(whole).encode())
        bench.engine = bench.restarted()
        for operation, path, data in (
            ("read", "creds/r1", {}),
            ("read", "config", {}),
            ("list", "roles", {}),
            ("read", "roles/r1", {}),
            ("read", "health", {}),
            ("list", "config/history", {}),
            ("update", "config/verify", {}),
            ("update", "roles/r1", {"description": "new"}),
            ("update", "config", {"description": "new"}),
            ("delete", "config", {}),
        ):
            outcome = await bench.outcome(operation, path, data)
            if isinstance(outcome, EngineError):
                assert outcome.status in {400, 409, 502, 503}, (operation, path, outcome.message)
            else:
                json.dumps(outcome.data)


@settings(max_examples=60, deadline=None)
@given(records(CONFIG_NAMES))
def test_any_config_record(changes):
    asyncio.run(answers("config", changes))


@settings(max_examples=60, deadline=None)
@given(records(ROLE_NAMES))
def test_any_role_record(changes):
    asyncio.run(answers("role/r1", changes))


@settings(max_examples=40, deadline=None)
@example({"privateKey": ""})
@example({"privateKey": "x"})
@given(records(CREDENTIAL_NAMES))
def test_any_credential_record(changes):
    asyncio.run(answers("credential/1", changes))
