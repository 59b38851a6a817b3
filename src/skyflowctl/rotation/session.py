"""One mount's rotation as it goes: what it knows, what it warns of, how it ends."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from skyflowctl.errors import ExitCode, Problem, SkyflowctlError
from skyflowctl.rotation import rotate_messages as words
from skyflowctl.rotation.cluster import Cluster, open_nodes
from skyflowctl.rotation.heartbeat import Heartbeat
from skyflowctl.rotation.model import MountOutcome, Result, RotationJob, StepName
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.rotation.serving import Serving, serving, serving_per_health
from skyflowctl.rotation.write_recorder import Found, Recorder
from skyflowctl.vault.errors import OutcomeUnknownError, ServerUnreachableError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig

# Refused for what was given alone, which says nothing of the mount.
_INPUT = frozenset({words.UNCHANGED, words.NO_SOURCE, words.EARLIER, words.OTHER_ACCOUNT})
# What an error leaves with by itself; every other one that wrote nothing is a refusal.
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
    """The run ends here, and all that could be settled is settled.

    Args:
        word: the result.
        problems: why; the first one is the cause.
        exit_code: what it leaves with, as long as the mount serves.
        settled: False: the rotation is left open, for the same command to go on with.
    """

    def __init__(
        self,
        word: Result,
        problems: Iterable[Problem],
        exit_code: ExitCode,
        *,
        settled: bool = True,
    ) -> None:
        super().__init__(word.value)
        self.word = word
        self.problems = tuple(problems)
        self.exit_code = exit_code
        self.settled = settled


class RotationSession:
    """What one mount's run knows so far."""

    def __init__(self, job: RotationJob, world: Dependencies) -> None:
        self.job = job
        self.heartbeat = Heartbeat(world.clock, world.sleep)
        self.world = replace(world, sleep=self.heartbeat.sleep)
        self.recorder = Recorder(world, job.name)
        self.warnings: list[Problem] = []
        self.from_key = ""
        self.to_key = ""
        self.live_key_id = ""
        self.old_tokens_valid_until = ""
        self.begun = False
        self._noted = False

    @property
    def gateway(self) -> Gateway:
        """The cluster."""
        return self.world.gateway

    @property
    def path(self) -> str:
        """Of the mount."""
        return self.job.path

    def step(self, name: StepName) -> AbstractContextManager[Found]:
        """Have what the block does be one step."""
        return self.recorder.step(name)

    def warn(self, *problems: Problem) -> None:
        """Keep what the reader should know."""
        self.warnings += problems

    def tell(self, text: str) -> None:
        """Tell a person who waits."""
        self.recorder.tell(text)

    def look(self) -> LiveConfig:
        """Return the config as the leader has it now."""
        config = self.gateway.read_config(self.path)
        self.live_key_id = config.key_id
        return config

    def check_stop(self) -> None:
        """Begin nothing new once it was asked to stop.

        Raises:
            RefusedError: it was.
        """
        if self.world.stopping():
            raise words.stopped(self.path)

    def begin(self, rotation_id: str) -> None:
        """Note on this machine that this process is at the rotation."""
        self.begun = True
        if self.world.journal is not None:
            self.world.journal.begin(self.path, rotation_id)
            self._noted = True

    def settled(self) -> None:
        """Forget that note."""
        if self.world.journal is not None and self._noted:
            self.world.journal.end(self.path)

    def outcome(
        self,
        word: Result,
        problems: tuple[Problem, ...] = (),
        exit_code: ExitCode = ExitCode.OK,
        *,
        serves: bool = True,
    ) -> MountOutcome:
        """Return what became of the mount."""
        return MountOutcome(
            self.job.name,
            self.path,
            word,
            from_key=self.from_key,
            to_key=self.to_key,
            live_key_id=self.live_key_id,
            steps=self.recorder.steps,
            old_tokens_valid_until=self.old_tokens_valid_until,
            problems=problems,
            warnings=tuple(self.warnings),
            serves=serves,
            exit_code=exit_code,
        )


@contextmanager
def opened_nodes(run: RotationSession) -> Iterator[Cluster]:
    """Open the ways to every node; what they warn of is kept.

    Raises:
        RefusedError: a node cannot be asked.
    """
    with open_nodes(run.world, run.job) as nodes:
        try:
            yield nodes
        finally:
            run.warn(*nodes.warnings)


def finished(run: RotationSession, work: Callable[[], Result]) -> MountOutcome:
    """Do the work and return what became of the mount, whatever the work raises.

    After a bad end the mount is asked whether it serves.
    """
    try:
        word = work()
    except RotationAborted as ending:
        return _bad(run, ending)
    except SkyflowctlError as error:
        return _bad(run, _before_the_write(error))
    except Exception as error:  # noqa: BLE001 - it must still be told what is live
        problem = words.internal_fault(run.path, error)
        return _bad(run, RotationAborted(Result.FAILED, [problem], ExitCode.PARTIAL))
    run.settled()
    return run.outcome(word)


def _before_the_write(error: SkyflowctlError) -> RotationAborted:
    """Return the end that an error means which came before anything was made live."""
    code = ExitCode(error.exit_code)
    if code is ExitCode.UNEXPECTED:
        return RotationAborted(Result.FAILED, error.problems, ExitCode.PARTIAL)
    if code is ExitCode.PENDING:
        return RotationAborted(Result.PENDING, error.problems, code, settled=False)
    return RotationAborted(
        Result.REFUSED, error.problems, code if code in _OWN_CODES else ExitCode.REFUSED
    )


def _bad(run: RotationSession, ending: RotationAborted) -> MountOutcome:
    if ending.settled:
        run.settled()
    problems, code = ending.problems, ending.exit_code
    if not (worse := _not_serving(run, ending)):
        return run.outcome(ending.word, problems, code)
    return run.outcome(ending.word, (*problems, worse), ExitCode.UNHEALTHY, serves=False)


def _not_serving(run: RotationSession, ending: RotationAborted) -> Problem | None:
    """Return why the mount does not serve; None: it does, or nothing else is known."""
    try:
        live: LiveConfig | None = run.look()
        if live and not live.configured:
            # A basic engine does not tell that it was cut off, and the mount's options do.
            live = run.gateway.engine_config(run.path)
    except (ServerUnreachableError, OutcomeUnknownError):
        return None  # nobody can be asked, and each question may last a minute
    except Exception:  # noqa: BLE001 - then the check itself tells more, or nothing
        live = None
    if live is not None and not live.configured:
        return words.not_configured(run.path, run.job.name, live)
    # A run that has not touched the mount need not mint for every role to say no.
    input_only = ending.exit_code is ExitCode.INVALID or ending.problems[0].code in _INPUT
    check = serving_per_health if input_only and not run.begun else serving
    how = check(run.gateway, run.path)
    if how is Serving.NO_CREDENTIAL:
        return words.not_configured(run.path, run.job.name, live)
    if how is Serving.NO_ANSWER:
        return words.no_service(run.path)
    return words.serves_not(run.path) if how is Serving.NO else None
