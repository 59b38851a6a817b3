"""From the approval options of a command to its transport."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from skyflowctl.cli import wiring
from skyflowctl.cli.options import ApprovingTargetOptions
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyflowctl.vault.approving_transport import ApprovingTransport
    from skyflowctl.vault.pending_store import PendingStore
    from skyflowctl.vault.target import Target


def approving_transport(
    options: ApprovingTargetOptions, target: "Target", run: CommandRun, timeout: float, scope: str
) -> "ApprovingTransport":
    """Return the transport of a command whose requests may need an approval.

    ``scope`` is the manifest of an apply, else empty.

    Raises:
        UsageError: the span or the file is none.
    """
    from skyflowctl.vault.approving_transport import ApprovalPolicy, ApprovingTransport

    wait = _span(options.wait_approval)
    policy = ApprovalPolicy(_store_maker(options.pending), wait, run.notice, scope)
    return ApprovingTransport(target, run_id=run.id, policy=policy, timeout=timeout)


def _span(text: str | None) -> timedelta:
    if text is None:
        return timedelta()
    return timedelta(seconds=wiring.span_seconds(text, "--wait-approval"))


def _store_maker(file: str | None) -> "Callable[[str], PendingStore]":
    from skyflowctl.vault.pending_store import FileStore, KeyringStore

    if file is None:
        return lambda cluster: KeyringStore(cluster, wiring.state_folder() / "pending")
    if file in {"", "-"}:
        raise UsageError(
            "--pending needs the path of a file",
            why="a parked request is stored there until the next run reads it",
            fix="for example --pending pending.json",
        )
    path = Path(file).absolute()
    return lambda _cluster: FileStore(path)
