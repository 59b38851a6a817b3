"""Decodes lines and chooses the entries that may concern the engine's mounts."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence

from skyflowctl.audit.admin import details, has_details, is_change
from skyflowctl.audit.clipping import LONG_LINE_BYTES, clip_entry
from skyflowctl.audit.entries import Entry, decode_line
from skyflowctl.audit.scan_options import ScanOptions
from skyflowctl.audit.unread import Dating, Unread

Origin = tuple[str, int]
"""A node, and the number of the stream of one device."""
Fed = tuple[Entry, str, int, int]
"""An entry, its node, the size of its line, the number of its stream."""


class EntryChooser:
    """Chooses entries.

    Args:
        options: of the scan.
        damaged: counts the lines that are no entries, by reason.
        unread: gets the times of these lines.
    """

    def __init__(self, options: ScanOptions, damaged: Counter[str], unread: Unread) -> None:
        self._every_change = options.every_change
        self._damaged = damaged
        self._unread = unread
        # Older servers do not log the type, nor does a request for a removed mount have it.
        self._types: Container[str] = (
            _AnyType() if options.mounts else frozenset({*options.plugin_names, ""})
        )

    def decoded(self, lines: Sequence[bytes], origin: Origin) -> list[Fed]:
        """Return the entries of these lines, except requests on mounts that are not ours."""
        return self.chosen(self._entries(lines), origin)

    def _entries(self, lines: Sequence[bytes]) -> Iterator[tuple[Entry, bytes]]:
        """Yield these entries and those of the lines; other lines are counted."""
        dating = Dating(self._unread)
        for line in lines:
            entry = decode_line(line)
            if isinstance(entry, str):
                self._damaged[entry] += 1
                dating.unreadable(line)
            else:
                dating.readable(line)
                yield entry, line
        dating.end()

    def chosen(self, entries: Iterable[tuple[Entry, bytes]], origin: Origin) -> list[Fed]:
        """Return the entries that may match."""
        found: list[Fed] = []
        ours, changes = self._types, self._every_change
        node, number = origin
        for entry, line in entries:
            request = entry.request
            if entry.response is None:
                named = request.mount_type
                if named and named not in ours and not (changes and is_change(request)):
                    continue
            elif changes and has_details(request):
                entry.details = details(line)
            size = len(line)
            found.append(
                (clip_entry(entry) if size > LONG_LINE_BYTES else entry, node, size, number)
            )
        return found


class _AnyType:
    """A set that contains every type, for mounts that are known by their path."""

    def __contains__(self, mount_type: object) -> bool:
        return True
