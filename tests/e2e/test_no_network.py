"""Dry runs inside an empty network namespace: not even loopback is up there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.stack import BIN, EXAMPLE, clean_environ

pytestmark = [pytest.mark.needs("unshare")]


@pytest.fixture(scope="module")
def isolated() -> list[str]:
    """The words that start a program in an empty network namespace."""
    words = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us make network namespaces")
    return words


def run(isolated: list[str], folder: Path, *args: str) -> dict:
    done = subprocess.run(
        [*isolated, str(BIN / "skyflowctl"), *args, "-f", str(EXAMPLE), "-o", "json"],
        env={**clean_environ(), "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_namespace_has_no_network(isolated: list[str]) -> None:
    probe = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    done = subprocess.run(
        [*isolated, str(BIN / "python"), "-c", probe], capture_output=True, text=True, check=False
    )
    assert "Network is unreachable" in done.stderr


def test_apply_dry_run(isolated: list[str], tmp_path: Path) -> None:
    envelope = run(isolated, tmp_path, "apply", "--dry-run")
    assert envelope["data"]["summary"]["create"] > 0
    assert list(tmp_path.iterdir()) == []


def test_creds_dry_run(isolated: list[str], tmp_path: Path) -> None:
    data = run(
        isolated, tmp_path, "creds", "order", "order-producer", "--ctx", "order:ORD-42", "--dry-run"
    )["data"]
    assert data["source"] == "dry-run"
    assert data["access_token"].count(".") == 2
