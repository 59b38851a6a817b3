"""Registers the engine's plugin in a server's catalog, after a proof that it starts."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from skyflowctl.concurrency import Workers
from skyflowctl.engine.names import role_refusal
from skyflowctl.errors import InvalidInputError, UnhealthyError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.plugin.arguments import (
    environment_note,
    noted_environment,
    without_note,
)
from skyflowctl.vault.errors import BadRequestError, GuardedError, OutcomeUnknownError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveMount
from skyflowctl.vault.responses import CatalogEntry

PROBE_VERSION = "v0.0.0-skyflowctl.probe"
"""A version that no plugin reports: the server refuses it for a live plugin only."""


@dataclass(frozen=True, slots=True)
class Registration:
    """One catalog entry to write; ``command`` is a file name in the plugin directory."""

    name: str
    version: str
    command: str
    sha256: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EntryChange:
    """One field of a catalog entry that a registration changes."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class LostArguments:
    """Arguments of a running version that the version to be registered would not have.

    Args:
        version: the running version.
        args: all of its arguments.
        lost: those of them that would be lost.
        mounts: the paths of the mounts that run it.
    """

    version: str
    args: tuple[str, ...]
    lost: tuple[str, ...]
    mounts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What a registration would change for mounts, to be confirmed before any write.

    Args:
        changes: the changed fields of this version's entry, if its arguments or environment would
            change, or its environment is unknown.
        replaced: mounts that run another engine under this name.
        lost: arguments of another version that mounts run; an upgrade would drop them.
        unknown: versions whose arguments or environment could not be read; these need no
            confirmation, because nothing is known to change.
    """

    changes: tuple[EntryChange, ...] = ()
    replaced: "tuple[ReplacedEngine, ...]" = ()
    lost: tuple[LostArguments, ...] = ()
    unknown: tuple[str, ...] = ()


Confirm = Callable[[Question], None]
"""Called if there is something to confirm; raises to stop the registration."""


def register_plugin(
    gateway: Gateway,
    wanted: Registration,
    confirm: Confirm | None = None,
    unproved: Callable[[], None] = lambda: None,
) -> tuple[EntryChange, ...]:
    """Write a catalog entry after the server has shown that the plugin starts.

    A server stores an entry without starting it, and starts it to compare versions only if it can:
    under a wrong version it refuses a live plugin with the version that the plugin reports, and
    stores a dead one without an error (measured).

    Args:
        gateway: the server.
        wanted: the entry.
        confirm: called before an entry of this version gets other arguments, or lacks some of those
            with which mounts run another version: at the next start the permissions in them, such
            as a further token service, would be lost or added.
        unproved: called if a control group guards the catalog. The proof would first need its own
            approval, so it is skipped.

    Returns:
        The changed fields; empty if exactly this entry existed. A server never returns an entry's
        environment, so a given environment counts as a change, and so does one that no argument of
        the entry notes.

    Raises:
        RefusedError: ``confirm`` refused; nothing was written.
        UnhealthyError: the server could not start the plugin.
        InvalidInputError: the plugin reports another version than the one given.
    """
    present = gateway.sys.catalog.read(wanted.name, wanted.version)
    changes = _changes(present, wanted)
    if confirm is not None:
        question = _question(gateway, present, wanted, changes)
        if question != Question():
            confirm(question)
    try:
        gateway.transport.refuse_guarded("POST", f"sys/plugins/catalog/secret/{wanted.name}")
    except GuardedError:
        unproved()
    else:
        check_start(gateway, wanted)
    _write(gateway, wanted, wanted.version)
    return changes


def _question(
    gateway: Gateway,
    present: CatalogEntry | None,
    wanted: Registration,
    changes: tuple[EntryChange, ...],
) -> Question:
    """Return the changes to confirm; empty: none."""
    lost, unknown = lost_arguments(gateway, wanted)
    if present is None or present.file_missing:
        own = (wanted.version,) if present else ()  # without its file, arguments are unknown
        return Question(lost=lost, unknown=(*own, *unknown))
    return Question(
        changes if _takes_away(present, wanted) else (),
        replaced_engines(gateway, wanted) if present.sha256 != wanted.sha256 else (),
        lost,
        unknown,
    )


def _takes_away(present: CatalogEntry, wanted: Registration) -> bool:
    """Return whether arguments differ, or an environment may be lost."""
    before = noted_environment(present.args)
    return (
        before is None
        or not before <= _environment(wanted)
        or without_note(present.args) != without_note(wanted.args)
    )


@dataclass(frozen=True, slots=True)
class ReplacedEngine:
    """A mount that runs another engine until it is reloaded with the one to be registered.

    Args:
        path: of the mount.
        running: the digest of the file that it runs.
        refused: names of its roles that this engine cannot take over; after the reload each of them
            is refused.
        note: other data that is not taken over, or could not be read; empty: none.
    """

    path: str
    running: str
    refused: tuple[str, ...] = ()
    note: str = ""


def lost_arguments(
    gateway: Gateway, wanted: Registration
) -> tuple[tuple[LostArguments, ...], tuple[str, ...]]:
    """Return the arguments that mounts would lose by an upgrade from their version.

    One request for the mounts, and one for each other version that they run. The result includes
    versions whose arguments or environment are unknown, if the new one has none.

    Raises:
        VaultError: the mounts or an entry cannot be read.
    """
    running: dict[str, list[str]] = {}
    for path, live in sorted(gateway.sys.mounts().items()):
        version = live.running_plugin_version
        if live.type == wanted.name and version not in ("", wanted.version):
            running.setdefault(version, []).append(path)
    found, unknown = [], []
    for version, paths in sorted(running.items()):
        entry = gateway.sys.catalog.read(wanted.name, version)
        args = entry.args if entry else ()
        before = noted_environment(args)
        lost = [arg for arg in without_note(args) if arg not in without_note(wanted.args)]
        if gone := (before or frozenset()) - _environment(wanted):
            lost.append(environment_note(gone))
        if lost:
            found.append(LostArguments(version, args, tuple(lost), tuple(paths)))
        if before is None and not wanted.env:
            unknown.append(version)
    return tuple(found), tuple(unknown)


def replaced_engines(gateway: Gateway, wanted: Registration) -> tuple[ReplacedEngine, ...]:
    """Return the mounts of this name and version that run another engine than this one.

    The catalog entry decides what they run after their next reload or restart, so a registration
    under the same name and version replaces their engine. Two requests a mount.

    Raises:
        VaultError: the mounts cannot be listed.
    """
    mounts = [
        live
        for _, live in sorted(gateway.sys.mounts().items())
        if live.type == wanted.name
        and live.running_sha256 != wanted.sha256
        and wanted.version in (live.running_plugin_version, live.plugin_version or wanted.version)
    ]
    with Workers(_AT_ONCE) as pool:
        found = pool.map(lambda live: _replaced(gateway, live), mounts)
        return tuple(one for one in found if one is not None)


def _replaced(gateway: Gateway, live: LiveMount) -> ReplacedEngine | None:
    try:
        config = gateway.engine(live.path).config()
        if not config.api.missing:
            return None
        roles = gateway.engine(live.path).roles()
    except VaultError as error:
        note = f"it could not be read: {error.problems[0].summary}"
        return ReplacedEngine(live.path, live.running_sha256, note=note)
    refused = tuple(name for name, role in roles.items() if role_refusal(name, role.role_ids))
    by_file = "its credential is a file on the server: write it again after the reload"
    note = by_file if config.reads_file else ""
    return ReplacedEngine(live.path, live.running_sha256, refused, note)


_AT_ONCE = 8


def check_start(gateway: Gateway, wanted: Registration) -> None:
    """Have the leader start a plugin; nothing of it stays in the catalog.

    Raises:
        UnhealthyError: the server cannot start it.
        InvalidInputError: it reports another version.
    """
    try:
        _write(gateway, wanted, PROBE_VERSION)
    except BadRequestError as error:
        if not error.says("did not match"):
            raise
        if not error.says(f"({wanted.version})"):
            raise InvalidInputError(
                f"the plugin is not {wanted.version}",
                why="; ".join(error.messages),
                fix="give the version that the plugin reports with --version",
                code="wrong-version",
            ) from None
        return
    gateway.sys.catalog.delete(wanted.name, PROBE_VERSION)
    raise UnhealthyError(
        f"the server cannot start the plugin {wanted.command}",
        why="it accepted a wrong version, which a running plugin would have denied",
        fix="see the server's log; is the interpreter in the launcher on every node?",
        code="plugin-does-not-start",
    )


def _write(gateway: Gateway, wanted: Registration, version: str) -> None:
    try:
        gateway.sys.catalog.register(
            wanted.name,
            sha256=wanted.sha256,
            command=wanted.command,
            version=version,
            args=wanted.args,
            env=wanted.env,
        )
    except OutcomeUnknownError as error:
        raise UnhealthyError(
            f"the plugin {wanted.command} does not answer the server",
            why=error.problems[0].why,
            fix="see the server's log; one that hangs keeps the catalog busy until it ends",
            code="plugin-does-not-answer",
        ) from error
    except VaultError as error:
        if not error.says("validating the command path"):
            raise
        raise UsageError(
            f"the server has no plugin file {wanted.command}",
            why="; ".join(error.messages),
            fix="copy it into the server's plugin_directory, on every node",
            code="not-in-plugin-directory",
        ) from None


def _changes(present: CatalogEntry | None, wanted: Registration) -> tuple[EntryChange, ...]:
    old = present or CatalogEntry(wanted.name, "", builtin=False, sha256="")
    before, after = " ".join(without_note(old.args)), " ".join(without_note(wanted.args))
    shown = [
        EntryChange("sha256", old.sha256, wanted.sha256),
        EntryChange("command", old.command, wanted.command),
        EntryChange("args", "unknown" if old.file_missing else before, after),
    ]
    found = [one for one in shown if one.before != one.after]
    noted = noted_environment(old.args) if present else frozenset()
    names = _environment(wanted)
    if names or noted != names:
        values = " (values unknown)" if noted else ""
        text = "unknown" if noted is None else " ".join(sorted(noted)) + values
        found.append(EntryChange("env", text, " ".join(sorted(names))))
    return tuple(found)


def _environment(wanted: Registration) -> frozenset[str]:
    """Return the names in the entry's wanted environment."""
    return frozenset(pair.partition("=")[0] for pair in wanted.env)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a launcher, in hex.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError.of_file(
            f"the plugin file cannot be read: {path}",
            error,
            fix="build it with 'skyflowctl plugin build DIRECTORY'",
            code="no-plugin-file",
        ) from None
