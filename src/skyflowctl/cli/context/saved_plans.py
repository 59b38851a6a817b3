"""Saved plans on the command line: the file of ``plan --out``, and the argument of ``apply``."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from skyflowctl.cli.context.planning import LivePlan, PlanRequest
from skyflowctl.cli.output_files import check_output_file, writing_output_file
from skyflowctl.cli.plan_options import PermitOptions
from skyflowctl.cli.printed_commands import shell_words
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import InvalidInputError, RefusedError, UsageError

if TYPE_CHECKING:
    from skyflowctl.operations.saved_plan import SavedPlan

_SUFFIX = ".json"
_WHAT = "the plan"
_OPENING = b'{\n  "format": "skyflowctl-plan/'


def check_plan_file(path: str) -> None:
    """Check that a plan may be saved to a file, before anything is read for it.

    Raises:
        UsageError: ``apply`` would not take the file's name for that of a saved plan.
        RefusedError: something else is there.
    """
    if not path.endswith(_SUFFIX):
        raise UsageError(
            f"the name {path} does not end in {_SUFFIX}",
            why="by that end, apply tells a saved plan from the name of a mount",
            fix=f"for example --out {path.rstrip('.') or 'plan'}{_SUFFIX}",
        )
    check_output_file(Path(path), _WHAT, lambda text: text.startswith(_OPENING))


def write_plan_file(path: str, saved: "SavedPlan") -> None:
    """Write a plan to a file of mode 0600, in one step.

    Raises:
        UsageError: the file cannot be written.
    """
    from skyflowctl.private_files import write_private

    with writing_output_file(Path(path), _WHAT):
        write_private(Path(path), saved.text())


def plan_file_of(mounts: Sequence[str] | None) -> str:
    """Return the argument of ``apply`` that is a saved plan; empty: there is none.

    Raises:
        UsageError: it is not the only one, or there is no such file.
    """
    found = [name for name in mounts or () if name.endswith(_SUFFIX)]
    if not found:
        return ""
    if len(mounts or ()) > 1:
        raise stands_alone("other arguments")
    if not Path(found[0]).is_file():
        raise UsageError(
            f"there is no saved plan at {found[0]}",
            why="an argument that ends in .json is a saved plan, and never a mount",
            fix="make one with: skyflowctl plan --out FILE",
            code="no-such-plan",
        )
    return found[0]


def named_plan(request: PlanRequest, run: CommandRun) -> "SavedPlan | None":
    """Return the saved plan that is the argument of ``apply``; None: there is none.

    Raises:
        UsageError: there is more than the plan, or it cannot be read.
        InvalidInputError: it is no saved plan.
        RefusedError: it was changed, has expired, or another version made it.
    """
    path = plan_file_of(request.mounts)
    if not path:
        return None
    if request.file:
        raise stands_alone("-f")
    if request.permits != PermitOptions():
        raise stands_alone("a permission such as --prune")
    if request.allow_hosts:
        raise stands_alone("--allow-host")
    return _read(path, run)


def stands_alone(what: str) -> UsageError:
    """Return the error for what is given beside a saved plan."""
    return UsageError(
        f"a saved plan and {what} exclude each other",
        why="the plan has its files, mounts and permissions; another choice is another plan",
        fix="leave one of them out",
        code="contradiction",
    )


def _read(path: str, run: CommandRun) -> "SavedPlan":
    from skyflowctl.operations.saved_plan import MAX_PLAN_BYTES, read_saved_plan

    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_PLAN_BYTES + 1)
    except OSError as error:
        raise UsageError.of_file(
            f"the saved plan {path} cannot be read",
            error,
            fix="name a file that this user may read",
            code="unusable-file",
        ) from None
    return read_saved_plan(text, path, run.clock.now())


def saved_plan(live: LivePlan, run: CommandRun) -> "SavedPlan":
    """Return a plan as it is saved.

    Raises:
        SkyflowctlError: as for :func:`skyflowctl.operations.saved_plan.save_plan`.
    """
    from skyflowctl.operations.saved_plan import save_plan

    request = live.request
    given = {
        "mounts": list(request.mounts or ()),
        "allow_host": list(request.allow_hosts or ()),
        **asdict(request.permits),
    }
    return save_plan(
        live.result,
        live.loaded,
        live.gateway,
        live.source,
        options={name: value for name, value in given.items() if value},
        now=run.clock.now(),
    )


def saved_request(saved: "SavedPlan", request: PlanRequest) -> PlanRequest:
    """Return the request of a saved plan, with what a command line's references may do.

    Raises:
        InvalidInputError: a file of its manifest is not there.
    """
    for file in saved.files:
        if not Path(file).exists():
            raise _file_missing(file, (request.mounts or ("",))[0])
    permits = dict(saved.options)
    mounts, hosts = permits.pop("mounts", None), permits.pop("allow_host", None)
    return replace(
        request,
        file=saved.files,
        mounts=mounts,
        allow_hosts=hosts,
        permits=PermitOptions(**permits),
    )


def _file_missing(file: str, plan: str) -> InvalidInputError:
    why, fix = "the plan was made with it", "put the file back, or save a new plan"
    if not Path(file).is_absolute():
        why = "the plan names its files relative to the folder where it was made"
        here = shell_words([str(Path(plan).absolute())])
        fix = f"change to that folder, then: skyflowctl apply {here}"
    return InvalidInputError(
        f"there is no manifest {file}", why=why, fix=fix, code="manifest-not-found"
    )


def check_still_same(
    saved: "SavedPlan", live: LivePlan, run: CommandRun, is_begun: Callable[[], bool]
) -> None:
    """Refuse a saved plan that the plan made now does not equal, or that cannot be compared.

    Args:
        saved: the plan in the file.
        live: the plan made now; it may be what waits for approvals of a plan that is begun.
        run: of the command.
        is_begun: whether an apply of the saved plan parked a request that is stored here.

    Raises:
        RefusedError: with a problem for each difference.
    """
    if unreadable := live.result.plan.unreadable:
        raise RefusedError.of(unreadable)
    saved.check_same(saved_plan(live, run), live.result, is_begun)
