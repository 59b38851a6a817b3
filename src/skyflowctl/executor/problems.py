"""What an executor itself has to say about an action, in the form of every problem."""

from skyflowctl.errors import Problem, SkyflowctlError
from skyflowctl.executor.steps import mount_path
from skyflowctl.planner.plan import Action, Kind


def told(action: Action, text: str) -> Problem:
    """Return a warning that came with a write which was taken."""
    path = mount_path(action)
    who = "engine" if action.kind in {Kind.ROLE, Kind.CONFIG} else "server"
    return Problem(
        f"{who}-warning",
        f"{path or action.path}: {text}",
        f"the {who} took the write to {action.path}, and said this about it",
        f"the write stands; 'skyflowctl config verify {path}' tries each role"
        if who == "engine"
        else _SEE_LOG,
    )


def unexpected(path: str, error: Exception) -> SkyflowctlError:
    """Return what stands for an error that nobody foresaw; its text may hold anything."""
    return SkyflowctlError(
        f"an error that was not expected: {path}",
        why=f"{type(error).__name__} in skyflowctl itself",
        fix="run the same command again; if it comes back, report it",
        code="unexpected",
    )


_SEE_LOG = "see the server's log and its manual for this path"
