"""``skyflowctl doctor``."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from skyflowctl.cli.command import command
from skyflowctl.cli.commands.audit.posture_view import wrapped_after
from skyflowctl.cli.console import Styled, Terminal
from skyflowctl.cli.context import bound_manifests, gateways
from skyflowctl.cli.context.contexts import current_context_name, default_prefix
from skyflowctl.cli.context.dev_stack import audit_suspects, layout_of
from skyflowctl.cli.envelope import CommandResult, status_of
from skyflowctl.cli.help import ENVIRONMENT
from skyflowctl.cli.options import (
    AllowHostOption,
    FileOption,
    NoInputOption,
    OutputOptions,
    TargetOptions,
    YesOption,
    option,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, Problem, SkyflowctlError

if TYPE_CHECKING:
    from skyflowctl.operations.doctor.idempotence import IdempotenceCheck
    from skyflowctl.operations.doctor.run import DoctorReport, DoctorRequest
    from skyflowctl.operations.doctor.server import ServerChecks
    from skyflowctl.operations.validate import Validation
    from skyflowctl.vault.target import Target


IdempotenceOption = Annotated[
    bool,
    option("--idempotence", help="Apply a scratch mount twice: is the second plan empty?"),
]


@command(
    examples=[
        ("skyflowctl doctor", "this machine, the manifest, the server and its nodes"),
        ("skyflowctl doctor -f mounts.yaml --dev", "the same against the dev stack"),
        ("skyflowctl doctor --idempotence -y --dev", "also apply a scratch mount twice"),
        ("skyflowctl doctor -q -o json | jq '.data.findings[] | select(.fix != \"\")'", "to mend"),
    ],
    exits=[ExitCode.UNHEALTHY, ExitCode.REFUSED],
)
def doctor(
    target: TargetOptions,
    output: OutputOptions,
    *,
    file: FileOption = None,
    allow_host: AllowHostOption = None,
    idempotence: IdempotenceOption = False,
    yes: YesOption = False,
    no_input: NoInputOption = False,
) -> None:
    """Find out what is wrong, and how to mend it: the environment's variables, the target, TLS,
    proxies, the packages, the manifest's credentials, Skyflow's token service (through this
    package's minter and the vendor's SDK), each node and its clock, this login and what it may
    read, the plugin, the engine of each mount, audit devices, and keys that are due or old.

    Each finding is ok, warning, bad, or unknown: what could not be asked is never ok. Exit 6
    means a bad finding. Nothing is changed, except with --idempotence: that makes a scratch
    mount with a random name, applies it twice, checks that the second plan is empty, and
    removes it. The credentials of the manifest that are in files or variables mint one token
    each, which is dropped. Without a server named, this machine and the manifest are checked.
    Name every node with --node: others are not asked. That the manifest names other servers is
    a bad finding, and refuses --idempotence."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.doctor.run import doctor as diagnose

        with ExitStack() as stack:
            if idempotence:
                gateways.choose_target(target, run, warn=False)  # no server is an error then
            request = _request(target, file, allow_host, run, stack)
            if idempotence:
                check = _idempotence(request, run)
                path = check.manifest.mounts[0].path
                server = check.gateway.transport.server.name
                run.confirm(f"Make and remove {path} on {server}?", yes=yes, no_input=no_input)
                request = replace(request, idempotence=check.findings)
            report = diagnose(request, _progress(run))
        return _result(report)

    run_command("doctor", output, work, _view)


def _idempotence(request: "DoctorRequest", run: CommandRun) -> "IdempotenceCheck":
    """Return the check, after saying what it makes, and what removes that.

    Raises:
        RefusedError: the manifest is not for this server.
    """
    from skyflowctl.manifest.model import Plugin
    from skyflowctl.operations.doctor.idempotence import (
        IdempotenceCheck,
        scratch_manifest,
    )
    from skyflowctl.operations.doctor.server import removal_command

    server, validation = request.server, request.credentials.validation
    assert server is not None, "it was required"
    server.refuse_other()
    declared = validation.manifest if validation else None
    plugin = declared.plugin if declared else Plugin(server.plugin_name)
    manifest = scratch_manifest(plugin, server.prefix)
    path = manifest.mounts[0].path
    run.notice(
        f"--idempotence makes the mount {path} with a config and two roles, whose key Skyflow does "
        f"not know, and removes it; if this run is killed: {removal_command(path)}"
    )
    return IdempotenceCheck(server.gateway, manifest, run.warn)


def _progress(run: CommandRun) -> Any:
    """Return what is called as each check begins: a line on a terminal, nothing elsewhere."""
    if not run.terminal.interactive_err:
        return lambda _: None
    return lambda name: run.notice(f"checking: {name}")


