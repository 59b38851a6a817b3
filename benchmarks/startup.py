"""Start-up of skyflowctl against ``bao version``, the peer, by CPU and in the same rounds.

    python benchmarks/startup.py [ROUNDS]

The peer is the server's binary itself, not the wrapper of its wheel. Limits: --help 0.3x, the help
of a command 1.1x, a plain command 1.1x. See ``_compare.py`` for what counts as missed.
"""

import sys
from pathlib import Path

from _compare import (
    BIN,
    Ratio,
    commands_cpu_ms,
    judge,
    plain_environ,
    rounds_wanted,
    show_medians,
)
from support.bao import bao_binary

PEER = "bao version"
CASES = {
    "--help": (["--help"], 0.3),
    "help exit-codes": (["help", "exit-codes"], 0.3),
    "creds --help": (["creds", "--help"], 1.1),
    "version": (["version"], 1.1),
    "version -o json": (["version", "-o", "json"], 1.1),
    "schema": (["schema"], 1.1),
}


def main() -> int:
    commands = {PEER: [bao_binary(), "version"]}
    commands |= {name: [str(BIN / "skyflowctl"), *args] for name, (args, _) in CASES.items()}
    found = commands_cpu_ms(commands, plain_environ(), Path.cwd(), rounds_wanted())
    show_medians("ms of CPU a start", found)
    return judge(
        f"start-up / {PEER}",
        [
            Ratio(name, found[name], found[PEER], at_most=limit)
            for name, (_, limit) in CASES.items()
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
