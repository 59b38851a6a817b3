"""One mount's running rotation, retirement or cut-off: steps, warnings, lease, stop, outcome.

A step returns its result. :class:`RotationAborted` ends a run early; it is the one signal that
crosses modules, and only this module catches it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from skyflowctl.errors import ExitCode, Problem, RefusedError, SkyflowctlError
from skyflowctl.retry import retry_error
from skyflowctl.rotation import messages
from skyflowctl.rotation.cluster import Cluster, open_nodes
from skyflowctl.rotation.events import Notice, StepDone, StepStarted
from skyflowctl.rotation.heartbeat import Heartbeat
from skyflowctl.rotation.model import MountOutcome, Result, RotationJob, Step, StepName
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.rotation.serving import Serving, serving, serving_per_health
from skyflowctl.telemetry.spans import child_span
from skyflowctl.vault.engine_api import EngineClient
from skyflowctl.vault.errors import OutcomeUnknownError, ServerUnreachableError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig, way_out

T = TypeVar("T")
_RETRY_SECONDS = 60.0
RETRY_PAUSE = 2.0
# These refusals concern only the input, and say nothing about the mount.
_INPUT = frozenset(
    {messages.UNCHANGED, messages.NO_SOURCE, messages.EARLIER, messages.OTHER_ACCOUNT}
)
# Errors that keep their own exit code; every other one that wrote nothing is a refusal.
_OWN_CODES = frozenset(
    {
        ExitCode.NOT_PERMITTED,
        ExitCode.PENDING,
        ExitCode.USAGE,
        ExitCode.INVALID,
        ExitCode.UNREACHABLE,
    }
)


class RotationAborted(Exception):  # noqa: N818 - a signal, not an error
    """Ends the run after everything possible was done about the failure.

    Args:
        result: the mount's result.
        problems: why; the first one is the cause.
        exit_code: of the mount, as long as it serves.
        closed: False: the rotation stays open, for the same command to finish it.
        judged: the exit code already says whether the mount serves.
    """

    def __init__(
        self,
        result: Result,
        problems: Iterable[Problem],
        exit_code: ExitCode,
        *,
        closed: bool = True,
        judged: bool = False,
    ) -> None:
        super().__init__(result.value)
        self.result = result
        self.problems = tuple(problems)
        self.exit_code = exit_code
        self.closed = closed
        self.judged = judged


@dataclass(slots=True)
class StepReport:
    """A step's finding, filled in while it runs; ``ok`` False: the step ended with a failure."""

    detail: str = ""
    ok: bool = True


