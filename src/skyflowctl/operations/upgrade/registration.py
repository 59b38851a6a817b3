"""Registers the version of an upgrade, if the catalog lacks it and its launcher is at hand."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from skyflowctl.errors import (
    InvalidInputError,
    Problem,
    RefusedError,
    SkyflowctlError,
    UnhealthyError,
    UsageError,
)
from skyflowctl.operations.plugins import Registration, file_digest, register_plugin
from skyflowctl.operations.upgrade.model import UpgradeRequest
from skyflowctl.plugin.arguments import (
    environment_note,
    noted_environment,
    takes_note,
    without_note,
)
from skyflowctl.vault.gateway import Gateway


def plan_registration(
    gateway: Gateway, request: UpgradeRequest, launcher: Path, env: Sequence[str]
) -> Registration | None:
    """Return the catalog entry to write, with the arguments that the mounts run with now.

    Args:
        gateway: the server.
        request: the upgrade; its version is the launcher's.
        launcher: a copy of the file that every node has in its plugin directory.
        env: the environment of the entry, as ``NAME=value``.

    Returns:
        None if the catalog has this file under the version.

    Raises:
        RefusedError: it has another one, the mounts run with different arguments, or with
            variables that are not given.
        UsageError: the launcher cannot be read.
        VaultError: the server does not answer.
    """
    sha256 = file_digest(launcher)
    present = gateway.sys.catalog.read(request.plugin, request.version)
    if present is not None and not present.file_missing and present.sha256 != sha256:
        raise RefusedError(
            f"the catalog has another file as {request.plugin} {request.version}",
            why=f"its digest is {present.sha256[:12]}, that of {launcher} is {sha256[:12]}",
            fix="leave out --launcher to run the registered file, or build a new version",
            code="other-file-registered",
        )
    if present is not None:
        return None
    args = _running_arguments(gateway, request)
    given = frozenset(pair.partition("=")[0] for pair in env)
    if lost := (noted_environment(args) or frozenset()) - given:
        raise RefusedError(
            f"the version that runs has variables that are not given: {', '.join(sorted(lost))}",
            why="the server returns no values of an entry's environment",
            fix=" ".join(f"--env {name}=…" for name in sorted(lost)),
            code="environment-not-given",
        )
    note = (environment_note(given),) if takes_note(launcher) else ()
    wanted = (*without_note(args), *note)
    return Registration(request.plugin, request.version, launcher.name, sha256, wanted, tuple(env))


def _running_arguments(gateway: Gateway, request: UpgradeRequest) -> tuple[str, ...]:
    live = gateway.sys.mounts()
    paths = [one.path for one in request.mounts] if request.mounts is not None else list(live)
    running = {
        one.running_plugin_version
        for path in paths
        if (one := live.get(path)) is not None and one.type == request.plugin
    }
    entries = [gateway.sys.catalog.read(request.plugin, version) for version in sorted(running)]
    found = {one.args for one in entries if one is not None and not one.file_missing}
    if len(found) != 1:
        raise RefusedError(
            "it is not known which arguments to register the new version with",
            why=f"the mounts run {len(running)} versions with {len(found)} known sets of arguments",
            fix="register it with its arguments first: skyflowctl plugin register "
            "PLUGIN_DIRECTORY/FILE",
            code="arguments-unknown",
        )
    return found.pop()


@contextmanager
def registered_for_upgrade(
    gateway: Gateway,
    wanted: Registration,
    say: Callable[[str], None],
    warn: Callable[[Problem], None],
) -> Iterator[None]:
    """Register an entry, and remove it again if this or the block fails or is interrupted.

    Args:
        gateway: the server.
        wanted: the entry, which the catalog does not have.
        say: is told what became of the entry.
        warn: is told if it could not be removed; the failure of the block is raised all the same.
    """
    try:
        register_for_upgrade(gateway, wanted)
        say(f"registered {wanted.name} {wanted.version}")
        yield
    except BaseException:
        _unregister(gateway, wanted, say, warn)
        raise


def _unregister(
    gateway: Gateway,
    wanted: Registration,
    say: Callable[[str], None],
    warn: Callable[[Problem], None],
) -> None:
    catalog = gateway.sys.catalog
    try:
        if catalog.read(wanted.name, wanted.version) is None:
            return  # it was not written
        gone, why = catalog.delete(wanted.name, wanted.version), "the catalog still lists it"
    except SkyflowctlError as error:
        gone, why = False, error.problems[0].summary
    if gone:
        say(f"{wanted.name} {wanted.version} is not registered any more")
        return
    warn(
        Problem(
            "entry-not-removed",
            f"{wanted.name} {wanted.version} may still be registered; no mount was upgraded to it",
            why,
            f"bao plugin deregister -version={wanted.version} secret {wanted.name}",
        )
    )


def register_for_upgrade(gateway: Gateway, wanted: Registration) -> None:
    """Write the entry, after the leader has started the file.

    Raises:
        RefusedError: it cannot start it; nothing was written.
        VaultError: the server does not answer, or refuses the write.
    """
    try:
        register_plugin(gateway, wanted)
    except (UnhealthyError, InvalidInputError, UsageError) as error:
        raise RefusedError.of(error.problems) from error
