"""What a command does with a request that somebody else has to approve: options to parts."""

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from skyflowctl.cli import wiring
from skyflowctl.cli.options import ApprovingTargetOptions
from skyflowctl.cli.run import Run
from skyflowctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyflowctl.executor.stop import Stop
    from skyflowctl.vault.approving_transport import ApprovingTransport
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.pending_store import PendingStore
    from skyflowctl.vault.target import Target


def approving_transport(
    options: ApprovingTargetOptions, target: "Target", run: Run, timeout: float
) -> "ApprovingTransport":
    """Return the transport of a command that may wait, or keep what waits.

    Raises:
        UsageError: the span or the file is none.
    """
    from skyflowctl.vault.approving_transport import ApprovalPolicy, ApprovingTransport

    policy = ApprovalPolicy(_store_maker(options.pending), _span(options.wait_approval), run.notice)
    return ApprovingTransport(target, run_id=run.id, policy=policy, timeout=timeout)


def stop_waiting(gateway: "Gateway", stop: "Stop") -> None:
    """Have a wait for an approval end as soon as the command is asked to stop."""
    from skyflowctl.vault.approving_transport import ApprovingTransport

    if isinstance(gateway.transport, ApprovingTransport):
        gateway.transport.stop_waiting_when(lambda: stop.asked)


def _span(text: str | None) -> timedelta:
    if text is None:
        return timedelta()
    return timedelta(seconds=wiring.span_seconds(text, "--wait-approval"))


def _store_maker(file: str | None) -> "Callable[[str], PendingStore]":
    from skyflowctl.vault.pending_store import FileStore, KeyringStore

    if file is None:
        return lambda cluster: KeyringStore(cluster, _marks_folder())
    if file in {"", "-"}:
        raise UsageError(
            "--pending needs the path of a file",
            why="a request is kept there until the next run, which reads it",
            fix="for example --pending pending.json",
        )
    path = Path(file).absolute()
    return lambda _cluster: FileStore(path)


def _marks_folder() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "skyflowctl" / "pending"
