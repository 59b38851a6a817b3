"""What this release stores, the release before it reads: with that engine's own build.

The build comes from this repository's history; where a copy has none (an archive, a shallow
clone) the frozen readers of ``tests/support/previous_records.py`` are what is left, and they
run in the unit tests in any case.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from support.bao import BaoServer, running_bao
from support.emulator import RunningEmulator
from support.plugin import build_from, copy_source, mounted
from support.stack import REPO

from skyflowctl.version import semver

pytestmark = pytest.mark.real_server
PREVIOUS = "f60614fa7b695ef5fb0f7cf53e3983261a142460"
PATH = "skyflow/order"


def previous_source(folder: Path) -> Path:
    """The package as it was before records had a format number."""
    command = ["git", "-C", str(REPO), "archive", PREVIOUS, "src/skyflowctl"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this copy of the repository has no history back to {PREVIOUS[:7]}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


@pytest.fixture(scope="module")
def server():
    """A server with both builds in its plugin directory."""
    with running_bao() as running:
        sources = {
            "previous": previous_source(running.folder / "previous"),
            "ours": copy_source(running.folder / "copy"),
        }
        for name, source in sources.items():
            sha256 = build_from(source, running.plugin_dir, name)
            (running.folder / f"{name}.sha256").write_text(sha256)
        yield running


def switch(server: BaoServer, emulator: RunningEmulator, command: str) -> None:
    """Register one of the two builds under the same name and version, and reload."""
    body = {
        "sha256": (server.folder / f"{command}.sha256").read_text(),
        "command": command,
        "version": semver(),
        "args": ["--allow-host", emulator.host],
        "env": [f"SSL_CERT_FILE={emulator.ca}"],
    }
    assert server.api("PUT", "sys/plugins/catalog/secret/skyflow", body)[0] == 204
    status, answer = server.api("PUT", "sys/plugins/reload/backend", {"plugin": "skyflow"})
    assert status == 200, answer


def test_the_previous_release_reads_rotates_and_cuts_off_what_this_one_wrote(
    server: BaoServer, emulator: RunningEmulator
):
    switch(server, emulator, "ours")
    with mounted(server, PATH, "skyflow"):
        first = emulator.new_account("role-1")
        second = emulator.control.create_key(json.loads(first)["clientID"]).reveal()
        role = {"role_ids": ["role-1"], "ctx_pattern": "order:*", "ctx_probe": "order:probe"}
        assert server.api("POST", f"{PATH}/roles/writer", role)[0] == 200
        for text in (first, second):
            body = {"credentials_json": text, "description": "ours", "rotation_id": "rot-1"}
            body = body if text == second else {"credentials_json": text}
            status, answer = server.api("POST", f"{PATH}/config", body)
            assert status == 200, answer
        assert server.api("POST", f"{PATH}/config/commit", {"rotation_id": "rot-1"})[0] == 200
        before = server.api("GET", f"{PATH}/config")[1]["data"]

        switch(server, emulator, "previous")
        after = server.api("GET", f"{PATH}/config")[1]["data"]
        assert {name: before[name] for name in after} == after
        assert server.api("GET", f"{PATH}/roles/writer")[1]["data"]["ctx_pattern"] == "order:*"
        creds = f"{PATH}/creds/writer?ctx=order:1"
        assert server.api("GET", creds)[1]["data"]["key_id"] == json.loads(second)["keyID"]
        assert server.api("POST", f"{PATH}/config/rollback", {})[0] == 200
        assert server.api("GET", creds)[1]["data"]["key_id"] == json.loads(first)["keyID"]
        assert server.api("POST", f"{PATH}/roles/writer", {"description": "d"})[0] == 200

        switch(server, emulator, "ours")  # and forward again: what the old one wrote is read
        assert server.api("GET", creds)[1]["data"]["key_id"] == json.loads(first)["keyID"]
        assert server.api("GET", f"{PATH}/roles/writer")[1]["data"]["description"] == "d"
        switch(server, emulator, "previous")
        assert server.api("DELETE", f"{PATH}/config")[0] == 200
        assert server.api("GET", creds)[0] == 400