def _request(
    options: TargetOptions,
    file: Sequence[str] | None,
    allow_host: Sequence[str] | None,
    run: CommandRun,
    stack: ExitStack,
) -> "DoctorRequest":
    from skyflowctl.credentials.token_hosts import token_hosts
    from skyflowctl.operations.doctor.credentials import CredentialChecks
    from skyflowctl.operations.doctor.run import DoctorRequest

    found, problem = _target(options, run)
    dev = found is not None and layout_of(found.address) is not None
    hosts = token_hosts(allow_host, os.environ)
    validation = _validation(file, hosts, run, resolve=not dev)
    server = None
    if found is not None:
        server = _server(found, options, run, stack, validation)
    context, unread = current_context_name()
    withheld = "against the dev stack no reference of a manifest is followed" if dev else ""
    return DoctorRequest(
        environ=os.environ,
        clock=run.clock,
        variables=[name for name in ENVIRONMENT if name.startswith("SKYFLOWCTL_")],
        context=context,
        contexts_unread=unread,
        target=found,
        problem=problem,
        server=server,
        credentials=CredentialChecks(validation, run.clock, hosts, withheld),
    )


def _target(options: TargetOptions, run: CommandRun) -> "tuple[Target | None, Problem | None]":
    """Return the server, or why the one that is named cannot be used; both None: none is."""
    try:
        if not gateways.server_is_named(options):
            return None, None
        return gateways.choose_target(options, run, warn=False), None
    except SkyflowctlError as error:
        return None, error.problems[0]


def _validation(
    file: Sequence[str] | None, hosts: Any, run: CommandRun, *, resolve: bool
) -> "Validation | None":
    from skyflowctl.manifest.discover import existing_files
    from skyflowctl.operations.validate import validate

    files = existing_files(tuple(file or ()), os.environ)
    if not files:
        return None
    return validate(
        files, environ=os.environ, clock=run.clock, allowed_hosts=hosts, resolve=resolve
    )


def _server(
    found: "Target",
    options: TargetOptions,
    run: CommandRun,
    stack: ExitStack,
    validation: "Validation | None",
) -> "ServerChecks":
    from skyflowctl.manifest.discover import DEFAULT_PLUGIN
    from skyflowctl.operations.doctor.server import ServerChecks
    from skyflowctl.operations.mount_refs import declared_mounts

    manifest = validation.manifest if validation else None
    gateway = gateways.gateway_to(found, options, run)
    stack.callback(gateway.close)
    return ServerChecks(
        gateway,
        suspects=audit_suspects(found.address, manifest),
        declared=declared_mounts(manifest) if manifest else None,
        plugin_name=manifest.plugin.name if manifest else DEFAULT_PLUGIN,
        prefix=manifest.path_prefix if manifest else default_prefix(),
        clock=run.clock,
        refuse_other=partial(bound_manifests.refuse_other_server, manifest, gateway),
    )


def _result(report: "DoctorReport") -> CommandResult:
    from skyflowctl.doctor.model import Grade, count_grades

    counts = count_grades(report.findings)
    findings = [{**asdict(one), "grade": one.grade.value} for one in report.findings]
    data = {"findings": findings, "summary": counts}
    problems = []
    bad = counts[Grade.BAD.value]
    if bad:
        summary = f"something does not work: {bad} of {len(report.findings)} findings are bad"
        fix = "each finding names its own fix; then run the command again"
        problems.append(Problem("doctor", summary, "see the findings", fix))
    return CommandResult(data, status_of(report.exit_code), report.exit_code, problems)


_STYLES = {"bad": "bold red", "warning": "yellow", "unknown": "cyan", "ok": "green"}
_LEFT = 9
_NAME = 5


def _view(result: CommandResult, terminal: Terminal) -> None:
    check = ""
    for one in result.data["findings"]:
        if one["check"] != check:
            check = one["check"]
            terminal.line(Styled(check.upper(), "bold"))
        _show_finding(one, terminal)
    counts = result.data["summary"]
    shown = ", ".join(f"{counts[grade]} {grade}" for grade in _STYLES)
    terminal.line()
    terminal.line(Styled("Doctor: ", "bold"), shown)


def _show_finding(one: Mapping[str, Any], terminal: Terminal) -> None:
    grade = Styled(f"  {one['grade']}".ljust(_LEFT + 2), _STYLES[one["grade"]])
    wrapped_after((grade,), _LEFT + 2, one["summary"], terminal)
    for name, text in (("why", one["detail"]), ("fix", one["fix"])):
        if text and not (name == "why" and one["grade"] == "ok"):
            for number, line in enumerate(text.splitlines()):
                label = Styled(("" if number else name).ljust(_NAME), "dim")
                wrapped_after((" " * (_LEFT + 2), label), _LEFT + 2 + _NAME, line, terminal)
