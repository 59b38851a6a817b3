"""Finds what the log shows as used, and which time it covers."""

from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import datetime
from typing import TypeVar

from skyflowctl.audit.model import RequestOutcome, TokenRequest
from skyflowctl.audit.query import full_mount
from skyflowctl.audit.times import parse_utc
from skyflowctl.frozen import dataclass

NAMES_MAX = 50_000
"""The most roles, apps and policies, each, that are remembered: about 10 MB."""

RoleKey = tuple[str, str]
AppKey = tuple[str, str]
_K = TypeVar("_K")


@dataclass(slots=True)
class LastUse:
    """The last time that each role, app and policy gave a token.

    Args:
        roles: by mount path and role; ``apps``: by app and method; ``policies``: by name.
        first: the time of the first request; ``last``: of the last one.
        too_many: names exceeded the limit, so a missing one may have been used.
    """

    roles: dict[RoleKey, datetime] = field(default_factory=dict)
    apps: dict[AppKey, datetime] = field(default_factory=dict)
    policies: dict[str, datetime] = field(default_factory=dict)
    first: datetime | None = None
    last: datetime | None = None
    too_many: bool = False

    def add_all(self, requests: Iterable[TokenRequest]) -> None:
        """Add requests; only those that got a token count as use."""
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
    """The time that the logs of every node cover; both None if the logs have no entry.

    Args:
        start: the latest first entry of any node's log; before it, that node is unknown.
        end: the last entry of all logs.
    """

    start: datetime | None
    end: datetime | None

    @property
    def seconds(self) -> float:
        """The length of this time."""
        if self.start is None or self.end is None:
            return 0.0
        return max(0.0, (self.end - self.start).total_seconds())


def covered_by(spans: Mapping[str, tuple[str, str]], usage: LastUse, nodes: int) -> Covered:
    """Return the time that logs cover.

    Args:
        spans: the readable span of each node whose logs have an entry.
        usage: the substitute if a node's logs have no entry.
        nodes: the number of nodes.
    """
    starts = [parse_utc(start) for start, _ in spans.values()]
    if usage.first and len(spans) < nodes:
        starts.append(usage.first)
    ends = [parse_utc(end) for _, end in spans.values()]
    return Covered(max(starts, default=None), max(ends, default=None))
