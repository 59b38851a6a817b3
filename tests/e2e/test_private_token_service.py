"""A private token endpoint, named on the command line: ``creds --direct`` really goes there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.emulator import RunningEmulator
from support.stack import BIN, clean_environ

MANIFEST = """version: 1
manifest: shop
plugin: {name: skyflow, version: v1.0.0}
mounts:
  order:
    credentials: {file: key.json}
    roles:
      producer: {role_ids: [r1]}
"""


@pytest.fixture
def folder(tmp_path: Path, emulator: RunningEmulator) -> Path:
    (tmp_path / "mounts.yaml").write_text(MANIFEST)
    (tmp_path / "key.json").write_text(emulator.new_account("r1"))
    (tmp_path / "key.json").chmod(0o600)
    return tmp_path


def direct(folder: Path, emulator: RunningEmulator, *more: str, **env: str):
    return subprocess.run(
        [str(BIN / "skyflowctl"), "creds", "order", "producer", "--direct", "-o", "json", *more],
        env={**clean_environ(), "HOME": str(folder), "SSL_CERT_FILE": str(emulator.ca), **env},
        cwd=folder,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def exchanges(folder: Path, emulator: RunningEmulator) -> int:
    client_id = json.loads((folder / "key.json").read_text())["clientID"]
    return sum(one["client_id"] == client_id for one in emulator.control.log())


def test_no_assertion_leaves_for_a_host_that_nobody_named(folder, emulator):
    done = direct(folder, emulator, "--allow-host", f"127.0.0.2:{emulator.port}")
    assert done.returncode == 65, done.stderr
    assert "not allowed" in done.stdout
    assert exchanges(folder, emulator) == 0


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_a_named_host_gives_a_token(folder, emulator, by):
    flags = ("--allow-host", emulator.host) if by == "flag" else ()
    env = {} if by == "flag" else {"SKYFLOWCTL_ALLOW_HOSTS": emulator.host}
    done = direct(folder, emulator, *flags, **env)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["data"]["source"] == "direct"
    assert exchanges(folder, emulator) == 1
