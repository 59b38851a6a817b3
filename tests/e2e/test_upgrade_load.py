"""An upgrade while eight clients read, the stock ``bao`` and raw HTTP, and none tries again."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Self

import pytest
from support.bao import BaoServer, bao_binary, running_bao
from support.emulator import RunningEmulator, running_emulator
from support.load import Load
from support.site import Site
from support.upgrading import (
    NEW,
    OLD,
    build_version,
    mount_with_role,
    register_version,
    running_version,
    version_source,
)

pytestmark = [pytest.mark.real_server, pytest.mark.slow, pytest.mark.timeout(480)]
UPGRADED, OTHERS = "skyflow/upgraded", ("skyflow/other-1", "skyflow/other-2")
MOST_LOST_SHARED = 20


@pytest.fixture(scope="module")
def service() -> Iterator[RunningEmulator]:
    with running_emulator() as emulator:
        yield emulator


def site_with(service: RunningEmulator, server: BaoServer, folder, *args: str) -> Site:
    """Three mounts with the old version, and the new one beside it."""
    site = Site(server, service, folder)
    for version in (OLD, NEW):
        source = version_source(folder, version)
        register_version(site, build_version(source, [server.plugin_dir], version), *args)
    for path in (UPGRADED, *OTHERS):
        mount_with_role(site, path, OLD)
    return site


class StockClients:
    """Processes of the stock client that read creds in turn, and never try again."""

    def __init__(self, server: BaoServer, paths: Sequence[str]) -> None:
        self.seen: Counter[str] = Counter()
        self._server = server
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(path,)) for path in paths]

    def _read(self, path: str) -> None:
        environ = {**self._server.env(), "BAO_MAX_RETRIES": "0"}
        while not self._end.is_set():
            done = subprocess.run(
                [bao_binary(), "read", f"{path}/creds/reader"],
                env=environ,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            failed = done.stderr.partition("Code: ")[2][:3] or done.stderr[-80:]
            self.seen["ok" if done.returncode == 0 else failed] += 1

    def __enter__(self) -> Self:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for one in self._threads:
            one.join()

    @property
    def lost(self) -> int:
        return self.seen.total() - self.seen["ok"]


def test_each_mount_with_its_own_process_loses_no_request(service, tmp_path) -> None:
    with running_bao() as server:
        site = site_with(service, server, tmp_path)
        raw = {
            path: Load(server, [f"{path}/creds/reader"], 2, seconds=8)
            for path in (UPGRADED, OTHERS[0])
        }
        with (
            StockClients(server, [UPGRADED, UPGRADED]) as upgraded,
            StockClients(server, OTHERS) as others,
        ):
            for one in raw.values():
                one.start()
            site.cli("plugin", "upgrade", "upgraded", "--to", NEW, "-y")
            seen = {path: one.result().statuses for path, one in raw.items()}
        assert running_version(site, UPGRADED) == NEW
        for statuses in seen.values():
            assert {status for status, count in statuses.items() if count} == {200}
        assert set(upgraded.seen) == {"ok"}
        assert set(others.seen) == {"ok"}
        assert min(upgraded.seen["ok"], others.seen["ok"]) > 0


def test_a_shared_process_loses_few_requests_and_it_is_said_before(service, tmp_path) -> None:
    with running_bao() as server:
        site = site_with(service, server, tmp_path, "--shared")
        command = ("plugin", "upgrade", "upgraded", "--to", NEW)
        refused = site.run(*command, code=5)
        assert "3 mounts share one process" in refused.stderr
        assert running_version(site, UPGRADED) == OLD
        with StockClients(server, OTHERS * 4) as others:
            done = site.cli(*command, "-y")
        assert done["data"]["at_risk"] == sorted([*OTHERS, UPGRADED])
        assert running_version(site, UPGRADED) == NEW
        assert set(others.seen) <= {"ok", "500"}
        assert others.lost < MOST_LOST_SHARED < others.seen["ok"]
