"""``doctor``: makes every check at once, those of the server only if one of its nodes serves."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial

from skyflowctl.clock import Clock
from skyflowctl.doctor.connection import TLS, check_tls
from skyflowctl.doctor.machine import (
    ENVIRONMENT,
    PACKAGES,
    PROXY,
    check_environment,
    packages,
    proxies,
)
from skyflowctl.doctor.model import Diagnosis, DoctorCheck, Grade, diagnose, of_problem, ok_finding
from skyflowctl.errors import ExitCode, Problem, RefusedError, SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.operations.doctor.credentials import CREDENTIALS, TOKEN_SERVICE, CredentialChecks
from skyflowctl.operations.doctor.nodes import NODES
from skyflowctl.operations.doctor.server import IDEMPOTENCE, SERVER, ServerChecks
from skyflowctl.vault.target import Target

TARGET = "target"
_NO_TARGET = Diagnosis(
    TARGET,
    Grade.UNKNOWN,
    "no server is named: nothing was asked of one",
    "this machine and the manifest were checked all the same",
    "export BAO_ADDR=https://HOST:8200",
)


@dataclass(frozen=True, slots=True)
class DoctorRequest:
    """What is diagnosed.

    Args:
        environ: the process environment.
        clock: this machine's.
        variables: the names of skyflowctl's own variables.
        context: the name of the current context; empty: none.
        contexts_unread: why the user's contexts cannot be read; None: they can.
        target: the server as it is named; None: none is, or it cannot be used.
        problem: why the named server cannot be used.
        server: the checks of the server; None: there is none to ask.
        credentials: the checks of the manifest's credentials.
        idempotence: applies a scratch mount twice; None: it is not asked for. It runs in this
            thread, because a signal has to reach it.
    """

    environ: Mapping[str, str]
    clock: Clock
    variables: Collection[str]
    context: str
    contexts_unread: Problem | None
    target: Target | None
    problem: Problem | None
    server: ServerChecks | None
    credentials: CredentialChecks
    idempotence: DoctorCheck | None = None


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """All findings, in the order of the checks."""

    findings: tuple[Diagnosis, ...]

    @property
    def exit_code(self) -> ExitCode:
        """6 on any bad finding, else 0."""
        bad = any(one.grade is Grade.BAD for one in self.findings)
        return ExitCode.UNHEALTHY if bad else ExitCode.OK


def doctor(request: DoctorRequest, on_start: Callable[[str], None]) -> DoctorReport:
    """Diagnose in two waves: this machine with the nodes, then what a serving node can tell.

    Args:
        request: what to look at.
        on_start: called with the name of each check before it is made, from several threads.
    """
    target = request.target
    hidden = request.context if target and target.source == "environment" else ""
    checks: dict[str, DoctorCheck] = {
        ENVIRONMENT: lambda: check_environment(request.environ, request.variables, context=hidden),
        TARGET: partial(_target, request),
        PROXY: lambda: proxies(request.environ, target.address if target else ""),
        PACKAGES: packages,
        CREDENTIALS: request.credentials.lint,
        TOKEN_SERVICE: request.credentials.token_service,
    }
    if target is not None:
        checks[TLS] = partial(check_tls, target, request.clock)
    if request.server is None:
        return DoctorReport(diagnose(checks, on_start))
    checks[NODES] = request.server.nodes
    found = diagnose(checks, on_start)
    if not request.server.serves:
        why = "no node that was asked serves requests"
        what, fix = (
            "nothing else was asked of the server",
            "mend the nodes, then: skyflowctl doctor",
        )
        skipped = Diagnosis(SERVER, Grade.UNKNOWN, what, why, fix)
        return DoctorReport((*found, skipped))
    found = (*found, *diagnose(request.server.checks(), on_start))
    if request.idempotence is None:
        return DoctorReport(found)
    on_start(IDEMPOTENCE)
    return DoctorReport((*found, *request.idempotence()))


def _target(request: DoctorRequest) -> Iterator[Diagnosis]:
    """Yield which server is named, and whether the contexts, of which it may be one, are read."""
    target, unread = request.target, request.contexts_unread
    if request.problem is not None:
        yield of_problem(TARGET, Grade.BAD, request.problem)
    elif target is None:
        yield _NO_TARGET
    else:
        within = f", namespace {target.namespace}" if target.namespace else ""
        more = f"; further nodes: {', '.join(target.nodes)}" if target.nodes else ""
        yield ok_finding(TARGET, f"{target.address}{within}, from {target.source}{more}")
        if request.server is not None:
            yield from _bound(request.server)
    if unread is not None and unread != request.problem:
        found = of_problem(TARGET, Grade.WARNING, unread)
        yield replace(found, fix=f"{found.fix}; then: skyflowctl context list")


def _bound(server: ServerChecks) -> Iterator[Diagnosis]:
    """Yield a finding if the manifest is for other servers, or may be."""
    try:
        server.refuse_other()
    except RefusedError as error:
        yield of_problem(TARGET, Grade.BAD, error.problems[0])
    except SkyflowctlError as error:
        what = "whether the manifest is for this server is not known"
        fix = "mend the nodes, then: skyflowctl doctor"
        yield Diagnosis(TARGET, Grade.UNKNOWN, what, error.problems[0].summary, fix)
