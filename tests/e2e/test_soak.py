"""One mount under load for a long time: no error, and the plugin's process does not grow.

``SKYFLOWCTL_SOAK_SECONDS`` is how long the 64 clients ask, 60 by default; 600 is the full run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.bao import BaoServer, running_bao
from support.fixed_tokens import FixedTokens, fixed_tokens
from support.load import Load
from support.loaded import Held, Watch, log_in, memory, mount, register_ours
from support.plugin import processes_of

SECONDS = float(os.environ.get("SKYFLOWCTL_SOAK_SECONDS", "60"))
GROWTH_MB = 3
"""One lost task a token is 60 MB a minute, one lost reference to a token 20 MB."""
WARM, SEVERAL = 1.0, 2

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.timeout(300 + 2 * SECONDS),
]


@pytest.fixture(scope="module")
def tokens() -> Iterator[FixedTokens]:
    with fixed_tokens((0, 0.1)) as running:
        yield running


@pytest.fixture(scope="module")
def server(tokens: FixedTokens) -> Iterator[BaoServer]:
    with running_bao() as running:
        register_ours(running, tokens)
        mount(running, "skyflow/quick", tokens.credentials(0))
        mount(running, "skyflow/slow", tokens.credentials(1))
        yield running


def process_of_mount(server: BaoServer, path: str) -> int:
    """The pid of the plugin process that answers a mount: the one whose CPU a load moves."""
    pids = [one.pid for one in processes_of(server, "skyflow")]
    before = {pid: _ticks(pid) for pid in pids}
    Load(server, [path], 8, seconds=WARM).run()
    return max(pids, key=lambda pid: _ticks(pid) - before[pid])


def _ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - a pseudo file
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_64_clients_for_long_leave_memory_descriptors_and_threads_as_they_were(server):
    path = "skyflow/quick/creds/reader"
    pid = process_of_mount(server, path)
    load = Load(server, [path], 64, seconds=SECONDS, tokens=[log_in(server)])
    with Watch(pid, SECONDS / 60) as watch:
        result = load.run()
    early, late = watch.quarters()
    print(f"{result.granted} tokens in {result.seconds:.0f} s, p99 {result.p99:.0f} ms")
    print(f"second quarter: {_shown(early)}; last quarter: {_shown(late)}")
    assert set(result.statuses) <= {200, 0}, result.refusal
    assert result.statuses.get(0, 0) == 0
    assert memory(late) - memory(early) < GROWTH_MB
    assert max(one.files for one in late) <= max(one.files for one in early) + SEVERAL
    assert max(one.threads for one in late) <= max(one.threads for one in early) + SEVERAL


@pytest.mark.parametrize("name", ["quick", "slow"])
def test_256_clients_for_a_while_see_no_refusal(server, name):
    path = f"skyflow/{name}/creds/reader"
    result = Load(server, [path], 256, seconds=SECONDS / 4, tokens=[log_in(server)]).run()
    print(f"{name}: {result.granted} tokens, p99 {result.p99:.0f} ms")
    assert result.granted > 256
    assert {status for status, count in result.statuses.items() if count} == {200}, result.refusal


def _shown(seen: list[Held]) -> str:
    files, threads = max(one.files for one in seen), max(one.threads for one in seen)
    return f"{memory(seen):.1f} MB, {files} descriptors, {threads} threads"
