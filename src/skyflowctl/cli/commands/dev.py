"""``skyflowctl dev``: a complete stack on this machine."""

import os
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from skyflowctl.cli.command import command
from skyflowctl.cli.console import Styled, Terminal
from skyflowctl.cli.context import manifests
from skyflowctl.cli.context.dev_stack import devstack_extra, start_dev_stack
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import (
    FileOption,
    NoInputOption,
    OutputOptions,
    option,
)
from skyflowctl.cli.runner import CommandRun, fail_in_eval, run_command
from skyflowctl.errors import ExitCode

if TYPE_CHECKING:
    from skyflowctl.operations.dev_stack import DevStatus, DevUp

_ENV = ["SKYFLOWCTL_BAO", "SKYFLOWCTL_DEV_DIR"]
_STATE_STYLES = {"running": "green", "sealed": "yellow", "silent": "yellow", "stopped": "red"}
_DATA = {"inmem": "in memory, until a restart", "raft": "on disk, until 'dev reset'"}
Log = Literal["openbao", "emulator", "audit"]


@command(
    examples=[
        ("skyflowctl dev up", "start the stack, with an account for every mount in ./mounts.yaml"),
        ("skyflowctl dev up -f examples/mounts.yaml", "for another manifest"),
        ("skyflowctl dev up --persist", "keep the server's data through restarts and kill -9"),
        ('eval "$(skyflowctl dev env)"', "let bao, skyflowctl, hvac and the SDK use it"),
        ("SKYFLOWCTL_BAO=/opt/bao/bao skyflowctl dev up", "with your own server binary"),
    ],
    exits=[ExitCode.REFUSED, ExitCode.INVALID, ExitCode.UNHEALTHY],
    env=_ENV,
)
def dev_up(
    output: OutputOptions,
    file: FileOption = None,
    *,
    persist: Annotated[
        bool,
        option("--persist", help="Keep the server's data on disk, until 'dev reset'."),
    ] = False,
) -> None:
    """Start OpenBao with the engine registered, and a Skyflow emulator. Running parts are
    reused. The stack stores its files in .skyflowctl/dev, keeps its ports, and keeps running
    when the terminal closes. It uses only generated credentials and resolves no reference of
    the manifest. The server's data is in memory: apply again after a restart. With --persist it
    is on disk (raft), and every later start unseals it; only 'dev reset' deletes it."""

    def work(run: CommandRun) -> CommandResult:
        found = manifests.optional_manifest(file, run)
        up = start_dev_stack(found.manifest if found else None, run, persist=persist)
        return CommandResult(_up_data(up))

    run_command("dev up", output, work, _view_up)


def _up_data(up: "DevUp") -> dict[str, Any]:
    server, emulator = up.state.server, up.state.emulator
    return {
        "folder": str(up.layout.root),
        "address": server.address if server else "",
        "emulator": emulator.address if emulator else "",
        "cluster_id": up.state.cluster_id,
        "storage": up.layout.storage,
        "started": list(up.started),
        "engine_registered": up.registered,
        "accounts": list(up.accounts),
    }


def _view_up(result: CommandResult, terminal: Terminal) -> None:
    data = result.data
    word = "started" if data["started"] else "already running"
    terminal.line(Styled(f"dev stack {word}", "green"))
    terminal.fields(
        [
            ("openbao", data["address"]),
            ("emulator", data["emulator"]),
            ("folder", data["folder"]),
            ("data", _DATA[data["storage"]]),
            ("accounts", ", ".join(data["accounts"]) or "none yet: name a manifest with -f"),
        ],
        "  ",
    )
    terminal.note("use it here with --dev, or in this shell: ", 'eval "$(skyflowctl dev env)"')


@command(
    examples=[
        ("skyflowctl dev down", "stop it and keep its files"),
        ("skyflowctl dev down -o json", "show which parts were running"),
        ("skyflowctl dev reset -y", "stop it and delete its files"),
    ],
    exits=[ExitCode.REFUSED],
    env=_ENV[1:],
)
def dev_down(output: OutputOptions) -> None:
    """Stop every process of the stack, even if its server was killed or its folder removed.
    Ports, keys and logs are kept for the next start, and the server's data if it was started
    with 'dev up --persist'; else it is lost."""

    def work(_: CommandRun) -> CommandResult:
        from skyflowctl.operations import dev_stack

        with devstack_extra():
            return CommandResult({"stopped": list(dev_stack.bring_down(os.environ))})

    run_command("dev down", output, work, _view_down)


def _view_down(result: CommandResult, terminal: Terminal) -> None:
    stopped = result.data["stopped"]
    terminal.line(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@command(
    examples=[
        ("skyflowctl dev status", "addresses and process ids"),
        ("skyflowctl dev status -o json", "for programs"),
        ("skyflowctl dev status -q || skyflowctl dev up", "start it only if it is not running"),
    ],
    exits=[ExitCode.UNHEALTHY],
    env=_ENV[1:],
)
def dev_status(output: OutputOptions) -> None:
    """Check that every part of the stack answers; exit 6 if one does not."""

    def work(_: CommandRun) -> CommandResult:
        from skyflowctl.operations import dev_stack

        with devstack_extra():
            found = dev_stack.dev_stack_status(os.environ)
        if found.running:
            return CommandResult(_status_data(found))
        return CommandResult(_status_data(found), "unhealthy", ExitCode.UNHEALTHY)

    run_command("dev status", output, work, _view_status)


def _status_data(found: "DevStatus") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "running": found.running,
        "folder": str(found.layout.root),
        "cluster_id": found.cluster_id,
        "storage": found.layout.storage,
        "parts": [asdict(part) for part in found.parts],
        "plugin_processes": found.plugin_processes,
        "unrecorded": list(found.unrecorded),
    }