class RotationSession:
    """The state of one mount's run.

    Args:
        job: the mount, and its options.
        deps: the services; its ``sleep`` renews the lease of an open rotation meanwhile.
    """

    def __init__(self, job: RotationJob, deps: Dependencies) -> None:
        self.job = job
        self.heartbeat = Heartbeat(deps.clock, deps.sleep)
        self.deps = replace(deps, sleep=self.heartbeat.sleep)
        self.warnings: list[Problem] = []
        self.problems: list[Problem] = []
        self.from_key = ""
        self.to_key = ""
        self.live_key_id = ""
        self.old_tokens_valid_until = ""
        self.begun = False
        self.from_revoked = False
        self._steps: list[Step] = []
        self._recorded = False

    @property
    def gateway(self) -> Gateway:
        """The cluster."""
        return self.deps.gateway

    @property
    def engine(self) -> EngineClient:
        """The mount's engine."""
        return self.gateway.engine(self.path)

    @property
    def path(self) -> str:
        """Of the mount."""
        return self.job.path

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that have ended, in order."""
        return tuple(self._steps)

    @contextmanager
    def step(self, name: StepName) -> Iterator[StepReport]:
        """Run the block as one timed step; an error in it ends the step as failed."""
        self.deps.listener(StepStarted(self.job.name, name))
        started, report = self.deps.clock.monotonic(), StepReport()
        try:
            with child_span(name) as span:
                yield report
                if not report.ok:
                    span.fail("step_failed")
        except BaseException as error:
            report.ok = False
            if isinstance(error, SkyflowctlError):
                report.detail = error.problems[0].summary
            raise
        finally:
            spent = round((self.deps.clock.monotonic() - started) * 1000, 1)
            step = Step(name, spent, report.ok, report.detail)
            self._steps.append(step)
            self.deps.listener(StepDone(self.job.name, step))

    def warn(self, *problems: Problem) -> None:
        """Add warnings to the outcome."""
        self.warnings += problems

    def tell(self, text: str) -> None:
        """Send a message to the waiting user."""
        self.deps.listener(Notice(self.job.name, text))

    def look(self) -> LiveConfig:
        """Return the leader's current config."""
        config = self.engine.config()
        self.live_key_id = config.key_id
        return config

    def retry(self, act: Callable[[], T], what: str) -> T:
        """Return the result of ``act``, retried for a minute while its failure may be transient.

        Args:
            act: must be safe to repeat.
            what: what the run waits for, in a few words for the waiting user.

        Raises:
            VaultError: the last failure.
        """
        clock = self.deps.clock
        until = clock.monotonic() + _RETRY_SECONDS

        def wait(error: VaultError, tries: int) -> bool:
            if not error.transient or clock.monotonic() + RETRY_PAUSE > until:
                return False
            if tries == 1:
                summary = error.problems[0].summary
                self.tell(f"{what}: {summary}; trying again for {_RETRY_SECONDS:g} s")
            self.heartbeat.sleep_on(RETRY_PAUSE)
            return True

        return retry_error(act, VaultError, wait)

    def check_stop(self) -> None:
        """Refuse to go on after a request to stop.

        Raises:
            RefusedError: there was one.
        """
        if self.deps.stopping():
            raise RefusedError(
                f"stopped before the new credential was written: {self.path}",
                why="the run was interrupted",
                fix="the old credential is live; run the same command again when it suits",
                code="stopped",
            )

    def begin(self, rotation_id: str) -> None:
        """Record on this machine that this process owns the rotation."""
        self.begun = True
        if self.deps.owners is not None:
            self.deps.owners.begin(self.path, rotation_id)
            self._recorded = True

    def end(self) -> None:
        """Remove that record."""
        if self.deps.owners is not None and self._recorded:
            self.deps.owners.end(self.path)

    def outcome(
        self,
        result: Result,
        problems: tuple[Problem, ...] = (),
        exit_code: ExitCode = ExitCode.OK,
        *,
        serves: bool = True,
    ) -> MountOutcome:
        """Return the mount's outcome."""
        return MountOutcome(
            self.job.name,
            self.path,
            result,
            from_key=self.from_key,
            to_key=self.to_key,
            live_key_id=self.live_key_id,
            steps=self.steps,
            old_tokens_valid_until=self.old_tokens_valid_until,
            problems=problems,
            warnings=tuple(self.warnings),
            serves=serves,
            exit_code=exit_code,
            from_revoked=self.from_revoked,
        )


@contextmanager
def opened_nodes(session: RotationSession) -> Iterator[Cluster]:
    """Connect to every node, and add the warnings to the session.

    Raises:
        RefusedError: a node cannot be asked.
    """
    with open_nodes(session.deps, session.job) as nodes:
        try:
            yield nodes
        finally:
            session.warn(*nodes.warnings)


@contextmanager
def on_failure(act: Callable[[Exception], None]) -> Iterator[None]:
    """Call ``act`` on a failure of the block, then raise the failure; ignore an abort.

    Args:
        act: gets the failure; an error that it raises replaces the failure.
    """
    try:
        yield
    except RotationAborted:
        raise
    except Exception as error:
        act(error)
        raise


