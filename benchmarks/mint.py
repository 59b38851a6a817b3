"""A mint of ours (key parsed once, connection kept) against the vendor SDK's.

    python benchmarks/mint.py [ROUNDS]

Both ask one emulator in another process, over TLS, in turns; CPU is this process's own.
Limits: ours costs at least 40 times less CPU and takes 20 times less time. See
``_compare.py`` for what counts as missed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import certifi
from _compare import Ratio, in_turns, judge, rounds_wanted, show_medians
from support.emulator import running_emulator

ROLE = "skyflow-role-order-prod"
CTX = "order:ORD-42"
OURS_PER_ROUND = 100
SDK_PER_ROUND = 4
CPU_LIMIT = 40
WALL_LIMIT = 20


@dataclass(frozen=True)
class Cost:
    """Milliseconds per mint."""

    wall: float
    cpu: float


def measure(mint_many: Callable[[int], None], count: int) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    mint_many(count)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Cost(wall / count * 1000, cpu / count * 1000)


def sdk_minting(text: str) -> Callable[[int], None]:
    from skyflow.service_account import generate_bearer_token_from_creds
    from skyflow.utils.enums import LogLevel
    from skyflow.utils.logger import Logger

    quiet = Logger(LogLevel.OFF)
    options = {"role_ids": [ROLE], "ctx": CTX}

    def mint_many(count: int) -> None:
        for _ in range(count):
            token, _ = generate_bearer_token_from_creds(text, options, quiet)
            assert token

    return mint_many


def our_minting(text: str, host: str, runner: asyncio.Runner) -> Callable[[int], None]:
    from skyflowctl.clock import SystemClock
    from skyflowctl.skyflow.http.token_service import HttpTokenService
    from skyflowctl.skyflow.minting import Minter, MintingCredential, SigningKey
    from skyflowctl.skyflow.service_account import parse_service_account

    hosts = frozenset({host})
    account, _ = parse_service_account(text, allowed_hosts=hosts, now=datetime.now(UTC))
    credential = MintingCredential(account, SigningKey.trusted(account.private_key))
    service = HttpTokenService()
    minter = Minter(service, SystemClock(), allowed_hosts=hosts)

    async def several(count: int) -> None:
        for _ in range(count):
            assert (await minter.mint(credential, ROLE, CTX)).access_token

    return lambda count: runner.run(several(count)) if count else runner.run(service.aclose())


def compare(text: str, host: str, rounds: int) -> tuple[list[Cost], list[Cost]]:
    """Return the costs of every round (ours, the SDK's)."""
    with asyncio.Runner() as runner:
        ours = our_minting(text, host, runner)
        cases = {
            "ours": partial(measure, ours, OURS_PER_ROUND),
            "sdk": partial(measure, sdk_minting(text), SDK_PER_ROUND),
        }
        found = in_turns(cases, rounds)
        ours(0)
    return found["ours"], found["sdk"]


def main() -> int:
    with running_emulator() as emulator, tempfile.TemporaryDirectory() as folder:
        # Public roots and the local CA, as on a real machine: loading them is a cost.
        bundle = Path(folder, "bundle.pem")
        bundle.write_text(Path(certifi.where()).read_text() + emulator.ca.read_text())
        os.environ["SSL_CERT_FILE"] = str(bundle)
        ours, sdk = compare(emulator.new_account(ROLE), emulator.host, rounds_wanted())
    show_medians(
        "ms a mint",
        {
            "skyflow SDK, wall": [cost.wall for cost in sdk],
            "skyflow SDK, CPU": [cost.cpu for cost in sdk],
            "skyflowctl, wall": [cost.wall for cost in ours],
            "skyflowctl, CPU": [cost.cpu for cost in ours],
        },
    )
    ratios = [
        Ratio("CPU", [c.cpu for c in sdk], [c.cpu for c in ours], at_least=CPU_LIMIT),
        Ratio("wall", [c.wall for c in sdk], [c.wall for c in ours], at_least=WALL_LIMIT),
    ]
    return judge("skyflow SDK / skyflowctl, keep-alive", ratios)


if __name__ == "__main__":
    sys.exit(main())
