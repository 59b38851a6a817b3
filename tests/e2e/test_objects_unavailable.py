"""Objects of an engine that no server here has (aws), over HTTP, with every request recorded."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.scripted import Answer, ScriptedServer, Seen, scripted
from support.stack import BIN, clean_environ

from skyflowctl.vault import memory_server
from skyflowctl.vault.memory_access import BUILT_IN_ENGINES, HttpError, MemoryAccess
from skyflowctl.vault.memory_server import MemoryRequest, MemoryServer

MANIFEST = """\
version: 1
manifest: shop
mounts: {}
engines:
  aws:
    type: aws
    objects:
      config/root:
        fields: {region: eu-west-1, access_key: AKIAEXAMPLE}
        secret: {secret_key: {env: AWS_SECRET}}
        secret_version: 1
      roles/deploy: {fields: {credential_type: iam_user, policy_arns: ["arn:aws:iam::aws:policy/ReadOnlyAccess"]}}
"""


class AwsAccess(MemoryAccess):
    """As the aws engine answers: the secret key is stored and never returned."""

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if isinstance(body.get("region"), Mapping):  # as the server refuses the probe of a guard
            raise HttpError(400, "Field validation failed")
        found = super().answer(method, path, body)
        return found and {name: one for name, one in found.items() if name != "secret_key"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.setattr(memory_server, "BUILT_IN_ENGINES", BUILT_IN_ENGINES | {"aws"})
    memory = MemoryServer("skyflow", "v1.0.0", make_engine=lambda *_: None, access=AwsAccess())

    def answer(seen: Seen) -> Answer:
        path = urlsplit(seen.path).path.removeprefix("/v1/")
        body = json.loads(seen.body) if seen.body else {}
        asked = MemoryRequest(seen.method, path, body, {}, seen.headers)
        status, reply = asyncio.run(memory.answer(asked))
        return Answer(status, reply if status != 204 else None)

    with scripted() as running:
        running.script = answer
        yield running


def run(server: ScriptedServer, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environ = clean_environ() | {
        "HOME": str(folder),
        "BAO_ADDR": server.address,
        "BAO_TOKEN": "root",
        "AWS_SECRET": "hidden-aws-key",
    }
    return subprocess.run(
        [str(BIN / "skyflowctl"), *args],
        env=environ,
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def sent(server: ScriptedServer) -> list[tuple[str, dict[str, Any]]]:
    """The writes below the engine, without the probes of guards."""
    writes = [
        (one.path.removeprefix("/v1/"), json.loads(one.body))
        for one in server.seen
        if one.method == "POST" and "aws" in one.path
    ]
    return [(path, body) for path, body in writes if "skyflowctl_guard_probe" not in body]


def test_aws_is_configured_once_and_only_differences_are_sent(server, tmp_path):
    manifest = tmp_path / "mounts.yaml"
    manifest.write_text(MANIFEST)
    done = run(server, tmp_path, "apply", "-y")
    assert done.returncode == 0, done.stderr
    assert "hidden-aws-key" not in done.stdout + done.stderr
    root = {"region": "eu-west-1", "access_key": "AKIAEXAMPLE", "secret_key": "hidden-aws-key"}
    assert ("aws/config/root", root) in sent(server)
    assert ("sys/mounts/aws/tune", {"options": {"secret_version:config/root": "1"}}) in sent(server)
    server.seen.clear()
    again = run(server, tmp_path, "plan", "--detailed-exitcode")
    assert (again.returncode, sent(server)) == (0, [])
    manifest.write_text(
        MANIFEST.replace("eu-west-1", "eu-west-3").replace("iam_user", "assumed_role")
    )
    changed = run(server, tmp_path, "apply", "-y")
    assert changed.returncode == 0, changed.stderr
    written = dict(sent(server))
    # A write without the key would clear it, so it is sent again.
    assert written["aws/config/root"] == {**root, "region": "eu-west-3"}
    assert written["aws/roles/deploy"]["credential_type"] == "assumed_role"
