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

    An error in one mount's work fails that mount only; the others continue. Two jobs with the same
    path count as one: the first runs, because the second could only refuse.
    Work that has begun is never abandoned. To stop early, let ``Dependencies.stopping`` return
    True. Each mount then stops at its next step, and this function returns as usual.
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
            # Interrupted without a request to stop: wait for the work that may write, and start no
            # other.
            for future in futures:
                future.cancel()
            wait(futures)


def exit_code(outcomes: Sequence[MountOutcome]) -> ExitCode:
    """Return the exit code of a command for these mounts.

    0 if all succeeded or none was due, 6 if a mount does not serve, and 7 if one waits for an
    approval and no other failed. If all mounts failed in the same way, the code of that failure.
    Otherwise 3: some failed, all serve, and running the same command again continues. Mounts that
    were not due do not count.
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
    except Exception as error:  # noqa: BLE001 - the other mounts must be reported as well
        return _failed(job, (internal_fault(job.path, error),), ExitCode.UNEXPECTED)


def _failed(job: RotationJob, problems: tuple[Problem, ...], code: ExitCode) -> MountOutcome:
    word = Result.REFUSED if code is ExitCode.REFUSED else Result.FAILED
    return MountOutcome(job.name, job.path, word, problems=problems, exit_code=code)
