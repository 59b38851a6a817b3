"""Which roles an audit log shows to have been used, for ``audit posture``."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import BinaryIO

from skyflowctl.audit.entries import Namespace
from skyflowctl.audit.join import Row
from skyflowctl.audit.model import Outcome
from skyflowctl.audit.scan import ScanOptions, scan
from skyflowctl.audit.sources import open_sources
from skyflowctl.audit.spans import span_of
from skyflowctl.errors import InvalidInput
from skyflowctl.posture.facts import Exercised


def exercised(
    patterns: Sequence[str],
    *,
    plugin_name: str,
    namespace: str = "",
    stdin: BinaryIO | None = None,
) -> Exercised:
    """Read logs once, and return the roles whose tokens were handed out.

    Args:
        patterns: as every reader of logs takes them.
        plugin_name: the mount type that is ours.
        namespace: whose mounts are meant; empty: the root's.
        stdin: what ``-`` reads.

    Raises:
        UsageError: a pattern names nothing.
        InvalidInput: a file cannot be read, or no entry with a time is in any.
    """
    sources = open_sources(patterns, stdin=stdin, digest=False)
    spans = [span_of(file.path) for file in sources.files]
    times = {moment for span in spans for moment in span if moment}
    used: set[tuple[str, str]] = set()
    first = last = ""
    for row in scan(sources, ScanOptions(plugin_names=(plugin_name,))).rows():
        first, last = min(first or row.time, row.time), max(last, row.time)
        if row.change is None and row.outcome is Outcome.GRANTED and _is_in(row, namespace):
            used.add((row.mount.removeprefix(f"{namespace}/"), row.role))
    times |= {moment for moment in (first, last) if moment}
    if not times:
        raise InvalidInput(
            "the audit log has no entry",
            why="no line of it has a time as OpenBao and Vault write it",
            fix="name the file of an audit device that writes JSON",
        )
    names = tuple(file.name for file in sources.files)
    return Exercised(frozenset(used), _moment(min(times)), _moment(max(times)), names)


def _is_in(row: Row, namespace: str) -> bool:
    found: Namespace | None = row.entry.request.namespace
    path = "" if found is None or found.id == "root" else found.path.strip("/")
    return path == namespace


def _moment(text: str) -> datetime:
    """Return the time that a log's text names, without its zone and to the microsecond."""
    whole, _, fraction = text.partition(".")
    digits = fraction[:6].ljust(6, "0")
    return datetime.fromisoformat(f"{whole}.{digits}").replace(tzinfo=UTC)
