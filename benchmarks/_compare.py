"""What the benchmarks share: rounds in turns, ratios with their noise, and a verdict.

Every figure is a ratio to a named peer that was measured in the same rounds, so that a busy
machine is busy for both. The ratio shown is the median over the rounds; beside it stands the
interval that holds the true median in 95 of 100 runs, whatever the noise looks like (order
statistics, no normal distribution assumed). A limit counts as missed only when that whole
interval lies beyond it; a median beyond it whose interval still reaches it is "within noise".
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import comb
from pathlib import Path
from typing import TypeVar

BIN = Path(sys.executable).parent
# The benchmarks start their servers with the tests' own helpers.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

T = TypeVar("T")


def rounds_wanted(default: int = 15) -> int:
    """The number of rounds: the first argument, but never under the default."""
    return max(default, int(sys.argv[1])) if len(sys.argv) > 1 else default


def in_turns(cases: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measure every case once a round, after one round that does not count."""
    for measure in cases.values():
        measure()
    found: dict[str, list[T]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, measure in cases.items():
            found[name].append(measure())
    return found


def command_ms(command: Sequence[str], environ: Mapping[str, str], folder: Path) -> float:
    """Milliseconds of one process, which must succeed, from start to end."""
    started = time.perf_counter()
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, check=False)
    spent = (time.perf_counter() - started) * 1000
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.decode()}")
    return spent


def commands_cpu_ms(
    commands: Mapping[str, Sequence[str]], environ: Mapping[str, str], folder: Path, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds of CPU of every command, in turns; each run is one whole process."""
    cases = {
        name: partial(_command_cpu_ms, command, environ, folder)
        for name, command in commands.items()
    }
    return in_turns(cases, rounds)


def _command_cpu_ms(command: Sequence[str], environ: Mapping[str, str], folder: Path) -> float:
    """Milliseconds of CPU, user and system, of one process, which must succeed."""
    unseen = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environ, cwd=folder, stdout=unseen, stderr=unseen)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU seconds of processes, ended threads included, to the nanosecond."""
    # The kernel's number of a process's CPU clock, as clock_getcpuclockid(3) makes it.
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def plain_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment without colour; modules are compiled once, as those of an installation."""
    kept = {name: value for name, value in environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "NO_COLOR": "1"}


@dataclass(frozen=True)
class Ratio:
    """One case against its peer, round by round.

    ``at_most`` or ``at_least`` is the limit, if there is one.
    """

    name: str
    over: Sequence[float]
    under: Sequence[float]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def each(self) -> list[float]:
        return [one / other for one, other in zip(self.over, self.under, strict=True)]

    @property
    def median(self) -> float:
        return statistics.median(self.each)

    @property
    def interval(self) -> tuple[float, float]:
        ordered = sorted(self.each)
        outside = _outside(len(ordered))
        return ordered[outside], ordered[-1 - outside]

    @property
    def missed(self) -> bool:
        low, high = self.interval
        return (self.at_most is not None and low > self.at_most) or (
            self.at_least is not None and high < self.at_least
        )

    def verdict(self) -> str:
        if self.at_most is None and self.at_least is None:
            return ""
        limit = f"<= {self.at_most:g}x" if self.at_most is not None else f">= {self.at_least:g}x"
        beyond = (self.at_most is not None and self.median > self.at_most) or (
            self.at_least is not None and self.median < self.at_least
        )
        word = "MISSED" if self.missed else "within noise" if beyond else "ok"
        return f"limit {limit}: {word}"

    def line(self) -> str:
        low, high = self.interval
        spread = f"[{low:.2f} - {high:.2f}]"
        return f"{self.name:<34}{self.median:>8.2f}x  {spread:<17}{self.verdict()}".rstrip()


def _outside(count: int) -> int:
    """How many of the sorted values lie outside of the 95 % interval, on each side.

    The true median lies between two order statistics unless nearly all values fell on one
    side of it: a question of fair coins.
    """
    outside, chance = 0, 0.0
    while outside < (count - 1) // 2:
        chance += 2 * comb(count, outside) / 2**count
        if chance > 0.05:
            break
        outside += 1
    return max(0, outside - 1)


def show_medians(unit: str, found: Mapping[str, Sequence[float]]) -> None:
    """Print the median of each case, peers included."""
    rounds = len(next(iter(found.values())))
    print(f"median of {rounds} rounds in turns, {unit}")
    for name, values in found.items():
        print(f"  {name:<30}{statistics.median(values):>9.2f}")


def judge(title: str, ratios: Sequence[Ratio]) -> int:
    """Print every ratio and return the exit code: 1 when a limit is missed."""
    print(title)
    for ratio in ratios:
        print(f"  {ratio.line()}")
    return 1 if any(ratio.missed for ratio in ratios) else 0
