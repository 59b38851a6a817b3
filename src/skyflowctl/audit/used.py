"""What the log shows to have been used, and which time it covers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from skyflowctl.audit.model import RequestOutcome, TokenRequest
from skyflowctl.audit.query import full_mount
from skyflowctl.audit.times import parse_utc

NAMES_MAX = 50_000
"""How many different roles, apps and policies are remembered, each: about 10 MB."""

RoleKey = tuple[str, str]
AppKey = tuple[str, str]
_K = TypeVar("_K")


@dataclass(slots=True)
class LastUse:
    """When each thing last gave a token.

    Args:
        roles: by mount path and role; ``apps``: by app and method; ``policies``: by name.
        first: time of the first request; ``last``: of the last one.
        too_many: names beyond the limit were met, so what is missing may have been used.
    """

    roles: dict[RoleKey, datetime] = field(default_factory=dict)
    apps: dict[AppKey, datetime] = field(default_factory=dict)
    policies: dict[str, datetime] = field(default_factory=dict)
    first: datetime | None = None
    last: datetime | None = None
    too_many: bool = False

    def add_all(self, requests: Iterable[TokenRequest]) -> None:
        """Take requests; only those that got a token use anything."""
        for one in requests:
            self.first = min(self.first or one.time, one.time)
            self.last = max(self.last or one.time, one.time)
            if one.outcome is RequestOutcome.GRANTED:
                self._note(self.roles, (full_mount(one), one.role), one.time)
                self._note(self.apps, (one.caller.app, one.caller.auth), one.time)
                for policy in one.granted_by:
                    self._note(self.policies, policy, one.time)

    def _note(self, known: dict[_K, datetime], key: _K, time: datetime) -> None:
        if key not in known and len(known) >= NAMES_MAX:
            self.too_many = True
        elif key not in known or known[key] < time:
            known[key] = time


@dataclass(frozen=True, slots=True)
class Covered:
    """From when to when every node's log is there; both None: it holds no entry.

    Args:
        start: the latest first entry of a node's log: before it, that node is unknown.
        end: the last entry of all.
    """

    start: datetime | None
    end: datetime | None

    @property
    def seconds(self) -> float:
        """How long that is."""
        if self.start is None or self.end is None:
            return 0.0
        return max(0.0, (self.end - self.start).total_seconds())


def covered_by(spans: Mapping[str, tuple[str, str]], usage: LastUse, nodes: int) -> Covered:
    """Return the time that logs cover.

    Args:
        spans: of each node whose logs hold an entry, of what could be read.
        usage: helps where a node's logs hold none.
        nodes: how many there are.
    """
    starts = [parse_utc(start) for start, _ in spans.values()]
    if usage.first and len(spans) < nodes:
        starts.append(usage.first)
    ends = [parse_utc(end) for _, end in spans.values()]
    return Covered(max(starts, default=None), max(ends, default=None))
