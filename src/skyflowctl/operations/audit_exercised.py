"""Finds the roles that were used according to an audit log, for ``audit posture``."""

from collections.abc import Sequence
from typing import BinaryIO

from skyflowctl.audit.entries import Namespace
from skyflowctl.audit.groups import GroupScope, RequestGroup
from skyflowctl.audit.join import JoinedRow
from skyflowctl.audit.model import RequestOutcome
from skyflowctl.audit.scan import scan
from skyflowctl.audit.scan_options import ScanOptions
from skyflowctl.audit.search import unread_words
from skyflowctl.audit.sources import open_sources
from skyflowctl.audit.times import parse_utc
from skyflowctl.errors import InvalidInputError
from skyflowctl.posture.facts import Exercised


def exercised(
    patterns: Sequence[str],
    *,
    plugin_name: str,
    namespace: str = "",
    stdin: BinaryIO | None = None,
) -> Exercised:
    """Read logs once, and return the roles that gave tokens.

    Args:
        patterns: files, globs, ``NODE=PATH`` or ``-``, as for every reader of logs.
        plugin_name: the mount type of this engine.
        namespace: the namespace of the mounts; empty: the root.
        stdin: the input for ``-``.

    Raises:
        UsageError: a pattern matches no file.
        InvalidInputError: a file cannot be read, or no file has an entry with a time.
    """
    sources = open_sources(patterns, stdin=stdin, digest=False)
    reading = scan(sources, ScanOptions(plugin_names=(plugin_name,)))
    using = _Uses(namespace)
    for row in reading.rows(using):
        if row.change is None:
            using.add(row)
    if not reading.covered:
        raise InvalidInputError(
            "the audit log has no entry",
            why="no line of it has a time as OpenBao and Vault write it",
            fix="name the file of an audit device that writes JSON",
        )
    since = parse_utc(min(first for first, _ in reading.covered.values()))
    until = parse_utc(max(last for _, last in reading.covered.values()))
    counts = reading.counts()
    unread = "" if counts.certain else unread_words(counts)
    names = tuple(file.name for file in sources.files)
    return Exercised(frozenset(using.roles), since, until, names, unread)


class _Uses:
    """The roles below a namespace that gave tokens, each with its mount."""

    scope = GroupScope()

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.roles: set[tuple[str, str]] = set()

    def has_room(self, groups: int, ctxs: int) -> bool:  # noqa: ARG002 - part of the protocol
        return True

    def add_group(self, group: RequestGroup) -> None:
        self.add(group)

    def add(self, row: JoinedRow | RequestGroup) -> None:
        if row.outcome is RequestOutcome.GRANTED and _is_in(row, self._namespace):
            self.roles.add((row.mount.removeprefix(f"{self._namespace}/"), row.role))


def _is_in(row: JoinedRow | RequestGroup, namespace: str) -> bool:
    found: Namespace | None = row.entry.request.namespace
    path = "" if found is None or found.id == "root" else found.path.strip("/")
    return path == namespace
