"""One shared plugin process for 1,000 mounts: applied, planned empty, and all healthy."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bao import BaoServer, running_bao
from support.emulator import RunningEmulator, running_emulator
from support.plugin import processes_of, register_skyflow
from support.stack import BIN, clean_environ

pytestmark = [pytest.mark.real_server, pytest.mark.slow, pytest.mark.timeout(900)]

MOUNTS, ROLES = 1000, 5
# Further sockets of the process: its own, the broker's, one pool to the token service.
FILES_BESIDES = 150


@pytest.fixture(scope="module")
def emulator() -> Iterator[RunningEmulator]:
    with running_emulator() as running:
        yield running


@pytest.fixture(scope="module")
def server(emulator: RunningEmulator) -> Iterator[BaoServer]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 16384:
        pytest.fail(f"this machine lets a process open only {hard} files")
    # What most services start with: the plugin has to raise it itself.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        with running_bao() as running:
            args = ["--shared", "--allow-host", emulator.host]
            register_skyflow(running, args=args, env=[f"SSL_CERT_FILE={emulator.ca}"])
            yield running
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, emulator: RunningEmulator) -> Path:
    path = tmp_path_factory.mktemp("thousand")
    (path / "key.json").write_text(emulator.new_account(*(f"role-{n}" for n in range(ROLES))))
    (path / "key.json").chmod(0o600)
    roles = "".join(f"      role-{n}: {{role_ids: [role-{n}]}}\n" for n in range(ROLES))
    one = "  m{number:04}:\n    credentials: {{file: key.json}}\n    roles:\n{roles}"
    mounts = "".join(one.format(number=number, roles=roles) for number in range(MOUNTS))
    (path / "mounts.yaml").write_text(f"version: 1\nmanifest: thousand\nmounts:\n{mounts}")
    return path


def cli(server: BaoServer, emulator: RunningEmulator, folder: Path, *args: str) -> dict[str, Any]:
    env = {name: server.env()[name] for name in ("BAO_ADDR", "BAO_TOKEN", "BAO_CACERT")}
    env |= {"HOME": str(folder), "SSL_CERT_FILE": str(emulator.ca)}
    done = subprocess.run(
        [str(BIN / "skyflowctl"), *args, "-o", "json"],
        env={**clean_environ(), **env, "SKYFLOWCTL_ALLOW_HOSTS": emulator.host},
        cwd=folder,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    return json.loads(done.stdout)["data"]


def test_g2_a_thousand_mounts_are_applied_planned_empty_and_all_healthy(
    server: BaoServer, emulator: RunningEmulator, folder: Path
) -> None:
    def run(*args: str) -> dict[str, Any]:
        return cli(server, emulator, folder, *args)

    applied = run("apply", "-y")["summary"]
    assert (applied["failed"], applied["create"] >= MOUNTS * (ROLES + 2)) == (0, True)
    assert run("plan")["actions"] == []
    begun = time.monotonic()
    states = [one["state"] for one in run("health")["mounts"]]
    took = time.monotonic() - begun
    assert states == ["ok"] * MOUNTS
    assert took < 60
    (process,) = processes_of(server, "skyflow")
    files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    # A storage connection each, and one to the token service for every role tried at once.
    assert 1024 < files < (1 + ROLES) * MOUNTS + FILES_BESIDES
