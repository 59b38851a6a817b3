"""``skyflowctl role``: the roles of a mount."""

from collections.abc import Mapping
from dataclasses import asdict

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.console import Column, Terminal, fitted
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import (
    AllowDestroyOption,
    ApprovingTargetOptions,
    FileOption,
    MountArgument,
    NoInputOption,
    OutputOptions,
    RoleArgument,
    TargetOptions,
    YesOption,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode


@command(
    examples=[
        ("skyflowctl role list order", "every role of the mount order"),
        ("skyflowctl role list skyflow/order --dev", "on the dev stack, by path"),
        ("skyflowctl role list order -o json | jq -r '.data.roles[].name'", "only names"),
    ],
    exits=READ_EXITS,
)
def role_list(
    mount: MountArgument,
    target: TargetOptions,
    output: OutputOptions,
    file: FileOption = None,
) -> None:
    """List the roles of a mount, each with its Skyflow role and ctx rule."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.roles import list_roles

        path = manifests.resolve_path(mount, file)
        with gateways.open_gateway(target, run) as gateway:
            roles = list_roles(gateway, path)
        listed = [asdict(roles[name]) for name in sorted(roles)]
        return CommandResult({"mount": mount, "path": path, "roles": listed})

    run_command("role list", output, work, _view_list)


def _view_list(result: CommandResult, terminal: Terminal) -> None:
    rows = result.data["roles"]
    if rows:
        fitted(terminal, _ROLES, rows)
    else:
        terminal.note("no roles")


def _rule(role: Mapping[str, object]) -> str:
    if role["ctx_pattern"]:
        return str(role["ctx_pattern"])
    return "required" if role["ctx_required"] else "optional"


_ROLES = (
    Column("ROLE", lambda one: str(one["name"]), least=24),
    Column("SKYFLOW ROLE", lambda one: ", ".join(one["role_ids"]), least=16),
    Column("CTX", _rule),
    Column("DESCRIPTION", lambda one: str(one["description"])),
)


@command(
    examples=[
        ("skyflowctl role show order order-producer", "one role in full"),
        ("skyflowctl role show skyflow/order order-producer", "by path"),
        ("skyflowctl role show order order-producer -o json", "for programs"),
    ],
    exits=READ_EXITS,
)
def role_show(
    mount: MountArgument,
    role: RoleArgument,
    target: TargetOptions,
    output: OutputOptions,
    file: FileOption = None,
) -> None:
    """Show one role: the Skyflow role of its tokens, its ctx rule, its version."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.roles import show_role

        path = manifests.resolve_path(mount, file)
        with gateways.open_gateway(target, run) as gateway:
            found = show_role(gateway, path, role)
        return CommandResult({"mount": mount, "path": path, "role": asdict(found)})

    run_command("role show", output, work, _view_show)


def _view_show(result: CommandResult, terminal: Terminal) -> None:
    terminal.fields(result.data["role"].items())


@command(
    examples=[
        ("skyflowctl role delete order order-old", "asks first"),
        ("skyflowctl role delete order order-old -y", "does not ask"),
        (
            "skyflowctl role delete order r -y --allow-destroy=skyflow/order/roles/r",
            "a role that the manifest did not make",
        ),
    ],
    exits=[*READ_EXITS, ExitCode.REFUSED, ExitCode.PENDING],
)
def role_delete(
    mount: MountArgument,
    role: RoleArgument,
    target: ApprovingTargetOptions,
    output: OutputOptions,
    *,
    yes: YesOption = False,
    no_input: NoInputOption = False,
    allow_destroy: AllowDestroyOption = None,
    file: FileOption = None,
) -> None:
    """Delete one role: nobody can then read its tokens. Tokens that were already issued stay
    valid until they expire. A role that the manifest did not make, or adopted, is deleted only
    with --allow-destroy. A role that does not exist is reported, and is no error."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.delete import carry_out_deletion, plan_role_deletion

        path = manifests.resolve_path(mount, file)
        loaded = manifests.optional_manifest(file, run)
        data = {"mount": mount, "path": path, "role": role}
        with gateways.open_gateway(target, run) as gateway:
            manifest = loaded.manifest if loaded else None
            action = plan_role_deletion(gateway, path, role, manifest, allow_destroy or ())
            if action is None:
                return CommandResult({**data, "result": "absent"})
            server = gateway.transport.server.name
            question = f"Delete {action.path} on {server}?"
            run.confirm(question, yes=yes, no_input=no_input)
            carry_out_deletion(action, gateway)
        return CommandResult({**data, "result": "deleted"})

    run_command("role delete", output, work, _view_deleted)


def _view_deleted(result: CommandResult, terminal: Terminal) -> None:
    path = f"{result.data['path']}/roles/{result.data['role']}"
    deleted = result.data["result"] == "deleted"
    terminal.line(f"{path} is deleted." if deleted else f"{path} does not exist.")
