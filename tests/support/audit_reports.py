"""Reports for the page's tests: a usual month, an empty one, a huge one and a hostile one."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from skyflowctl.audit.model import Caller, ChangeKind, Counts, CredentialChange, RequestOutcome
from skyflowctl.audit.report_model import (
    HOURS,
    WEEKDAYS,
    HeatMap,
    Limit,
    Range,
    Report,
    ReportSubject,
    Rule,
    Series,
    SeriesLine,
    Tally,
    TopApp,
    Totals,
    Unusual,
    UnusualKind,
    Usage,
)
from skyflowctl.audit.sources import Input

START = datetime(2026, 10, 23, tzinfo=UTC)
DAYS = 30
STEP = 6 * 3600
MOUNTS = {
    "skyflow/order": 1.0,
    "skyflow/payment": 0.7,
    "skyflow/purchase": 0.42,
    "skyflow/returns": 0.2,
    "skyflow/loyalty": 0.12,
    "skyflow/support": 0.06,
    "skyflow/archive": 0.02,
}
APPS = ("order-service", "payment-gateway", "checkout", "invoice-worker", "crm-sync", "batch-night")
ROLES = ("producer", "reader", "support")
BY_HOUR = (1, 1, 1, 1, 1, 2, 5, 9, 16, 20, 22, 21, 18, 20, 21, 19, 16, 12, 8, 5, 3, 2, 2, 1)

HOSTILE = (
    "<script>document.title='owned'</script>",
    "</script><script>window.owned=1</script>",
    "</style><img src=x onerror=window.owned=1>",
    "\"'><svg onload=window.owned=1>",
    "' onfocus=window.owned=1 autofocus x='",
    "</title></svg><iframe src=javascript:window.owned=1>",
    "&lt;script&gt;&#x3c;&amp;",
    "invoice\u202egpj.exe",
    "nul\0and\x1b[31mred\u2028line",
    "lone\ud800surrogate",
    "n" * 500,
    "e" + "\u0301" * 40,
    "{{constructor.constructor('window.owned=1')()}}",
    "javascript:window.owned=1",
    "-->]]><!--",
)


RULES = (
    Rule(UnusualKind.FIRST_SEEN_APP, "an app's first request on a role in the log"),
    Rule(UnusualKind.CTX_OUTSIDE_PATTERN, "a ctx that can be read and does not match the pattern"),
    Rule(UnusualKind.OUTSIDE_USUAL_HOURS, "an hour with less than 1 % of what the app asked"),
    Rule(UnusualKind.UNDECLARED_ROLE, "a role that is not declared", "no manifest was named"),
)


def tally(requests: int, denied: int = 0, refused: int = 0, failed: int = 0) -> Tally:
    return Tally(requests, requests - denied - refused - failed, denied, refused, failed)


def empty() -> Report:
    """Nothing asked, nothing changed, nothing read."""
    return Report(
        range=Range(),
        inputs=(),
        counts=Counts(),
        totals=Totals(Tally(), 0, 0, 0, 0, 0, 0),
        usage=(),
        unusual=(),
        changes=(),
        series=Series(60, (), ()),
        heat=(),
        top_apps=(),
        rules=RULES,
    )


def usual(mounts: int = len(MOUNTS)) -> Report:
    """A month of a shop, with a finding of each kind, a rotation and some damage."""
    chance = random.Random(7)
    chosen = dict(list(MOUNTS.items())[:mounts])
    series = _series(chosen, chance)
    usage = _usage(series)
    changes = _changes()
    unusual = _unusual()
    total = _sum(row.tally for row in usage)
    heat = tuple(_heat(mount, weight, chance) for mount, weight in chosen.items())
    return Report(
        range=Range(None, None, START + timedelta(hours=1), START + timedelta(days=30), START),
        inputs=tuple(
            Input(
                f"logs/node-{node}/audit.log{suffix}", 48_771_204 + 913 * node, f"{node:x}a7c" * 16
            )
            for node in (1, 2, 3)
            for suffix in ("", ".1.zst")
        ),
        counts=Counts(
            files=6,
            bytes=292_632_702,
            lines=1_204_551,
            requests=total.requests,
            damaged=(("not-json", 2), ("too-long", 1)),
            duplicates=total.requests,
            forwards=12,
            unpaired=3,
        ),
        totals=Totals(
            total,
            len(chosen),
            len(usage),
            len({row.app for row in usage}),
            sum(row.wrapped for row in usage),
            len(changes),
            len(unusual),
        ),
        usage=usage,
        unusual=unusual,
        changes=changes,
        series=series,
        heat=heat,
        top_apps=_top(usage),
        rules=RULES,
        subject=ReportSubject("prod-eu-1", "production"),
    )


def small() -> Report:
    """One request of one app."""
    at = datetime(2026, 11, 22, 18, 4, 31, tzinfo=UTC)
    whole = usual(1)
    use = replace(
        whole.usage[0], tally=tally(1), distinct_ctx=1, wrapped=0, first=at, last=at,
        busiest_hour=18, busiest_count=1, unusual=(),
    )  # fmt: skip
    cells = tuple(tuple(int((day, hour) == (6, 18)) for hour in range(HOURS)) for day in range(7))
    return replace(
        whole,
        range=Range(None, None, at, at, at),
        inputs=whole.inputs[:1],
        counts=Counts(files=1, bytes=4_821, lines=6, requests=1),
        totals=Totals(tally(1), 1, 1, 1, 0, 0, 0),
        usage=(use,),
        unusual=(),
        changes=(),
        series=Series(60, (at.replace(second=0),), (SeriesLine(use.mount, (1,), (0,)),)),
        heat=(HeatMap(use.mount, cells),),
        top_apps=(TopApp(use.app, use.auth, tally(1), 1),),
    )


def huge(rows: int = 500) -> Report:
    """More rows and mounts than fit, and limits that were reached."""
    whole = usual()
    first = whole.usage[0]
    usage = tuple(
        replace(first, mount=f"skyflow/line-{at % 60:02}", role=f"role-{at % 7}",
                app=f"service-{at:03}", tally=tally(rows * 7 - at * 5, at % 3), unusual=())
        for at in range(rows)
    )  # fmt: skip
    lines = tuple(
        SeriesLine(f"skyflow/line-{at:02}", tuple(max(0, n - at) for n in range(120)), (0,) * 120)
        for at in range(60)
    )
    starts = tuple(START + timedelta(hours=at) for at in range(120))
    heat = tuple(replace(whole.heat[0], mount=line.mount) for line in lines)
    total = _sum(row.tally for row in usage)
    return replace(
        whole,
        totals=Totals(total, 60, 420, rows, 0, 0, len(whole.unusual)),
        usage=usage,
        series=Series(3600, starts, lines),
        heat=heat,
        top_apps=_top(usage),
        limits=(
            Limit("rows", rows, 1_204, f"1204 requests are of rows beyond the first {rows}"),
            Limit("distinct-ctx", 1000, 3, "3 rows have more than 1000 different ctx"),
        ),
    )


def hostile() -> Report:
    """Every text of the report is an attack on the page."""
    whole = usual()

    def evil(at: int) -> str:
        return HOSTILE[at % len(HOSTILE)]

    def caller(at: int) -> Caller:
        return Caller(evil(at), evil(at + 1), evil(at + 2))

    usage = tuple(
        replace(whole.usage[0], mount=evil(at), role=evil(at + 1), app=evil(at + 2), auth=evil(at))
        for at in range(len(HOSTILE))
    )
    return replace(
        whole,
        inputs=tuple(Input(each, 1, evil(at)) for at, each in enumerate(HOSTILE)),
        counts=replace(whole.counts, damaged=tuple((each, 1) for each in HOSTILE)),
        usage=usage,
        unusual=tuple(
            replace(whole.unusual[0], mount=evil(at), role=evil(at), app=evil(at), detail=each)
            for at, each in enumerate(HOSTILE)
        ),
        changes=tuple(
            replace(whole.changes[0], caller=caller(at), mount=each, key_id=each, request_id=each,
                    node=each, run_id=each)
            for at, each in enumerate(HOSTILE)
        ),
        series=replace(
            whole.series,
            lines=tuple(
                replace(line, mount=evil(at)) for at, line in enumerate(whole.series.lines)
            ),
        ),
        heat=tuple(replace(whole.heat[0], mount=each) for each in HOSTILE),
        top_apps=tuple(TopApp(each, evil(at), tally(9, 1), 1) for at, each in enumerate(HOSTILE)),
        rules=tuple(Rule(UnusualKind.ROOT_TOKEN, each, each) for each in HOSTILE),
        subject=ReportSubject(HOSTILE[0], HOSTILE[1]),
        limits=tuple(Limit(each, 1, 1, each) for each in HOSTILE),
    )  # fmt: skip


def _sum(tallies) -> Tally:
    parts = [(t.requests, t.granted, t.denied, t.refused, t.failed, t.unknown) for t in tallies]
    return Tally(*map(sum, zip(*parts, strict=True)))


def _series(mounts: dict[str, float], chance: random.Random) -> Series:
    starts = tuple(START + timedelta(seconds=STEP * at) for at in range(DAYS * 86_400 // STEP))
    lines = []
    for mount, weight in mounts.items():
        requests, errors = [], []
        for start in starts:
            busy = sum(BY_HOUR[start.hour : start.hour + 6]) * (0.35 if start.weekday() > 4 else 1)
            requests.append(int(busy * weight * chance.uniform(6, 9)))
            bad = 40 if mount == "skyflow/payment" and start.day == 9 else 0
            errors.append(min(requests[-1], bad + int(chance.random() * 3 * weight)))
        lines.append(SeriesLine(mount, tuple(requests), tuple(errors)))
    return Series(STEP, starts, tuple(lines))


def _heat(mount: str, weight: float, chance: random.Random) -> HeatMap:
    return HeatMap(
        mount,
        tuple(
            tuple(
                int(
                    BY_HOUR[hour] * weight * 30 * (0.3 if day > 4 else 1) * chance.uniform(0.7, 1.2)
                )
                for hour in range(HOURS)
            )
            for day in range(WEEKDAYS)
        ),
    )


def _usage(series: Series) -> tuple[Usage, ...]:
    rows = []
    for line in series.lines:
        mount, left, bad_left = line.mount, sum(line.requests), sum(line.errors)
        roles = ROLES[: 1 + len(mount) % 3]
        for at, role in enumerate(roles):
            last = at == len(roles) - 1
            requests, bad = (left, bad_left) if last else (left * 5 // 7, bad_left * 3 // 4)
            left, bad_left = left - requests, bad_left - bad
            app = APPS[(len(mount) + at) % len(APPS)]
            rows.append(
                Usage(
                    mount, f"{mount.split('/')[1]}-{role}", app,
                    ("approle", "userpass", "token")[at], tally(requests, bad, bad // 3),
                    requests // 4, more_ctx=requests > 15_000, wrapped=at * 12,
                    first=START + timedelta(hours=at + 1, minutes=7 * len(rows)),
                    last=START + timedelta(days=29, hours=20, minutes=11 * len(rows)),
                    busiest_hour=10 + at, busiest_count=requests // 9,
                    unusual=(UnusualKind.FIRST_SEEN_APP,) if len(rows) == 4 else (),
                )
            )  # fmt: skip
    return tuple(rows)


def _unusual() -> tuple[Unusual, ...]:
    at = START + timedelta(days=17, hours=3, minutes=12, seconds=9)
    return (
        Unusual(
            UnusualKind.FIRST_SEEN_APP, "skyflow/payment", "payment-support", "crm-sync", "userpass",
            "first request on this role after 17 days of log; one app requested this role before",
            41, 38, at, at + timedelta(hours=5),
        ),
        Unusual(
            UnusualKind.CTX_OUTSIDE_PATTERN, "skyflow/order", "order-producer", "order-service",
            "approle", "ctx export:all-customers does not match the role's pattern order:*", 6, 0, at, at,
        ),
        Unusual(
            UnusualKind.OUTSIDE_USUAL_HOURS, "skyflow/order", "order-reader", "batch-night", "token",
            "requests at 02-03h UTC; usual until then: 07-18h (4211 requests on 21 days)",
            128, 128, at, at + timedelta(hours=1),
        ),
    )  # fmt: skip


def _changes() -> tuple[CredentialChange, ...]:
    at = START + timedelta(days=12, hours=9)
    who = Caller("ops-anna", "userpass")
    kinds = (ChangeKind.ROTATION_OPENED, ChangeKind.ROTATION_WRITTEN, ChangeKind.ROTATION_COMMITTED)
    done = tuple(
        CredentialChange(
            at + timedelta(seconds=3 * step), who, kind, "skyflow/order",
            "c0a81f22-order-2" if step else "77b1e9d0-order-1", RequestOutcome.GRANTED,
            f"5f0c21e4-8e1b-4a3e-9a1c-00000000000{step}", "node-1", "run-20261104-0900-7f3a",
        )
        for step, kind in enumerate(kinds)
    )  # fmt: skip
    late = at + timedelta(days=3)
    denied = replace(
        done[0], time=late, kind=ChangeKind.REVOKED, mount="skyflow/payment", key_id="",
        outcome=RequestOutcome.DENIED, run_id="", caller=Caller("crm-sync", "userpass"),
    )  # fmt: skip
    return (*done, denied)


def _top(usage: tuple[Usage, ...]) -> tuple[TopApp, ...]:
    apps: dict[tuple[str, str], list[Usage]] = {}
    for row in usage:
        apps.setdefault((row.app, row.auth), []).append(row)
    top = [
        TopApp(app, auth, _sum(row.tally for row in rows), len(rows))
        for (app, auth), rows in apps.items()
    ]
    return tuple(sorted(top, key=lambda each: -each.tally.requests)[:10])
