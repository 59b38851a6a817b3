"""``metrics`` in this process: an unknown mount, and what ``--drift`` reads."""

from __future__ import annotations

from collections import Counter

import pytest
from support.cli import checked_envelope, invoke
from support.reached import reached


@pytest.fixture
def server(tmp_path, monkeypatch):
    return reached(tmp_path, monkeypatch)


@pytest.mark.parametrize("where", [(), ("--textfile", "out.prom")])
def test_a_mount_that_neither_manifest_nor_server_has_is_usage(server, where):
    done = invoke("metrics", "ordr", *where, "-o", "json")
    assert done.exit_code == 64, done.output
    (error,) = checked_envelope(done.stdout)["errors"]
    assert error["code"] == "unknown-mount"
    assert "skyflow/ordr" in error["summary"]


def test_a_declared_mount_that_the_server_lacks_is_a_state(server):
    done = invoke("metrics", "order", "-o", "json")
    assert done.exit_code == 0, done.output
    health = {
        sample["labels"]["state"]: sample["value"]
        for one in checked_envelope(done.stdout)["data"]["metrics"]
        if one["name"] == "skyflow_mount_health"
        for sample in one["samples"]
    }
    assert health == {"ok": 0, "not_mounted": 1}


def test_the_drift_is_made_of_the_state_that_was_read_already(server):
    assert invoke("apply", "-y", "-o", "json").exit_code == 0
    server.log.clear()
    done = invoke("metrics", "--drift", "-o", "json")
    assert done.exit_code == 0, done.output
    asked = Counter(path for method, path, _ in server.log if method in {"GET", "LIST"})
    once = ["sys/config/auditing/request-headers"]
    once += [f"skyflow/{name}/{what}" for name in ("order", "pay") for what in ("config", "roles")]
    assert {path: asked[path] for path in once} == dict.fromkeys(once, 1)
