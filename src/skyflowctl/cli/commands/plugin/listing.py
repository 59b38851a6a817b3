"""``skyflowctl plugin list``: what is registered, and what each mount and node runs."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.commands.node_view import show_nodes
from skyflowctl.cli.commands.plugin.command import NameOption
from skyflowctl.cli.console import Piece, Styled, Terminal
from skyflowctl.cli.context import gateways
from skyflowctl.cli.context.dev_stack import audit_suspects
from skyflowctl.cli.envelope import CommandResult, status_of
from skyflowctl.cli.options import OutputOptions, TargetOptions, option, span_seconds
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from skyflowctl.operations.list_plugins import CatalogFile


@command(
    examples=[
        ("skyflowctl plugin list", "registered versions, and what every mount runs"),
        (
            "skyflowctl plugin list --directory /etc/openbao/plugins",
            "on the server's host: check that every launcher starts",
        ),
        ("skyflowctl plugin list --name skyflow-next", "a plugin with another name"),
        ("skyflowctl plugin list -o json", "for programs"),
    ],
    exits=[*READ_EXITS, ExitCode.PARTIAL, ExitCode.UNHEALTHY],
)
def plugin_list(
    target: TargetOptions,
    output: OutputOptions,
    name: NameOption = "skyflow",
    directory: Annotated[
        Path | None,
        option(
            "--directory",
            help="The server's plugin directory on this host; also checks its files.",
            metavar="PATH",
        ),
    ] = None,
) -> None:
    """List the registered versions of the plugin with their digests, and the version and digest
    that every mount of this type runs. Exit 6 means that a mount runs a file other than the
    registered one, that its file would not start again, or that a node is in trouble: each
    named node is asked whether the plugin of every mount runs there. A mount of which no node
    could say that is not_known, with the reason; exit 3 means that nothing else is wrong."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.health import DEADLINE
        from skyflowctl.operations.list_plugins import list_plugins
        from skyflowctl.operations.node_states import every_node, node_problems, node_warnings

        with gateways.open_gateway(target, run) as gateway:
            suspects = audit_suspects(gateway.transport.server.address, None)
            found = list_plugins(gateway, name, directory)
            paths = [one.path for one in found.mounts]
            limit = span_seconds(DEADLINE, "--deadline")
            nodes = every_node(gateway, paths, suspects, limit, run.clock)
        found, unknown = found.seen_on(nodes)
        for warning in node_warnings(nodes):
            run.warn(warning)
        data = {
            "catalog": [_entry(one) for one in found.catalog],
            "mounts": [asdict(one) for one in found.mounts],
            "nodes": [{**one.to_json(), "running": dict(one.digests)} for one in nodes],
        }
        bad = [*found.problems(directory)]
        bad += node_problems(nodes, bad)
        code = ExitCode.PARTIAL if unknown else ExitCode.OK
        code = ExitCode.UNHEALTHY if bad else code
        return CommandResult(data, status_of(code), code, [*bad, *unknown])

    run_command("plugin list", output, work, _view_plugins)


def _entry(one: "CatalogFile") -> dict[str, Any]:
    return {
        **{key: getattr(one.entry, key) for key in ("name", "version", "sha256")},
        "command": one.entry.command or None,
        "args": list(one.entry.args) if one.entry.command else None,
        "env": "unknown",
        "file": {"state": one.state, "detail": one.detail},
    }


def _view_plugins(result: CommandResult, terminal: Terminal) -> None:
    catalog: list[list[Piece]] = [
        [one["version"], one["command"] or "?", one["sha256"][:12], _state(one["file"]["state"])]
        for one in result.data["catalog"]
    ]
    mounts: list[list[Piece]] = [
        [one["path"], one["version"], one["sha256"][:12], _state(one["state"])]
        for one in result.data["mounts"]
    ]
    terminal.table(["VERSION", "FILE", "SHA256", "STATE"], catalog)
    for one in result.data["catalog"]:
        if one["args"]:
            terminal.line(f"{one['version']} runs with {' '.join(one['args'])}")
    terminal.line()
    terminal.table(["MOUNT", "RUNS", "SHA256", "STATE"], mounts)
    for line in _hints(result.data["catalog"]):
        terminal.note(line)
    show_nodes(result.data["nodes"], terminal)


def _hints(catalog: "Sequence[Mapping[str, Any]]") -> "Iterator[str]":
    """Yield what was not checked, and how to check it."""
    if not catalog:
        yield "nothing is registered under this name: skyflowctl plugin register FILE"
    if any(one["command"] is None for one in catalog):
        yield "?: give this login read and sudo on sys/plugins/catalog/secret/*"
    if any(one["file"]["state"] == "unchecked" for one in catalog):
        yield "unchecked: on the server's host, --directory compares and starts the files"


def _state(state: str) -> Piece:
    quiet = {"ok": "green", "unchecked": "dim", "not_told": "dim", "not_known": "bold yellow"}
    return Styled(state, quiet.get(state, "red"))
