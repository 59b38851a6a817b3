"""Traces without a library: the spans of this process, and what requests pass on of them.

The SDK's own spans cost ten times as much as the work that they would measure here, so a span is
an object with ids and two times, and only a sampled one is converted for the SDK when it has ended
(``export.py``). Texts and ids are those of W3C Trace Context.
"""

import os
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from enum import IntEnum
from types import TracebackType
from typing import NamedTuple, Self

_LENGTH = 55
_HEX = frozenset("0123456789abcdef")
_LOW_BITS = (1 << 64) - 1


class SpanKind(IntEnum):
    """A span's side of a call; the numbers are OpenTelemetry's."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2


class TraceContext(NamedTuple):
    """What one hop of a trace passes to the next."""

    trace_id: int
    span_id: int
    sampled: bool

    def traceparent(self) -> str:
        """Return the value of the header ``traceparent``."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def parse_traceparent(text: str | None) -> TraceContext | None:
    """Return what a caller passed on; None if that is nothing valid.

    A later version than 00 may have further fields, which are ignored.
    """
    if text is None or len(text) < _LENGTH:
        return None
    version, trace_id, span_id, flags = (text[0:2], text[3:35], text[36:52], text[53:55])
    if text[2] + text[35] + text[52] != "---" or not _HEX.issuperset(
        version + trace_id + span_id + flags
    ):
        return None
    if version == "ff" or (text[_LENGTH:] and (version == "00" or text[_LENGTH] != "-")):
        return None
    parent = TraceContext(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1))
    return parent if parent.trace_id and parent.span_id else None


class Sampler(NamedTuple):
    """Decides once for each trace whether it is recorded.

    Args:
        ratio: the part of all traces, 0 to 1, by the trace id: every process that
            uses the same ratio decides alike.
        parent_based: a caller's decision counts instead, if there is one.
    """

    ratio: float = 1.0
    parent_based: bool = True

    def samples(self, trace_id: int, parent: TraceContext | None) -> bool:
        """Return whether a new span is recorded."""
        if parent is not None and self.parent_based:
            return parent.sampled
        return trace_id & _LOW_BITS < round(self.ratio * (_LOW_BITS + 1))


class TraceSpan:
    """One piece of work, from the start of a ``with`` block to its end.

    Within the block it is the current span: the parent of :func:`child_span`, and what
    :func:`outgoing_traceparent` passes on. An exception that leaves the block is recorded by its
    type, never by its text.

    Args:
        name: of few different values; never one of a caller's.
        kind: which side of a call it is.
        context: its ids.
        parent: the span id of its parent; None for the first of a trace.
        ended: gets it when the block is left, if it is sampled.
    """

    __slots__ = ("_ended", "_token", "attributes", "context", "end", "error", "kind", "name",
                 "parent", "start")  # fmt: skip

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        context: TraceContext,
        parent: int | None,
        ended: Callable[["TraceSpan"], None],
    ) -> None:
        self.name = name
        self.kind = kind
        self.context = context
        self.parent = parent
        self.attributes: dict[str, str | int | float | bool] = {}
        self.error: str | None = None
        self.start = self.end = 0
        self._ended = ended
        self._token: Token[TraceSpan | None] | None = None

    def set(self, name: str, value: str | float) -> None:
        """Record an attribute; never a secret, a ctx, or a value without bounds."""
        self.attributes[name] = value

    def fail(self, reason: str) -> None:
        """Record that the work failed; the reason is one of few texts of ours; empty: it did not.

        An exception that leaves the block changes nothing then.
        """
        self.error = reason

    def __enter__(self) -> Self:
        self._token = _CURRENT.set(self)
        self.start = time.time_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _CURRENT.reset(self._token)
        if self.context.sampled:
            self.end = time.time_ns()
            if kind is not None and self.error is None:
                self.error = kind.__name__
            self._ended(self)


class _NoSpan(TraceSpan):
    """Stands for a span where nothing is recorded; changes nothing and keeps nothing."""

    __slots__ = ()

    def set(self, name: str, value: str | float) -> None:
        pass

    def fail(self, reason: str) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class Tracer:
    """Starts the first span of this process in a trace.

    Args:
        sampler: decides which traces are recorded.
        ended: gets every sampled span when it has ended, from any thread; must not block.
    """

    def __init__(self, sampler: Sampler, ended: Callable[[TraceSpan], None]) -> None:
        self._sampler = sampler
        self._ended = ended

    def span(
        self, name: str, kind: SpanKind = SpanKind.INTERNAL, traceparent: str | None = None
    ) -> TraceSpan:
        """Return a span that continues the caller's trace, else the current one, else a new one.

        Args:
            name: see :class:`TraceSpan`.
            kind: see :class:`TraceSpan`.
            traceparent: the header of the caller's request.
        """
        current = _CURRENT.get()
        parent = parse_traceparent(traceparent) or (current.context if current else None)
        trace_id = parent.trace_id if parent else _new_id(16)
        sampled = self._sampler.samples(trace_id, parent)
        context = TraceContext(trace_id, _new_id(8), sampled)
        return TraceSpan(name, kind, context, parent.span_id if parent else None, self._ended)


def child_span(name: str, kind: SpanKind = SpanKind.INTERNAL) -> TraceSpan:
    """Return a span below the current one; one that records nothing if that is not sampled."""
    current = _CURRENT.get()
    if current is None or not current.context.sampled:
        return NO_SPAN
    context = TraceContext(current.context.trace_id, _new_id(8), sampled=True)
    return TraceSpan(name, kind, context, current.context.span_id, current._ended)  # noqa: SLF001


def outgoing_traceparent() -> str | None:
    """Return the ``traceparent`` of a request that is sent now; None without telemetry."""
    current = _CURRENT.get()
    return current.context.traceparent() if current else _PASSED_ON.get()


def pass_on(traceparent: str) -> None:
    """Have requests of this process name the caller's span, because it records none of its own."""
    if parse_traceparent(traceparent):
        _PASSED_ON.set(traceparent)


def _new_id(size: int) -> int:
    # Zero is no valid id.
    return int.from_bytes(os.urandom(size)) or 1


_PASSED_ON: ContextVar[str | None] = ContextVar("skyflowctl_traceparent", default=None)
_CURRENT: ContextVar[TraceSpan | None] = ContextVar("skyflowctl_span", default=None)
NO_SPAN: TraceSpan = _NoSpan(
    "", SpanKind.INTERNAL, TraceContext(0, 0, sampled=False), None, lambda _: None
)
