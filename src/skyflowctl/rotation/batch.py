"""Several mounts at once: each on its own, and one exit code for all."""

from collections.abc import Callable, Sequence
from concurrent.futures import wait

from skyflowctl.concurrency import Workers
from skyflowctl.errors import ExitCode, Problem, SkyflowctlError
from skyflowctl.rotation.messages import internal_fault
from skyflowctl.rotation.model import MountOutcome, Result, RotationJob

MountWork = Callable[[RotationJob], MountOutcome]


def rotate_many(
    jobs: Sequence[tuple[RotationJob, MountWork]], parallelism: int
) -> tuple[MountOutcome, ...]:
    """Do each mount's work, so many at once, and return the outcomes in the order of the jobs.

    What one mount's work raises is that mount's failure; the others go on. Two jobs of one
    path are one job, the first, because the second could only refuse for the first's sake.

    Nothing that has begun is abandoned: to stop early, have ``Dependencies.stopping`` say so. Each
    work then leaves at its next step, in order, and this function returns as usual.

    Args:
        jobs: the mounts, each with what is to be done with it.
        parallelism: how many mounts at once.
    """
    first: dict[str, tuple[RotationJob, MountWork]] = {}
    for job, work in jobs:
        first.setdefault(job.path, (job, work))
    with Workers(parallelism) as pool:
        futures = [pool.submit(_one, job, work) for job, work in first.values()]
        try:
            return tuple(future.result() for future in futures)
        finally:
            # An interruption without a request to stop: what writes is
            # waited for all the same, and what has not begun does not begin.
            for future in futures:
                future.cancel()
            wait(futures)


def exit_code(outcomes: Sequence[MountOutcome]) -> ExitCode:
    """Return what a command about these mounts leaves with.

    All well (also: none was due) is 0, a mount that does not serve 6, and one that waits for
    an approval, where no other failed, 7. Mounts that all
    failed in the same way leave with that way's code, and a mixture is 3: some failed, all
    serve, and the same command goes on. Mounts that were not due do not count.
    """
    codes = {one.exit_code for one in outcomes if one.result is not Result.NOT_DUE}
    if ExitCode.UNHEALTHY in codes or not all(outcome.serves for outcome in outcomes):
        return ExitCode.UNHEALTHY
    if ExitCode.PENDING in codes and codes <= {ExitCode.OK, ExitCode.PENDING}:
        return ExitCode.PENDING
    if len(codes) > 1:
        return ExitCode.PARTIAL
    return codes.pop() if codes else ExitCode.OK


def _one(job: RotationJob, work: MountWork) -> MountOutcome:
    try:
        return work(job)
    except SkyflowctlError as error:
        return _failed(job, error.problems, ExitCode(error.exit_code))
    except Exception as error:  # noqa: BLE001 - the other mounts must be told of as well
        return _failed(job, (internal_fault(job.path, error),), ExitCode.UNEXPECTED)


def _failed(job: RotationJob, problems: tuple[Problem, ...], code: ExitCode) -> MountOutcome:
    word = Result.REFUSED if code is ExitCode.REFUSED else Result.FAILED
    return MountOutcome(job.name, job.path, word, problems=problems, exit_code=code)
