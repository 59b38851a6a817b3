"""``skyflowctl config revoke``: the break-glass that cuts a mount off."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from skyflowctl.cli.command import WRITE_EXITS, command
from skyflowctl.cli.commands.rotate.options import OperatorOptions
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import credential_sources, gateways, manifests
from skyflowctl.cli.envelope import CommandResult, status_of
from skyflowctl.cli.options import (
    ApprovingTargetOptions,
    FileOption,
    MountArgument,
    NoInputOption,
    OutputOptions,
    ReferenceOptions,
    option,
)
from skyflowctl.cli.printed_commands import shell_words
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import UsageError
from skyflowctl.frozen import dataclass

if TYPE_CHECKING:
    from skyflowctl.cli.context.manifests import ChosenMounts
    from skyflowctl.operations.mount_refs import MountRef
    from skyflowctl.operations.rotate.key_provider import RotationTarget
    from skyflowctl.rotation.revocation.model import RevokeOutcome
    from skyflowctl.vault.gateway import Gateway

ReasonOption = Annotated[
    str | None,
    option(
        "--reason",
        help="Why, in 1 to 200 characters; kept until a new key is written. Required.",
        metavar="TEXT",
    ),
]
RevokeYesOption = Annotated[bool, option("-y", "--yes", help="Do not ask for confirmation.")]
DeleteKeysOption = Annotated[
    bool,
    option("--delete-keys", help="Also delete at Skyflow every key that the mount has held."),
]
AllowDestroyOption = Annotated[
    list[str] | None,
    option(
        "--allow-destroy",
        help="The path of the mount; required if the manifest protects it.",
        metavar="PATH",
    ),
]


@dataclass(frozen=True, slots=True)
class _Said:
    """The command line's values besides the mount."""

    reason: str
    yes: bool
    no_input: bool
    allow_destroy: Sequence[str]
    delete_keys: bool
    operator: OperatorOptions
    references: ReferenceOptions
    target: ApprovingTargetOptions


@command(
    examples=[
        ('skyflowctl config revoke payment --reason "INC-42 key leaked"', "asks first"),
        ("skyflowctl config revoke payment --reason INC-42 -y", "does not ask"),
        (
            "skyflowctl config revoke payment --reason INC-42 -y --delete-keys",
            "also delete its keys at Skyflow; needs an operator token",
        ),
        (
            "skyflowctl config revoke order --reason INC-4 -y --allow-destroy=skyflow/order",
            "a mount that the manifest protects",
        ),
    ],
    exits=WRITE_EXITS,
)
def config_revoke(
    mount: MountArgument,
    operator: OperatorOptions,
    references: ReferenceOptions,
    target: ApprovingTargetOptions,
    output: OutputOptions,
    *,
    reason: ReasonOption = None,
    yes: RevokeYesOption = False,
    no_input: NoInputOption = False,
    allow_destroy: AllowDestroyOption = None,
    delete_keys: DeleteKeysOption = False,
    file: FileOption = None,
) -> None:
    """Destroy the live credential of a mount and every kept one. The mount then mints no tokens
    until a new credential is written. The command verifies this on every node, and that every
    other mount still serves. Tokens that were already issued cannot be revoked: they are
    listed with the time at which they expire."""

    def work(run: CommandRun) -> CommandResult:
        said = _Said(
            _reason(reason),
            yes,
            no_input,
            tuple(allow_destroy or ()),
            delete_keys,
            operator,
            references,
            target,
        )
        chosen = manifests.choose_mounts([mount], file, run)
        with gateways.open_gateway(target, run) as gateway:
            return _cut_off(run, said, chosen, gateway)

    run_command("config revoke", output, work, _view)


def _reason(text: str | None) -> str:
    reason = (text or "").strip()
    if not reason:
        raise UsageError(
            "a cut-off needs a reason",
            why="it takes a product line off Skyflow, and the incident file must say why",
            fix="add --reason TEXT",
            code="needs-reason",
        )
    if len(reason) > 200 or not reason.isprintable():
        raise UsageError(
            "the engine cannot store this reason",
            why="it has more than 200 characters, a line break or another that does not print",
            fix="give one short line, such as --reason 'INC-1042 key in a log'",
            code="bad-reason",
        )
    return reason


def _cut_off(
    run: CommandRun, said: _Said, chosen: "ChosenMounts", gateway: "Gateway"
) -> CommandResult:
    from skyflowctl.cli.commands.rotate.progress import Steps
    from skyflowctl.cli.commands.rotate.request import operator_request
    from skyflowctl.cli.context.rotation import open_key_provider, rotation_dependencies
    from skyflowctl.executor.stop import Stop
    from skyflowctl.operations import revoke as operation

    assert chosen.mounts  # one was named
    named = chosen.mounts[0]
    operation.refuse_protected(named.path, chosen.manifest, said.allow_destroy)
    target = _look(gateway, named)
    request = operator_request(said.operator)
    resolver = credential_sources.reference_resolver(run, said.references, gateway)
    provider = open_key_provider(gateway, chosen.manifest, request, run, None, resolver=resolver)
    _ask(run, said, target, gateway.transport.server.name)
    steps = Steps(run.terminal, [named.name])
    # No orderly stop on a signal: after a kill at any instant, running it again completes it.
    deps = rotation_dependencies(gateway, run, Stop(), steps, provider.token_hosts)
    outcome = operation.revoke(
        target, provider, deps, reason=said.reason, delete_keys=said.delete_keys
    )
    host = None if provider.dev else operation.management_host(target, request)
    if host == "":
        return _result(outcome, "")
    words = operation.command_for_keys(target, chosen.manifest, said.reason, host)
    return _result(outcome, shell_words(words))


def _look(gateway: "Gateway", named: "MountRef") -> "RotationTarget":
    from skyflowctl.operations.rotate.run import read_live_mounts

    (target,) = read_live_mounts(gateway, [named], 1)
    if target.problem:
        raise target.problem
    return target


def _ask(run: CommandRun, said: _Said, target: "RotationTarget", server: str) -> None:
    run.notice(f"server: {server}")
    run.notice(f"  {target.named.path}: {_live(target)}")
    question = f"Cut {target.named.path} off? It will mint no token from then on."
    run.confirm(question, yes=said.yes, no_input=said.no_input)


def _live(target: "RotationTarget") -> str:
    config = target.config
    if config is None or not config.configured:
        return "no key is live"
    return f"key {config.key_id} is live" if config.key_id else "its engine does not report its key"


def _result(outcome: "RevokeOutcome", command_for_keys: str) -> CommandResult:
    from skyflowctl.cli.commands.config.revoke_view import revocation_json

    code = outcome.exit_code
    return CommandResult(
        revocation_json(outcome, command_for_keys),
        status_of(code) if code else "ok",
        code,
        outcome.problems,
        outcome.warnings,
    )


def _view(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.cli.commands.config.revoke_view import show_revocation

    show_revocation(result.data, terminal)
