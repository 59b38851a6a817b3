"""``skyflowctl consumer check``: proves what a consumer's login may do."""

from typing import TYPE_CHECKING, Annotated

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.commands.consumer import view
from skyflowctl.cli.commands.consumer.command import NameArgument, named_consumer
from skyflowctl.cli.context import credential_sources, gateways
from skyflowctl.cli.envelope import CommandResult, status_of
from skyflowctl.cli.options import (
    FileOption,
    OutputOptions,
    ReferenceOptions,
    TargetOptions,
    option,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyflowctl.operations.consumer_check import AccessCheck, ConsumerReport
    from skyflowctl.operations.consumer_login import LoginProof
    from skyflowctl.vault.gateway import Gateway


@command(
    examples=[
        ("skyflowctl consumer check order-service", "log in as it, and prove what it may do"),
        ("skyflowctl consumer check order-ci --jwt file:job.jwt", "with a job's own token"),
        (
            "skyflowctl consumer check order-service -o json | jq .data.checks",
            "every question and answer",
        ),
    ],
    exits=(*READ_EXITS, ExitCode.REFUSED, ExitCode.UNHEALTHY),
)
def consumer_check(
    name: NameArgument,
    target: TargetOptions,
    output: OutputOptions,
    *,
    jwt: Annotated[
        str | None,
        option(
            "--jwt",
            help="The token it logs in with: file:PATH, env:NAME or - (types jwt, kubernetes).",
            metavar="REF",
        ),
    ] = None,
    cert: Annotated[
        str | None,
        option(
            "--cert",
            help="Its client certificate and key, as PEM: file:PATH, env:NAME or - (type cert).",
            metavar="REF",
        ),
    ] = None,
    file: FileOption = None,
) -> None:
    """Log in as a consumer, and ask the server what the login may do: its roles yes, without the
    required ctx no, every other role, mount and path no. No token is minted, and no read is
    denied. An AppRole consumer logs in with a secret id for one login, which is destroyed at the
    end; others with --jwt or --cert. Without these, a token with the login's policies is asked
    instead, and the result says 'by policy'. The token is revoked at the end."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.consumer_check import check_consumer

        manifest, consumer = named_consumer(name, file, run)
        with gateways.open_gateway(target, run) as gateway:
            proof = _proof(jwt, cert, run, gateway)
            report = check_consumer(gateway, manifest, consumer, proof)
        return _result(consumer.name, report)

    run_command("consumer check", output, work, view.show_checks)


def _result(name: str, report: "ConsumerReport") -> CommandResult:
    rows = [
        {
            "path": one.path,
            "request": one.request,
            "expected": one.expected,
            "got": one.got,
            "ok": one.ok,
        }
        for one in report.checks
    ]
    code = ExitCode.OK if all(one.ok for one in report.checks) else ExitCode.UNHEALTHY
    data = {"consumer": name, "by": report.by, "checks": rows}
    wrong = [one for one in report.checks if not one.ok]
    problems = [_unexpected(name, wrong, len(rows))] if wrong else []
    status = status_of(code) if code else "ok"
    return CommandResult(data, status, code, problems, tuple(report.warnings))


def _unexpected(name: str, wrong: "Sequence[AccessCheck]", number: int) -> Problem:
    first = wrong[0]
    return Problem(
        "unexpected-access",
        f"{len(wrong)} of {number} answers for {name} are not as expected",
        f"{first.path} ({first.request}) is {first.expected} by the manifest; "
        f"the server says {first.got}",
        "'skyflowctl plan' shows what differs from the manifest; if nothing does, another policy "
        "of this login decides",
    )


def _proof(jwt: str | None, cert: str | None, run: CommandRun, gateway: "Gateway") -> "LoginProof":
    """Return what the consumer is to log in with.

    Raises:
        UsageError: a value is no reference.
        UnresolvedReferenceError: a reference cannot be resolved.
    """
    from skyflowctl.credentials.references import parse_reference
    from skyflowctl.operations.consumer_login import LoginProof
    from skyflowctl.secret import Secret

    resolver = credential_sources.reference_resolver(run, ReferenceOptions(), gateway)

    def read(text: str | None, flag: str) -> Secret | None:
        if text is None:
            return None
        found = resolver.resolve(parse_reference(text, flag), f"the value of {flag}")
        return Secret(found.reveal().strip())

    return LoginProof(read(jwt, "--jwt"), read(cert, "--cert"))
