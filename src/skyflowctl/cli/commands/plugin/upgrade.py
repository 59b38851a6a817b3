"""``skyflowctl plugin upgrade`` and ``plugin rollback``."""

import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.commands.plugin.upgrading import (
    built_version,
    checked_environment,
    upgrade_json,
    upgrade_line,
    view_upgrade,
)
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.envelope import CommandResult, status_of
from skyflowctl.cli.options import (
    FileOption,
    MountsArgument,
    NoInputOption,
    OutputOptions,
    TargetOptions,
    YesOption,
    option,
    span_seconds,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, Problem, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.text import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skyflowctl.executor.stop import Stop
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.operations.plugins import Registration
    from skyflowctl.operations.upgrade.model import (
        UpgradePlan,
        UpgradeRequest,
        UpgradeResult,
    )
    from skyflowctl.vault.gateway import Gateway

UpgradeDryRunOption = Annotated[
    bool, option("--dry-run", help="Show what would be done; write nothing.")
]
ToVersionOption = Annotated[
    str | None,
    option("--to", help="The version (default: the manifest's).", metavar="VERSION"),
]
BackToOption = Annotated[
    str | None,
    option(
        "--to", help="The version (default: the one before the last upgrade).", metavar="VERSION"
    ),
]
CanaryMountOption = Annotated[
    str | None,
    option("--canary", help="The mount that is upgraded first, and watched.", metavar="MOUNT"),
]
SoakOption = Annotated[
    str | None,
    option(
        "--soak", help="How long the canary is watched, such as 90s (default 5m).", metavar="SPAN"
    ),
]
NoRollbackOption = Annotated[
    bool,
    option("--no-rollback", help="Upgrade although there is no version to roll back to."),
]
LauncherOption = Annotated[
    Path | None,
    option(
        "--launcher",
        help="The version's launcher, registered first if the catalog lacks it.",
        metavar="FILE",
    ),
]
UpgradeEnvOption = Annotated[
    list[str] | None,
    option("--env", help="With --launcher: a variable for the plugin.", metavar="NAME=VALUE"),
]
_SOAK = "5m"
_EXITS = [*READ_EXITS, ExitCode.PARTIAL, ExitCode.REFUSED, ExitCode.UNHEALTHY, ExitCode.INVALID]


@dataclass(frozen=True, slots=True)
class _Call:
    """The arguments that both commands have."""

    target: TargetOptions
    mounts: "Sequence[str] | None"
    file: "Sequence[str] | None"
    to: str | None
    rollback: bool
    yes: bool
    no_input: bool
    dry_run: bool
    canary: str | None = None
    soak: str | None = None
    no_rollback: bool = False
    launcher: Path | None = None
    env: "Sequence[str] | None" = None

    @property
    def command(self) -> str:
        return "plugin rollback" if self.rollback else "plugin upgrade"


@command(
    examples=[
        ("skyflowctl plugin upgrade", "every mount, to the manifest's version"),
        ("skyflowctl plugin upgrade --canary order --soak 10m", "one first, and watch it"),
        ("skyflowctl plugin upgrade order --to v1.0.0 -y", "one mount, without a manifest"),
        ("skyflowctl plugin upgrade --dry-run", "what would be done"),
        ("skyflowctl plugin upgrade -y -o json", "for programs"),
    ],
    exits=_EXITS,
)
def plugin_upgrade(
    target: TargetOptions,
    output: OutputOptions,
    *,
    mounts: MountsArgument = None,
    file: FileOption = None,
    to: ToVersionOption = None,
    canary: CanaryMountOption = None,
    soak: SoakOption = None,
    no_rollback: NoRollbackOption = False,
    launcher: LauncherOption = None,
    env: UpgradeEnvOption = None,
    dry_run: UpgradeDryRunOption = False,
    yes: YesOption = False,
    no_input: NoInputOption = False,
) -> None:
    """Make mounts run another registered version of the engine, one after the other. Before the
    first write, every node is asked whether it has the file. Then each mount is tuned, and each
    node, the leader last, reloads it and is asked which version and digest it runs and whether
    every role mints that did before. If not, the mount goes back to its version, and the mounts
    after it are not touched. Requests for the mount wait while it is reloaded. If the command is
    killed, the same command finishes. Name every node of a cluster with --node. With --launcher,
    a version that the catalog lacks is registered first, with the arguments of the version that
    runs, after the server has started it; if the upgrade is refused, its entry is removed again."""

    asked = (yes, no_input, dry_run, canary, soak, no_rollback, launcher, env)
    call = _Call(target, mounts, file, to, False, *asked)
    run_command(call.command, output, lambda run: _work(call, run), view_upgrade)


@command(
    examples=[
        ("skyflowctl plugin rollback order", "one mount, to the version before its upgrade"),
        ("skyflowctl plugin rollback", "every mount of the manifest, or of the server"),
        ("skyflowctl plugin rollback order --to v1.0.0 -y", "to a version by name"),
        ("skyflowctl plugin rollback --dry-run", "what would be done"),
    ],
    exits=_EXITS,
)
def plugin_rollback(
    target: TargetOptions,
    output: OutputOptions,
    *,
    mounts: MountsArgument = None,
    file: FileOption = None,
    to: BackToOption = None,
    no_rollback: NoRollbackOption = False,
    dry_run: UpgradeDryRunOption = False,
    yes: YesOption = False,
    no_input: NoInputOption = False,
) -> None:
    """Make mounts run the version again that they ran before their last upgrade, with the proofs
    and the steps of 'plugin upgrade'. An upgrade records that version as an option of the mount;
    --to names another one. The manifest still names its own version: change it too, or the next
    apply upgrades the mounts again."""

    call = _Call(target, mounts, file, to, True, yes, no_input, dry_run, no_rollback=no_rollback)
    run_command(call.command, output, lambda run: _work(call, run), view_upgrade)


def _work(call: _Call, run: CommandRun) -> CommandResult:
    from skyflowctl.executor.stop import stop_on_signals
    from skyflowctl.operations.upgrade.nodes import open_upgrade_nodes
    from skyflowctl.operations.upgrade.plan import plan_upgrade
    from skyflowctl.operations.upgrade.registration import plan_registration
    from skyflowctl.operations.upgrade.run import UpgradeSession, preview_upgrade, run_upgrade

    request = _request(call, run)
    env = _environment(call, run)
    with (
        gateways.open_gateway(call.target, run) as gateway,
        open_upgrade_nodes(gateway, gateways.connect_node(gateway)) as nodes,
    ):
        wanted = None
        if call.launcher is not None:
            wanted = plan_registration(gateway, request, call.launcher, env)
        if call.dry_run:
            plan = plan_upgrade(gateway, nodes, request, probe=False, unwritten=wanted)
            data = upgrade_json(plan, preview_upgrade(plan), wanted, dry_run=True)
            return CommandResult(data, warnings=plan.warnings)
        with _registered(wanted, call, gateway, run):
            plan = plan_upgrade(gateway, nodes, request)
            _confirm(plan, call, run)
        with stop_on_signals(lambda: run.notice("finishing this mount, then stopping")) as stop:
            session = UpgradeSession(
                gateway,
                nodes,
                stop,
                lambda *done: run.notice(upgrade_line(*done)),
                request.rollback,
            )
            result = run_upgrade(session, plan, request.soak)
    return _result(upgrade_json(plan, result, wanted, dry_run=False), result, stop)


@contextmanager
def _registered(
    wanted: "Registration | None", call: _Call, gateway: "Gateway", run: CommandRun
) -> "Iterator[None]":
    """Register an entry, if there is one to register, once it is confirmed."""
    from skyflowctl.operations.upgrade.registration import registered_for_upgrade

    if wanted is None:
        yield
        return
    run.notice(f"{wanted.command} (sha256 {wanted.sha256[:12]}) {' '.join(wanted.args)}")
    question = f"Register it as {wanted.name} {wanted.version}?"
    run.confirm(question, yes=call.yes, no_input=call.no_input)
    with registered_for_upgrade(gateway, wanted, run.notice, run.warn):
        yield


def _request(call: _Call, run: CommandRun) -> "UpgradeRequest":
    """Return what the arguments ask for.

    Raises:
        UsageError: no version is named, or the canary is not one of the mounts.
    """
    from skyflowctl.operations.mounts import resolve_mount_path
    from skyflowctl.operations.upgrade.model import UpgradeRequest

    chosen = manifests.choose_mounts(call.mounts, call.file, run)
    declared = chosen.manifest.plugin.version if chosen.manifest else None
    version = call.to or built_version(call.launcher) or ("" if call.rollback else declared)
    if version is None:
        raise UsageError(
            "no version is named",
            why="no manifest here names one",
            fix="give --to VERSION; 'skyflowctl plugin list' shows the registered ones",
        )
    if chosen.manifest and (call.rollback or declared not in (None, version)):
        run.warn(_manifest_differs(chosen.manifest, version))
    canary = resolve_mount_path(call.canary, chosen.prefix) if call.canary else ""
    by_name = {one.name: one.path for one in chosen.mounts or ()}
    canary = by_name.get(call.canary or "", canary)
    if canary and chosen.mounts is not None and canary not in by_name.values():
        raise UsageError(
            f"the canary {call.canary} is not one of the mounts",
            why="the canary is upgraded first, then the others",
            fix="name it among the mounts too, or leave it out",
        )
    if call.soak and not canary:
        raise UsageError(
            "--soak watches the canary, and none is named",
            why="only the first mount is watched before the others follow",
            fix="give --canary MOUNT",
        )
    return UpgradeRequest(
        chosen.plugin_name,
        chosen.mounts,
        version,
        rollback=call.rollback,
        absent_allowed=not call.mounts,
        canary=canary,
        soak=span_seconds(call.soak or _SOAK, "--soak") if canary else 0.0,
        no_rollback=call.no_rollback,
        prefix=chosen.prefix,
    )


def _environment(call: _Call, run: CommandRun) -> tuple[str, ...]:
    if call.launcher is not None:
        return checked_environment(call.launcher, call.env, run)
    if call.env:
        raise UsageError(
            "--env belongs to the registration of a launcher, and none is named",
            why="an entry that is in the catalog already keeps its environment",
            fix="give --launcher FILE too, or change a registered version's: skyflowctl plugin "
            "register PLUGIN_DIRECTORY/FILE",
        )
    return ()


def _manifest_differs(manifest: "Manifest", version: str) -> Problem:
    declared = manifest.plugin.version
    return Problem(
        "manifest-version-differs",
        f"the manifest says plugin version {declared or 'none'}, and this makes mounts run "
        f"{version or 'the version before'}",
        "the next apply plans the manifest's version again",
        "set plugin.version in the manifest to what the mounts shall run",
    )


def _verb(call: _Call) -> str:
    return "Roll back" if call.rollback else "Upgrade"


def _confirm(plan: "UpgradePlan", call: _Call, run: CommandRun) -> None:
    """Say what is about to happen, and which requests may be lost; ask if a mount changes."""
    for problem in plan.warnings:
        run.warn(problem)
    if not plan.to_do:
        return
    for one in plan.to_do:
        resumed = " (resumes)" if one.tuned else ""
        run.notice(f"{one.mount.path}: {one.before or '?'} -> {one.entry.version}{resumed}")
    if len(plan.at_risk) > 1:
        run.warn(
            Problem(
                "shared-process",
                f"{counted(len(plan.at_risk), 'mount')} share one process: {listed(plan.at_risk)}",
                "a reload of one ends it, and for about 10 ms requests for the others fail with "
                "500; with 8 stock clients fewer than 20 are lost",
                "their clients retry; without --shared each mount has a process of its own",
            )
        )
    question = f"{_verb(call)} {counted(len(plan.to_do), 'mount')}?"
    run.confirm(question, yes=call.yes, no_input=call.no_input)


def _result(data: "dict[str, Any]", result: "UpgradeResult", stop: "Stop") -> CommandResult:
    problems = [one.problem for one in result.mounts if one.problem]
    left = any(one.result == "not_started" for one in result.mounts)
    code: int = result.exit_code
    # As of a rotation: a mount that does not serve is worse than the signal.
    if stop.asked and code != ExitCode.UNHEALTHY and (left or code != ExitCode.OK):
        terminated = stop.signal == signal.SIGTERM
        code = ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED
        problems.append(
            Problem(
                "stopped",
                "stopped by a signal before the last mount",
                "the mounts before it are upgraded and verified",
                "run the same command again: it goes on with the next mount",
            )
        )
    return CommandResult(data, status_of(code), code, problems)
