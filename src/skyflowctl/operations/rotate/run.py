"""``rotate``: reads mounts, and rotates, rolls back or retires them in parallel."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from skyflowctl.concurrency import Workers
from skyflowctl.errors import (
    ExitCode,
    NotPermittedError,
    Problem,
    RefusedError,
    SkyflowctlError,
    UsageError,
)
from skyflowctl.operations.mount_refs import MountRef
from skyflowctl.operations.mounts import not_found_is_usage_error
from skyflowctl.operations.rotate.key_provider import KeyProvider, RotationTarget
from skyflowctl.operations.rotate.request import Verb
from skyflowctl.rotation.batch import rotate_many
from skyflowctl.rotation.model import MountOutcome, Options, Result, RotationJob
from skyflowctl.rotation.ports import Dependencies, Generated
from skyflowctl.rotation.schedule import due_reason
from skyflowctl.skyflow.http.on_demand import TokenServiceOnDemand
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig, way_out
from skyflowctl.vault.permissions import ANY_WRITE, MISSING_PERMISSIONS, Need, permission_problems


def read_live_mounts(
    gateway: Gateway, mounts: Sequence[MountRef], parallelism: int
) -> tuple[RotationTarget, ...]:
    """Return each mount with its live config or its failure; one request a mount."""

    def one(named: MountRef) -> RotationTarget:
        try:
            with not_found_is_usage_error(named.path):
                return RotationTarget(named, gateway.engine(named.path).checked_config())
        except SkyflowctlError as error:
            return RotationTarget(named, None, error)

    with Workers(parallelism) as pool:
        return tuple(pool.map(one, mounts))


def refuse_wrong_names(targets: Sequence[RotationTarget]) -> None:
    """Refuse names on the command line that are no mounts, before any work.

    Raises:
        UsageError: names all of them.
    """
    wrong = [one.problem for one in targets if isinstance(one.problem, UsageError)]
    problems = [problem for error in wrong for problem in error.problems]
    if problems:
        raise UsageError.of(problems)


def with_permissions(
    gateway: Gateway, targets: Sequence[RotationTarget], options: Options
) -> tuple[tuple[RotationTarget, ...], tuple[Problem, ...]]:
    """Return the mounts; one that this login may not rotate to the end has that as its problem.

    A rotation that lacks a permission half way would leave two keys, so this is asked before the
    first write, for all mounts at once. The other mounts are not held up.

    Returns:
        The mounts, and a warning if the login may not ask what it may do.
    """
    works = {
        one.named.path: (
            f"the rotation of {one.named.name}",
            list(_needs(one.named.path, one.config, options)),
        )
        for one in targets
        if one.config is not None
    }
    found = permission_problems(gateway, dict(works.values()))
    lacking = {
        path: NotPermittedError.of([found[work]])
        for path, (work, _) in works.items()
        if work in found and found[work].code == MISSING_PERMISSIONS
    }
    unknown = [one for one in found.values() if one.code != MISSING_PERMISSIONS]
    checked = (replace(one, problem=one.problem or lacking.get(one.named.path)) for one in targets)
    return tuple(checked), tuple(unknown[:1])


def _needs(path: str, config: LiveConfig, options: Options) -> Iterator[Need]:
    yield f"{path}/config", "read"
    yield f"{path}/config", "update" if config.configured else ANY_WRITE
    if config.api.has("verify"):
        for step in ("verify", "commit", "rollback"):  # one that fails is rolled back
            yield f"{path}/config/{step}", "update"
        yield f"{path}/config/history/", "list"
    for role in options.canaries:
        yield f"{path}/creds/{role}", "read"
    if options.retire_old:
        yield "sys/mounts", "read"
        yield f"{path}/config/history/{config.credential_version}", "delete"


def with_due(targets: Sequence[RotationTarget], now: datetime) -> tuple[RotationTarget, ...]:
    """Return the mounts with the reason why each is due."""
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
    """Carry out the request for each mount; return the outcomes in order; raises nothing.

    Args:
        targets: from :func:`read_live_mounts`.
        provider: holds the request, new credentials and operators.
        deps: the services, without an operator; each mount gets its own.
        parallelism: how many mounts at once.
        on_done: called with each finished mount and its result; from several threads.
    """

    def work_on(target: RotationTarget) -> Callable[[RotationJob], MountOutcome]:
        def work(job: RotationJob) -> MountOutcome:
            word = Result.FAILED
            try:
                if target.problem:
                    raise target.problem
                # Its connections belong to one event loop, so to the thread of one mount.
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
    """Return the outcome of a mount that needs no work now.

    A mount without a credential gives no token, so its outcome is not a success.
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
        f"{named.name} has no credential, so it mints no token",
        f"{why}; there is nothing to rotate or retire",
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
    """Refuse a canary that is no role of the mount, before anything is created.

    Raises:
        UsageError: a canary is no role of the mount.
    """
    if not job.options.canaries:
        return
    roles = deps.gateway.engine(job.path).roles()
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
        # It is rotated and serves; only the old key's retirement is left.
        exit_code=ExitCode.PARTIAL if retired.problems else rotated.exit_code,
    )


def _roll_back(
    job: RotationJob,
    target: RotationTarget,
    provider: KeyProvider,
    deps: Dependencies,
) -> MountOutcome:
    from skyflowctl.rotation.rollback import rollback_mount

    # A rollback must not depend on an operator token that cannot be read now.
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
