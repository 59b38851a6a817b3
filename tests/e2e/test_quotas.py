"""Rate limits of a manifest on a real server: they limit, and only our own are changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bao import BaoServer, running_bao
from support.stack import Stack, clean_environ

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

API = "sys/quotas/rate-limit"
MINE = f"{API}/skyflowctl.limits.keys"
FOREIGN = f"{API}/by-hand"
HEAD = """\
version: 1
manifest: limits
mounts: {}
engines:
  keys: {type: transit}
"""
MANIFEST = f"{HEAD}quotas: {{keys: {{path: keys, rate: 3, interval: 1h}}}}\n"


@pytest.fixture(scope="module")
def server() -> Iterator[BaoServer]:
    with running_bao() as running:
        yield running


@pytest.fixture
def stack(server: BaoServer, tmp_path: Path) -> Iterator[Stack]:
    """The manifest is applied; nothing of it is left afterwards."""
    (tmp_path / "mounts.yaml").write_text(MANIFEST)
    environ = {**clean_environ(), **server.env(), "HOME": str(tmp_path)}
    stack = Stack(tmp_path, environ, {})
    stack.json("apply", "-y")
    yield stack
    for path in (MINE, FOREIGN, "sys/mounts/keys", "sys/mounts/moved"):
        server.api("DELETE", path)


def rewrite(stack: Stack, old: str, new: str) -> None:
    file = stack.folder / "mounts.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def quota(server: BaoServer) -> dict[str, Any]:
    found: dict[str, Any] = server.api("GET", MINE)[1]["data"]
    return found


def test_it_is_made_after_the_mount_and_limits_it(stack, server):
    assert quota(server)["path"] == "keys/"
    answers = [server.api("LIST", "keys/keys")[0] for _ in range(5)]
    assert answers[-2:] == [429, 429]
    assert 429 not in answers[:3]
    assert server.api("GET", "sys/mounts")[0] == 200


def test_the_second_plan_is_empty(stack):
    made = stack.json("plan", "--detailed-exitcode")["data"]
    assert (made["actions"], made["drift"], made["warnings"]) == ([], [], [])


def test_a_change_by_hand_is_named_and_mended(stack, server):
    server.api("POST", MINE, {"path": "keys", "rate": 9, "interval": "1m", "block_interval": 60})
    (planned,) = stack.json("plan")["data"]["actions"]
    changed = {one["field"]: one["before"] for one in planned["changes"]}
    assert (planned["action"], planned["kind"], planned["path"]) == ("update", "quota", MINE)
    assert changed == {"rate": 9, "interval": 60, "block_interval": 60}
    stack.json("apply", "-y")
    found = quota(server)
    assert (found["rate"], found["interval"], found["block_interval"]) == (3, 3600, 0)


def test_our_name_on_another_path_is_not_changed_without_adopt(stack, server):
    server.api("POST", MINE, {"path": "sys", "rate": 90000})
    refused = stack.json("apply", "-y", check=5)
    assert "needs-adoption" in [one["code"] for one in refused["errors"]]
    assert quota(server)["path"] == "sys/"
    stack.json("apply", "-y", f"--adopt={MINE}")
    assert quota(server)["path"] == "keys/"


def test_another_quota_of_this_path_is_a_conflict_that_the_plan_shows(stack, server):
    server.api("DELETE", MINE)
    server.api("POST", FOREIGN, {"path": "keys/", "rate": 90000})
    refused = stack.json("apply", "-y", check=5)
    (error,) = refused["errors"]
    assert error["code"] == "quota-path-taken"
    assert f"bao delete {FOREIGN}" in error["fix"]
    assert server.api("GET", MINE)[0] == 404
    stack.bao("delete", FOREIGN)
    stack.json("apply", "-y")
    assert quota(server)["rate"] == 3


def test_another_manifest_s_quota_of_this_path_is_not_said_to_be_ours_to_delete(stack, server):
    theirs = "sys/quotas/rate-limit/skyflowctl.another.limit"
    server.api("DELETE", MINE)
    server.api("POST", theirs, {"path": "keys/", "rate": 90000})
    try:
        (error,) = stack.json("apply", "-y", check=5)["errors"]
        assert error["code"] == "quota-path-taken"
        assert "the manifest another" in error["fix"]
        assert "bao delete" not in error["fix"]
    finally:
        server.api("DELETE", theirs)
        stack.json("apply", "-y")


def test_one_that_is_no_longer_declared_goes_only_by_name(stack, server):
    rewrite(stack, "quotas: {keys: {path: keys, rate: 3, interval: 1h}}\n", "")
    server.api("POST", FOREIGN, {"path": "sys", "rate": 90000})
    kept = stack.json("plan", "--prune")["data"]
    assert (kept["actions"], [one["path"] for one in kept["drift"]]) == ([], [MINE])
    assert f"--allow-destroy={MINE}" in kept["drift"][0]["fix"]
    named = ("--prune", f"--allow-destroy={MINE}", "--allow-large-prune")
    stack.json("apply", "-y", *named)
    assert server.api("GET", MINE)[0] == 404
    assert server.api("GET", FOREIGN)[0] == 200
    foreign = stack.json("apply", "-y", "--prune", f"--allow-destroy={FOREIGN}", check=5)
    assert foreign["errors"][0]["code"] == "prune-not-made-here"


def test_a_quota_that_cannot_be_read_is_not_called_equal(stack, server):
    rules = 'path "sys/mounts" { capabilities = ["read"] }'
    server.api("PUT", "sys/policies/acl/narrow", {"policy": rules})
    made = server.api("POST", "auth/token/create", {"policies": ["narrow"]})[1]
    narrow = Stack(stack.folder, {**stack.environ, "BAO_TOKEN": made["auth"]["client_token"]}, {})
    planned = narrow.json("plan", check=None)["data"]
    assert planned["actions"] == []
    (warning,) = [one for one in planned["warnings"] if MINE in one["summary"]]
    assert warning["code"] == "access-unreadable"
