"""A command's connection to its context, held for as long as a test wants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context.gateways import open_gateway
from skyflowctl.cli.options import TargetOptions
from skyflowctl.cli.runner import CommandRun, new_run_id
from skyflowctl.clock import SystemClock
from skyflowctl.vault.gateway import Gateway


@contextmanager
def session(context: str) -> Iterator[Gateway]:
    """Connect as every command does."""
    run = CommandRun(
        new_run_id(), "status", Terminal(quiet=False, verbosity=0, no_color=True), SystemClock(),
        json=False,
    )  # fmt: skip
    with open_gateway(TargetOptions(context=context), run) as gateway:
        yield gateway
