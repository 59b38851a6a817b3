"""Many mounts in one shared process: each costs its storage connection, and no other file."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.bao import running_bao
from support.emulator import running_emulator
from support.plugin import processes_of, register_skyflow

pytestmark = [pytest.mark.real_server, pytest.mark.slow, pytest.mark.timeout(300)]

MOUNTS = 50
# Of the token service: the mounts ask one after the other, so they need one connection.
SHARED = 2


def test_fifty_mounts_share_their_connections_to_the_token_service():
    with running_emulator() as emulator, running_bao() as server:
        args = ["--shared", "--allow-host", emulator.host]
        register_skyflow(server, args=args, env=[f"SSL_CERT_FILE={emulator.ca}"])
        credentials = emulator.new_account("role-1")

        def open_files() -> int:
            (process,) = processes_of(server, "skyflow")
            return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))

        def mount(name: str) -> None:
            for path, fields in (
                (f"sys/mounts/{name}", {"type": "skyflow"}),
                (f"{name}/config", {"credentials_json": credentials}),
                (f"{name}/roles/reader", {"role_ids": ["role-1"]}),
            ):
                status, body = server.api("POST", path, fields)
                assert status in {200, 204}, body
            assert server.api("GET", f"{name}/creds/reader")[0] == 200

        mount("first")
        before = open_files()
        for number in range(MOUNTS):
            mount(f"mount-{number}")
        assert MOUNTS <= open_files() - before <= MOUNTS + SHARED
