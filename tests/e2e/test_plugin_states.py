"""A mount's plugin that runs, that does not, and of which this login cannot know it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bao import BaoServer, running_bao
from support.plugin import processes_of, register_skyflow, wait_for
from support.stack import Stack, clean_environ

pytestmark = pytest.mark.real_server

POLICY = """
path "sys/mounts" { capabilities = ["read"] }
path "sys/plugins/catalog*" { capabilities = ["read", "sudo"] }
path "skyflow/order/*" { capabilities = ["read", "list"] }
"""


@pytest.fixture(scope="module")
def server() -> Iterator[BaoServer]:
    with running_bao() as made:
        register_skyflow(made)
        for name in ("order", "payment"):
            assert made.api("POST", f"sys/mounts/skyflow/{name}", {"type": "skyflow"})[0] == 204
        yield made


def site(server: BaoServer, folder: Path, **environ: str) -> Stack:
    made = {**clean_environ(), **server.env(), "HOME": str(folder), **environ}
    return Stack(folder, made, {})


def plugin_findings(stack: Stack, code: int) -> list[dict[str, Any]]:
    """What ``doctor`` finds about the plugin."""
    found = stack.json("doctor", check=code)["data"]["findings"]
    return [one for one in found if one["check"] == "plugin"]


def test_a_mount_that_may_not_be_read_is_not_called_ok(server: BaoServer, tmp_path: Path):
    assert server.api("PUT", "sys/policies/acl/narrow", {"policy": POLICY})[0] == 204
    login = server.api("POST", "auth/token/create", {"policies": ["narrow"]})[1]["auth"]
    stack = site(server, tmp_path, BAO_TOKEN=login["client_token"])
    listed = stack.json("plugin", "list", check=3)
    order, payment = listed["data"]["mounts"]
    assert (order["state"], order["detail"]) == ("ok", "")
    assert payment["state"] == "not_known"
    assert "permission denied" in payment["detail"]
    (problem,) = listed["errors"]
    assert problem["code"] == "plugin-not-known"
    assert 'path "skyflow/payment/config" { capabilities = ["read"] }' in problem["fix"]
    assert listed["status"] == "partial"
    (node,) = listed["data"]["nodes"]
    assert (node["state"], [*node["plugin_not_known"]]) == ("active", ["skyflow/payment"])
    for words, code in ((("health",), 6), (("status",), 3)):
        (node,) = stack.json(*words, check=code)["data"]["nodes"]
        assert [*node["plugin_not_known"]] == ["skyflow/payment"], words
        assert node["plugin_missing"] == []
    (finding,) = plugin_findings(stack, 6)
    assert finding["grade"] == "unknown"
    assert "skyflow/payment" in finding["summary"]


@pytest.mark.slow
def test_a_plugin_that_ended_and_cannot_start_again_is_not_called_ok(
    server: BaoServer, tmp_path: Path
):
    stack = site(server, tmp_path)
    assert [one["state"] for one in stack.json("plugin", "list")["data"]["mounts"]] == ["ok"] * 2
    file = server.plugin_dir / "skyflow"
    away = file.rename(server.folder / "away")
    for one in processes_of(server, "skyflow"):
        os.kill(one.pid, signal.SIGKILL)
    try:
        listed = stack.json("plugin", "list", check=6)
        assert [one["state"] for one in listed["data"]["mounts"]] == ["does_not_run"] * 2
        assert "no such file" in listed["data"]["mounts"][0]["detail"]
        assert [one["code"] for one in listed["errors"]] == ["plugin-file-missing"]
        for words, code in ((("health",), 6), (("status",), 3)):
            data = stack.json(*words, check=code)["data"]
            (node,) = data["nodes"]
            assert (node["state"], len(node["plugin_missing"])) == ("plugin_missing", 2), words
            assert {one.get("state", one.get("health")) for one in data["mounts"]} == {
                "plugin_missing"
            }
        assert {one["grade"] for one in plugin_findings(stack, 6)} == {"bad"}
    finally:
        away.rename(file)
    wait_for(lambda: stack.cli("plugin", "list", check=None).returncode == 0)
