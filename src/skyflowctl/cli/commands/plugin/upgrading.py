"""What ``plugin upgrade`` and an apply with an upgrade share, and the launcher of an upgrade."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from skyflowctl.cli.context import gateways
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import SkyflowctlError, UsageError
from skyflowctl.frozen import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from skyflowctl.executor.ports import Upgrader
    from skyflowctl.operations.plan import PlanResult
    from skyflowctl.operations.upgrade.model import PlannedUpgrade, UpgradeRequest, UpgradeStep
    from skyflowctl.vault.gateway import Gateway


@dataclass(frozen=True, slots=True)
class GivenLauncher:
    """The launcher of ``--launcher``, if any, and how its registration is confirmed."""

    path: Path | None
    env: "Sequence[str]"
    yes: bool
    no_input: bool
    dry_run: bool


def upgrade_line(planned: "PlannedUpgrade", step: "UpgradeStep") -> str:
    """Return what is said of a finished step."""
    words = {
        "tune": f"tuned to {planned.entry.version}",
        "reload": "reloaded",
        "verify": "verified",
        "soak": "watched",
        "rollback": "back at the version before",
    }
    where = f" on {step.node}" if step.node else ""
    failed = "" if step.ok else ": failed"
    return f"{planned.mount.path}: {words[step.name]}{where}{failed} ({step.ms / 1000:.1f} s)"


def apply_upgrader(
    planned: "PlanResult", gateway: "Gateway", say: "Callable[[str], None]"
) -> "Upgrader | None":
    """Return what upgrades the mounts of an apply; None: its plan upgrades none."""
    if not any(one.action == "plugin_upgrade" for one in planned.plan.actions):
        return None
    from skyflowctl.operations.upgrade.in_apply import ApplyUpgrader

    connect = gateways.connect_node(gateway)
    plugin = planned.manifest.plugin.name
    return ApplyUpgrader(plugin, connect, lambda *done: say(upgrade_line(*done)))


def built_version(launcher: Path | None) -> str:
    """Return a launcher's version; empty: none is named."""
    from skyflowctl.plugin.build import launcher_version

    try:
        return launcher_version(launcher) if launcher else ""
    except OSError as error:
        raise UsageError.of_file(
            f"the plugin file cannot be read: {launcher}",
            error,
            fix="build it with 'skyflowctl plugin build DIRECTORY'",
            code="no-plugin-file",
        ) from None


@contextmanager
def registered_first(
    given: GivenLauncher, request: "UpgradeRequest", gateway: "Gateway", run: CommandRun
) -> "Iterator[None]":
    """Register the launcher if the catalog lacks its version; if the block fails, undo it."""
    from skyflowctl.operations.upgrade.registration import plan_registration, register_for_upgrade

    wanted = plan_registration(gateway, request, given.path, given.env) if given.path else None
    if wanted is None or given.dry_run:
        yield
        return
    run.notice(f"{wanted.command} (sha256 {wanted.sha256[:12]}) {' '.join(wanted.args)}")
    question = f"Register it as {wanted.name} {wanted.version}?"
    run.confirm(question, yes=given.yes, no_input=given.no_input)
    register_for_upgrade(gateway, wanted)
    try:
        yield
    except SkyflowctlError:
        gateway.sys.catalog.delete(wanted.name, wanted.version)
        run.notice(f"{wanted.name} {wanted.version} is not registered any more")
        raise
    run.notice(f"registered {wanted.name} {wanted.version}")
