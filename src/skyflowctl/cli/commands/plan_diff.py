"""The fields of an action as a diff: one value against another, item by item, or line by line."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from skyflowctl.cli.console import show
from skyflowctl.clock import span_text
from skyflowctl.frozen import dataclass
from skyflowctl.text import counted
from skyflowctl.vault.certificates import pem_summary

_SPANS = ("ttl", "period", "interval", "lease")
"""The ends of the names of fields in seconds."""
_CONTEXT = 2
"""The unchanged lines that are shown before and after a changed one."""
_MOST_ITEMS = 4
"""The most items of a list that stand on one line beside those of another."""
_NOTHING: tuple[Any, ...] = (None, "", [], {})

DiffLine = tuple[str, str]
"""A sign (``-``, ``+``, or a blank for what stays) and a line of text."""


@dataclass(frozen=True, slots=True)
class FieldDiff:
    """One field of an action.

    Args:
        name: the field.
        values: the value or, if it changes, the old one and the new one, on one line; empty if
            one line is not enough.
        before: the old value; ``after`` the new one. The same value: it does not change, because
            its object is created or deleted.
    """

    name: str
    values: Sequence[str]
    before: Any
    after: Any

    def lines(self) -> list[DiffLine]:
        """Return it for as many lines as it needs; only what changes has a sign."""
        if self.before is self.after:
            return [(" ", text) for text in _lines_of(self.before)]
        return list(_differences(self.before, self.after))


def is_short(lines: Sequence[DiffLine]) -> bool:
    """Whether each line can stand behind the field's name: one value, or two."""
    return "".join(sign for sign, _ in lines) in {" ", "-", "+", "-+"}


def field_diffs(action: Mapping[str, Any]) -> Iterator[FieldDiff]:
    """Yield each changed field of an action, as ``plan -o json`` has it."""
    what = action["action"]
    for change in action["changes"]:
        name = change["field"]
        before, after = readable(name, change["before"]), readable(name, change["after"])
        if what == "delete":
            after = before
        elif what == "create" and before is None:
            before = after
        if before is after:
            several = isinstance(before, str) and "\n" in before and len(_lines_of(before)) > 1
            yield FieldDiff(name, () if several else (show(before),), before, after)
            continue
        values = () if _is_long(before) or _is_long(after) else (show(before), show(after))
        yield FieldDiff(name, values, before, after)


def _is_long(value: Any) -> bool:
    """Whether a difference in a value is hard to see on one line."""
    if isinstance(value, dict | list):
        return len(value) > _MOST_ITEMS
    return isinstance(value, str) and "\n" in value and len(_lines_of(value)) > 1


def readable(name: str, value: Any) -> Any:
    """Return a field's value for people: seconds as a span, a certificate by its name."""
    if isinstance(value, str):
        return (pem_summary(value) or value) if "-----BEGIN " in value else value
    if isinstance(value, list | tuple):
        return [readable(name, one) for one in value]
    if isinstance(value, dict):
        return {key: readable(str(key), one) for key, one in value.items()}
    if isinstance(value, int) and not isinstance(value, bool) and name.endswith(_SPANS):
        return span_text(value)
    return value


def _lines_of(value: Any) -> list[str]:
    """Return the lines of a text; any other value, or a key that is no certificate, is one."""
    if isinstance(value, str) and "-----BEGIN " not in value:
        return value.rstrip("\n").split("\n")
    return [show(value)]


def _differences(before: Any, after: Any) -> Iterator[DiffLine]:
    """Yield what goes and what comes; of lists, objects and texts only what differs."""
    old, new = ([] if one in _NOTHING else _parts(one) for one in (before, after))
    kinds = {type(one) for one in (before, after) if one not in _NOTHING}
    if kinds == {str}:
        yield from _text_lines(old, new)
        return
    left, added = Counter(old), Counter(new)
    gone, come = left - added, added - left
    if not (gone or come):  # only the order differs
        yield "-", show(before)
        yield "+", show(after)
        return
    yield from (("-", one) for one in gone.elements())
    yield from (("+", one) for one in come.elements())
    if same := (left & added).total():
        yield " ", f"({same} unchanged)"


def _parts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{key}={show(one)}" for key, one in value.items()]
    if isinstance(value, list | tuple):
        return [show(one) for one in value]
    return _lines_of(value)


def _text_lines(old: Sequence[str], new: Sequence[str]) -> Iterator[DiffLine]:
    """Yield a diff by line, with the lines around each change."""
    shown = 0
    for number, group in enumerate(
        SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(_CONTEXT)
    ):
        first = group[0][1]
        if first > shown or number:
            yield " ", f"({counted(first - shown, 'unchanged line')})"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from ((" ", line) for line in old[i1:i2])
            else:
                yield from (("-", line) for line in old[i1:i2])
                yield from (("+", line) for line in new[j1:j2])
        shown = group[-1][2]
    if rest := len(old) - shown:
        yield " ", f"({counted(rest, 'unchanged line')})"
