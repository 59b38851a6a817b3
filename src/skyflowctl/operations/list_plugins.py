"""Launchers in a server's plugin directory, compared with the catalog and the mounts."""

import shlex
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from skyflowctl.errors import PartlyDoneError, Problem, os_reason
from skyflowctl.frozen import dataclass
from skyflowctl.operations.node_states import NodeStatus
from skyflowctl.operations.plugins import Registration, file_digest
from skyflowctl.plugin.build import check_plugin_folder, is_launcher
from skyflowctl.plugin.launcher import CHECK
from skyflowctl.vault.catalog import (
    REGISTER_WANTED,
    RunningMount,
    RunningState,
    compare,
    completed,
)
from skyflowctl.vault.errors import ForbiddenError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveMount
from skyflowctl.vault.node_plugins import (
    PluginOnNode,
    PluginState,
    merge_plugin_states,
    unknown_plugin,
)
from skyflowctl.vault.parked import PendingError
from skyflowctl.vault.responses import CatalogEntry

_CHECK_SECONDS = 30


class FileState(StrEnum):
    """The state of a catalog entry's file in the given plugin directory."""

    UNCHECKED = "unchecked"
    OK = "ok"
    MISSING = "missing"
    CHANGED = "changed"
    DOES_NOT_START = "does_not_start"


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """A catalog entry and its file; ``detail`` is the launcher's reason, or empty."""

    entry: CatalogEntry
    state: FileState = FileState.UNCHECKED
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PluginList:
    """Catalog entries of a name, the mounts of that type, and their problems."""

    catalog: tuple[CatalogFile, ...]
    mounts: tuple[RunningMount, ...]

    def problems(self, directory: Path | None) -> tuple[Problem, ...]:
        """Return the problems that would stop a mount at its next restart."""
        of_files = [
            file_problem(one, directory)
            for one in self.catalog
            if one.state not in (FileState.UNCHECKED, FileState.OK)
        ]
        return (*of_files, *running_problems(self.mounts))

    def seen_on(self, nodes: Sequence[NodeStatus]) -> "tuple[PluginList, tuple[Problem, ...]]":
        """Return the list with what the nodes say of each mount's plugin, and what is not known.

        What a node's own state says, such as that a plugin does not run there, is no problem here.
        """
        answers = [(one.node, one.plugins) for one in nodes]
        seen = {one.path: merge_plugin_states(one.path, answers) for one in self.mounts}
        mounts = tuple(_seen(one, seen[one.path]) for one in self.mounts)
        unknown = (
            unknown_plugin(path, one)
            for path, one in seen.items()
            if one.state is PluginState.NOT_KNOWN
        )
        return replace(self, mounts=mounts), tuple(unknown)


def list_plugins(
    gateway: Gateway,
    name: str,
    directory: Path | None = None,
    *,
    mounts: Mapping[str, LiveMount] | None = None,
) -> PluginList:
    """Return a name's catalog entries and what its mounts run.

    One request for the catalog, one for each entry, one for the mounts.

    Args:
        gateway: the server.
        name: the plugin's.
        directory: the server's plugin directory, where it is on this host: every entry's
            file is compared with its digest and, if it is a launcher, run with ``--check``.
        mounts: all of the server; None: they are read.

    Raises:
        UsageError: the directory is none.
        VaultError: the server refuses the lists.
    """
    if directory is not None:
        fix = "name the server's plugin_directory, or leave --directory out"
        check_plugin_folder(directory, "the plugin directory is looked into on this host", fix)
    listed = [entry for entry in gateway.sys.catalog.list() if entry.name == name]
    try:
        entries = [completed(gateway.sys.catalog, entry) for entry in listed]
    except ForbiddenError:
        if directory is not None:
            raise
        entries = listed  # its files and arguments are shown as unknown
    files = tuple(_checked(entry, directory) for entry in entries)
    live = gateway.sys.mounts() if mounts is None else mounts
    return PluginList(files, running_mounts(live.values(), name, entries))


