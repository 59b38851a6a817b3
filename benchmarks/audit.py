"""``audit who --ctx`` against ``grep | jq``, and ``audit report`` against DuckDB, on one log.

    python benchmarks/audit.py [ROUNDS] [SIZE_MB]

A synthetic log of the real shape (``_audit_log.py``), half of its entries creds requests. The
peers only select: jq prints the fields of the lines that grep found, DuckDB counts requests by
path, login and error; ours join, count and print the answer. Every run is one whole process, page
cache warm. Limits: who at most 1.2 times the time of grep | jq, report at most 1.4 times DuckDB's,
each under 300 MB resident. ``audit incident`` of the key that minted all tokens of the log, with
its evidence, has no peer: at most 60 seconds. DuckDB comes with the ``bench`` extra; without it,
report has no peer.

Time depends on what else the machine does, so the CPU seconds of all processes of a case are
compared as well. ``decoder alone`` reads the log in blocks and gives each line to the JSON decoder
that the report uses, with no field wanted: what a report costs before it looks at an entry.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from _audit_log import KEY_ID, write_log
from _compare import BIN, Ratio, in_turns, judge, plain_environ, show_medians

ROUNDS = 5
SIZE_MB = 1024
CTX = "order:1234"
MOST_MB = 300
INCIDENT_SECONDS = 60

OURS = '.type == "response" and .request.mount_type == "skyflow"'
ROW = "[.time, .auth.metadata.role_name, .request.path, .request.data.ctx, .request.id, .error]"
WHO = f'select({OURS} and .request.data.ctx == "{CTX}") | {ROW}'
DUCKDB = """
import sys, duckdb
columns = {"type": "VARCHAR", "error": "VARCHAR",
           "request": "STRUCT(path VARCHAR, mount_type VARCHAR)",
           "auth": "STRUCT(metadata STRUCT(role_name VARCHAR))"}
found = duckdb.execute(
    "select request.path, auth.metadata.role_name, error, count(*) "
    "from read_json(?, format='newline_delimited', columns=?) "
    "where type = 'response' and request.mount_type = 'skyflow' group by all",
    [sys.argv[1], columns],
).fetchall()
assert found
"""
DECODER = """
import os, sys, msgspec
decode = msgspec.json.Decoder(msgspec.defstruct("Nothing", [])).decode_lines
log, block, at, lines = os.open(sys.argv[1], os.O_RDONLY), bytearray(1 << 18), 0, 0
while size := block.rfind(b"\\n", 0, os.preadv(log, [block], at)) + 1:
    lines += len(decode(memoryview(block)[:size]))
    at += size
assert lines
"""


@dataclass(frozen=True)
class Spent:
    """One process and those that it started: seconds, CPU seconds, and the most megabytes that one
    of them held."""

    seconds: float
    cpu: float
    megabytes: float


def run(command: Sequence[str], environ: dict[str, str]) -> Spent:
    """Run one process, and all that it starts, to the end; it must succeed."""
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=environ, stdout=subprocess.DEVNULL, stderr=errors, close_fds=True
        )
        _, status, usage = os.wait4(process.pid, 0)
        spent = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)} failed: {errors.read().decode()}")
    return Spent(spent, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def commands(log: str) -> dict[str, list[str]]:
    ours = [str(BIN / "skyflowctl"), "audit"]
    return {
        "cat": ["cat", log],
        "grep | jq": ["sh", "-c", 'grep -F "$0" "$1" | jq -c "$2"', f'"ctx":"{CTX}"', log, WHO],
        "audit who --ctx": [*ours, "who", log, "--ctx", CTX, "-o", "json"],
        "audit report": [*ours, "report", log, "-o", "json"],
        "audit incident": [
            "sh",
            "-c",
            'rm -rf "$0"; exec "$@"',
            f"{log}.evidence",
            *ours,
            "incident",
            log,
            "--key-id",
            KEY_ID,
            "--evidence",
            f"{log}.evidence",
        ],
        "decoder alone": [sys.executable, "-c", DECODER, log],
        **({"DuckDB": [sys.executable, "-c", DUCKDB, log]} if find_spec("duckdb") else {}),
    }


def without_server() -> dict[str, str]:
    """An environment that names no server: everything comes from the log."""
    environ = plain_environ()
    return {
        name: value for name, value in environ.items() if not name.startswith(("BAO_", "VAULT_"))
    }


def measure(log: str, rounds: int) -> dict[str, list[Spent]]:
    environ = without_server()
    cases = {
        name: lambda command=command: run(command, environ)
        for name, command in commands(log).items()
    }
    return in_turns(cases, rounds)


def verdict(found: dict[str, list[Spent]]) -> int:
    """Print all figures; 1 when a limit is missed."""
    seconds = {name: [one.seconds for one in spent] for name, spent in found.items()}
    cpu = {name: [one.cpu for one in spent] for name, spent in found.items()}
    show_medians("seconds, process start included", seconds)
    show_medians("CPU seconds of all processes", cpu)
    limits = {"audit who --ctx / grep | jq": 1.2}
    if "DuckDB" in seconds:
        limits |= {"audit report / DuckDB": 1.4}
    else:
        print("DuckDB is not installed: pip install 'skyflowctl[bench]'")
    pairs = {name: name.split(" / ") for name in limits}
    failed = judge(
        "how much longer than a peer that only selects",
        [
            Ratio(name, seconds[ours], seconds[peer], at_most=limits[name])
            for name, (ours, peer) in pairs.items()
        ],
    )
    if "DuckDB" in cpu:
        pairs["decoder alone / DuckDB"] = ["decoder alone", "DuckDB"]
    judge(
        "how much more CPU",
        [Ratio(name, cpu[ours], cpu[peer]) for name, (ours, peer) in pairs.items()],
    )
    longest = max(seconds["audit incident"])
    failed |= longest > INCIDENT_SECONDS
    word = "ok" if longest <= INCIDENT_SECONDS else "MISSED"
    print(f"  {'audit incident':<30}{longest:>8.1f} s at most; limit {INCIDENT_SECONDS} s: {word}")
    for name in ("audit who --ctx", "audit report"):
        most = max(one.megabytes for one in found[name])
        word = "ok" if most < MOST_MB else "MISSED"
        failed |= most >= MOST_MB
        print(f"  {name:<30}{most:>8.0f} MB resident at most; limit {MOST_MB} MB: {word}")
    return int(failed)


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    size = (int(sys.argv[2]) if len(sys.argv) > 2 else SIZE_MB) << 20
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "audit.log"
        asked = write_log(log, size, plain=True)
        print(f"a log of {log.stat().st_size >> 20} MB, {asked} creds requests")
        return verdict(measure(str(log), rounds))


if __name__ == "__main__":
    sys.exit(main())
