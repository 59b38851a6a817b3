"""One trace, drawn as text: spans of a receiver, and the server's hop from its audit log."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from support.otlp import ReceivedSpan

_MILLION = 1_000_000


@dataclass(frozen=True)
class ServerHop:
    """A request in the server's audit log: its entry, and that of its answer."""

    start: int
    end: int
    path: str


def server_hop(log: Path, request_id: str) -> ServerHop:
    """The request of this id; times in nanoseconds."""
    entries = [json.loads(line) for line in log.read_text().splitlines() if request_id in line]
    times = {one["type"]: one["time"] for one in entries if one["request"]["id"] == request_id}
    path = entries[0]["request"]["path"]
    return ServerHop(_nanoseconds(times["request"]), _nanoseconds(times["response"]), path)


def _nanoseconds(text: str) -> int:
    moment, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{moment}+00:00").timestamp())
    return seconds * 1000 * _MILLION + int(fraction.ljust(9, "0"))


def drawn(spans: Iterable[ReceivedSpan], log: Path) -> list[str]:
    """A line for each span, below its parent; a server's hop is between a client and an engine."""
    children = defaultdict(list)
    for span in sorted(spans, key=lambda one: one.start):
        children[span.parent_id].append(span)
    known = {one.span_id for group in children.values() for one in group}
    roots = [one for parent, group in children.items() if parent not in known for one in group]
    first = min(one.start for one in roots)
    lines = []

    def add(depth: int, service: str, text: str, start: int, end: int) -> None:
        at, spent = (start - first) / _MILLION, (end - start) / _MILLION
        lines.append(f"{'  ' * depth + service:<28}{text:<48}{at:>8.1f} ms {spent:>8.1f} ms")

    def visit(span: ReceivedSpan, depth: int) -> None:
        service = span.resource["service.name"]
        path = span.attributes.get("url.path", "").removeprefix("/v1/")
        add(depth, service, f"{span.name} {path}".strip(), span.start, span.end)
        request_id = span.attributes.get("skyflow.request_id")
        if request_id and path and children[span.span_id]:
            hop = server_hop(log, request_id)
            depth += 1
            add(depth, "openbao", f"request {request_id}", hop.start, hop.end)
        for child in children[span.span_id]:
            visit(child, depth + 1)

    for root in roots:
        visit(root, 0)
    return lines
