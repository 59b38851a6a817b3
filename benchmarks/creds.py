"""``skyflowctl creds`` against ``bao read`` of the same path on the same server.

    python benchmarks/creds.py [ROUNDS]

A dev stack of its own is started and ended: OpenBao with TLS and an audit file, the engine as
a plugin, the emulator as token service. Every run is one whole process that mints one token.
Limit: 2.5x. See ``_compare.py`` for what counts as missed.
"""

import sys
from functools import partial

from _compare import BIN, Ratio, command_ms, in_turns, judge, rounds_wanted, show_medians
from support.stack import Stack, running_stack

PATH = "skyflow/order/creds/order-producer"
CTX = "order:ORD-42"
LIMIT = 2.5
FORMS = ("raw", "json", "table")


def commands() -> dict[str, list[str]]:
    """The peer first: it prints the token alone, as ``-o raw`` does."""
    bao = [str(BIN / "bao"), "read", "-field=access_token", PATH, f"ctx={CTX}"]
    ours = [str(BIN / "skyflowctl"), "creds", "order", "order-producer", "--ctx", CTX, "-o"]
    return {"bao read": bao} | {f"creds -o {form}": [*ours, form] for form in FORMS}


def measure(stack: Stack, rounds: int) -> dict[str, list[float]]:
    environ = {**stack.environ, **stack.exports}
    cases = {
        name: partial(command_ms, command, environ, stack.folder)
        for name, command in commands().items()
    }
    return in_turns(cases, rounds)


def main() -> int:
    with running_stack(apply=True) as stack:
        found = measure(stack, rounds_wanted(21))
    show_medians("ms a token, process start included", found)
    peer = found.pop("bao read")
    return judge(
        "creds / bao read",
        [Ratio(name, values, peer, at_most=LIMIT) for name, values in found.items()],
    )


if __name__ == "__main__":
    sys.exit(main())
