"""``config history``: every key a mount has had, from the real engine in memory."""

from __future__ import annotations

import pytest
from support.cli import checked_data, checked_envelope, invoke
from support.fake_server import FakeServer
from support.gateways import identity, memory_rig
from support.reached import reach_gateway

from skyflowctl.errors import UsageError
from skyflowctl.operations.config_show import config_history
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import Request


@pytest.fixture(scope="module")
def rig():
    made = memory_rig()
    yield made
    made.gateway.close()


@pytest.fixture
def reached(rig, monkeypatch):
    """Commands in this process reach the server in memory, whichever they name."""

    reach_gateway(rig.gateway, monkeypatch)


def rotated(rig):
    """A mount with a destroyed, a kept and a live credential; its keys in that order."""
    path = rig.configured("reader")
    credentials = [rig.new_credential() for _ in range(2)]
    keys = [rig.gateway.engine(path).config().key_id]
    for credential in credentials:
        fields = {"credentials_json": credential, "description": f"key {len(keys) + 1}"}
        rig.gateway.engine(path).write_config(fields)
        keys.append(identity(credential)[1])
    rig.gateway.engine(path).delete_kept_credential(1)
    return path, keys


def test_the_newest_is_first_and_one_is_live(rig, reached):
    path, keys = rotated(rig)
    done = invoke("config", "history", path, "-o", "json")
    data = checked_data(done.stdout)
    assert data["path"] == path
    assert [
        (one["credential_version"], one["key_id"], one["kept"], one["live"])
        for one in data["history"]
    ] == [
        (3, keys[2], True, True),
        (2, keys[1], True, False),
        (1, keys[0], False, False),
    ]
    assert [one["description"] for one in data["history"]] == ["key 3", "key 2", ""]


def test_people_see_a_line_each(rig, reached):
    path, _ = rotated(rig)
    done = invoke("config", "history", path, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    states = [line.split()[2] for line in done.stdout.splitlines()]
    assert states == ["STATE", "live", "kept", "destroyed"]
    assert "whether it still mints is not known" in done.stderr


def test_after_a_cut_off_nothing_is_live(rig, reached):
    path, _ = rotated(rig)
    rig.transport.send(Request("DELETE", f"{path}/config", idempotent=True))
    data = checked_data(invoke("config", "history", path, "-o", "json").stdout)
    assert [(one["kept"], one["live"]) for one in data["history"]] == [(False, False)] * 3


def test_a_new_mount_has_none(rig, reached):
    path = rig.mount()
    assert checked_data(invoke("config", "history", path, "-o", "json").stdout)["history"] == []
    done = invoke("config", "history", path)
    assert (done.stdout, done.exit_code) == ("", 0)
    assert "no credential was ever written" in done.stderr


def test_where_there_is_no_engine(rig, reached):
    done = invoke("config", "history", "contract/nowhere", "-o", "json")
    assert done.exit_code == 64
    assert checked_envelope(done.stdout)["errors"][0]["code"] == "not-mounted"


def test_an_engine_without_a_history_is_told(rig):
    server = FakeServer()
    server.has_history = False
    gateway = Gateway(server)
    gateway.sys.enable_mount("skyflow/order", {"type": "skyflow"})
    server.configs["skyflow/order"] = {"credentials_configured": True, "version": 1}
    with pytest.raises(UsageError) as refused:
        config_history(gateway, "skyflow/order")
    assert refused.value.problems[0].code == "no-history"
