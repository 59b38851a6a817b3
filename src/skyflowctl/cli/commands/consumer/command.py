"""``skyflowctl consumer``: the logins of applications that may read a role's tokens."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.commands.consumer import view
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.envelope import CommandResult, status_of
from skyflowctl.cli.options import (
    FileOption,
    NoInputOption,
    OptionGroup,
    OutputOptions,
    TargetOptions,
    option,
    span_seconds,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, Problem, UsageError
from skyflowctl.frozen import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyflowctl.manifest.model import Consumer, Manifest
    from skyflowctl.operations.consumers import DestroyedSecretId, IssueRequest
    from skyflowctl.vault.gateway import Gateway

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A consumer of the manifest.", show_default=False)
]
DestroyYesOption = Annotated[bool, option("-y", "--yes", help="Do not ask for confirmation.")]
_CHANGE_EXITS = (*READ_EXITS, ExitCode.REFUSED, ExitCode.PARTIAL)


@dataclass(frozen=True, slots=True)
class IssueOptions(OptionGroup):
    """The options of a new secret id."""

    wrap_ttl: Annotated[
        str,
        option("--wrap-ttl", help="How long it can be unwrapped (default 5m).", metavar="SPAN"),
    ] = "5m"
    num_uses: Annotated[
        int | None,
        option(
            "--num-uses",
            help="How many logins it allows (default: as the manifest says).",
            metavar="N",
            min=1,
        ),
    ] = None
    cidr: Annotated[
        list[str] | None,
        option(
            "--cidr",
            help="Only from these addresses, such as 10.0.0.0/8; repeatable.",
            metavar="RANGE",
        ),
    ] = None

    def request(self) -> "IssueRequest":
        """Return the checked values.

        Raises:
            UsageError: the time or an address range is invalid.
        """
        from ipaddress import ip_network

        from skyflowctl.operations.consumers import IssueRequest

        seconds = span_seconds(self.wrap_ttl, "--wrap-ttl")
        for one in self.cidr or ():
            try:
                ip_network(one, strict=False)
            except ValueError:
                raise UsageError(
                    "--cidr is not an address range",
                    why="the server refuses it",
                    fix="for example --cidr 10.0.0.0/8",
                ) from None
        return IssueRequest(f"{max(1, round(seconds))}s", self.num_uses, tuple(self.cidr or ()))


@command(
    examples=[
        ("skyflowctl consumer issue order-service", "a wrapped secret id, and what to do next"),
        (
            "skyflowctl consumer issue order-service --num-uses 10 --wrap-ttl 2m",
            "for ten logins; to be unwrapped within two minutes",
        ),
        (
            "skyflowctl consumer issue order-service -o json | jq -r .data.wrap_token",
            "only the wrapping token",
        ),
    ],
    exits=(*READ_EXITS, ExitCode.REFUSED),
)
def consumer_issue(
    name: NameArgument,
    issue: IssueOptions,
    target: TargetOptions,
    output: OutputOptions,
    *,
    file: FileOption = None,
) -> None:
    """Issue a secret id for a consumer's login. The server keeps it behind a wrapping token,
    which opens it once; skyflowctl never sees the secret id, and stores neither. Other secret
    ids of the consumer stay valid."""

    def work(run: CommandRun) -> CommandResult:
        wanted = issue.request()
        manifest, consumer = named_consumer(name, file, run)
        with gateways.open_gateway(target, run) as gateway:
            data = _issued(gateway, manifest, consumer, wanted)
        return CommandResult(data, warnings=_reused(manifest, consumer))

    run_command("consumer issue", output, work, view.show_issued)


def _reused(manifest: "Manifest", consumer: "Consumer") -> "list[Problem]":
    """Warn that all processes with this login share tokens, where a role reuses them."""
    reusing = {
        (mount.name, role.name)
        for mount in manifest.mounts
        for role in mount.roles
        if role.reuse_min_ttl
    }
    shared = [f"{mount}/{role}" for mount, role in consumer.grants if (mount, role) in reusing]
    if not shared:
        return []
    return [
        Problem(
            "reused-tokens",
            f"all processes that log in as {consumer.name} get the same tokens of "
            f"{', '.join(shared)}",
            "the role has reuse, and one login is one entity: Skyflow's log does not tell them "
            "apart; the server's audit log has every read",
            "give each application a consumer of its own if they must be told apart",
            consumer.where,
        )
    ]


@command(
    examples=[
        ("skyflowctl consumer list", "every consumer of the manifest"),
        ("skyflowctl consumer list --dev", "on the dev stack"),
        ("skyflowctl consumer list -o json | jq '.data.consumers[].secret_ids'", "for programs"),
    ],
    exits=READ_EXITS,
)
def consumer_list(target: TargetOptions, output: OutputOptions, *, file: FileOption = None) -> None:
    """List the manifest's consumers with the roles that each may read, and the live secret ids
    of each AppRole consumer by accessor. The server shows a use only of a secret id with a limit
    of uses."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.consumers import list_consumers

        manifest = manifests.load_named_manifest(file, run).manifest
        with gateways.open_gateway(target, run) as gateway:
            found = list_consumers(gateway, manifest)
        unread = tuple(problem for one in found for problem in one.problems)
        code = ExitCode.NOT_PERMITTED if unread else ExitCode.OK
        status = status_of(code) if unread else "ok"
        return CommandResult(view.states_json(found, manifest), status, code, unread)

    run_command("consumer list", output, work, view.show_states)