def running_mounts(
    mounts: Iterable[LiveMount], name: str, entries: Sequence[CatalogEntry]
) -> tuple[RunningMount, ...]:
    """Return what the mounts of a type run, by path, compared with these entries."""
    ours = sorted((live for live in mounts if live.type == name), key=lambda live: live.path)
    return tuple(compare(live, entries) for live in ours)


def running_problems(mounts: Sequence[RunningMount]) -> tuple[Problem, ...]:
    """Return a problem for each mount that cannot start again as it runs."""
    return tuple(
        Problem(
            f"plugin-{one.state.replace('_', '-')}",
            one.fault,
            "the catalog decides what starts next: the mount may be down after the next restart",
            REGISTER_WANTED,
        )
        for one in mounts
        if one.fault
    )


def _seen(mount: RunningMount, plugin: PluginOnNode) -> RunningMount:
    if plugin.state is PluginState.DOES_NOT_RUN:
        return replace(mount, state=RunningState.DOES_NOT_RUN, detail=plugin.why)
    if plugin.state is PluginState.NOT_KNOWN and not mount.fault:
        return replace(mount, state=RunningState.NOT_KNOWN, detail=plugin.why)
    return mount


def _checked(entry: CatalogEntry, directory: Path | None) -> CatalogFile:
    if entry.file_missing:
        return CatalogFile(entry, FileState.MISSING)
    if directory is None or entry.builtin:
        return CatalogFile(entry)
    path = directory / Path(entry.command).name
    if not path.is_file():
        return CatalogFile(entry, FileState.MISSING)
    if file_digest(path) != entry.sha256:
        return CatalogFile(entry, FileState.CHANGED)
    reason = check_launcher(path) if is_launcher(path) else ""
    return CatalogFile(entry, FileState.DOES_NOT_START if reason else FileState.OK, reason)


