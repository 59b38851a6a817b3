"""Start-up of skyflowctl against its peer: what ``bao version`` costs in the same minutes.

Runs are interleaved, so that a busy machine is busy for all of them, and medians are
compared. Prints one line for each case and exits with 1 when a limit is broken.

    python benchmarks/startup.py [RUNS]
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent
PEER = ("bao version", [str(BIN / "bao"), "version"])
CASES = {
    "--help": (["--help"], 1.6),
    "help exit-codes": (["help", "exit-codes"], 1.6),
    "creds --help": (["creds", "--help"], 1.6),
    "version": (["version"], 1.2),
    "version -o json": (["version", "-o", "json"], 1.2),
}


def milliseconds(command: list[str]) -> float:
    environ = {**os.environ, "NO_COLOR": "1"}
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environ)
    return (time.perf_counter() - started) * 1000


def main() -> int:
    runs = max(15, int(sys.argv[1])) if len(sys.argv) > 1 else 15
    commands = {PEER[0]: PEER[1]}
    commands |= {name: [str(BIN / "skyflowctl"), *args] for name, (args, _) in CASES.items()}
    for command in commands.values():
        milliseconds(command)  # compiled files and the page cache are there afterwards
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(milliseconds(command))
    return report({name: statistics.median(list_) for name, list_ in times.items()}, runs)


def report(medians: dict[str, float], runs: int) -> int:
    peer = medians[PEER[0]]
    print(f"{PEER[0]:<18} {peer:7.1f} ms   median of {runs}, interleaved")
    broken = 0
    for name, (_, limit) in CASES.items():
        ratio = medians[name] / peer
        broken += ratio > limit
        verdict = "ok" if ratio <= limit else "TOO SLOW"
        print(f"{name:<18} {medians[name]:7.1f} ms   {ratio:4.2f}x (limit {limit}x) {verdict}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
