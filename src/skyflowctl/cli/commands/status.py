"""``skyflowctl status``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from skyflowctl.cli.command import command
from skyflowctl.cli.commands.cut_off_view import cut_off_note
from skyflowctl.cli.commands.node_view import show_nodes
from skyflowctl.cli.console import Column, Piece, Styled, Terminal, fitted, has_room
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
from skyflowctl.clock import SystemClock, parse_rfc3339
from skyflowctl.errors import ExitCode
from skyflowctl.text import counted

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.operations.health import HealthResult
    from skyflowctl.operations.status import MountStatus, StatusResult
    from skyflowctl.vault.gateway import Gateway


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
        from skyflowctl.operations.node_states import node_warnings
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
        for warning in (*found.warnings, *node_warnings(found.nodes)):
            run.warn(warning)
        drift = _drift(chosen.manifest, found)
        data = {
            "mounts": [{**_json(one), "drift": drift.get(one.path)} for one in found.mounts],
            "nodes": [one.to_json() for one in found.nodes],
            "manifest": chosen.manifest.id if chosen.manifest else None,
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


def _drift(manifest: "Manifest | None", found: "StatusResult") -> dict[str, list[dict[str, Any]]]:
    """Return by path how mounts differ from the manifest; those that were compared."""
    if manifest is None or found.live is None:
        return {}
    from skyflowctl.operations.status_drift import mount_differences

    read = [one.path for one in found.mounts if one.problem is None]
    compared = mount_differences(manifest, found.live, read)
    return {
        path: [{**asdict(one), "fields": list(one.fields)} for one in differences]
        for path, differences in compared.items()
    }


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
    mounts, now = result.data["mounts"], SystemClock().now()
    if not mounts:
        terminal.note("no mounts")
    else:
        wide = _columns(now, wide=True)
        roomy = terminal.interactive_out and has_room(terminal, wide, mounts)
        fitted(terminal, wide if roomy else _columns(now, wide=False), mounts)
        for one in mounts:
            basic = bool(one["engine"]["missing"])
            cut_off_note(one["name"], one.get("revoked"), terminal, basic=basic)
            for other in one["drift"] or ():
                fields = f": {', '.join(other['fields'])}" if other["fields"] else ""
                text = f"{other['path']} {_DRIFT[other['kind']]}{fields}"
                terminal.line(Styled("! ", "yellow"), Styled(text, "yellow"))
        terminal.line(*_summary(mounts))
        _notes(result.data, terminal)
    show_nodes(result.data["nodes"], terminal)


def _notes(data: Mapping[str, Any], terminal: Terminal) -> None:
    mounts = data["mounts"]
    if any(one["engine"]["catalog"] not in _SOUND for one in mounts):
        terminal.note("! it would not start again: 'skyflowctl plugin list' compares files")
    if unwell := sum(one["health"] != "ok" for one in mounts):
        terminal.note(f"{counted(unwell, 'mount')} not ok: 'skyflowctl health' says why")
    for missing in sorted({", ".join(one["engine"]["missing"]) for one in mounts}):
        if missing:
            terminal.note(f"* another engine, with the basic API: it lacks {missing}")
    if data["manifest"] is None:
        terminal.note("no manifest (-f): drift is not compared, and no rule says what is due")
    else:
        terminal.note("drift: 'skyflowctl plan' also compares keys, logins and policies")


_DRIFT = {
    "differs": "differs",
    "absent": "is absent",
    "undeclared": "is not in the manifest",
    "open_rotation": "has an open rotation",
    "moved": "was or is to be moved",
}


def _summary(mounts: Sequence[Mapping[str, Any]]) -> list[Piece]:
    """Count the mounts that need attention; one that was not read is never ok."""
    well = sum(one["health"] == "ok" and not one["unread"] for one in mounts)
    counts = (
        ("bold red", sum("revoked" in one for one in mounts), "cut off"),
        ("bold red", sum(one["unread"] for one in mounts), "not read"),
        ("bold yellow", sum((one["credential"] or {}).get("due", False) for one in mounts), "due"),
        ("bold yellow", sum(bool(one["drift"]) for one in mounts), "drifted"),
    )
    style = "bold green" if well == len(mounts) else "bold red"
    pieces: list[Piece] = [Styled(f"{well} of {counted(len(mounts), 'mount')} ok", style)]
    for style, number, word in counts:
        if number:
            pieces += [", ", Styled(f"{number} {word}", style)]
    return [*pieces, "."]


_STYLES = {"ok": "green", "unproven": "bold yellow"}


_SOUND = (None, "ok", "not_told", "not_read")


def _columns(now: datetime, *, wide: bool) -> list[Column]:
    """Return the columns; ``wide``: with what a narrow terminal has no room for."""
    middle = [
        Column("ENGINE", _engine, whole=True),
        Column("HEALTH", _health, whole=True),
        Column("ROLES", lambda one: _read(one, str(len(one["roles"])))),
        Column("KEY", partial(_of_key, _short)),
        Column("AGE", lambda one: _read(one, _age_of(one)), least=4),
        Column("DUE", partial(_of_key, partial(_due, now=now)), whole=True),
        Column("DRIFT", _drifted, whole=True),
    ]
    name = Column("MOUNT", lambda one: one["name"], whole=True)
    if not wide:
        return [name, *middle]
    path = Column("PATH", lambda one: one["path"], whole=True)
    ends = Column("EXPIRES", partial(_of_key, lambda key: key["expires_at"][:10] or "-"))
    return [name, path, *middle[:-1], ends, middle[-1]]


def _read(one: Mapping[str, Any], cell: Piece) -> Piece:
    """Return a cell of what is in a mount, which is unknown if that was not read."""
    return Styled("?", "bold red") if one["unread"] else cell


def _of_key(cell: Callable[[Mapping[str, Any]], Piece], one: Mapping[str, Any]) -> Piece:
    """Return a cell of what is known of a mount's live key; ``-``: it has none.

    An engine with the basic API has a key, but does not report which.
    """
    key = one["credential"]
    if key is None:
        return _read(one, "-")
    return _read(one, cell(key) if key["key_id"] else "?")


def _engine(one: Mapping[str, Any]) -> Piece:
    """Return the running version: ``*`` has the basic API, ``!`` would not start again."""
    engine = one["engine"]
    version = engine["version"] + ("*" if engine["missing"] else "")
    return version if engine["catalog"] in _SOUND else Styled(f"{version}!", "bold red")


def _health(one: Mapping[str, Any]) -> Piece:
    if "revoked" in one:
        return Styled("cut off", "bold red")
    return Styled(one["health"], _STYLES.get(one["health"], "bold red"))


def _age_of(one: Mapping[str, Any]) -> str:
    if one["credential"] is None:
        return "-"
    seconds = one["credential"]["age_seconds"]
    return "?" if seconds is None else _age(seconds)


def _short(key: Mapping[str, Any]) -> str:
    """Return enough of a key's id to distinguish keys on 80 columns; JSON has all of it."""
    key_id: str = key["key_id"]
    return key_id if len(key_id) <= 9 else f"{key_id[:8]}…"


def _due(key: Mapping[str, Any], now: datetime) -> Piece:
    """Return the date on which a key is due, and how far that is; without a rule, its end."""
    if not key["due_at"]:
        return Styled(f"ends {key['expires_at'][:10]}" if key["expires_at"] else "no date", "dim")
    far = parse_rfc3339(key["due_at"]) - now
    day, span = key["due_at"][:10], _age(int(abs(far).total_seconds()))
    return Styled(f"{day} due {span}", "bold yellow") if key["due"] else f"{day} in {span}"


def _drifted(one: Mapping[str, Any]) -> Piece:
    if one["drift"] is None:
        return Styled("?", "dim")
    number = len(one["drift"])
    return Styled(f"{number} differ" if number > 1 else "1 differs", "yellow") if number else "none"


def _age(seconds: int) -> str:
    for size, letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{letter}"
    return f"{seconds}s"
