"""``rotate``: mounts looked at, and rotated, rolled back or retired side by side."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from skyflowctl.concurrency import Workers
from skyflowctl.errors import ExitCode, Problem, RefusedError, SkyflowctlError, UsageError
from skyflowctl.operations.key_provider import KeyProvider, RotationTarget
from skyflowctl.operations.mounts import not_found_is_usage_error
from skyflowctl.operations.rotate_request import Verb
from skyflowctl.operations.targets import MountRef
from skyflowctl.operations.token_service import TokenServiceOnDemand
from skyflowctl.rotation.batch import rotate_many
from skyflowctl.rotation.model import MountOutcome, Result, RotationJob
from skyflowctl.rotation.ports import Dependencies, Generated
from skyflowctl.rotation.schedule import due_reason
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig, way_out


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


def refuse_wrong_names(targets: Sequence[RotationTarget]) -> None:
    """Stop before anything is done where the command line names what is no mount.

    Raises:
        UsageError: with every such name.
    """
    wrong = [one.problem for one in targets if isinstance(one.problem, UsageError)]
    problems = [problem for error in wrong for problem in error.problems]
    if problems:
        raise UsageError.of(problems)


def with_due(targets: Sequence[RotationTarget], now: datetime) -> tuple[RotationTarget, ...]:
    """Return the same with the reason for which each is due."""
    return tuple(
        replace(one, due=due_reason(one.named.rotation, one.config, now)) if one.config else one
        for one in targets
    )


def run_rotations(
    targets: Sequence[RotationTarget],
    provider: KeyProvider,
    deps: Dependencies,
    *,
    parallelism: int,
    on_done: Callable[[str, Result], None],
) -> tuple[MountOutcome, ...]:
    """Carry the request out for each mount and return what became of it, in order; raises nothing.

    Args:
        targets: from :func:`read_live_mounts`.
        provider: the request, successors and operators.
        deps: without an operator; each mount gets its own.
        parallelism: how many mounts at once.
        on_done: told of each mount that is finished, and how; from several threads.
    """

    def work_on(target: RotationTarget) -> Callable[[RotationJob], MountOutcome]:
        def work(job: RotationJob) -> MountOutcome:
            word = Result.FAILED
            try:
                if target.problem:
                    raise target.problem
                # Its connections belong to one event loop, and so to one mount's thread.
                own = replace(deps, token_service=TokenServiceOnDemand())
                outcome = _WORKS[provider.request.verb](job, target, provider, own)
                word = outcome.result
                return outcome
            except RefusedError:
                word = Result.REFUSED
                raise
            finally:
                on_done(job.name, word)

        return work

    jobs = [(provider.job_of(target.named), work_on(target)) for target in targets]
    return rotate_many(jobs, parallelism)


def not_due(target: RotationTarget) -> MountOutcome:
    """Return the outcome of a mount with which nothing is to be done now.

    One without a credential serves nobody, which is no fine day either.
    """
    config, named = target.config, target.named
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
    target: RotationTarget,
    provider: KeyProvider,
    deps: Dependencies,
) -> MountOutcome:
    from skyflowctl.rotation.rotate import preview_mount, rotate_mount

    _know_canaries(job, deps)
    source = provider.successor(target)
    operator, warnings = (
        (source.keys, ()) if isinstance(source, Generated) else provider.operator_if_usable(target)
    )
    own = replace(deps, operator=operator)
    if provider.request.verb is Verb.PREVIEW:
        return _with(preview_mount(job, source, own), warnings)
    outcome = _with(rotate_mount(job, source, own), warnings)
    if job.options.retire_old and outcome.result is Result.ROTATED and outcome.from_key:
        return _then_retired(outcome, job, own)
    return outcome


def _know_canaries(job: RotationJob, deps: Dependencies) -> None:
    """Stop before anything is created where a canary is no role of the mount.

    Raises:
        UsageError: it is none.
    """
    if not job.options.canaries:
        return
    roles = deps.gateway.list_roles(job.path)
    unknown = [name for name in job.options.canaries if name not in roles]
    if unknown:
        raise UsageError(
            f"{job.name} has no role {', '.join(unknown)}",
            why=f"a canary is one of its roles: {', '.join(sorted(roles)) or 'it has none'}",
            fix="correct --canary, or leave it out",
            code="no-such-role",
        )


def _then_retired(rotated: MountOutcome, job: RotationJob, deps: Dependencies) -> MountOutcome:
    """Wait, retire the replaced key, and return both as one outcome."""
    from skyflowctl.rotation.retire import retire_mount

    retired = retire_mount(job, deps, wait=True)
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
    target: RotationTarget,
    provider: KeyProvider,
    deps: Dependencies,
) -> MountOutcome:
    from skyflowctl.rotation.rollback import rollback_mount

    # The way back must not hang on an operator token that cannot be read today.
    operator, warnings = provider.operator_if_usable(target)
    return _with(
        rollback_mount(job, provider.request.to, replace(deps, operator=operator)), warnings
    )


def _retire(
    job: RotationJob,
    target: RotationTarget,
    provider: KeyProvider,
    deps: Dependencies,
) -> MountOutcome:
    from skyflowctl.rotation.retire import retire_mount

    request = provider.request
    operator = None if request.kept_copy_only else provider.operators(target)
    own = replace(deps, operator=operator)
    return retire_mount(
        job, own, now=request.now, wait=request.wait, kept_copy_only=request.kept_copy_only
    )


def _with(outcome: MountOutcome, warnings: tuple[Problem, ...]) -> MountOutcome:
    return replace(outcome, warnings=(*warnings, *outcome.warnings)) if warnings else outcome


_WORKS = {
    Verb.ROTATE: _rotate,
    Verb.PREVIEW: _rotate,
    Verb.ROLLBACK: _roll_back,
    Verb.RETIRE: _retire,
}
