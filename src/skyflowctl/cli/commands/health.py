"""``skyflowctl health``."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from skyflowctl.cli.command import command
from skyflowctl.cli.commands.node_view import show_nodes
from skyflowctl.cli.console import Styled, Terminal
from skyflowctl.cli.context import bound_manifests, gateways, manifests
from skyflowctl.cli.context.dev_stack import audit_suspects
from skyflowctl.cli.envelope import CommandResult, Status
from skyflowctl.cli.options import (
    DeadlineOption,
    FileOption,
    MountsArgument,
    OutputOptions,
    ParallelismOption,
    TargetOptions,
    option,
    span_seconds,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, Problem

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.operations.health import HealthResult, MountHealth

MintOption = Annotated[
    bool,
    option("--mint", help="Read a token for each role if the engine cannot verify itself."),
]
RefreshOption = Annotated[
    bool,
    option("--refresh/--cached", help="Mint now (default), or accept an answer of the last 30 s."),
]


@command(
    examples=[
        ("skyflowctl health", "every mount of the manifest, or of the server"),
        ("skyflowctl health order payment", "two mounts"),
        ("skyflowctl health --cached", "for a frequent monitor: at most one mint per 30 s"),
        ("skyflowctl health payment --mint", "for an engine with the basic API"),
        ("skyflowctl health -q -o json | jq -r '.data.mounts[].state'", "only the states"),
    ],
    exits=[ExitCode.UNHEALTHY, ExitCode.REFUSED, ExitCode.INVALID],
)
def health(
    target: TargetOptions,
    output: OutputOptions,
    *,
    mounts: MountsArgument = None,
    file: FileOption = None,
    parallelism: ParallelismOption = 10,
    refresh: RefreshOption = True,
    mint: MintOption = False,
    deadline: DeadlineOption = None,
) -> None:
    """Check whether every mount can mint, on every named node. Exit 6 means that a mount is not
    ok, or that a server is sealed or does not answer. The engine mints for every role;
    with --cached, its last answer is accepted and its age shown. An engine with the basic API
    does not report whether it can mint: its state is unproven, unless --mint is given. A
    mount that does not answer within --deadline is unreachable. All mounts together have
    60 s, or six times --deadline if that is longer; a mount that was not reached by then is
    unreachable, with that reason. If a node's audit devices are seen to stop every request, the
    state is audit_blocked, and the device is named as far as it is known here. Each node is
    asked itself; trouble with one, and a clock that differs, are shown."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.blocked_audit import lost_records
        from skyflowctl.operations.health import DEADLINE
        from skyflowctl.operations.health import health as ask
        from skyflowctl.operations.node_states import node_warnings

        chosen = manifests.choose_mounts(mounts, file, run)
        with gateways.open_gateway(target, run) as gateway:
            bound_manifests.refuse_other_server(chosen.manifest if mint else None, gateway)
            address = gateway.transport.server.address
            suspects = audit_suspects(address, chosen.manifest)
            found = ask(
                gateway,
                chosen.mounts,
                plugin_name=chosen.plugin_name,
                prefix=chosen.prefix,
                connect=gateways.connect_node(gateway),
                refresh=refresh,
                mint=mint,
                parallelism=parallelism,
                deadline=span_seconds(deadline or DEADLINE, "--deadline"),
                suspects=suspects,
            )
        _refuse_unknown(found, chosen.manifest if mounts else None)
        for node in found.unasked:
            run.notice(f"not asked, because not named: {node} (name it with --node)")
        return _result(found, address, [*lost_records(suspects), *node_warnings(found.nodes)])

    run_command("health", output, work, _view)


def _refuse_unknown(found: "HealthResult", manifest: "Manifest | None") -> None:
    """Refuse mounts that neither the manifest nor the server has."""
    nowhere = sorted({one.path for one in found.mounts if one.state == "not_mounted"})
    if manifest:
        manifests.named_mounts(manifest, nowhere)


def _result(found: "HealthResult", address: str, warnings: Sequence[Problem]) -> CommandResult:
    rows = [_with_node(row, address) for row in found.mounts]
    status: Status = "ok" if found.healthy else "unhealthy"
    problems = [_problem(row) for row in rows if row.state != "ok"]
    data = {
        "mounts": [row.to_json() for row in rows],
        "nodes": [one.to_json() for one in found.nodes],
    }
    return CommandResult(data, status, found.exit_code, problems, warnings)


def _problem(row: "MountHealth") -> Problem:
    node = f" on {row.node}" if row.node else ""
    return Problem(
        row.state.replace("_", "-"),
        f"{row.path or 'the server'}{node} is {_HOW.get(row.state, f'unhealthy: {row.state}')}",
        row.detail or "the one who answered gave no reason",
        _refused_fix(row) if row.state == "refused" else row.fix or _FIXES[row.state],
    )


def _refused_fix(row: "MountHealth") -> str:
    """Return the fix for a refused mount: refused by its engine or by the token service."""
    from skyflowctl.skyflow.token_uri import token_uri_refused
    from skyflowctl.vault.errors import ALLOW_HOST_FIX

    if token_uri_refused(row.detail):
        return ALLOW_HOST_FIX
    return (
        f"'skyflowctl config verify {row.name or row.path}' tests each role; check the key "
        "and its roles in Skyflow"
    )


def _with_node(row: "MountHealth", address: str) -> "MountHealth":
    """Add the address to a row that does not answer, if no node is named."""
    silent = row.state in {"unreachable", "audit_blocked"}
    return replace(row, node=address) if silent and not row.node else row


_HOW = {
    "unproven": "unproven: whether it mints is not known",
    "audit_blocked": "not reached: the server's audit devices stop every request",
}
_FIXES = {
    "unproven": "'skyflowctl health --mint' reads a token for each role, and drops it",
    "unconfigured": "give it a credential: 'skyflowctl apply' writes the manifest's",
    "token_service_unreachable": "check the server's way to the token service, and its proxy",
    "forbidden": "use a token whose policies allow to read health",
    "not_mounted": "check its name and the namespace, or create it with 'skyflowctl apply'",
    "plugin_missing": "on that node: skyflowctl plugin list --directory PLUGIN_DIRECTORY",
    "sealed": "unseal the server, then run the command again",
    "uninitialized": "initialise the server with 'bao operator init'",
    "dr_secondary": "name a node of the primary cluster",
    "standby_without_leader": "name another node, or restore the way between the nodes",
    "removed": "name a node that is still a member of the cluster",
    "audit_blocked": "make the audit device writable on its node, then send SIGHUP to the server",
    "unreachable": "check the address, the network and that the server runs",
}


_STYLES = {"ok": "green", "unproven": "bold yellow"}


def _view(result: CommandResult, terminal: Terminal) -> None:
    rows = [
        [
            one["name"] or "(server)",
            Styled(one["state"], _STYLES.get(one["state"], "bold red")),
            "-" if one["latency_ms"] is None else f"{one['latency_ms']:.0f} ms",
            one["node"],
            one["detail"],
        ]
        for one in result.data["mounts"]
    ]
    if rows:
        terminal.table(["MOUNT", "STATE", "LATENCY", "NODE", "DETAIL"], rows)
    else:
        terminal.note("no mounts")
    show_nodes(result.data["nodes"], terminal)
