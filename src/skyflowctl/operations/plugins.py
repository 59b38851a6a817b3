"""The engine's plugin in a server's catalog: registered after a proof, and listed."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from skyflowctl.engine.names import role_refusal
from skyflowctl.errors import InvalidInputError, UnhealthyError, UsageError
from skyflowctl.manifest.interpolate import looks_secret
from skyflowctl.skyflow.token_uri import parse_host
from skyflowctl.vault.errors import BadRequestError, GuardedError, OutcomeUnknownError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveMount
from skyflowctl.vault.responses import CatalogEntry
from skyflowctl.vault.workers import Workers

PROBE_VERSION = "v0.0.0-skyflowctl.probe"
"""A version that no plugin reports: a live one is refused under it, a dead one is not."""


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
    """One field of a catalog entry that a registration replaces by another value."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class LostArguments:
    """Arguments of a version that mounts run, which the one to be registered would not have.

    Args:
        version: the one that runs.
        args: all of its arguments.
        lost: those of them that would be gone.
        mounts: who runs it, by path.
    """

    version: str
    args: tuple[str, ...]
    lost: tuple[str, ...]
    mounts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What a registration would change for mounts, to be confirmed before anything is written.

    Args:
        changes: the arguments of the entry of this version that would be others.
        replaced: mounts that run another engine under this name.
        lost: arguments of another version that mounts run; an upgrade would drop them.
    """

    changes: tuple[EntryChange, ...] = ()
    replaced: "tuple[ReplacedEngine, ...]" = ()
    lost: tuple[LostArguments, ...] = ()


Confirm = Callable[[Question], None]
"""Called when there is something to confirm; raises to stop it."""


def register_plugin(
    gateway: Gateway,
    wanted: Registration,
    confirm: Confirm | None = None,
    unproved: Callable[[], None] = lambda: None,
) -> tuple[EntryChange, ...]:
    """Write a catalog entry once the server has shown that the plugin starts.

    A server stores an entry without starting it, and starts it to compare versions only
    when it can: registered under a wrong version, a live plugin is refused with the
    version that it reports, and a dead one is stored without a word (measured).

    Args:
        gateway: the server.
        wanted: the entry.
        confirm: asked before an entry of this version gets other arguments, or has not all
            of those that mounts run another version with: what they allow, such as a
            further token service, would be gone or new at the next start.
        unproved: called when a control group guards the catalog. The proof would need an
            approval of its own first, so there is none.

    Returns:
        What is other than before; empty when the very same entry was there already. A
        server never tells an entry's environment, so one that is given counts as a change.

    Raises:
        RefusedError: ``confirm`` said no; nothing was written.
        UnhealthyError: the server could not start the plugin.
        InvalidInputError: the plugin reports another version than the one given.
    """
    present = gateway.catalog.read(wanted.name, wanted.version)
    if present is not None and present.file_missing:
        present = None  # its arguments cannot be read, and it starts nothing
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
        _prove_start(gateway, wanted)
    _write(gateway, wanted, wanted.version)
    return changes


def _question(
    gateway: Gateway,
    present: CatalogEntry | None,
    wanted: Registration,
    changes: tuple[EntryChange, ...],
) -> Question:
    """Return what there is to confirm; empty: nothing."""
    other_args = present is not None and present.args != wanted.args
    other_file = present is not None and present.sha256 != wanted.sha256
    return Question(
        changes if other_args else (),
        replaced_engines(gateway, wanted) if other_file else (),
        lost_arguments(gateway, wanted),
    )


@dataclass(frozen=True, slots=True)
class ReplacedEngine:
    """A mount that runs another engine until it is reloaded with the one to be registered.

    Args:
        path: of the mount.
        running: the digest of the file that it runs.
        refused: its roles that ours cannot take over, by their names; they are refused one
            by one from the reload on.
        note: what else does not go over by itself, or could not be read; empty: nothing.
    """

    path: str
    running: str
    refused: tuple[str, ...] = ()
    note: str = ""


def lost_arguments(gateway: Gateway, wanted: Registration) -> tuple[LostArguments, ...]:
    """Return the arguments that mounts would lose by an upgrade from the version they run.

    One request for the mounts, and one for each other version that they run.

    Raises:
        VaultError: the mounts or an entry cannot be read.
    """
    running: dict[str, list[str]] = {}
    for path, live in sorted(gateway.list_mounts().items()):
        version = live.running_plugin_version
        if live.type == wanted.name and version not in ("", wanted.version):
            running.setdefault(version, []).append(path)
    found = []
    for version, paths in sorted(running.items()):
        entry = gateway.catalog.read(wanted.name, version)
        args = entry.args if entry else ()
        lost = tuple(arg for arg in args if arg not in wanted.args)
        if lost:
            found.append(LostArguments(version, args, lost, tuple(paths)))
    return tuple(found)


def replaced_engines(gateway: Gateway, wanted: Registration) -> tuple[ReplacedEngine, ...]:
    """Return the mounts of this name and version whose engine is another one than ours.

    The catalog's entry decides what they run after their next reload or restart, so a
    registration under the same name and version replaces it. Two requests a mount.

    Raises:
        VaultError: the mounts cannot be listed.
    """
    mounts = [
        live
        for _, live in sorted(gateway.list_mounts().items())
        if live.type == wanted.name
        and live.running_sha256 != wanted.sha256
        and wanted.version in (live.running_plugin_version, live.plugin_version or wanted.version)
    ]
    with Workers(_AT_ONCE) as pool:
        found = pool.map(lambda live: _replaced(gateway, live), mounts)
        return tuple(one for one in found if one is not None)


def _replaced(gateway: Gateway, live: LiveMount) -> ReplacedEngine | None:
    try:
        config = gateway.read_config(live.path)
        if not config.api.missing:
            return None
        roles = gateway.list_roles(live.path)
    except VaultError as error:
        note = f"it could not be read: {error.problems[0].summary}"
        return ReplacedEngine(live.path, live.running_sha256, note=note)
    refused = tuple(name for name, role in roles.items() if role_refusal(name, role.role_ids))
    by_file = "its credential is a file on the server: write it again after the reload"
    note = by_file if config.reads_file else ""
    return ReplacedEngine(live.path, live.running_sha256, refused, note)


_AT_ONCE = 8


def _prove_start(gateway: Gateway, wanted: Registration) -> None:
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
    gateway.catalog.delete(wanted.name, PROBE_VERSION)
    raise UnhealthyError(
        f"the server cannot start the plugin {wanted.command}",
        why="it accepted a wrong version, which a running plugin would have denied",
        fix="see the server's log; is the interpreter in the launcher on every node?",
        code="plugin-does-not-start",
    )


def _write(gateway: Gateway, wanted: Registration, version: str) -> None:
    try:
        gateway.catalog.register(
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
    shown = [
        EntryChange("sha256", old.sha256, wanted.sha256),
        EntryChange("command", old.command, wanted.command),
        EntryChange("args", " ".join(old.args), " ".join(wanted.args)),
    ]
    found = [one for one in shown if one.before != one.after]
    if wanted.env:
        names = " ".join(pair.partition("=")[0] for pair in wanted.env)
        found.append(EntryChange("env", "(never told)", names))
    return tuple(found)


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
            fix="build it with 'skyflowctl plugin build'",
            code="no-plugin-file",
        ) from None


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
                why="it would stand on the command line and in the server's storage",
                fix="name what is no secret; the engine takes credentials through its config",
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
