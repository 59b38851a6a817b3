"""What ``plugin upgrade`` shows, and what it shares with ``plugin register`` and ``apply``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skyflowctl.cli.console import Piece, Styled, Terminal
from skyflowctl.cli.context import gateways
from skyflowctl.cli.envelope import CommandResult, problem_json
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import UsageError
from skyflowctl.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyflowctl.executor.ports import Upgrader
    from skyflowctl.operations.plan import PlanResult
    from skyflowctl.operations.plugins import Registration
    from skyflowctl.operations.upgrade.model import (
        PlannedUpgrade,
        UpgradePlan,
        UpgradeResult,
        UpgradeStep,
    )
    from skyflowctl.vault.gateway import Gateway


def upgrade_line(planned: "PlannedUpgrade", step: "UpgradeStep") -> str:
    """Return what is said of a finished step."""
    words = {
        "tune": f"tuned to {planned.entry.version}",
        "reload": "reloaded",
        "verify": "verified",
        "soak": "watched",
        "rollback": "rolled back to the version before",
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


def checked_environment(
    launcher: Path, pairs: "Sequence[str] | None", run: CommandRun
) -> tuple[str, ...]:
    """Return the pairs of ``--env``; warn of variables that the launcher removes.

    Raises:
        UsageError: one is no ``NAME=value``, or has a name that looks like a secret's.
    """
    from skyflowctl.plugin.arguments import checked_pairs, names_not_passed

    env = checked_pairs(pairs or ())
    if lost := names_not_passed(launcher, env):
        run.warn(lost)
    return env


def registration_json(wanted: "Registration") -> dict[str, Any]:
    """Return an entry as it is published, without the values of its environment."""
    return {**asdict(wanted), "env": [pair.partition("=")[0] for pair in wanted.env]}


def upgrade_json(
    plan: "UpgradePlan", result: "UpgradeResult", wanted: "Registration | None", *, dry_run: bool
) -> dict[str, Any]:
    """Return what an upgrade did, or would do, as it is published."""
    return {
        "dry_run": dry_run,
        "registration": registration_json(wanted) if wanted else None,
        "nodes": list(plan.nodes),
        "at_risk": list(plan.at_risk) if len(plan.at_risk) > 1 else [],
        "warnings": [problem_json(one) for one in plan.warnings],
        "mounts": [
            {
                "name": one.mount.name,
                "path": one.mount.path,
                "from": one.before,
                "to": one.after,
                "result": one.result.value,
                "steps": [{**asdict(step), "name": step.name.value} for step in one.steps],
                "nodes": [
                    {
                        "node": node.node,
                        "version": node.version,
                        "sha256": node.sha256,
                        "serves": node.serves,
                    }
                    for node in one.nodes
                ],
                "error": problem_json(one.problem) if one.problem else None,
            }
            for one in result.mounts
        ],
    }


_STYLES = {
    "upgraded": "green",
    "rolled_back": "green",
    "unchanged": "dim",
    "would_change": "yellow",
    "failed": "bold red",
    "not_started": "yellow",
}


def view_upgrade(result: CommandResult, terminal: Terminal) -> None:
    """Show it as text."""
    entry = result.data["registration"]
    if entry and result.data["dry_run"]:
        terminal.line(Styled("would register", "yellow"), f" {entry['name']} {entry['version']}")
        fields = [(name, entry[name]) for name in ("command", "sha256", "args", "env")]
        terminal.fields(fields, "  ")
    rows: list[list[Piece]] = [
        [
            one["name"],
            one["from"] or "?",
            one["to"],
            _outcome(one),
            _runs(one["nodes"]),
        ]
        for one in result.data["mounts"]
    ]
    if rows:
        terminal.table(["MOUNT", "FROM", "TO", "RESULT", "RUNS"], rows)
    else:
        terminal.note("no mounts")


def _outcome(one: "dict[str, Any]") -> Styled:
    """Return the result; a mount that was not asked to go back shows that it failed."""
    if one["error"] and one["result"] == "rolled_back":
        return Styled(f"failed, back at {one['from']}", "bold yellow")
    return Styled(one["result"].replace("_", " "), _STYLES[one["result"]])


def _runs(nodes: "Sequence[dict[str, Any]]") -> str:
    """Return what the nodes run, once for each different answer."""
    said = [
        f"{one['version'] or 'nothing'} {one['sha256'][:8]}" if one["serves"] else "does not answer"
        for one in nodes
    ]
    return ", ".join(
        f"{text} on {counted(said.count(text), 'node')}" for text in dict.fromkeys(said)
    )
