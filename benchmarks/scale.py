"""Plan, apply, status and health of N mounts with 5 roles each, against a raw pooled client.

    python benchmarks/scale.py [N [ROUNDS [COMMAND...]]]    # 100 mounts, 3 rounds, all commands

A real server, one engine process for all mounts (``--shared``), a key of its own for each mount
(at most 100 keys). The floor is ``_raw_client.py``: a process of its own with as many connections
as the command, which sends the same reads and, for an apply, the writes that N mounts need in
the same order. Command and floor are measured in turns; after each apply all mounts are disabled
again. Everything is done with N/2 mounts as well: the exponent of growth is the binary logarithm
of the ratio, so 1.00 is linear. CPU is that of the process, "all CPU" with engine and server;
requests are the entries in the server's audit log. On a machine that does other work too, the wall
time of the process with more CPU grows more: then only the ratios of CPU hold.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from _compare import BIN, Ratio, cpu_seconds, judge, plain_environ
from support.bao import BaoServer, running_bao
from support.emulator import RunningEmulator, running_emulator
from support.plugin import processes_of, register_skyflow

ROLES = 5
KEYS = 100
CONNECTIONS = {"apply": 10, "plan": 10, "status": 8, "health": 8}
COMMANDS = {
    "apply": ("apply", "-y", "-q"),
    "plan": ("plan", "--detailed-exitcode", "-q"),
    "status": ("status", "-q"),
    "health": ("health", "-q"),
}
LIMITS = {"apply": 1.3, "plan": 1.6}
MOST_GROWTH = 1.1
MOST_MEMORY_GROWTH = 1.5
RAW = Path(__file__).parent / "_raw_client.py"


@dataclass(frozen=True, slots=True)
class Spent:
    """What one process cost: seconds, CPU seconds, MB, requests; and CPU of engine and server."""

    wall: float
    cpu: float
    rss: float
    requests: int
    engine_cpu: float
    server_cpu: float

    @property
    def all_cpu(self) -> float:
        return self.cpu + self.engine_cpu + self.server_cpu


@dataclass
class Site:
    """A server for manifests of ``size`` mounts."""

    emulator: RunningEmulator
    server: BaoServer
    folder: Path
    size: int
    keys: Sequence[str]
    environ: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        register_skyflow(
            self.server,
            args=["--shared", "--allow-host", self.emulator.host],
            env=[f"SSL_CERT_FILE={self.emulator.ca}"],
        )
        named = {name: self.server.env()[name] for name in ("BAO_ADDR", "BAO_TOKEN", "BAO_CACERT")}
        self.environ = {**plain_environ(), **named, "HOME": str(self.folder)}
        self.environ["SKYFLOWCTL_ALLOW_HOSTS"] = self.emulator.host
        for number, key in enumerate(self.keys):
            path = self.folder / f"key{number}.json"
            path.write_text(key)
            path.chmod(0o600)
        roles = "".join(f"      role-{n}: {{role_ids: [role-{n}]}}\n" for n in range(ROLES))
        mounts = "".join(
            f"  {name}:\n    credentials: {{file: key{number % len(self.keys)}.json}}\n"
            f"    roles:\n{roles}"
            for number, name in enumerate(self._names())
        )
        text = f"version: 1\nmanifest: scale\nmounts:\n{mounts}"
        (self.folder / "mounts.yaml").write_text(text)

    def _names(self) -> list[str]:
        return [f"m{number:04}" for number in range(self.size)]

    def command(self, name: str) -> Spent:
        """Run the command of a case."""
        return self.measured([str(BIN / "skyflowctl"), *COMMANDS[name]])

    def raw(self, name: str) -> Spent:
        """Run the floor of a case."""
        work = self._work(CONNECTIONS[name], getattr(self, f"_{name}_chains")())
        return self.measured([sys.executable, str(RAW)], work)

    def _work(self, connections: int, chains: list) -> str:
        work = {
            "address": self.server.address,
            "ca": str(self.server.ca),
            "token": self.server.token,
            "connections": connections,
            "chains": chains,
        }
        return json.dumps(work)

    def _plan_chains(self) -> list:
        chains = [[["GET", "sys/mounts", None]]]
        chains += [[["GET", "sys/config/auditing/request-headers", None]]]
        for name in self._names():
            chains += [[["GET", f"skyflow/{name}/config", None]]]
            chains += [[["LIST", f"skyflow/{name}/roles", None]]]
        return chains

    def _health_chains(self) -> list:
        asked = "health?refresh=true"
        return [[["GET", f"skyflow/{name}/{asked}", None]] for name in self._names()]

    def _status_chains(self) -> list:
        return [*self._health_chains(), *self._plan_chains()]

    def _apply_chains(self) -> list:
        chains = []
        for number, name in enumerate(self._names()):
            chain = [["POST", f"sys/mounts/skyflow/{name}", {"type": "skyflow"}]]
            for role in range(ROLES):
                body = {"role_ids": [f"role-{role}"]}
                chain += [["POST", f"skyflow/{name}/roles/role-{role}", body]]
            key = self.keys[number % len(self.keys)]
            chain += [["POST", f"skyflow/{name}/config", {"credentials_json": key}]]
            chains.append(chain)
        return chains

    def disable_all(self) -> None:
        """Disable every mount, so that an apply finds none."""
        chains = [[["DELETE", f"sys/mounts/skyflow/{name}", None]] for name in self._names()]
        work = self._work(8, chains)
        subprocess.run([sys.executable, str(RAW)], input=work, text=True, check=True)

    def measured(self, command: Sequence[str], given: str = "") -> Spent:
        log = self.server.audit_log
        read_from, engine, server = log.stat().st_size, self._engine_cpu(), self._server_cpu()
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile("w+") as source:
            source.write(given)
            source.seek(0)
            started = time.perf_counter()
            process = subprocess.Popen(
                command,
                env=self.environ,
                cwd=self.folder,
                stdin=source,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            with _peak(process.pid) as peak:
                _, status, used = os.wait4(process.pid, 0)
                wall = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                output.seek(0)
                raise SystemExit(f"{command} failed: {output.read()[-2000:].decode()}")
        with log.open("rb") as entries:
            entries.seek(read_from)
            requests = sum(b'"type":"request"' in line for line in entries)
        return Spent(
            wall,
            used.ru_utime + used.ru_stime,
            max(peak, default=0) / 1024,
            requests,
            self._engine_cpu() - engine,
            self._server_cpu() - server,
        )

    def _engine_cpu(self) -> float:
        return cpu_seconds(one.pid for one in processes_of(self.server, "skyflow"))

    def _server_cpu(self) -> float:
        return cpu_seconds([self.server.process.pid])


@contextmanager
def _peak(pid: int) -> Iterator[list[int]]:
    """Collect a process's peak of resident memory in KB; wait4 would count this process too."""
    found: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.03):
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                found.extend(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


@dataclass
class Case:
    """The rounds of one command and of its floor."""

    ours: list[Spent] = field(default_factory=list)
    floor: list[Spent] = field(default_factory=list)

    @property
    def sides(self) -> tuple[list[Spent], list[Spent]]:
        return self.ours, self.floor

    def measure(self, site: Site, name: str) -> None:
        """Add one round; an apply begins without mounts, and leaves them for what follows."""
        for run, found in ((site.raw, self.floor), (site.command, self.ours)):
            if name == "apply":
                site.disable_all()
            found.append(run(name))


def measured(site: Site, rounds: int, names: Sequence[str]) -> dict[str, Case]:
    """Measure commands with a site."""
    cases = {name: Case() for name in names}
    site.command("apply")  # the audited headers, and the first start of the engine
    for _ in range(rounds):
        for name, case in cases.items():
            case.measure(site, name)
    return cases


def median(spent: Sequence[Spent], figure: str) -> float:
    """The median of one figure."""
    return statistics.median(getattr(one, figure) for one in spent)


def show(size: int, cases: Mapping[str, Case]) -> None:
    """Print the medians of one size."""
    print(f"{size:>4} mounts  wall s   CPU s  RSS MB  requests  engine CPU  server CPU")
    for name, case in cases.items():
        for title, spent in ((name, case.ours), ("  floor", case.floor)):
            wall, cpu, rss, requests, engine, server = (
                median(spent, figure) for figure in Spent.__slots__
            )
            line = f"{wall:8.2f}{cpu:8.2f}{rss:8.0f}{requests:10.0f}{engine:12.2f}{server:12.2f}"
            print(f"  {title:<8}{line}", flush=True)


def ratios(cases: Mapping[str, Case]) -> list[Ratio]:
    """The ratios of each command to its floor."""
    found = []
    for name, case in cases.items():
        for what in ("wall", "all_cpu", "requests"):
            ours, floor = ([getattr(one, what) for one in side] for side in case.sides)
            limit = LIMITS.get(name) if what == "wall" else None
            found.append(Ratio(f"{name}, {what.replace('_', ' ')}", ours, floor, at_most=limit))
    return found


def judge_growth(half: Mapping[str, Case], whole: Mapping[str, Case]) -> int:
    """Print how each figure grows with twice the mounts; 1 if CPU or memory grow too fast."""
    code = 0
    print("growth from half as many mounts: exponents (1 is linear), and memory")
    for name in half:
        before, after = half[name].ours, whole[name].ours
        exponents = {
            figure: math.log2(median(after, figure) / median(before, figure))
            for figure in ("wall", "cpu", "engine_cpu", "server_cpu")
        }
        memory = median(after, "rss") / median(before, "rss")
        missed = exponents["cpu"] > MOST_GROWTH or memory > MOST_MEMORY_GROWTH
        code |= missed
        shown = ", ".join(f"{figure} {value:.2f}" for figure, value in exponents.items())
        print(f"  {name:<8}{shown}; {memory:.2f}x{' MISSED' if missed else ''}")
    return code


def main() -> int:
    """Measure N/2 and N mounts; return 1 when a limit is missed."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    names = sys.argv[3:] or list(COMMANDS)
    if size < 2:
        raise SystemExit("growth needs two mounts or more")
    found: list[dict[str, Case]] = []
    with running_emulator() as emulator:
        scopes = [f"role-{number}" for number in range(ROLES)]
        keys = [emulator.new_account(*scopes) for _ in range(min(size, KEYS))]
        for number in (size // 2, size):
            with running_bao() as server, tempfile.TemporaryDirectory() as folder:
                site = Site(emulator, server, Path(folder), number, keys)
                found.append(measured(site, rounds, names))
            show(number, found[-1])
    title = f"{size} mounts, against a raw client with as many connections"
    return judge(title, ratios(found[-1])) | judge_growth(*found)


if __name__ == "__main__":
    sys.exit(main())
