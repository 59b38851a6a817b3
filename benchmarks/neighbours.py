"""Tokens of one mount while another mount's token service is slow: the ratio of their p99.

    python benchmarks/neighbours.py [ROUNDS]

A real server and one engine process for all mounts (``--shared``), the harder case. In one
round of a pair nothing else is asked; in the other a second process keeps 120 callers reading
another mount, whose token service answers after 9 s. The limit is the design's: a slow token
service must not move another mount's p99 by more than 1.2x.
"""

import http.client
import sys

from _compare import Ratio, in_turns, judge, rounds_wanted, show_medians
from support.bao import BaoServer, running_bao
from support.crowd import connect, read, waiting_callers
from support.emulator import RunningEmulator, running_emulator
from support.faulty_emulator import Fault, FaultKind
from support.plugin import register_skyflow

ALONE, BESIDE = "alone", "beside a slow mount"
READS = 600


def mount(server: BaoServer, emulator: RunningEmulator, name: str) -> str:
    """Enable and configure a mount with a role and an account of its own; its client id."""
    credentials = emulator.new_account("role-1")
    for path, fields in (
        (f"sys/mounts/skyflow/{name}", {"type": "skyflow"}),
        (f"skyflow/{name}/config", {"credentials_json": credentials}),
        (f"skyflow/{name}/roles/reader", {"role_ids": ["role-1"]}),
    ):
        status, body = server.api("POST", path, fields)
        if status not in {200, 204}:
            raise SystemExit(f"{path}: {status} {body}")
    return str(server.api("GET", f"skyflow/{name}/config")[1]["data"]["client_id"])


def p99_ms(server: BaoServer, line: http.client.HTTPConnection) -> float:
    """The time in ms that 99 of 100 reads of the measured mount stay below."""
    replies = [read(line, server.token, "skyflow/measured/creds/reader") for _ in range(READS)]
    if any(one.status != 200 for one in replies):
        raise SystemExit("a read of the measured mount failed")
    return sorted(one.seconds for one in replies)[-READS // 100] * 1000


def main() -> int:
    """Measure in turns; return 1 when the limit is missed."""
    with running_emulator() as emulator, running_bao() as server:
        register_skyflow(
            server,
            args=["--shared", "--allow-host", emulator.host],
            env=[f"SSL_CERT_FILE={emulator.ca}"],
        )
        mount(server, emulator, "measured")
        crowded = mount(server, emulator, "crowded")
        line = connect(server)

        def alone() -> float:
            return p99_ms(server, line)

        def beside() -> float:
            with waiting_callers(server, "skyflow/crowded/creds/reader", 120):
                return p99_ms(server, line)

        delay = Fault(FaultKind.DELAY, 0, seconds=9.0, client_id=crowded)
        emulator.control.add_fault(delay)
        found = in_turns({ALONE: alone, BESIDE: beside}, rounds_wanted(15))
    show_medians("p99 in ms", found)
    ratio = Ratio(BESIDE, found[BESIDE], found[ALONE], at_most=1.2)
    return judge("p99 of a mount, against the same mount alone", [ratio])


if __name__ == "__main__":
    sys.exit(main())
