"""Arguments and environment of a catalog entry.

No server returns an entry's environment, so an argument notes its names.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from skyflowctl.errors import Problem, UsageError
from skyflowctl.manifest.interpolate import looks_secret
from skyflowctl.plugin.build import is_launcher
from skyflowctl.plugin.launcher import ENV_NAMES
from skyflowctl.skyflow.token_uri import parse_host
from skyflowctl.text import listed

# As plugin/build.py writes the variables that a launcher keeps.
_KEPT = re.compile(rb"\$\{(\w+)\+\"")


def checked_pairs(pairs: Sequence[str]) -> tuple[str, ...]:
    """Return ``NAME=value`` texts for the plugin's environment.

    Raises:
        UsageError: one has no ``=`` or no name, or a name that looks like a secret's.
    """
    for pair in pairs:
        name, mark, _ = pair.partition("=")
        if not mark or not name.isidentifier():
            raise UsageError(
                "an --env is not of the form NAME=value",
                why="the catalog takes names of letters, digits and _",
                fix="for example --env SSL_CERT_FILE=/etc/ssl/skyflow.pem; never a secret",
            )
        if looks_secret(name):
            raise UsageError(
                f"--env {name} looks like a secret, and a catalog entry holds none",
                why="it would be visible on the command line and in the server's storage",
                fix="use --env only for values that are not secret; the engine takes credentials "
                "through its config",
                code="secret-env",
            )
    return tuple(pairs)


def plugin_arguments(
    *,
    shared: bool,
    allow_hosts: Sequence[str],
    credentials_directory: str | None,
    only_hosts: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the arguments of the plugin's process, as ``plugin/settings.py`` reads them.

    Raises:
        UsageError: a host is not ``HOST:PORT``, or the directory is not absolute.
    """
    arguments = ["--shared"] if shared else []
    arguments += [f"--allow-host={_host('--allow-host', host)}" for host in allow_hosts]
    arguments += [f"--only-host={_host('--only-host', host)}" for host in only_hosts]
    if credentials_directory is not None:
        if not credentials_directory.startswith("/"):
            raise UsageError(
                "--credentials-directory is not absolute",
                why="it is a folder on the server, which has no current folder of yours",
                fix="for example --credentials-directory /etc/openbao/credentials",
            )
        arguments.append(f"--credentials-directory={credentials_directory}")
    return tuple(arguments)


def _host(flag: str, text: str) -> str:
    try:
        return parse_host(text)
    except ValueError as error:
        raise UsageError(
            f"{flag}: {error}",
            why="the engine compares host and port exactly",
            fix=f"for example {flag} 127.0.0.1:8443",
        ) from None


def environment_note(names: Iterable[str]) -> str:
    """Return the argument that notes an environment, without its values."""
    return ENV_NAMES + ",".join(sorted(names))


def noted_environment(args: Sequence[str]) -> frozenset[str] | None:
    """Return the environment's names that an entry's arguments note; None: no note."""
    notes = [arg.removeprefix(ENV_NAMES) for arg in args if arg.startswith(ENV_NAMES)]
    return frozenset(filter(None, notes[-1].split(","))) if notes else None


def without_note(args: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments without the note; an option and its value are one text.

    ``--only-host H`` and ``--only-host=H`` mean the same to the plugin, and both are registered.
    """
    joined: list[str] = []
    for arg in args:
        before = joined[-1] if joined else ""
        if before.startswith("--") and "=" not in before and not arg.startswith("-"):
            joined[-1] = f"{before}={arg}"
        elif not arg.startswith(ENV_NAMES):
            joined.append(arg)
    return tuple(joined)


def takes_note(launcher: Path) -> bool:
    """Return whether a launcher removes the note from the plugin's arguments."""
    return is_launcher(launcher) and f'"{ENV_NAMES}"'.encode() in launcher.read_bytes()


def names_not_passed(launcher: Path, pairs: Iterable[str]) -> Problem | None:
    """Return a warning of variables that this launcher removes from the plugin's environment.

    The list of another version's launcher may differ, so the file itself is read. Other programs
    get every variable.
    """
    if not is_launcher(launcher):
        return None
    kept = {name.decode() for name in _KEPT.findall(launcher.read_bytes())}
    given = sorted({pair.partition("=")[0] for pair in pairs} - kept)
    if not given:
        return None
    return Problem(
        "env-not-passed",
        f"the engine will not get {listed(given)}",
        "the launcher passes on only the variables that the engine reads",
        "leave them out of --env; docs/install.md lists those that the engine reads",
    )
