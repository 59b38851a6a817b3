"""Commands that read, against ``bao`` on the same server, by CPU of the whole command.

    python benchmarks/creds.py [ROUNDS]

A dev stack of its own is started and ended: OpenBao with TLS and an audit file, the engine as
a plugin, the emulator as token service, three mounts. ``creds`` is compared with ``bao read`` of
the same path (each mints one token), the others with ``bao version``. The peer is the server's
binary itself. Limits: creds 1.6x, plan 2.2x. See ``_compare.py`` for what counts as missed.
"""

import sys

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
from support.stack import EXAMPLE, Stack, running_stack

PATH = "skyflow/order/creds/order-producer"
CTX = "order:ORD-42"
READ, VERSION = "bao read", "bao version"
# The command line, its peer and its limit.
CASES = {
    f"creds -o {form}": (
        ["creds", "order", "order-producer", "--ctx", CTX, "-o", form], READ, 1.6
    )
    for form in ("raw", "json", "table")
} | {
    "plan": (["plan", "-f", str(EXAMPLE)], VERSION, 2.2),
    "status": (["status", "-f", str(EXAMPLE)], VERSION, None),
    "health": (["health", "-f", str(EXAMPLE)], VERSION, None),
}  # fmt: skip


def commands() -> dict[str, list[str]]:
    """The peers first: ``bao read`` prints the token alone, as ``creds -o raw`` does."""
    bao, ours = bao_binary(), str(BIN / "skyflowctl")
    peers = {
        READ: [bao, "read", "-field=access_token", PATH, f"ctx={CTX}"],
        VERSION: [bao, "version"],
    }
    return peers | {name: [ours, *args] for name, (args, _, _) in CASES.items()}


def measure(stack: Stack, rounds: int) -> dict[str, list[float]]:
    environ = plain_environ({**stack.environ, **stack.exports})
    return commands_cpu_ms(commands(), environ, stack.folder, rounds)


def main() -> int:
    with running_stack(apply=True) as stack:
        found = measure(stack, rounds_wanted(11))
    show_medians("ms of CPU a command, process start included", found)
    return judge(
        "command / bao",
        [
            Ratio(f"{name} / {peer}", found[name], found[peer], at_most=limit)
            for name, (_, peer, limit) in CASES.items()
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
