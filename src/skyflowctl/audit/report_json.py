"""Converts a report to JSON, and to tables for CSV."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skyflowctl.audit.as_json import change_json, counts_json, inputs_json, time_json
from skyflowctl.audit.evidence import Table
from skyflowctl.audit.report_model import (
    HeatMap,
    Limit,
    Report,
    Series,
    Tally,
    TopApp,
    Unusual,
    Usage,
)
from skyflowctl.clock import rfc3339


def report_json(report: Report) -> dict[str, Any]:
    """Return the whole content of a report."""
    return {
        "subject": {
            "cluster": report.subject.cluster or None,
            "environment": report.subject.environment or None,
        },
        "range": _range(report),
        "inputs": inputs_json(report.inputs),
        "certain": report.counts.certain,
        "counts": counts_json(report.counts),
        "totals": _totals(report),
        "usage": [_usage(each) for each in report.usage],
        "unusual": [_unusual(each) for each in report.unusual],
        "changes": [change_json(each) for each in report.changes],
        "series": _series(report.series),
        "heat": [_heat(each) for each in report.heat],
        "top_apps": [_top_app(each) for each in report.top_apps],
        "rules": [f"{each.kind.value}: {each.text}" for each in report.rules],
        "rules_applied": [each.kind.value for each in report.rules if not each.not_applied],
        "rules_not_applied": [
            {"rule": each.kind.value, "why": each.not_applied}
            for each in report.rules
            if each.not_applied
        ],
        "limits": [_limit(each) for each in report.limits],
    }


def report_tables(data: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the result of :func:`report_json` as tables, the usage first."""
    return (
        _table("usage", data["usage"], _USAGE),
        _table("unusual", data["unusual"], _UNUSUAL),
        _table("changes", map(_with_texts, data["changes"]), _CHANGES),
        Table("series", ("start", "mount", "requests", "errors"), _points(data["series"])),
        Table("hours", ("mount", "weekday", "hour", "requests"), _hours(data["heat"])),
        _table("top_apps", data["top_apps"], _TOP_APPS),
    )


_TALLY = ("requests", "granted", "denied", "refused", "failed", "unknown", "pending")
_USAGE = (
    *("mount", "role", "app", "auth", *_TALLY, "errors", "distinct_ctx", "more_ctx", "wrapped"),
    *("first", "last", "busiest_hour", "busiest_count", "unusual", "signed"),
)
_UNUSUAL = (
    *("kind", "mount", "role", "app", "auth", "detail", "count", "granted", "first", "last"),
)
_CHANGES = (
    *("time", "mount", "kind", "outcome", "key_id", "app", "auth", "run_id", "request_id"),
    *("node", "name", "changes", "reason", "error"),
)
_TOP_APPS = ("app", "auth", *_TALLY, "errors", "roles")


def _table(name: str, rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...]) -> Table:
    return Table(name, columns, [[row[column] for column in columns] for row in rows])


def _with_texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the changes with each field's change as text."""
    texts = [
        f"{one['field']}: {one['before'] or '?'} -> {one['after'] or 'none'};"
        for one in row["changes"]
    ]
    return {**row, "changes": texts}


def _points(series: Mapping[str, Any]) -> list[Sequence[object]]:
    return [
        (start, line["mount"], requests, errors)
        for line in series["mounts"]
        for start, requests, errors in zip(
            series["starts"], line["requests"], line["errors"], strict=True
        )
    ]


def _hours(heat: Iterable[Mapping[str, Any]]) -> list[Sequence[object]]:
    return [
        (each["mount"], weekday, hour, requests)
        for each in heat
        for weekday, day in enumerate(each["cells"])
        for hour, requests in enumerate(day)
        if requests
    ]


def _range(report: Report) -> dict[str, Any]:
    span = report.range
    return {
        "since": time_json(span.since),
        "until": time_json(span.until),
        "first": time_json(span.first),
        "last": time_json(span.last),
        "log_first": time_json(span.log_first),
    }


def _totals(report: Report) -> dict[str, Any]:
    totals = report.totals
    return {
        **_tally(totals.tally),
        "mounts": totals.mounts,
        "roles": totals.roles,
        "apps": totals.apps,
        "wrapped": totals.wrapped,
        "signed": totals.signed,
        "changes": totals.changes,
        "unusual": totals.unusual,
        "probes": totals.probes,
    }


def _tally(tally: Tally) -> dict[str, int]:
    return {**{name: getattr(tally, name) for name in _TALLY}, "errors": tally.errors}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "mount": usage.mount,
        "role": usage.role,
        "app": usage.app or None,
        "auth": usage.auth or None,
        **_tally(usage.tally),
        "distinct_ctx": usage.distinct_ctx,
        "more_ctx": usage.more_ctx,
        "wrapped": usage.wrapped,
        "signed": usage.signed,
        "first": rfc3339(usage.first),
        "last": rfc3339(usage.last),
        "busiest_hour": usage.busiest_hour,
        "busiest_count": usage.busiest_count,
        "unusual": [kind.value for kind in usage.unusual],
    }


def _unusual(found: Unusual) -> dict[str, Any]:
    return {
        "kind": found.kind.value,
        "mount": found.mount or None,
        "role": found.role or None,
        "app": found.app or None,
        "auth": found.auth or None,
        "detail": found.detail,
        "count": found.count,
        "granted": found.granted,
        "first": rfc3339(found.first),
        "last": rfc3339(found.last),
    }


def _series(series: Series) -> dict[str, Any]:
    return {
        "bucket_seconds": series.bucket_seconds,
        "starts": [rfc3339(start) for start in series.starts],
        "mounts": [
            {"mount": line.mount, "requests": list(line.requests), "errors": list(line.errors)}
            for line in series.lines
        ],
    }


def _heat(heat: HeatMap) -> dict[str, Any]:
    return {"mount": heat.mount, "cells": [list(day) for day in heat.cells]}


def _top_app(app: TopApp) -> dict[str, Any]:
    return {
        "app": app.app or None,
        "auth": app.auth or None,
        **_tally(app.tally),
        "roles": app.roles,
    }


def _limit(limit: Limit) -> dict[str, Any]:
    return {
        "name": limit.name,
        "limit": limit.limit,
        "left_out": limit.left_out,
        "detail": limit.detail,
    }
