"""Requests that are counted in groups give the report of the same requests one by one."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from property.test_audit_processes import small_parts
from support.audit_logs import Story, approle, created, userpass
from support.cli import invoke

from skyflowctl.audit import logins
from skyflowctl.audit import report as reports
from skyflowctl.audit.entries import decode_all
from skyflowctl.audit.envelopes import entries_of
from skyflowctl.audit.lines import split_lines
from skyflowctl.audit.report import ReportScope, report
from skyflowctl.audit.scan_options import ScanOptions
from skyflowctl.audit.sources import open_sources
from skyflowctl.audit.unusual import Pattern

APPS = [approle("orders"), approle("orders", number=1), userpass("bob"), userpass("eve"),
        created("legacy", {"role_name": "orders"})]  # fmt: skip
START = datetime(2026, 11, 22, 18, 44, 11, tzinfo=UTC)
PATTERN = Pattern("order:*", lambda ctx: ctx.startswith("order:"))
SCOPES = {
    "all": ReportScope(),
    "later": ReportScope(since=START.replace(day=24)),
    "earlier": ReportScope(until=START.replace(day=24)),
    "one app": ReportScope(app=lambda app: app == "orders"),
    "patterns": ReportScope(
        patterns={("skyflow/order", "order-producer"): PATTERN}, since=START.replace(day=23)
    ),
}


@st.composite
def days(draw: st.DrawFn) -> bytes:
    """A log of some days: few callers, many requests, some of them twice or out of order."""
    story = Story(plain_ctx=draw(st.booleans()))
    for number in range(draw(st.integers(20, 120))):
        app = draw(st.sampled_from(APPS))
        kind = draw(st.integers(0, 40))
        if kind == 0:
            story.wait(hours=draw(st.sampled_from([1, 6, 30])))
        elif kind < 4:
            story.login(app)
        ctx = draw(st.sampled_from(["order:1", "order:2", "other", ""]))
        outcome = draw(st.sampled_from(["granted", "granted", "granted", "denied", "unknown"]))
        role = draw(st.sampled_from(["order-producer", "order-admin"]))
        story.creds(app, ctx, role=role, outcome=outcome, bearer=f"b{number}")
        story.wait(seconds=draw(st.integers(0, 1_500)))
    lines = story.lines()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        lines.insert(draw(st.integers(0, len(lines))), lines[at])
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(1, len(lines) - 1))
        lines[at - 1 : at + 1] = lines[at], lines[at - 1]
    return b"".join(lines)


def figures(path: Path, scope: ReportScope, mounts: tuple[str, ...] | None) -> Any:
    """The report without the counts of what was read, which name the file's parts."""
    return report(open_sources([str(path)], digest=False), ScanOptions(mounts=mounts), scope)


@pytest.mark.parametrize("name", SCOPES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    content=days(),
    size=st.sampled_from([4_000, 30_000]),
    rows=st.sampled_from([2, 5, 10_000]),
    known=st.sampled_from([1, 3, 50_000]),
    mounts=st.sampled_from([None, None, ("skyflow/order",)]),
)
def test_groups_give_the_report_of_single_requests(
    name: str, content: bytes, size: int, rows: int, known: int, mounts: tuple[str, ...] | None
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "audit.log"
        path.write_bytes(content)
        patch.setattr(reports, "ROWS_MAX", rows)
        patch.setattr(logins, "LOGINS_MAX", known)
        whole = figures(path, SCOPES[name], mounts)
        with small_parts(size):
            assert figures(path, SCOPES[name], mounts) == whole


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([
            b'{"time":"t","type":"request","request":{}}',
            b'{"time":"t","type":"request","request":{},"type":"response"}',
            b'{"time":"t","type":"request","request":{"path":"\xff"}}',
            b'{"time":"t","type":"request","request":{"x":NaN}}',
            b'{"time":"t","type":"request","request":{"wrap_ttl":' + b"9" * 400 + b"}}",
            b'{"time":"t","type":"request","request":{"data":' + b"[" * 3000 + b"]" * 3000 + b"}}",
            b'{"time":"t","type":"request","request":{}}{"time":"t","type":"request","request":{}}',
            b'{"time":"t","type":"request","request":{"data":[{}',
            b'{"time":"t","type":"request","request":{"data":{"a":{}}}',
            b'{"time":"t","type":"request"}',
            b'{"time":1}',
            b'{"time":"t","a":[{}', b'{"time":"t"}]}', b',{"time":"t"}', b"{}", b"", b" ", b"}",
        ]),
        max_size=6,
    ),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
)  # fmt: skip
def test_a_block_has_the_entries_of_its_lines(
    lines: list[bytes], ending: bytes, closed: bool
) -> None:
    block = ending.join(lines) + (ending if closed else b"")
    if not block:
        return
    expected = decode_all(split_lines(block))
    buffer = bytearray(block + b'{"time":"stale","type":"request","request":{}}\n')
    for content in (block, buffer):
        found = entries_of(content, len(block))
        assert (None if found is None else found[0]) == expected
        if found is not None:
            starts = [0, *(end + 1 for end in found[1][:-1])]
            cut = [block[start:end] for start, end in zip(starts, found[1], strict=True)]
            assert cut == split_lines(block)


@pytest.mark.parametrize("command", [("who", "--ctx", "order:1"), ("denied",), ("report",)])
def test_evidence_of_one_two_and_three_processes_is_the_same(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(plain_ctx=True)
    for number in range(60):
        app = APPS[number % 4]
        if number % 7 == 0:
            story.login(app)
        outcome = "denied" if number % 5 == 0 else "granted"
        story.creds(app, f"order:{number % 3}", outcome=outcome, bearer=f"b{number}")
        story.wait(minutes=31)
    path = tmp_path / "audit.log"
    path.write_bytes(story.device())
    answers = []
    for processes in (1, 2, 3):
        cores = set(range(processes))
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: cores)
        folder = tmp_path / "evidence"
        with small_parts(20_000):
            run = invoke("audit", *command, str(path), "--evidence", str(folder), "-o", "json")
        assert run.exit_code == 0, run.stderr
        answers.append({each.name: each.read_bytes() for each in folder.iterdir()})
        folder.rename(tmp_path / f"evidence-{processes}")
    assert answers[0] == answers[1] == answers[2]
    assert {"SHA256SUMS", "evidence.json"} <= set(answers[0])
