"""``skyflowctl role``: the roles of a mount."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.console import Column, Styled, Terminal, fitted
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.envelope import CommandResult, problem_json
from skyflowctl.cli.options import (
    AllowDestroyOption,
    ApprovingTargetOptions,
    FileOption,
    MountArgument,
    NoInputOption,
    OptionGroup,
    OutputOptions,
    RoleArgument,
    TargetOptions,
    YesOption,
    option,
)
from skyflowctl.cli.problems import show_warnings
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, UsageError
from skyflowctl.frozen import dataclass

if TYPE_CHECKING:
    from skyflowctl.operations.role_write import RoleChange


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
    Column("ROLE", lambda one: str(one["name"]), whole=True),
    Column("SKYFLOW ROLE", lambda one: ", ".join(one["role_ids"]), whole=True),
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


RoleDryRunOption = Annotated[
    bool, option("--dry-run", help="Show what would change; write nothing.")
]


@dataclass(frozen=True, slots=True)
class RoleWriteOptions(OptionGroup):
    """The fields of a role that change; None: it stays as it is."""

    role_id: Annotated[
        str | None, option("--role-id", help="The Skyflow role of its tokens.", metavar="ID")
    ] = None
    description: Annotated[
        str | None,
        option("--description", help='What the role is for; "" clears it.', metavar="TEXT"),
    ] = None
    tag: Annotated[
        list[str] | None,
        option(
            "--tag",
            help="A tag; repeat for all tags of the role, which replace the old ones.",
            metavar="T",
        ),
    ] = None
    clear_tags: Annotated[bool, option("--clear-tags", help="Remove every tag.")] = False
    ctx_required: Annotated[
        bool | None,
        option(
            "--ctx-required/--ctx-optional",
            help="A ctx is needed (default: if there is a pattern), or not: --ctx-optional.",
        ),
    ] = None
    ctx_pattern: Annotated[
        str | None,
        option(
            "--ctx-pattern",
            help='The form of a ctx, * at its start or end for any text; "" clears it.',
            metavar="P",
        ),
    ] = None
    ctx_probe: Annotated[
        str | None,
        option(
            "--ctx-probe",
            help='The ctx for verification: text, or a flat JSON object; "" clears it.',
            metavar="CTX",
        ),
    ] = None
    sign_max_ttl: Annotated[
        str | None,
        option("--sign-max-ttl", help="The longest life of a signed data token.", metavar="SPAN"),
    ] = None
    reuse_min_ttl: Annotated[
        str | None,
        option(
            "--reuse-min-ttl",
            help="Issue a token again while it is valid for this long; 0: never.",
            metavar="SPAN",
        ),
    ] = None
    reuse_per: Annotated[
        Literal["entity", "role"] | None,
        option("--reuse-per", help="Who shares it: entity or role.", metavar="WHO"),
    ] = None

    def patch(self) -> dict[str, Any]:
        """Return the engine's fields that were given.

        Raises:
            UsageError: none was given, two contradict each other, or the probe is no ctx.
        """
        from skyflowctl.cli.commands.config.command import chosen_tags
        from skyflowctl.operations.creds import parse_ctx

        tags = chosen_tags(self.tag, clear=self.clear_tags)
        whole = {
            "role_ids": None if self.role_id is None else [self.role_id],
            "description": self.description,
            "tags": None if tags is None else list(tags),
            "ctx_required": self.ctx_required,
            "ctx_pattern": self.ctx_pattern,
            "ctx_probe": self.ctx_probe and parse_ctx(self.ctx_probe),
            "sign_max_ttl": self.sign_max_ttl,
            "reuse_min_ttl": self.reuse_min_ttl,
            "reuse_per": self.reuse_per,
        }
        patch = {name: value for name, value in whole.items() if value is not None}
        if not patch:
            raise UsageError(
                "nothing to write",
                why="no field of the role was named",
                fix="give --role-id, --description, --tag or a --ctx option",
                code="nothing-to-write",
            )
        return patch


@command(
    examples=[
        (
            "skyflowctl role write order order-audit --role-id skyflow-role-audit",
            "a new role: shows it, and asks",
        ),
        ('skyflowctl role write order order-producer --description "Orders" -y', "one field"),
        (
            "skyflowctl role write order order-producer --ctx-probe order:x --dry-run",
            "what would change",
        ),
    ],
    exits=[*READ_EXITS, ExitCode.REFUSED, ExitCode.PENDING, ExitCode.PARTIAL],
)
def role_write(
    mount: MountArgument,
    role: RoleArgument,
    target: ApprovingTargetOptions,
    given: RoleWriteOptions,
    output: OutputOptions,
    *,
    yes: YesOption = False,
    no_input: NoInputOption = False,
    dry_run: RoleDryRunOption = False,
    file: FileOption = None,
) -> None:
    """Create a role, or change the given fields of one and keep the others. What changes is
    shown first, and confirmed. If the role changes meanwhile, the write is refused (exit 5). A
    role of a manifest keeps its mark, and the next apply restores the manifest's values."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.role_write import carry_out_role_write, plan_role_write

        patch = given.patch()
        path = manifests.resolve_path(mount, file, run)
        with gateways.open_gateway(target, run) as gateway:
            change = plan_role_write(gateway, path, role, patch, run.clock)
            action, version, result = change.action, change.version, "unchanged"
            if action and dry_run:
                result = "planned"
            elif action:
                server = gateway.transport.server.name
                _show_change(change, server, run)
                run.confirm(f"Write {action.path} to {server}?", yes=yes, no_input=no_input)
                version = carry_out_role_write(action, gateway).version
                result = f"{action.action}d"
        data = {
            "mount": mount,
            "path": path,
            "role": role,
            "result": result,
            "version": version,
            "action": action.action.value if action else None,
            "changes": action.to_json()["changes"] if action else [],
            "warnings": [problem_json(one) for one in change.warnings],
        }
        return CommandResult(data, warnings=change.warnings if dry_run else ())

    run_command("role write", output, work, _view_written)


def _show_change(change: "RoleChange", server: str, run: CommandRun) -> None:
    """Show on stderr what the question is about."""
    from skyflowctl.cli.commands.plan_view import show_action

    run.notice(f"server: {server}")
    if change.action and not run.terminal.quiet and not run.json:
        show_action(change.action.to_json(), replace(run.terminal, out=run.terminal.err))
    show_warnings(change.warnings, run.terminal)


def _view_written(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.cli.commands.plan_view import show_action

    data = result.data
    path = f"{data['path']}/roles/{data['role']}"
    if data["result"] == "unchanged":
        terminal.line(Styled("No changes.", "bold green"), f" {path} has these values already.")
    elif data["result"] == "planned":
        show_action({**data, "kind": "role", "path": path}, terminal)
        terminal.note("a dry run: nothing was written")
    else:
        terminal.line(f"{path} is {data['result']}.")


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
