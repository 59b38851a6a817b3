"""``skyflowctl audit who-can``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.console import Column, Styled, Terminal, fitted
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import FileOption, OutputOptions, TargetOptions
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.engine.names import FOREIGN_NAME
from skyflowctl.errors import ExitCode, Problem, UsageError
from skyflowctl.text import counted

if TYPE_CHECKING:
    from skyflowctl.operations.audit_who_can import WhoCan
    from skyflowctl.posture.facts import NotRead
    from skyflowctl.vault.gateway import Gateway

MountOrPath = Annotated[
    str, typer.Argument(metavar="MOUNT", help="A mount's name or path, or MOUNT/ROLE alone.")
]
RoleArgument = Annotated[
    str | None, typer.Argument(metavar="[ROLE]", help="The role.", show_default=False)
]


@command(
    examples=[
        ("skyflowctl audit who-can order order-producer", "today, from the server"),
        ("skyflowctl audit who-can order/order-producer --dev", "in one word"),
        ("skyflowctl audit who-can order order-producer -o json", "for programs"),
    ],
    exits=[ExitCode.PARTIAL, *READ_EXITS],
)
def who_can(
    mount: MountOrPath,
    target: TargetOptions,
    output: OutputOptions,
    role: RoleArgument = None,
    *,
    file: FileOption = None,
) -> None:
    """Show which logins can read a role's creds today: every login role, user, live token and
    external group of the server, with the policies of identities and their groups, decided as
    the server decides about paths (deny, wildcards, the most specific path).

    'maybe' cannot be decided from outside: a policy with a template, an identity that may log
    in through several roles, a group whose members are known only at login. If something
    cannot be read, it is named, and the answer is partial (3). Address ranges, quotas and
    rules about the ctx are not considered."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.audit_who_can import who_can as ask

        name, asked = (mount, role) if role else (*mount.rpartition("/")[::2],)
        if not name or not asked:
            raise UsageError(
                "who-can needs a mount and a role",
                why="only one name is given",
                fix="name both: skyflowctl audit who-can MOUNT ROLE",
            )
        if not FOREIGN_NAME.fullmatch(asked):
            raise UsageError(
                f"{asked} is not the name of a role",
                why="a name has letters, digits, _ . and -",
                fix=f"'skyflowctl role list {name}' shows the roles",
            )
        path = manifests.resolve_path(name, file)
        with gateways.open_gateway(target, run) as gateway:
            missing = _role_warning(gateway, path, asked)
            found = ask(gateway, path, asked, run.clock.now())
        data, warnings = _data(found), [*map(_not_read, found.not_read), *missing]
        if found.complete:
            return CommandResult(data, warnings=warnings)
        if found.examined or found.readers:
            return CommandResult(data, "partial", ExitCode.PARTIAL, warnings=warnings)
        return CommandResult(data, "error", ExitCode.NOT_PERMITTED, warnings)

    run_command("audit who-can", output, work, _view)


def _role_warning(gateway: "Gateway", path: str, role: str) -> list[Problem]:
    """Return a warning if the mount has no such role.

    Raises:
        VaultError: nothing is mounted there, or it cannot be asked.
    """
    from skyflowctl.vault.errors import ForbiddenError

    try:
        roles = gateway.engine(path).roles()
    except ForbiddenError:
        return []
    if role in roles:
        return []
    return [
        Problem(
            "no-such-role",
            f"{path} has no role {role} now",
            "the answer is for a role of that name",
            f"'skyflowctl role list {path}' shows its roles",
        )
    ]


def _not_read(one: "NotRead") -> Problem:
    return Problem(
        "not-read",
        f"not read: {one.path}; the answer is not complete",
        one.why or "this login may not read it",
        f"a policy that may: {one.policy_line}" if one.policy_line else "",
    )


def _data(found: "WhoCan") -> dict[str, Any]:
    return {
        "path": found.path,
        "readers": [
            {
                "kind": one.kind,
                "name": one.name,
                "decision": one.decision,
                "policies": list(one.policies),
                "entity": one.entity or None,
                "guarded": one.guarded,
                "why": one.why or None,
            }
            for one in found.readers
        ],
        "examined": found.examined,
        "complete": found.complete,
        "not_read": [{"path": one.path, "why": one.why or None} for one in found.not_read],
    }


def _view(result: CommandResult, terminal: Terminal) -> None:
    data = result.data
    if data["readers"]:
        shown = [
            Column("CAN READ", lambda row: Styled(row["decision"], _STYLES[row["decision"]]), 8),
            Column("KIND", lambda row: row["kind"], 8),
            Column("NAME", lambda row: row["name"], 12, from_start=True),
            Column("ENTITY", lambda row: row["entity"] or "-", 6),
            Column("BY", lambda row: ", ".join(row["policies"]) or "-", 8),
            Column("NOTE", _note, 8),
        ]
        fitted(terminal, shown, data["readers"])
    terminal.out.flush()
    sure = sum(one["decision"] == "yes" for one in data["readers"])
    maybe = len(data["readers"]) - sure
    words = f"{sure} of {counted(data['examined'], 'login')} can read {data['path']}"
    words += f", {maybe} maybe" if maybe else ""
    terminal.note(words if data["complete"] else f"{words}; not complete: see the warnings")


_STYLES = {"yes": "green", "maybe": "yellow"}


def _note(row: Any) -> str:
    notes = ["only after approval"] * row["guarded"] + [row["why"]] * bool(row["why"])
    return "; ".join(notes) or "-"
