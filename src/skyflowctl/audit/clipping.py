"""Truncates the texts of long lines before any of them are kept."""

from typing import Any

import msgspec

from skyflowctl.audit.entries import Entry

LONG_LINE_BYTES = 8 << 10
"""Entries of longer lines are truncated. A real line with the largest ctx has about 6 KB."""
TEXT_MAX = 1024
"""The most characters kept of a text; the longest real one is an error of a few hundred."""
KEPT_BYTES = 8 << 10
"""The most bytes kept of all texts of an entry together; the last ones are dropped."""
ITEM_COST = 64
"""The bytes that an item of a list or object costs besides its text."""

# Most useful first: a token with hundreds of policies loses policies, not its time.
_ORDER = ("type", "time", "error", "request", "response", "auth")


def clip_entry(entry: Entry) -> Entry:
    """Return the entry with its texts truncated to the size of real ones."""
    cutter = _Cutter()
    for name in _ORDER:
        setattr(entry, name, cutter.cut(getattr(entry, name)))
    return entry


class _Cutter:
    """Truncates values to a total number of bytes."""

    def __init__(self) -> None:
        self._left = KEPT_BYTES

    def cut(self, value: Any) -> Any:
        """Return a value truncated to the remaining room."""
        if isinstance(value, str):
            kept = value[: min(TEXT_MAX, max(0, self._left))]
            self._left -= len(kept)
            return kept
        if isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                setattr(value, name, self.cut(getattr(value, name)))
            return value
        if isinstance(value, list):
            return [self.cut(each) for each in value if self._room()]
        if isinstance(value, dict):
            return self._mapping(value)
        return value

    def _room(self) -> bool:
        self._left -= ITEM_COST
        return self._left > 0

    def _mapping(self, value: dict[str, Any]) -> Any:
        """Truncate metadata or a ctx; a nested ctx becomes the start of its text."""
        if any(isinstance(each, (dict, list)) for each in value.values()):
            return self.cut(msgspec.json.encode(value).decode(errors="replace"))
        return {self.cut(key): self.cut(each) for key, each in value.items() if self._room()}
