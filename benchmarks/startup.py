"""Start-up of skyflowctl against ``bao version``, the peer, in the same rounds.

    python benchmarks/startup.py [ROUNDS]

Limits: --help 1.6x, a plain command 1.2x. See ``_compare.py`` for what counts as missed.
"""

import sys
from functools import partial
from pathlib import Path

from _compare import (
    BIN,
    Ratio,
    command_ms,
    in_turns,
    judge,
    plain_environ,
    rounds_wanted,
    show_medians,
)

PEER = "bao version"
CASES = {
    "--help": (["--help"], 1.6),
    "help exit-codes": (["help", "exit-codes"], 1.6),
    "creds --help": (["creds", "--help"], 1.6),
    "version": (["version"], 1.2),
    "version -o json": (["version", "-o", "json"], 1.2),
    "schema": (["schema"], 1.2),
}


def main() -> int:
    commands = {PEER: [str(BIN / "bao"), "version"]}
    commands |= {name: [str(BIN / "skyflowctl"), *args] for name, (args, _) in CASES.items()}
    environ, folder = plain_environ(), Path.cwd()
    found = in_turns(
        {name: partial(command_ms, command, environ, folder) for name, command in commands.items()},
        rounds_wanted(),
    )
    show_medians("ms a start", found)
    return judge(
        f"start-up / {PEER}",
        [
            Ratio(name, found[name], found[PEER], at_most=limit)
            for name, (_, limit) in CASES.items()
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
