"""A manifest with ``servers`` on a real server that is no dev stack: refused, or applied."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from support.bao import BaoServer, running_bao
from support.stack import BIN

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

BASE = """version: 1
manifest: shop
mounts: {}
policies:
  reader: {text: 'path "kv/data/shop" { capabilities = ["read"] }'}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[BaoServer]:
    with running_bao() as running:
        (running.folder / "mounts.yaml").write_text(BASE)
        yield running


def run(server: BaoServer, servers: str, *words: str) -> dict:
    """Run a command with the manifest and an overlay that names these servers."""
    overlay = f"version: 1\nmanifest: shop\nservers: [{json.dumps(servers)}]\n"
    (server.folder / "overlay.yaml").write_text(overlay)
    done = subprocess.run(
        [str(BIN / "skyflowctl"), *words, "-f", "mounts.yaml", "-f", "overlay.yaml", "-o", "json"],
        env=server.env(),
        cwd=server.folder,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return {**json.loads(done.stdout), "code": done.returncode}


def written(server: BaoServer) -> list[str]:
    """The paths of every write that the server's audit log has."""
    entries = map(json.loads, server.audit_log.read_text().splitlines())
    writes = {"create", "update", "delete", "patch"}
    return [one["request"]["path"] for one in entries if one["request"]["operation"] in writes]


def test_a_staging_overlay_writes_nothing_to_production(server: BaoServer) -> None:
    before = written(server)
    for servers in ("https://staging.shop.example:8200", "b12c3ecd-83d6-58c0-ffa0-3d14686f6feb"):
        for words in (("plan",), ("apply", "-y"), ("doctor", "--idempotence", "-y")):
            found = run(server, servers, *words)
            assert (found["code"], found["errors"][0]["code"]) == (5, "server-not-in-manifest")
            assert servers in found["errors"][0]["why"]
    assert written(server) == before


def test_the_right_server_is_known_by_its_cluster_id_and_by_its_address(server: BaoServer) -> None:
    _, health = server.api("GET", "sys/health")
    assert run(server, health["cluster_id"], "apply", "-y")["code"] == 0
    assert written(server).count("sys/policies/acl/reader") == 2, "a request and its response"
    status, policy = server.api("GET", "sys/policies/acl/reader")
    assert (status, "kv/data/shop" in policy["data"]["policy"]) == (200, True)
    planned = run(server, f"{server.address}/", "plan")
    assert (planned["code"], planned["data"]["actions"]) == (0, [])
