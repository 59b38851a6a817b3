"""The plugin's process: its start, its memory, and what each mount of a shared one costs.

    python benchmarks/plugin_process.py [ROUNDS [MOUNTS]]

A real server with an audit file. The public Go plugin of the same job is measured in the same
rounds if SKYFLOWCTL_PEER_PLUGIN names its binary. ``start`` is the time from the request that
enables a mount to the first answer of its engine; the CPU is that of the new process until then.
Memory is what a process alone keeps (Private_Dirty) after five idle seconds: of a mount that was
configured before its process started, as after any restart of a server; then after a read of its
config, and after one token.
A shared process serves one mount, then MOUNTS more (100 by default), each with a config, a
role and one token; the difference, after the connections to the token service were closed
because nothing used them, is the cost of a mount.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from _compare import Ratio, cpu_seconds, in_turns, judge, show_medians
from _engine_site import GO, OURS, plugins, register_peer
from support.bao import BaoServer, running_bao
from support.emulator import RunningEmulator, running_emulator
from support.loaded import mount, private_mb
from support.plugin import processes_of, register_skyflow, wait_for

from skyflowctl.skyflow.http.pool import MAXIMUM_IDLE_SECONDS

SHARED = "shared"
START_LIMIT, MEMORY_LIMIT_MB = 2.5, 16.0
MOUNT_LIMIT_MB, MOUNT_LIMIT_FILES = 0.45, 2.0


@dataclass(frozen=True)
class Bench:
    """The server, and the token service that its plugins ask."""

    server: BaoServer
    emulator: RunningEmulator
    credentials: str

    def call(self, method: str, path: str) -> None:
        """One request, which must be granted."""
        status, body = self.server.api(method, path)
        if status not in {200, 204}:
            raise SystemExit(f"{path}: {status} {body}")

    def mount(self, plugin: str, path: str) -> None:
        """Enable a mount with a config and a role, and mint one token."""
        mount(self.server, path, self.credentials, plugin)
        self.call("GET", f"{path}/creds/reader")

    def restart(self, plugin: str, path: str) -> None:
        """Replace the process of a plugin's only mount."""
        old = only_process(self.server, plugin)
        status, body = self.server.api("PUT", "sys/plugins/reload/backend", {"mounts": [path]})
        if status not in {200, 202, 204}:
            raise SystemExit(f"{path}: {status} {body}")
        self.call("GET", f"{path}/roles?list=true")
        wait_for(lambda: only_process(self.server, plugin) != old)

    def register(self) -> None:
        """Register ours, twice, and the peer where it is given."""
        arguments = ["--allow-host", self.emulator.host]
        environ = [f"SSL_CERT_FILE={self.emulator.ca}"]
        register_skyflow(self.server, OURS, args=arguments, env=environ)
        register_skyflow(self.server, SHARED, args=["--shared", *arguments], env=environ)
        register_peer(self.server, self.emulator.ca)


def files(pid: int) -> int:
    """Open descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def only_process(server: BaoServer, plugin: str) -> int:
    """The pid of the one process of a plugin."""
    wait_for(lambda: len(processes_of(server, plugin)) == 1)
    return processes_of(server, plugin)[0].pid


def start(server: BaoServer, plugin: str) -> tuple[float, float]:
    """Enable a mount and ask it once: milliseconds of time, and of the new process's CPU."""
    path = f"start/{plugin}"
    before = time.perf_counter()
    status, body = server.api("POST", f"sys/mounts/{path}", {"type": plugin})
    if status != 204:
        raise SystemExit(f"{path}: {status} {body}")
    server.api("GET", f"{path}/roles?list=true")
    spent = (time.perf_counter() - before) * 1000
    cpu = cpu_seconds([only_process(server, plugin)]) * 1000
    server.api("DELETE", f"sys/mounts/{path}")
    wait_for(lambda: not processes_of(server, plugin))
    return spent, cpu


def compare_starts(bench: Bench, rounds: int) -> int:
    """Print the starts of every plugin; 1 if the limit is missed."""
    cases: dict[str, Callable[[], tuple[float, float]]]
    cases = {name: partial(start, bench.server, name) for name in plugins()}
    found = in_turns(cases, rounds)
    walls = {name: [wall for wall, _ in each] for name, each in found.items()}
    cpus = {name: [cpu for _, cpu in each] for name, each in found.items()}
    show_medians("ms from mount to first answer", walls)
    show_medians("ms of CPU of the process", cpus)
    if GO not in found:
        return 0
    return judge(
        f"start / {GO}",
        [
            Ratio("time", walls[OURS], walls[GO], at_most=START_LIMIT),
            Ratio("CPU of the process", cpus[OURS], cpus[GO]),
        ],
    )


def show_idle(bench: Bench) -> int:
    """Print the memory of a process with one mount; 1 if the limit is missed."""
    for name in plugins():
        bench.mount(name, f"idle/{name}")
        bench.restart(name, f"idle/{name}")
    states = {
        "since its start": "roles?list=true",
        "after a read of its config": "config",
        "after one token": "creds/reader",
    }
    idle = []
    for state, path in states.items():
        for name in plugins():
            bench.call("GET", f"idle/{name}/{path}")
        time.sleep(5)
        found = {name: private_mb(only_process(bench.server, name)) for name in plugins()}
        idle.append(found[OURS])
        for name, megabytes in found.items():
            print(f"idle process of one mount {state}, {name}: {megabytes:.1f} MB private")
    for name in plugins():
        bench.call("DELETE", f"sys/mounts/idle/{name}")
    return int(idle[0] > MEMORY_LIMIT_MB)


def show_shared(bench: Bench, mounts: int) -> int:
    """Print what one of many mounts costs in a shared process; 1 if a limit is missed."""
    bench.mount(SHARED, "shared/first")
    pid = only_process(bench.server, SHARED)
    time.sleep(5)
    memory, descriptors = private_mb(pid), files(pid)
    for number in range(mounts):
        bench.mount(SHARED, f"shared/m{number}")
    time.sleep(MAXIMUM_IDLE_SECONDS + 5)
    memory = (private_mb(pid) - memory) / mounts
    descriptors_each = (files(pid) - descriptors) / mounts
    print(f"a mount of {mounts} more in a shared process: {memory:.2f} MB private,", end=" ")
    print(f"{descriptors_each:.2f} descriptors")
    return int(memory > MOUNT_LIMIT_MB or descriptors_each > MOUNT_LIMIT_FILES)


def main() -> int:
    """Measure; return 1 when a limit is missed."""
    rounds, mounts = (*map(int, sys.argv[1:]), *(11, 100)[len(sys.argv) - 1 :])
    with running_emulator() as emulator, running_bao() as server:
        bench = Bench(server, emulator, emulator.new_account("r"))
        bench.register()
        missed = compare_starts(bench, rounds)
        missed |= show_idle(bench)
        if mounts:
            missed |= show_shared(bench, mounts)
    return missed


if __name__ == "__main__":
    sys.exit(main())