@command(
    examples=[
        (
            "skyflowctl consumer rotate order-service --num-uses 10",
            "beside the old secret ids",
        ),
        (
            "skyflowctl consumer rotate order-service --retire -y",
            "destroy the old ones, once the new one has been used",
        ),
        ("skyflowctl consumer rotate order-service -o json", "for programs"),
    ],
    exits=_CHANGE_EXITS,
)
def consumer_rotate(
    name: NameArgument,
    issue: IssueOptions,
    target: TargetOptions,
    output: OutputOptions,
    *,
    retire: Annotated[
        bool,
        option("--retire", help="Destroy all but the newest, if a login has used the newest."),
    ] = False,
    yes: DestroyYesOption = False,
    no_input: NoInputOption = False,
    file: FileOption = None,
) -> None:
    """Issue a new secret id, and destroy nothing. After the application has logged in with it,
    --retire destroys the older ones and issues none. The server shows a use only of a secret id
    with a limit of uses (--num-uses); without one, --retire refuses."""

    def work(run: CommandRun) -> CommandResult:
        wanted = issue.request()
        manifest, consumer = named_consumer(name, file, run)
        with gateways.open_gateway(target, run) as gateway:
            if not retire:
                data = _issued(gateway, manifest, consumer, wanted)
                run.notice(_next_step(consumer, wanted))
                return CommandResult({**data, "destroyed": []})
            from skyflowctl.operations.consumers import destroy_secret_ids, superseded

            old = [one.accessor for one in superseded(gateway, consumer)]
            if old:
                _confirm(run, gateway, consumer, old, yes=yes, no_input=no_input)
            done = destroy_secret_ids(gateway, manifest, consumer, old)
        none: dict[str, Any] = dict.fromkeys(_ISSUED)
        data = {**none, "consumer": consumer.name, "method": consumer.method}
        return _after_destroy(data, done, consumer)

    run_command("consumer rotate", output, work, view.show_rotated)


@command(
    examples=[
        ("skyflowctl consumer revoke order-service --all", "every secret id; asks first"),
        ("skyflowctl consumer revoke order-service --all -y", "does not ask"),
        (
            "skyflowctl consumer revoke order-service --all -y -o json",
            "for programs",
        ),
    ],
    exits=_CHANGE_EXITS,
)
def consumer_revoke(
    name: NameArgument,
    target: TargetOptions,
    output: OutputOptions,
    *,
    accessor: Annotated[
        list[str] | None,
        option(
            "--accessor",
            help="This secret id, by its accessor ('consumer list'); repeatable.",
            metavar="ACCESSOR",
        ),
    ] = None,
    everything: Annotated[bool, option("--all", help="Every secret id of the consumer.")] = False,
    yes: DestroyYesOption = False,
    no_input: NoInputOption = False,
    file: FileOption = None,
) -> None:
    """Destroy secret ids of a consumer, by accessor or all of them. No login is possible with
    them from then on. Tokens that were already issued stay valid; the command says how long, and
    how to revoke them."""

    def work(run: CommandRun) -> CommandResult:
        _check_choice(accessor, everything)
        manifest, consumer = named_consumer(name, file, run)
        from skyflowctl.operations.consumers import destroy_secret_ids, live_accessors

        with gateways.open_gateway(target, run) as gateway:
            chosen = accessor or live_accessors(gateway, consumer)
            if chosen:
                _confirm(run, gateway, consumer, chosen, yes=yes, no_input=no_input)
            done = destroy_secret_ids(gateway, manifest, consumer, chosen)
        return _after_destroy({"consumer": consumer.name}, done, consumer)

    run_command("consumer revoke", output, work, view.show_destroyed)


