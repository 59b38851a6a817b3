"""``audit report``: reads the logs, checks each role's ctx, and writes the result."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any

from skyflowctl.audit.as_json import time_json
from skyflowctl.audit.evidence import Evidence, csv_texts
from skyflowctl.audit.globs import any_glob
from skyflowctl.audit.query import in_namespace
from skyflowctl.audit.report import ReportScope, report
from skyflowctl.audit.report_json import report_tables
from skyflowctl.audit.report_model import Report, ReportSubject
from skyflowctl.audit.scan_options import ScanOptions
from skyflowctl.audit.sources import Sources
from skyflowctl.audit.unusual import Pattern, Patterns
from skyflowctl.concurrency import Workers
from skyflowctl.engine.ctx import CtxPattern, InvalidCtxError
from skyflowctl.errors import UsageError, os_reason
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import EngineApi, LiveRevocation, LiveRole


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """The input of a report.

    Args:
        logs: files, globs, ``NODE=PATH``, ``-``.
        mounts: globs of mounts' paths; none: all of them. The same for the next two.
        roles: globs of roles.
        apps: globs of the logins' names.
        since: the first moment; None: the log's start.
        until: the first moment after it; None: the log's end.
        plugin_names: types of mounts that are the engine's.
        known: the expected roles; None: not known.
        subject: what the report is about.
    """

    logs: tuple[str, ...]
    mounts: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    plugin_names: tuple[str, ...] = ("skyflow",)
    known: "KnownRoles | None" = None
    subject: ReportSubject = field(default_factory=ReportSubject)

    def query(self) -> dict[str, Any]:
        """Return all inputs of the report except the logs, for evidence."""
        known = self.known
        return {
            "logs": list(self.logs),
            "mounts": list(self.mounts),
            "roles": list(self.roles),
            "apps": list(self.apps),
            "since": time_json(self.since),
            "until": time_json(self.until),
            "plugin_names": list(self.plugin_names),
            "ctx_patterns": None
            if known is None
            else {"/".join(key): known.patterns[key].text for key in sorted(known.patterns)},
            "known_roles": None if known is None else sorted("/".join(key) for key in known.roles),
            "cluster": self.subject.cluster or None,
            "environment": self.subject.environment or None,
        }


@dataclass(frozen=True, slots=True)
class KnownRoles:
    """The expected roles, by mount and name, and their ctx rules."""

    roles: frozenset[tuple[str, str]]
    patterns: Patterns


def build_report(question: ReportRequest, sources: Sources) -> Report:
    """Read the logs once, and return the report.

    Args:
        question: the request.
        sources: the files of ``question.logs``, with their digests.

    Raises:
        InvalidInputError: a log cannot be read.
    """
    asked = ReportScope(
        since=question.since,
        until=question.until,
        mount=_fits(question.mounts),
        role=_fits(question.roles),
        app=_fits(question.apps),
        patterns=None if question.known is None else question.known.patterns,
        declared=None if question.known is None else question.known.roles,
        subject=question.subject,
    )
    exact = tuple(mount for mount in question.mounts if not set("*?") & set(mount))
    options = ScanOptions(plugin_names=question.plugin_names, mounts=exact or None)
    return report(sources, options, asked)


def _fits(globs: tuple[str, ...]) -> Callable[[str], bool]:
    return any_glob(globs) if globs else lambda _: True


def declared_roles(manifest: Manifest, namespace: str = "") -> KnownRoles:
    """Return the roles of a manifest.

    Args:
        manifest: the source of mounts and roles.
        namespace: where it is applied; empty for the root.
    """
    return _known_roles(
        (in_namespace(mount.path, namespace), role.name, role.ctx.pattern)
        for mount in manifest.mounts
        for role in mount.roles
    )


@dataclass(frozen=True, slots=True)
class ServerMount:
    """A mount of this engine as the server has it now.

    Args:
        path: with its namespace in front, as the report's rows have it.
        roles: by name.
        api: what its engine can do.
        revoked: the record of its cut-off; None: it was not cut off.
    """

    path: str
    roles: Mapping[str, LiveRole]
    api: EngineApi
    revoked: LiveRevocation | None


def server_mounts(
    gateway: Gateway, plugin_name: str, globs: tuple[str, ...] = (), *, parallelism: int = 8
) -> tuple[ServerMount, ...]:
    """Return the server's mounts of this engine, by path; 1 + 2N requests for N configured ones.

    Args:
        gateway: to the server; its namespace counts.
        plugin_name: the mount type of this engine.
        globs: of paths with the namespace in front; none: all mounts.
        parallelism: how many mounts are read at once.

    Raises:
        VaultError: the mounts cannot be listed, or one of them cannot be read.
    """
    namespace, fits = gateway.transport.server.namespace, _fits(globs)

    def read(path: str) -> ServerMount:
        roles, config = gateway.engine(path).roles(), gateway.engine(path).checked_config()
        return ServerMount(in_namespace(path, namespace), roles, config.api, config.revoked)

    ours = sorted(
        path
        for path, mount in gateway.sys.mounts().items()
        if mount.type == plugin_name and fits(in_namespace(path, namespace))
    )
    with Workers(parallelism) as workers:
        return tuple(workers.map(read, ours))


def server_roles(mounts: Iterable[ServerMount]) -> KnownRoles:
    """Return the roles that the server has now."""
    return _known_roles(
        (mount.path, role.name, role.ctx_pattern)
        for mount in mounts
        for role in mount.roles.values()
    )


def environment_of(manifest: Manifest) -> str:
    """Return the environment that all mounts are tagged with (``env:prod``); empty: none."""
    found = {
        tag.removeprefix("env:")
        for mount in manifest.mounts
        for tag in mount.tags
        if tag.startswith("env:")
    }
    return found.pop() if len(found) == 1 else ""


def _known_roles(found: Iterable[tuple[str, str, str]]) -> KnownRoles:
    patterns: dict[tuple[str, str], Pattern] = {}
    roles: set[tuple[str, str]] = set()
    for mount, role, text in found:
        roles.add((mount, role))
        if not text:
            continue
        try:
            patterns[mount, role] = Pattern(text, CtxPattern.parse(text).matches)
        except InvalidCtxError:
            continue  # the engine refuses such a name; another writer may have written it
    return KnownRoles(frozenset(roles), patterns)


def report_evidence(question: ReportRequest, found: Report, data: Mapping[str, Any]) -> Evidence:
    """Return a report as evidence; ``data`` is what ``report_json`` made of it."""
    return Evidence(
        command="audit report",
        query=question.query(),
        inputs=found.inputs,
        counts=found.counts,
        first=found.range.first,
        last=found.range.last,
        results=data,
        tables=report_tables(data),
    )


def write_tables(folder: Path, data: Mapping[str, Any]) -> tuple[str, ...]:
    """Write a report's tables as CSV files, all or none, over existing files; return their names.

    Raises:
        UsageError: they cannot be written there.
    """
    tables = report_tables(data)
    write_files([(folder / f"{table.name}.csv", csv_texts(table)) for table in tables])
    return tuple(f"{table.name}.csv" for table in tables)


def write_file(path: Path, texts: Iterable[str]) -> None:
    """Write a file completely or not at all; only its owner can read it.

    Raises:
        UsageError: it cannot be written there.
    """
    write_files([(path, texts)])


def write_files(files: Iterable[tuple[Path, Iterable[str]]]) -> None:
    """Write files; move them into place only after all of them are complete.

    Raises:
        UsageError: one cannot be written.
    """
    made: list[tuple[Path, Path]] = []
    try:
        for path, texts in files:
            with _telling(path):
                _make(path, texts, made)
        for whole, path in made:
            with _telling(path):
                whole.replace(path)
    finally:
        for whole, _ in made:
            whole.unlink(missing_ok=True)


def _make(path: Path, texts: Iterable[str], made: list[tuple[Path, Path]]) -> None:
    """Write a temporary file next to the target, and add the pair to ``made``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    made.append((Path(name), path))
    with os.fdopen(handle, "wb") as file:
        file.writelines(text.encode("utf-8", "backslashreplace") for text in texts)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written",
            why=os_reason(error).lower(),
            fix="name another place, where there is room and which you may write to",
            code="not-written",
        ) from None
