"""Remembers processed requests, to distinguish copies from further executions."""

from collections import OrderedDict
from typing import Any, NamedTuple

from skyflowctl.audit.changes import AuditTarget
from skyflowctl.audit.entries import Entry
from skyflowctl.audit.logins import Logins
from skyflowctl.audit.model import ChangeKind

SEEN_MAX = 200_000
"""The most ids that are remembered to recognise the copy of a second device: 20 MB. Streams are
merged by time, so a copy follows within a moment."""
PARKED_MAX = 10_000
"""The most requests that a control group parked, or that were executed more than once."""
RUNS_MAX = 50
"""The most executions of one request whose exact line is recognised again."""


class Logged(NamedTuple):
    """An entry of our mounts: its target, the device that wrote it, the length of its line."""

    entry: Entry
    node: str
    stream: int
    device: int
    target: AuditTarget
    change: ChangeKind | None
    size: int


class Seen:
    """The ids that were processed, each with a fingerprint and the devices that logged it. When
    full, the oldest half is dropped."""

    def __init__(self, most: int = SEEN_MAX) -> None:
        self._half = most // 2
        self._new: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def get(self, key: int) -> int | None:
        """Return what is remembered for this key, for ``fits`` and ``has``."""
        found = self._new.get(key)
        return self._old.get(key) if found is None else found

    def add(self, key: int, fingerprint: int) -> None:
        """Remember a key without a device: its response is not known."""
        self.put(key, fingerprint & _MASK)

    def tell(self, key: int, fingerprint: int, logged: Logged, known: int) -> None:
        """Remember that a device logged a key in this line."""
        later = known >> _BITS << 3 * _BITS if known else 0
        self.put(key, later | marks_of(logged.device, logged.entry.time, fingerprint))

    def put(self, key: int, value: int) -> None:
        """Remember what ``marks_of`` returned."""
        if len(self._new) >= self._half:
            self._old, self._new = self._new, {}
        self._new[key] = value

    def put_all(self, values: dict[int, int]) -> None:
        """Remember what ``marks_of`` returned for several keys."""
        if len(self._new) + len(values) < self._half:
            self._new.update(values)
        else:
            for key, value in values.items():
                self.put(key, value)

    def knows_none(self, values: dict[int, int]) -> bool:
        """Return whether none of these keys is remembered."""
        keys = values.keys()
        return self._new.keys().isdisjoint(keys) and self._old.keys().isdisjoint(keys)

    @staticmethod
    def fits(known: int, fingerprint: int) -> bool:
        """Return whether what is remembered has this fingerprint."""
        return known & _MASK == fingerprint & _MASK

    @staticmethod
    def has(known: int, mark: int) -> bool:
        """Return whether what is remembered has this mark."""
        later = known >> _BITS
        while later:
            if later & _MASK == mark & _MASK:
                return True
            later >>= _BITS
        return False

    def is_again(self, known: int | None, logged: Logged) -> bool:
        """Return whether a device logged a key before, in a different line."""
        if known is None or not self.has(known, logged.device):
            return False
        return not self.has(known, _line_mark(logged.device, logged.entry.time))


_BITS = 40
_MASK = (1 << _BITS) - 1


def marks_of(device: int, time: str, fingerprint: int) -> int:
    """Return what is remembered of an answer that a device logged with this time."""
    marks = (device & _MASK) << _BITS | _line_mark(device, time) & _MASK
    return marks << _BITS | fingerprint & _MASK


def _line_mark(device: int, time: str) -> int:
    """Return what distinguishes a line from this device's other lines about the same request."""
    return hash((device, time))


class Parked:
    """Requests that a control group parked: who approved them, and how often each ran.

    Every execution of a parked request is logged under its first id, login and run, so an id
    that one device logs again is another execution, not a copy.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[int, dict[int, int]] = OrderedDict()
        self._ids: OrderedDict[str, int] = OrderedDict()
        self._approvers: OrderedDict[int, tuple[str, ...]] = OrderedDict()

    def run_of(self, key: int, logged: Logged, seen: Seen) -> int:
        """Return the key of the execution in this line, if the device logged an earlier one."""
        runs = self._runs.get(key)
        if runs is None:
            runs = self._runs[key] = {}
            _bound(self._runs)
        newest = runs.setdefault(logged.device, 1)
        for number in range(max(1, newest - RUNS_MAX), newest + 1):
            run = hash((key, number))
            if not seen.is_again(seen.get(run), logged):
                return run
        runs[logged.device] = newest + 1
        return hash((key, newest + 1))

    def newest_run(self, key: int, logged: Logged) -> int | None:
        """Return the key of a device's newest execution; None if it logged only one."""
        runs = self._runs.get(key)
        if runs is None or logged.device not in runs:
            return None
        return hash((key, runs[logged.device]))

    def add(self, key: int, accessor: str) -> None:
        """Remember the accessor by which an approver names a request."""
        if accessor:
            self._ids[accessor] = key
            _bound(self._ids)

    def approve(self, entry: Entry, logins: Logins) -> None:
        """Record an approval."""
        data = entry.request.data
        accessor = data.accessor if data is not None else None
        key = self._ids.get(accessor) if isinstance(accessor, str) else None
        if key is None or entry.error or entry.auth is None:
            return
        name = logins.identity(entry.auth)[0]
        known = self._approvers.get(key, ())
        if name not in known:
            self._approvers[key] = (*known, name)
            _bound(self._approvers)

    def approvers(self, key: int) -> tuple[str, ...]:
        """Return who approved a request."""
        return self._approvers.get(key, ())


def _bound(known: OrderedDict[Any, Any]) -> None:
    if len(known) > PARKED_MAX:
        known.popitem(last=False)
