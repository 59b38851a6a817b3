"""``skyflowctl rotate``, and ``config rollback``, which uses the same work."""

from typing import Annotated

import typer

from skyflowctl.cli.command import WRITE_EXITS, command
from skyflowctl.cli.commands.rotate.options import CareOptions, OperatorOptions, RotateOptions
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import credential_sources, manifests
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import (
    AllowHostOption,
    ApprovingTargetOptions,
    FileOption,
    MountArgument,
    NoInputOption,
    OutputOptions,
    ReferenceOptions,
    option,
)
from skyflowctl.cli.runner import CommandRun, run_command

MountsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MOUNT]...", help="Names or paths of mounts.", show_default=False),
]
RotateYesOption = Annotated[
    bool, option("-y", "--yes", help="Do not ask for confirmation; --now may need --allow-destroy.")
]
MountsAtOnceOption = Annotated[
    int,
    option("-p", "--parallelism", help="Mounts at once (default 10).", metavar="N", min=1, max=64),
]
ToOption = Annotated[
    int | None,
    option("--to", help="A credential version in 'config history'.", metavar="V", min=1),
]


@command(
    examples=[
        (
            "skyflowctl rotate payment --generate",
            "create a new key for the same account; asks first",
        ),
        ("skyflowctl rotate payment --credentials file:new.json -y", "with a key that you have"),
        ("skyflowctl rotate --due -y -o json", "from cron: the mounts that are due"),
        (
            "skyflowctl rotate --rollback payment",
            "roll back to the previous key; does not ask",
        ),
        ("skyflowctl rotate --retire payment", "delete the old key after its tokens expired"),
    ],
    exits=WRITE_EXITS,
    env=["XDG_STATE_HOME"],
)
def rotate(
    flags: RotateOptions,
    care: CareOptions,
    operator: OperatorOptions,
    target: ApprovingTargetOptions,
    output: OutputOptions,
    *,
    references: ReferenceOptions,
    mounts: MountsArgument = None,
    file: FileOption = None,
    parallelism: MountsAtOnceOption = 10,
    yes: RotateYesOption = False,
    no_input: NoInputOption = False,
    allow_host: AllowHostOption = None,
) -> None:
    """Replace a mount's credential without a failed request. The new credential is verified for
    every role before it is written, and on every node afterwards. If a check fails after the
    write, the rotation rolls back. The new key comes from --credentials or --generate, else
    from the manifest's rotation rule. If the command is killed, run it again to resume.

    You can roll back to the old key until it is retired. --rollback does not ask; it verifies
    the earlier credential first. --retire --all retires the old key of every mount that has
    one whose tokens have expired; other mounts are not an error."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.cli.commands.rotate.request import read_request

        # Report a wrong command line before importing anything large.
        request = read_request(mounts, flags, care, operator)
        from skyflowctl.cli.commands.rotate.work import RotateCommand

        chosen = manifests.choose_mounts(request.names, file, run)
        resolver = credential_sources.reference_resolver(run, references)
        hosts = tuple(allow_host or ())
        rotation = RotateCommand(run, request, chosen, target, parallelism, hosts, resolver)
        return rotation.work(yes=yes, no_input=no_input)

    run_command("rotate", output, work, _view)


@command(
    examples=[
        ("skyflowctl config rollback payment", "roll back to the previous credential"),
        ("skyflowctl config rollback payment --to 1", "to a version in 'config history payment'"),
        ("skyflowctl config rollback payment -o json", "for programs"),
    ],
    exits=WRITE_EXITS,
)
def config_rollback(
    mount: MountArgument,
    care: CareOptions,
    operator: OperatorOptions,
    target: ApprovingTargetOptions,
    output: OutputOptions,
    *,
    references: ReferenceOptions,
    to: ToOption = None,
    file: FileOption = None,
    allow_host: AllowHostOption = None,
) -> None:
    """Make an earlier credential of the mount live again; the same as 'rotate --rollback'. The
    engine mints with it first, and every node is verified afterwards. The command does not
    ask. A destroyed credential cannot be restored (exit 5)."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.cli.commands.rotate.request import read_request

        request = read_request([mount], RotateOptions(rollback=True, to=to), care, operator)
        from skyflowctl.cli.commands.rotate.work import RotateCommand

        chosen = manifests.choose_mounts(request.names, file, run)
        resolver = credential_sources.reference_resolver(run, references)
        hosts = tuple(allow_host or ())
        return RotateCommand(run, request, chosen, target, 1, hosts, resolver).work()

    run_command("config rollback", output, work, _view)


def _view(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.cli.commands.rotate.view import show_outcomes

    show_outcomes(result.data, terminal)