def abort_before_write(path: str, error: Exception) -> RotationAborted:
    """Return the abort for an error before a credential was made live."""
    if not isinstance(error, SkyflowctlError):
        problem = messages.internal_fault(path, error)
        return RotationAborted(Result.FAILED, [problem], ExitCode.PARTIAL)
    code = ExitCode(error.exit_code)
    if code is ExitCode.UNEXPECTED:
        return RotationAborted(Result.FAILED, error.problems, ExitCode.PARTIAL)
    if code is ExitCode.PENDING:
        return RotationAborted(Result.PENDING, error.problems, code, closed=False)
    return RotationAborted(
        Result.REFUSED, error.problems, code if code in _OWN_CODES else ExitCode.REFUSED
    )


def conclude(session: RotationSession, work: Callable[[], Result]) -> MountOutcome:
    """Do the work and return the outcome, whatever error the work raises.

    After a failure the mount is asked whether it serves.
    """
    with child_span("rotation") as span:
        outcome = _concluded(session, work)
        span.set("skyflow.mount", session.path)
        span.set("skyflow.result", outcome.result.value)
        if outcome.problems:
            span.fail(outcome.problems[0].code)
        return outcome


def _concluded(session: RotationSession, work: Callable[[], Result]) -> MountOutcome:
    try:
        result = work()
    except RotationAborted as aborted:
        return _aborted_outcome(session, aborted)
    except Exception as error:  # noqa: BLE001 - the outcome must still name what is live
        return _aborted_outcome(session, abort_before_write(session.path, error))
    session.end()
    return session.outcome(result)


def _aborted_outcome(session: RotationSession, aborted: RotationAborted) -> MountOutcome:
    if aborted.closed:
        session.end()
    problems, code = aborted.problems, aborted.exit_code
    worse = None if aborted.judged else _not_serving(session, aborted)
    if worse is not None:
        problems, code = (*problems, worse), ExitCode.UNHEALTHY
    serves = code is not ExitCode.UNHEALTHY
    return session.outcome(aborted.result, problems, code, serves=serves)


def _not_serving(session: RotationSession, aborted: RotationAborted) -> Problem | None:
    """Return why the mount does not serve; None: it does, or it is unknown."""
    try:
        live: LiveConfig | None = session.look()
        if live and not live.configured:
            # A basic engine does not record its cut-off; the mount's options do.
            live = session.engine.checked_config()
    except (ServerUnreachableError, OutcomeUnknownError):
        return None  # the server does not answer, and each question may last a minute
    except Exception:  # noqa: BLE001 - then the check itself tells more, or nothing
        live = None
    if live is not None and not live.configured:
        return _not_configured(session.path, session.job.name, live)
    # A refusal that changed nothing on the mount need not mint for every role.
    input_only = aborted.exit_code is ExitCode.INVALID or aborted.problems[0].code in _INPUT
    check = serving_per_health if input_only and not session.begun else serving
    how = check(session.gateway, session.path)
    if how is Serving.NO_CREDENTIAL:
        return _not_configured(session.path, session.job.name, live)
    if how is Serving.NO_ANSWER:
        return Problem(
            "mount-does-not-serve",
            f"the mount serves no token: {session.path}",
            "the token service gives the engine no clear answer, which says nothing of the key",
            f"see 'skyflowctl health {session.path} --refresh'; it serves again once the service "
            "answers",
        )
    return (
        Problem(
            "mount-does-not-serve",
            f"the mount serves no token: {session.path}",
            "its live credential mints for no role, as the engine's own check says",
            f"see 'skyflowctl health {session.path}'; a good key mends it: "
            f"'skyflowctl rotate {session.path} --credentials REF'",
        )
        if how is Serving.NO
        else None
    )


def _not_configured(path: str, name: str, live: LiveConfig | None) -> Problem:
    """The same for a mount without a credential, as after a cut-off; None: see its health."""
    revoked = live.revoked if live else None
    return Problem(
        "mount-does-not-serve",
        f"the mount serves no token: {path}",
        f"it has no credential: it has been {revoked.sentence()}"
        if revoked
        else "it has no credential",
        way_out(name, live.api)
        if live and revoked
        else f"give it one: 'skyflowctl rotate {path} --credentials REF', or the manifest's with "
        "'skyflowctl apply'",
    )
