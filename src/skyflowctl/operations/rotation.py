"""``rotate``: mounts looked at, and rotated, rolled back or retired side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from skyflowctl.concurrency import Workers
from skyflowctl.errors import ExitCode, Problem, RefusedError, SkyflowctlError, UsageError
from skyflowctl.operations.mounts import not_found_is_usage_error
from skyflowctl.operations.rotate_flags import Verb
from skyflowctl.operations.rotation_supply import KeyProvider, RotationTarget
from skyflowctl.operations.targets import MountRef
from skyflowctl.operations.token_service import TokenServiceOnDemand
from skyflowctl.rotation.batch import rotate_many
from skyflowctl.rotation.model import MountOutcome, NewCredential, Options, Result, RotationJob
from skyflowctl.rotation.ports import Dependencies, Generated
from skyflowctl.rotation.schedule import due_reason
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig, way_out

RETIRE_MARGIN = timedelta(minutes=5)
DEV_RETIRE_MARGIN = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class RotateRequest:
    """What a command is to do with its mounts.

    Args:
        verb: what.
        options: how; the margin of retirement is each mount's own.
        margin: where a mount's rule names none.
        own_margins: heed the mounts' rules; False on a dev stack, whose tokens are short.
        to: the credential version to roll back to; None: the one before.
        now: retire at once, though tokens of the old key live.
        wait: wait until they have ended.
        kept_copy_only: retire the engine's kept copy and leave the key at Skyflow.
        previous: the way back on an engine that keeps none; see ``RotationJob``.
    """

    verb: Verb
    options: Options = field(default_factory=Options)
    margin: timedelta = RETIRE_MARGIN
    own_margins: bool = True
    to: int | None = None
    now: bool = False
    wait: bool = False
    kept_copy_only: bool = False
    previous: Callable[[], NewCredential] | None = None

    def margin_of(self, named: MountRef) -> timedelta:
        """Return how long a mount's old key outlives its last token."""
        own = named.rotation.retire_margin if self.own_margins else None
        return self.margin if own is None else own

    def job_of(self, named: MountRef) -> RotationJob:
        """Return the job that this errand is for one mount."""
        options = replace(self.options, retire_margin=self.margin_of(named))
        return RotationJob(named.name, named.path, options, self.previous)


def read_live_mounts(
    gateway: Gateway, mounts: Sequence[MountRef], parallelism: int
) -> tuple[RotationTarget, ...]:
    """Return each mount with what is live on it; one request a mount, failures kept."""

    def one(named: MountRef) -> RotationTarget:
        try:
            with not_found_is_usage_error(named.path):
                return RotationTarget(named, gateway.engine_config(named.path))
        except SkyflowctlError as error:
            return RotationTarget(named, None, error)

    with Workers(parallelism) as pool:
        return tuple(pool.map(one, mounts))


def refuse_wrong_names(subjects: Sequence[RotationTarget]) -> None:
    """Stop before anything is done where the command line names what is no mount.

    Raises:
        UsageError: with every such name.
    """
    wrong = [one.problem for one in subjects if isinstance(one.problem, UsageError)]
    problems = [problem for error in wrong for problem in error.problems]
    if problems:
        raise UsageError.of(problems)


def with_due(subjects: Sequence[RotationTarget], now: datetime) -> tuple[RotationTarget, ...]:
    """Return the same with the reason for which each is due."""
    return tuple(
        replace(one, due=due_reason(one.named.rotation, one.config, now)) if one.config else one
        for one in subjects
    )


def run_rotations(
    subjects: Sequence[RotationTarget],
    errand: RotateRequest,
    supply: KeyProvider,
    world: Dependencies,
    *,
    parallelism: int,
    on_done: Callable[[str, Result], None],
) -> tuple[MountOutcome, ...]:
    """Do the errand for each mount and return what became of it, in order; raises nothing.

    Args:
        subjects: from :func:`read_live_mounts`.
        errand: what to do.
        supply: successors and operators.
        world: without an operator; each mount gets its own.
        parallelism: how many mounts at once.
        on_done: told of each mount that is finished, and how; from several threads.
    """

    def work_on(subject: RotationTarget) -> Callable[[RotationJob], MountOutcome]:
        def work(job: RotationJob) -> MountOutcome:
            word = Result.FAILED
            try:
                if subject.problem:
                    raise subject.problem
                # Its connections belong to one event loop, and so to one mount's thread.
                own = replace(world, token_service=TokenServiceOnDemand())
                outcome = _WORKS[errand.verb](job, subject, errand, supply, own)
                word = outcome.result
                return outcome
            except RefusedError:
                word = Result.REFUSED
                raise
            finally:
                on_done(job.name, word)

        return work

    jobs = [(errand.job_of(subject.named), work_on(subject)) for subject in subjects]
    return rotate_many(jobs, parallelism)


