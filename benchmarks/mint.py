"""A mint of ours (key parsed once, connection kept) against the vendor SDK's.

Both ask one emulator in another process, over TLS, in turns; CPU is this process's own.
Fails when ours is not at least 40 times cheaper in CPU and 20 times faster. A server
takes its own time and the machine's noise reaches both, so the ratios are what counts.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import certifi
from support.emulator import running_emulator

ROLE = "skyflow-role-order-prod"
CTX = "order:ORD-42"
ROUNDS = 7
OURS_PER_ROUND = 150
SDK_PER_ROUND = 6
CPU_TARGET = 40
WALL_TARGET = 20


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
    from skyflowctl.skyflow.http_exchange import HttpTokenService
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


def compare(text: str, host: str) -> tuple[Cost, Cost]:
    """Return the median costs (ours, the SDK's) over rounds that alternate."""
    with asyncio.Runner() as runner:
        ours, sdk = our_minting(text, host, runner), sdk_minting(text)
        ours(20)
        sdk(2)
        costs = [
            (measure(ours, OURS_PER_ROUND), measure(sdk, SDK_PER_ROUND)) for _ in range(ROUNDS)
        ]
        ours(0)
    return median([pair[0] for pair in costs]), median([pair[1] for pair in costs])


def median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
    )


def main() -> int:
    with running_emulator() as emulator, tempfile.TemporaryDirectory() as folder:
        # Public roots and the local CA, as on a real machine: loading them is a cost.
        bundle = Path(folder, "bundle.pem")
        bundle.write_text(Path(certifi.where()).read_text() + emulator.ca.read_text())
        os.environ["SSL_CERT_FILE"] = str(bundle)
        ours, sdk = compare(emulator.new_account(ROLE), emulator.host)
    cpu, wall = sdk.cpu / ours.cpu, sdk.wall / ours.wall
    print(f"{'mint, ms each':<28}{'wall':>9}{'CPU':>9}")
    print(f"{'skyflow SDK':<28}{sdk.wall:>9.2f}{sdk.cpu:>9.2f}")
    print(f"{'skyflowctl, keep-alive':<28}{ours.wall:>9.2f}{ours.cpu:>9.2f}")
    print(f"{'SDK / skyflowctl':<28}{wall:>8.1f}x{cpu:>8.1f}x")
    print(f"{'target':<28}{f'>= {WALL_TARGET}x':>9}{f'>= {CPU_TARGET}x':>9}")
    return 0 if cpu >= CPU_TARGET and wall >= WALL_TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