def named_consumer(
    name: str, file: "Sequence[str] | None", run: CommandRun
) -> "tuple[Manifest, Consumer]":
    """Return the manifest and its consumer of this name.

    Raises:
        UsageError: it has none.
    """
    from skyflowctl.operations.consumers import find_consumer

    manifest = manifests.load_named_manifest(file, run).manifest
    return manifest, find_consumer(manifest, name)


def _issued(
    gateway: "Gateway", manifest: "Manifest", consumer: "Consumer", wanted: "IssueRequest"
) -> dict[str, Any]:
    from skyflowctl.operations.consumers import issue

    made = issue(gateway, manifest, consumer, wanted)
    wrap = made.issued.wrap
    return {
        "consumer": consumer.name,
        "method": consumer.method,
        "role_id": made.role_id,
        "wrap_token": wrap.token.reveal(),
        "wrap_accessor": wrap.accessor,
        "secret_id_accessor": made.issued.accessor,
        "wrap_ttl": wrap.ttl,
        "creation_path": wrap.creation_path,
    }


_ISSUED = (
    "consumer",
    "method",
    "role_id",
    "wrap_token",
    "wrap_accessor",
    "secret_id_accessor",
    "wrap_ttl",
    "creation_path",
)


def _next_step(consumer: "Consumer", wanted: "IssueRequest") -> str:
    """Return how the earlier secret ids are destroyed; the server shows a use only if the number of
    uses is limited."""
    name = consumer.name
    if wanted.num_uses or consumer.settings.get("secret_id_num_uses"):
        then = f"skyflowctl consumer rotate {name} --retire"
    else:
        then = f"skyflowctl consumer revoke {name} --accessor ACCESSOR"
    return f"the earlier secret ids stay valid; after a login with the new one: {then}"


def _check_choice(accessor: "Sequence[str] | None", everything: bool) -> None:
    if bool(accessor) == everything:
        raise UsageError(
            "it is not said which secret ids to destroy"
            if not everything
            else "--all is given with --accessor",
            why="a destroyed secret id cannot be restored",
            fix="give --accessor ACCESSOR ('skyflowctl consumer list' shows them), or --all",
            code="which-secret-ids",
        )


def _confirm(
    run: CommandRun,
    gateway: "Gateway",
    consumer: "Consumer",
    accessors: "Sequence[str]",
    *,
    yes: bool,
    no_input: bool,
) -> None:
    run.notice(f"server: {gateway.transport.server.name}")
    for one in accessors:
        run.notice(f"  secret id {one} of {consumer.name}")
    question = f"Destroy {len(accessors)} of {consumer.name}'s secret ids?"
    run.confirm(question, yes=yes, no_input=no_input)


def _after_destroy(
    data: dict[str, Any], done: "Sequence[DestroyedSecretId]", consumer: "Consumer"
) -> CommandResult:
    failed = tuple(one.problem for one in done if one.problem)
    none = all(one.result == "failed" for one in done)
    first = next((one.exit_code for one in done if one.problem), ExitCode.OK)
    code = first if none else ExitCode.PARTIAL if failed else ExitCode.OK
    rows = [{"accessor": one.accessor, "result": one.result} for one in done]
    destroyed = any(one.result == "destroyed" for one in done)
    warnings = (_tokens_stay(consumer),) if destroyed else ()
    status = status_of(code) if failed else "ok"
    return CommandResult({**data, "destroyed": rows}, status, code, failed, warnings)


def _tokens_stay(consumer: "Consumer") -> Problem:
    return Problem(
        "tokens-stay-valid",
        f"tokens that {consumer.name} already has stay valid until they expire",
        "a destroyed secret id prevents new logins only",
        "revoke each by the accessor in the audit log's login entry:"
        " bao write auth/token/revoke-accessor accessor=ACCESSOR",
    )