def not_due(subject: RotationTarget) -> MountOutcome:
    """Return the outcome of a mount with which nothing is to be done now.

    One without a credential serves nobody, which is no fine day either.
    """
    config, named = subject.config, subject.named
    live = config.key_id if config else ""
    outcome = MountOutcome(named.name, named.path, Result.NOT_DUE, from_key=live, live_key_id=live)
    if config is None or config.configured:
        return outcome
    return replace(
        outcome,
        warnings=(_no_credential(named, config),),
        serves=False,
        exit_code=ExitCode.UNHEALTHY,
    )


def _no_credential(named: MountRef, config: LiveConfig) -> Problem:
    revoked = config.revoked
    why = f"it was {revoked.sentence()}" if revoked else "it never had one, or was cut off"
    return Problem(
        "not-configured",
        f"{named.name} has no credential, so it gives nobody a token",
        f"{why}; there is nothing that could be rotated or retired",
        way_out(named.name, config.api)
        if revoked
        else f"'skyflowctl rotate {named.name} --credentials REF' gives it one",
    )


def _rotate(
    job: RotationJob,
    subject: RotationTarget,
    errand: RotateRequest,
    supply: KeyProvider,
    world: Dependencies,
) -> MountOutcome:
    from skyflowctl.rotation.rotate import preview_mount, rotate_mount

    _know_canaries(job, world)
    source = supply.successor(subject)
    operator, warnings = (
        (source.keys, ()) if isinstance(source, Generated) else supply.operator_if_usable(subject)
    )
    own = replace(world, operator=operator)
    if errand.verb is Verb.PREVIEW:
        return _with(preview_mount(job, source, own), warnings)
    outcome = _with(rotate_mount(job, source, own), warnings)
    if job.options.retire_old and outcome.result is Result.ROTATED and outcome.from_key:
        return _then_retired(outcome, job, own)
    return outcome


def _know_canaries(job: RotationJob, world: Dependencies) -> None:
    """Stop before anything is created where a canary is no role of the mount.

    Raises:
        UsageError: it is none.
    """
    if not job.options.canaries:
        return
    roles = world.gateway.list_roles(job.path)
    unknown = [name for name in job.options.canaries if name not in roles]
    if unknown:
        raise UsageError(
            f"{job.name} has no role {', '.join(unknown)}",
            why=f"a canary is one of its roles: {', '.join(sorted(roles)) or 'it has none'}",
            fix="correct --canary, or leave it out",
            code="no-such-role",
        )


def _then_retired(rotated: MountOutcome, job: RotationJob, world: Dependencies) -> MountOutcome:
    """Wait, retire the replaced key, and return both as one outcome."""
    from skyflowctl.rotation.retire import retire_mount

    retired = retire_mount(job, world, wait=True)
    return replace(
        rotated,
        steps=(*rotated.steps, *retired.steps),
        problems=retired.problems,
        warnings=(*rotated.warnings, *retired.warnings),
        # It is rotated and serves; what is left is the old key's end.
        exit_code=ExitCode.PARTIAL if retired.problems else rotated.exit_code,
    )


def _roll_back(
    job: RotationJob,
    subject: RotationTarget,
    errand: RotateRequest,
    supply: KeyProvider,
    world: Dependencies,
) -> MountOutcome:
    from skyflowctl.rotation.rollback import rollback_mount

    # The way back must not hang on an operator token that cannot be read today.
    operator, warnings = supply.operator_if_usable(subject)
    return _with(rollback_mount(job, errand.to, replace(world, operator=operator)), warnings)


def _retire(
    job: RotationJob,
    subject: RotationTarget,
    errand: RotateRequest,
    supply: KeyProvider,
    world: Dependencies,
) -> MountOutcome:
    from skyflowctl.rotation.retire import retire_mount

    operator = None if errand.kept_copy_only else supply.operators(subject)
    own = replace(world, operator=operator)
    return retire_mount(
        job, own, now=errand.now, wait=errand.wait, kept_copy_only=errand.kept_copy_only
    )


def _with(outcome: MountOutcome, warnings: tuple[Problem, ...]) -> MountOutcome:
    return replace(outcome, warnings=(*warnings, *outcome.warnings)) if warnings else outcome


_WORKS = {
    Verb.ROTATE: _rotate,
    Verb.PREVIEW: _rotate,
    Verb.ROLLBACK: _roll_back,
    Verb.RETIRE: _retire,
}
