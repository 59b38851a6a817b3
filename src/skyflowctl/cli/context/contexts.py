"""Finds the context of a command: ``--context``, else $SKYFLOWCTL_CONTEXT, else the current one."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from skyflowctl.cli.printed_commands import given_options
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import Problem, SkyflowctlError, UsageError
from skyflowctl.manifest.discover import DEFAULT_PREFIX
from skyflowctl.private_files import user_folder
from skyflowctl.text import name_one_of

if TYPE_CHECKING:
    from skyflowctl.vault.context_file import ContextFile
    from skyflowctl.vault.contexts import ContextEntry, Contexts

VARIABLE = "SKYFLOWCTL_CONTEXT"


def contexts_path() -> Path:
    """Return the path of the user's contexts."""
    return user_folder("CONFIG") / "contexts.json"


def context_file() -> "ContextFile":
    """Return the file of the user's contexts."""
    from skyflowctl.vault.context_file import ContextFile

    return ContextFile(contexts_path())


def chosen_context(
    address: str | None, name: str | None, run: CommandRun | None = None
) -> "ContextEntry | None":
    """Return the context that names the server; None if something else does, or none is current.

    Args:
        address: ``--address``.
        name: ``--context``.
        run: gets a warning if the environment hides a context that it names itself.

    Raises:
        UsageError: two servers are named, or there is no such context.
        RefusedError: the file of the contexts is unsafe.
        InvalidInputError: it cannot be read.
    """
    from skyflowctl.vault.environment import named_address

    if address is not None and name is not None:
        raise UsageError(
            "--address and --context name two servers",
            why="a context has its own address and its own login",
            fix="leave out one of the two",
            code="two-targets",
        )
    wanted = os.environ.get(VARIABLE, "")
    if address is not None or (name is None and named_address(os.environ)):
        if wanted and run is not None and address is None:
            run.warn(_hidden(wanted))
        return None
    if name is None and not wanted and not contexts_path().exists():
        return None
    contexts = context_file().load()
    name = name if name is not None else wanted or contexts.current
    return find_context(contexts, name) if name else None


def current_context_name() -> tuple[str, Problem | None]:
    """Return the name of the context that counts if nothing else names a server, empty if there
    is none; and why the file of the contexts cannot be read."""
    wanted = os.environ.get(VARIABLE, "")
    try:
        current = context_file().load().current
        return wanted or current, None
    except SkyflowctlError as error:
        return wanted, error.problems[0]


def find_context(contexts: "Contexts", name: str) -> "ContextEntry":
    """Return the context of this name.

    Raises:
        UsageError: there is none.
    """
    found = contexts.entries.get(name)
    if found is None:
        from skyflowctl.manifest.messages import did_you_mean

        names = sorted(contexts.entries)
        known = did_you_mean(name, names) or name_one_of(names)
        raise UsageError(
            f"there is no context {name}",
            why=f"{contexts_path()} has none of this name",
            fix=known if names else "add it: skyflowctl context add NAME --address URL",
            code="unknown-context",
        )
    return found


def default_prefix() -> str:
    """Return the path prefix of mounts where no manifest names one: the context's, else
    ``skyflow``.

    Raises:
        UsageError: there is no such context.
    """
    given = given_options().values
    if given.get("dev"):
        return DEFAULT_PREFIX
    context = chosen_context(given.get("address"), given.get("context"))
    return (context and context.path_prefix) or DEFAULT_PREFIX


def _hidden(name: str) -> Problem:
    return Problem(
        "context-not-used",
        f"the context {name} is not used",
        f"BAO_ADDR or VAULT_ADDR is set, and takes precedence over {VARIABLE}",
        f"give --context {name}, or unset the address",
    )