def check_launcher(path: Path) -> str:
    """Run a launcher with ``--check`` and return why it would not start; empty: it would."""
    try:
        done = subprocess.run(
            [str(path.absolute()), CHECK],
            env={},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it gave no answer within {_CHECK_SECONDS} s"
    except OSError as error:
        return os_reason(error)
    if done.returncode == 0:
        return ""
    return done.stderr.strip()[-400:] or f"it ended with exit code {done.returncode}"


def file_problem(one: CatalogFile, directory: Path | None = None) -> Problem:
    """Return the problem of an entry's file, which was looked for in ``directory``, if given."""
    entry = one.entry
    place = directory or "the server's plugin directory"
    folder = shlex.quote(str(directory.absolute())) if directory else "PLUGIN_DIRECTORY"
    named = "" if entry.name == "skyflow" else f" --name {entry.name}"
    said, fix = {
        FileState.MISSING: (f"{entry.command} is not in {place}", _SAME),
        FileState.CHANGED: (
            f"{entry.command} differs from the registered file",
            _AWAY + _SAME,
        ),
        FileState.DOES_NOT_START: (f"{entry.command} does not start any more", _NEW),
    }[one.state]
    return Problem(
        f"plugin-file-{one.state.replace('_', '-')}",
        f"{entry.name} {entry.version}: {said}",
        one.detail or "its mounts are down, or will be after the next restart or reload",
        fix.format(
            build=f"bin/python -m skyflowctl.plugin.build {folder}{named}",
            register=f"skyflowctl plugin register FILE{named} --reload",
            version=entry.version,
        ),
    )


# The engine's own environment has no command line, so its Python builds.
_BUILD = (
    "{build}; then: {register}, with the file that it names and the options that {version} was "
    "registered with"
)
_SAME = "in the folder where {version} is installed: " + _BUILD
_AWAY = "find out who changed it, move it away; "
_NEW = "install {version} into a new folder of its own, there: " + _BUILD


@dataclass(frozen=True, slots=True)
class KeptLauncher:
    """A launcher that is kept, and the reason."""

    file: str
    why: str


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """The launchers of a folder that nothing uses any more, and the kept ones."""

    unused: tuple[Path, ...]
    kept: tuple[KeptLauncher, ...]


def plan_prune(gateway: Gateway, directory: Path) -> PrunePlan:
    """Return the launchers of a plugin directory that no entry and no mount uses.

    Considers only files that ``plugin build`` wrote.

    Raises:
        UsageError: the directory is none.
        VaultError: the catalog or the mounts cannot be read, so no file is known to be unused.
    """
    check_plugin_folder(directory, "launchers are removed on this host")
    entries = [
        completed(gateway.sys.catalog, one) for one in gateway.sys.catalog.list() if not one.builtin
    ]
    running = {live.running_sha256 for live in gateway.sys.mounts().values()}
    unused, kept = [], []
    for path in sorted(directory.iterdir()):
        if path.is_symlink() or not is_launcher(path):
            continue
        why = _use(path, entries, running)
        if why:
            kept.append(KeptLauncher(path.name, why))
        else:
            unused.append(path)
    return PrunePlan(tuple(unused), tuple(kept))


def _use(path: Path, entries: Sequence[CatalogEntry], running: set[str]) -> str:
    sha256 = file_digest(path)
    for entry in entries:
        if path.name == Path(entry.command).name or sha256 == entry.sha256:
            return f"registered as {entry.name} {entry.version}"
    return "a mount runs it" if sha256 in running else ""


@dataclass(frozen=True, slots=True)
class ReloadedMount:
    """A mount that runs the registered file after its reload, and its health."""

    path: str
    sha256: str
    health: str


def reload_mounts(
    gateway: Gateway, wanted: Registration, on_mount: Callable[[ReloadedMount], None]
) -> tuple[ReloadedMount, ...]:
    """Reload the mounts that run a version, one after the other, and verify each.

    A mount is verified if it runs the registered file and its health is as before, or ok. The
    catalog already has the new entry, so no failure means "nothing was written".

    Raises:
        PartlyDoneError: a mount does not run it, or the server refused its reload; later mounts
            were not reloaded.
        PendingError: the reload waits for another person's approval.
    """
    done: list[ReloadedMount] = []
    path = ""
    try:
        for path in _mounts_to_reload(gateway, wanted):
            one = _reload(gateway, path, wanted)
            on_mount(one)
            done.append(one)
    except PendingError:
        raise
    except VaultError as error:
        raise _reload_failed(path, done, error.problems[0]) from error
    return tuple(done)


def _reload_failed(path: str, done: Sequence[ReloadedMount], cause: Problem) -> PartlyDoneError:
    what = f"the reload of {path} failed or was not verified" if path else "no mount was reloaded"
    before = ", ".join(one.path for one in done) or "none"
    return PartlyDoneError(
        f"the plugin is registered, but {what}",
        why=f"{cause.summary}: {cause.why}".rstrip(": ") + f"; reloaded before it: {before}",
        fix=f"{cause.fix}; then run the same command again".removeprefix("; then "),
        code="reload-not-verified",
    )


def _mounts_to_reload(gateway: Gateway, wanted: Registration) -> list[str]:
    return [
        path
        for path, live in sorted(gateway.sys.mounts().items())
        if live.type == wanted.name
        and (live.plugin_version or live.running_plugin_version) == wanted.version
    ]


def _reload(gateway: Gateway, path: str, wanted: Registration) -> ReloadedMount:
    before = _health(gateway, path)
    gateway.sys.catalog.reload_mounts([path])
    one = ReloadedMount(path, _running(gateway, path), _health(gateway, path))
    if one.sha256 != wanted.sha256 or one.health not in (before, "ok"):
        raise PartlyDoneError(
            f"{path} is unhealthy after its reload; the mounts after it were not reloaded",
            why=f"it runs {one.sha256[:12] or 'nothing'}, wanted {wanted.sha256[:12]}; "
            f"its health is {one.health}, before {before}",
            fix=f"see the server's log, then 'skyflowctl health', or 'bao plugin reload "
            f"-mounts={path}/ -scope=global'",
            code="reload-not-verified",
        )
    return one


def _running(gateway: Gateway, path: str) -> str:
    live = gateway.sys.mount(path)
    return live.running_sha256 if live else ""


def _health(gateway: Gateway, path: str) -> str:
    try:
        return gateway.engine(path).health(refresh=True).state
    except VaultError as error:
        return error.problems[0].code