def _view_status(result: CommandResult, terminal: Terminal) -> None:
    data = result.data
    rows = [
        (
            part["name"],
            Styled(part["state"], _STATE_STYLES[part["state"]]),
            str(part["pid"] or "-"),
            part["address"] or "-",
        )
        for part in data["parts"]
    ]
    terminal.table(["PART", "STATE", "PID", "ADDRESS"], rows)
    terminal.line()
    terminal.fields(
        [
            ("engine processes", data["plugin_processes"]),
            ("folder", data["folder"]),
            ("data", _DATA[data["storage"]]),
        ],
    )
    if any(part["state"] == "sealed" for part in data["parts"]):
        _view_sealed(data["storage"], terminal)
    elif data["unrecorded"]:
        terminal.note(f"running, but unknown to the folder: {', '.join(data['unrecorded'])}")
        terminal.note("end them: skyflowctl dev down")
    elif not data["running"]:
        terminal.note("start it: skyflowctl dev up")


def _view_sealed(storage: str, terminal: Terminal) -> None:
    if storage == "raft":
        terminal.note("the server is sealed; unseal it by a new start: skyflowctl dev up")
        return
    terminal.note("the server is sealed, and only a new start unseals it; its data is in")
    terminal.note("memory: 'skyflowctl dev up' starts an empty one, then")
    terminal.note("'skyflowctl apply --dev' writes the manifest again")


@command(
    examples=[
        ('eval "$(skyflowctl dev env)"', "use the stack in this shell"),
        ("skyflowctl dev env", "read the lines first: they contain a token"),
        ("skyflowctl dev env -o json | jq -r .data.env.BAO_ADDR", "one value, for a program"),
    ],
    exits=[ExitCode.UNHEALTHY],
    env=_ENV[1:],
)
def dev_env(output: OutputOptions) -> None:
    """Print shell exports for bao, hvac, skyflowctl and the Skyflow SDK: address, operator
    token, and a CA bundle of the public roots and the dev CA."""

    def work(_: CommandRun) -> CommandResult:
        from skyflowctl.operations import dev_stack

        with devstack_extra():
            return CommandResult({"env": dev_stack.exports(os.environ)})

    run_command("dev env", output, work, _view_env, failure_view=fail_in_eval)


def _view_env(result: CommandResult, terminal: Terminal) -> None:
    for name, value in result.data["env"].items():
        terminal.raw(f"export {name}={shlex.quote(value)}\n")


@command(
    examples=[
        ("skyflowctl dev logs", "the last lines of the server and the engine"),
        ("skyflowctl dev logs audit -n 2", "the last request and its response"),
        ("skyflowctl dev logs emulator -f", "follow, until Ctrl-C"),
    ],
    exits=[ExitCode.UNHEALTHY],
    env=_ENV[1:],
)
def dev_logs(
    output: OutputOptions,
    part: Annotated[
        Log,
        typer.Argument(
            metavar="[PART]",
            help="openbao (includes the engine), emulator or audit.",
            show_default=False,
        ),
    ] = "openbao",
    *,
    lines: Annotated[
        int, option("-n", "--lines", help="Number of lines (default 40).", metavar="N", min=0)
    ] = 40,
    follow: Annotated[
        bool, option("-f", "--follow", help="Print new lines as they are logged.")
    ] = False,
) -> None:
    """Print the end of a log of the stack; with -f, also new lines."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.devstack import logs
        from skyflowctl.devstack.layout import find_layout

        path = logs.path_of(find_layout(os.environ), part)
        last = logs.tail(path, lines)
        if not run.json:
            for line in last:
                run.terminal.line(line)
            for line in logs.follow_logs(path) if follow else ():
                run.terminal.line(line)
        return CommandResult({"path": str(path), "lines": last})

    run_command("dev logs", output, work, lambda *_: None)


@command(
    examples=[
        ("skyflowctl dev reset", "asks first"),
        ("skyflowctl dev reset -y", "does not ask"),
        ("skyflowctl dev reset -y && skyflowctl dev up", "a fresh stack with new keys"),
    ],
    exits=[ExitCode.REFUSED, ExitCode.UNHEALTHY],
    env=_ENV[1:],
)
def dev_reset(
    output: OutputOptions,
    *,
    yes: Annotated[
        bool, option("-y", "--yes", help="Do not ask; deletes only files of the dev stack.")
    ] = False,
    no_input: NoInputOption = False,
) -> None:
    """Stop the stack and delete its folder with server data, keys, tokens and logs. A folder
    that the dev stack did not create is refused."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.devstack.layout import find_layout
        from skyflowctl.operations import dev_stack

        layout = find_layout(os.environ)
        if layout.ours:
            run.confirm(f"Delete {layout.root}?", yes=yes, no_input=no_input)
        with devstack_extra():
            deleted = dev_stack.reset(os.environ)
        return CommandResult({"deleted": str(layout.root) if deleted else None})

    run_command("dev reset", output, work, _view_reset)


def _view_reset(result: CommandResult, terminal: Terminal) -> None:
    deleted = result.data["deleted"]
    terminal.line(f"deleted: {deleted}" if deleted else "there was no dev stack here")
