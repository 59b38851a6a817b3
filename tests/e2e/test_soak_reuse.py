"""Reused tokens at scale: thousands of jobs at once, a token service that goes away, 20,000 ctx.

``SKYFLOWCTL_REUSE_READS`` is how many reads the jobs make, 20,000 by default.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.bao import BaoServer, running_bao
from support.fixed_tokens import FixedTokens, fixed_tokens
from support.load import Load
from support.loaded import Held, log_in, mount, register_ours, write
from support.plugin import processes_of

READS = int(os.environ.get("SKYFLOWCTL_REUSE_READS", "20000"))
CTXS, MANY, LIMIT = 20, 20_000, 10_000
# 10,000 tokens of 600 bytes, each with its key and its entry; measured 15 MB.
MOST_MB = 40

pytestmark = [pytest.mark.real_server, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def tokens() -> Iterator[FixedTokens]:
    with fixed_tokens() as running:
        yield running


@pytest.fixture
def server(tokens: FixedTokens) -> Iterator[BaoServer]:
    with running_bao() as running:
        register_ours(running, tokens, "--shared")
        for name in ("jobs", "other"):
            mount(running, f"skyflow/{name}", tokens.credentials())
            write(running, f"skyflow/{name}/roles/reader", {"reuse_min_ttl": "30m"})
        yield running


def paths(count: int) -> list[str]:
    return [f"skyflow/jobs/creds/reader?ctx=job:{number}" for number in range(count)]


def test_jobs_that_start_together_share_tokens_and_outlive_the_token_service(server, tokens):
    logins = [log_in(server, name) for name in ("one", "two")]
    before = tokens.exchanges()
    jobs = Load(server, paths(CTXS), 256, requests=READS, tokens=logins).run()
    minted = tokens.exchanges() - before
    print(f"{jobs.granted} reads, {jobs.rate:.0f} per s, {minted} mints, p99 {jobs.p99:.0f} ms")
    assert jobs.statuses == {200: READS, 0: 0}, jobs.refusal
    assert minted == len(logins) * CTXS
    assert jobs.reused == READS - minted
    tokens.stop()
    later = Load(server, paths(CTXS), 64, requests=2_000, tokens=logins).run()
    assert later.statuses == {200: 2_000, 0: 0}, later.refusal
    assert later.reused == 2_000
    # The service is really gone: a ctx that was not minted before has no token.
    other = Load(server, [*paths(CTXS + 1)[CTXS:]], 1, requests=1, tokens=logins).run()
    assert other.statuses == {503: 1, 0: 0}


def test_20_000_ctx_leave_10_000_tokens_and_a_bounded_memory(server, tokens):
    login = [log_in(server)]
    pid = next(one.pid for one in processes_of(server, "skyflow"))

    def read(*chosen: str) -> int:
        result = Load(server, chosen, min(64, len(chosen)), requests=len(chosen), tokens=login)
        told = result.run()
        assert told.statuses == {200: len(chosen), 0: 0}, told.refusal
        return told.reused

    every = paths(MANY)
    assert read(*every[:100]) == 0
    before = Held.of(pid).memory
    assert read(*every[100:]) == 0
    grown = Held.of(pid).memory - before
    print(f"{grown:.1f} MB more after {MANY} ctx")
    assert grown < MOST_MB
    health = server.api("GET", "skyflow/jobs/health")[1]["data"]
    assert health["reuse"]["entries"] == LIMIT
    assert read(every[-1]) == 1
    assert read(every[0]) == 0, "the least recently used one is still kept"


def test_mounts_of_one_process_share_no_tokens_and_keep_theirs(server):
    login = [log_in(server)]

    def read(name: str) -> int:
        load = Load(server, [f"skyflow/{name}/creds/reader"], 1, requests=1, tokens=login)
        return load.run().reused

    assert [read("jobs"), read("other"), read("jobs"), read("other")] == [0, 0, 1, 1]
    write(server, "skyflow/other/config", {"description": "changed"})
    assert [read("jobs"), read("other")] == [1, 0]
