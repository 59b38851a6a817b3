"""``skyflowctl status``."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from skyflowctl.cli.command import command
from skyflowctl.cli.commands.cut_off_view import cut_off_note
from skyflowctl.cli.commands.node_view import show_nodes
from skyflowctl.cli.console import Piece, Styled, Terminal
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.context.dev_stack import audit_suspects
from skyflowctl.cli.envelope import CommandResult, status_of
from skyflowctl.cli.options import (
    DeadlineOption,
    FileOption,
    MountsArgument,
    OutputOptions,
    ParallelismOption,
    TargetOptions,
    span_seconds,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode
from skyflowctl.text import counted

if TYPE_CHECKING:
    from skyflowctl.operations.health import HealthResult
    from skyflowctl.operations.status import MountStatus
    from skyflowctl.vault.gateway import Gateway

_NO_KEY: dict[str, Any] = {"key_id": "", "age_seconds": None, "expires_at": "", "due": False}


@command(
    examples=[
        ("skyflowctl status", "every mount of the manifest, or of the server"),
        ("skyflowctl status order", "one mount"),
        ("skyflowctl status -o json | jq '.data.mounts[] | select(.credential.due)'", "due keys"),
    ],
    exits=[
        ExitCode.PARTIAL,
        ExitCode.NOT_PERMITTED,
        ExitCode.UNHEALTHY,
        ExitCode.INVALID,
        ExitCode.UNREACHABLE,
    ],
)
def status(
    target: TargetOptions,
    output: OutputOptions,
    *,
    mounts: MountsArgument = None,
    file: FileOption = None,
    parallelism: ParallelismOption = 10,
    deadline: DeadlineOption = None,
) -> None:
    """Show every mount: the engine and its version, health, roles, the live key, its age, and
    whether it is due by the manifest's rotation rule. The engine mints for every role, as
    for 'health'. A mount that cannot be read is shown as ?, and a mount that does not answer
    within --deadline as unreachable; both cause exit 3. Exit 4 means that no mount may be read.
    Exit 6 means that a mount would not start again: it runs a file other than the registered
    one, or that file is missing; or that a node is in trouble. Each named node is asked."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.health import DEADLINE
        from skyflowctl.operations.node_states import skew_warnings
        from skyflowctl.operations.status import status as look

        seconds = span_seconds(deadline or DEADLINE, "--deadline")
        chosen = manifests.choose_mounts(mounts, file, run)
        with gateways.open_gateway(target, run) as gateway:
            found = look(
                gateway,
                chosen.mounts,
                clock=run.clock,
                plugin_name=chosen.plugin_name,
                prefix=chosen.prefix,
                parallelism=parallelism,
                deadline=seconds,
                look=partial(_every_node, gateway, chosen, parallelism, seconds),
            )
        for warning in (*found.warnings, *skew_warnings(found.nodes)):
            run.warn(warning)
        data = {
            "mounts": [_json(one) for one in found.mounts],
            "nodes": [one.to_json() for one in found.nodes],
        }
        return CommandResult(data, status_of(found.exit_code), found.exit_code, found.problems)

    run_command("status", output, work, _view)


def _every_node(
    gateway: "Gateway", chosen: "manifests.ChosenMounts", parallelism: int, deadline: float
) -> "HealthResult":
    from skyflowctl.operations.health import health

    return health(
        gateway,
        chosen.mounts,
        plugin_name=chosen.plugin_name,
        prefix=chosen.prefix,
        connect=gateways.connect_node(gateway),
        parallelism=parallelism,
        deadline=deadline,
        suspects=audit_suspects(gateway.transport.server.address, chosen.manifest),
    )


def _json(one: "MountStatus") -> dict[str, Any]:
    return {
        "name": one.name,
        "path": one.path,
        "engine": {
            "name": one.engine_name,
            "version": one.engine_version,
            "api": one.api.name if one.api else None,
            "missing": list(one.api.missing) if one.api else [],
            "catalog": one.catalog or None,
        },
        "health": one.health,
        **({"revoked": asdict(one.revoked)} if one.revoked else {}),
        "roles": list(one.roles),
        "credential": asdict(one.credential) if one.credential else None,
        "unread": one.problem is not None,
    }


def _view(result: CommandResult, terminal: Terminal) -> None:
    rows = [
        [
            one["name"],
            one["path"],
            _engine(one["engine"]),
            Styled(one["health"], _STYLES.get(one["health"], "bold red")),
            *(["?"] * 4 if one["unread"] else _contents(one)),
        ]
        for one in result.data["mounts"]
    ]
    if rows:
        headers = ["MOUNT", "PATH", "ENGINE", "HEALTH", "ROLES", "KEY", "AGE", "EXPIRES"]
        terminal.table(headers, rows)
        for one in result.data["mounts"]:
            basic = bool(one["engine"]["missing"])
            cut_off_note(one["name"], one.get("revoked"), terminal, basic=basic)
        if any(one["engine"]["catalog"] not in _SOUND for one in result.data["mounts"]):
            terminal.note("! it would not start again: 'skyflowctl plugin list' compares files")
        unwell = sum(one["health"] != "ok" for one in result.data["mounts"])
        if unwell:
            terminal.note(f"{counted(unwell, 'mount')} not ok: 'skyflowctl health' says why")
        for missing in sorted(
            {", ".join(one["engine"]["missing"]) for one in result.data["mounts"]}
        ):
            if missing:
                terminal.note(f"* another engine, with the basic API: it lacks {missing}")
    else:
        terminal.note("no mounts")
    show_nodes(result.data["nodes"], terminal)


_STYLES = {"ok": "green", "unproven": "bold yellow"}


_SOUND = (None, "ok", "not_told", "not_read")


def _engine(engine: dict[str, Any]) -> Piece:
    """Return the running version: ``*`` has the basic API, ``!`` would not start again."""
    version = engine["version"] + ("*" if engine["missing"] else "")
    return version if engine["catalog"] in _SOUND else Styled(f"{version}!", "bold red")


def _contents(one: dict[str, Any]) -> list[Any]:
    """Return a mount's number of roles, and its key with age and end."""
    if one["credential"] and not one["credential"]["key_id"]:
        # An engine with the basic API has one, but does not report which.
        return [str(len(one["roles"])), "?", "?", "?"]
    key = one["credential"] or _NO_KEY
    due = Styled("due", "yellow") if key["due"] else key["expires_at"][:10]
    return [str(len(one["roles"])), _short(key["key_id"]), _age(key["age_seconds"]), due]


def _short(key_id: str) -> str:
    """Return enough of a key id to distinguish keys on 80 columns; JSON has all of it."""
    return key_id if len(key_id) <= 9 else f"{key_id[:8]}…"


def _age(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    for size, letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{letter}"
    return f"{seconds}s"
