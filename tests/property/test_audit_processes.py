"""A log that is read in parts, by any number of processes, gives what one process gives."""

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.audit_logs import Story, approle, created, hashed, userpass

from skyflowctl.audit import lines, ranges, sources
from skyflowctl.audit.query import Query, scan_options
from skyflowctl.audit.report import report
from skyflowctl.audit.report_model import Report
from skyflowctl.audit.scan import scan
from skyflowctl.audit.search import Search
from skyflowctl.audit.sources import open_sources
from skyflowctl.audit.wanted import CtxWanted, wanted_ctx
from skyflowctl.errors import SkyflowctlError

RANGE_BYTES = 3_000
"""Two entries: nearly every pair is in two ranges."""
QUERIES = {
    "ctx": Query(ctx=(wanted_ctx("order:1"),)),
    "hashed ctx": Query(ctx=(CtxWanted((hashed("order:2"),), "", ((hashed("order:2"),),)),)),
    "bearer": Query(hashes=(hashed("b1"),), device_hashes=(hashed("Bearer"),)),
    "app": Query(apps=("orders",)),
    "role": Query(roles=("order-admin",)),
}
ODD_LINES = (
    b"",
    b"garbage",
    b'{"time":"2026-11-22T18:44:11Z","type":"requ',
    b'{"time":"2026-11-22T18:44:12Z","a":1}',
    b"\0\0\0",
    b'{"time":"2026-11-22T18:44:13Z","x":"' + b"y" * 20_000 + b'"}',
    b"2026-11-22T18:44:11.1Z [INFO]  core: sealed",
)


@st.composite
def logs(draw: st.DrawFn) -> bytes:
    """A log of a few apps, with damage between, around and in its lines."""
    story = Story()
    apps = [approle("orders"), userpass("bob"), created("legacy", {"role_name": "orders"})]
    for number in range(draw(st.integers(3, 12))):
        app = draw(st.sampled_from(apps))
        if draw(st.booleans()):
            story.login(app)
        wrap = draw(st.sampled_from(["", "", f"w{number}"]))
        story.creds(
            app,
            draw(st.sampled_from(["order:1", "order:2", "order:3"])),
            role=draw(st.sampled_from(["order-producer", "order-admin"])),
            outcome=draw(st.sampled_from(["granted", "granted", "denied", "unknown"])),
            bearer="" if wrap else f"b{number}",
            wrap=wrap,
        )
        if wrap and draw(st.booleans()):
            story.unwrap(wrap, f"b{number}", by=apps[1])
        story.wait(**draw(st.sampled_from([{}, {"seconds": 1}, {"minutes": 2}])))
    found = story.lines()
    order = draw(st.permutations(range(4)))
    found[4:8] = [found[4:8][at] for at in order if at < len(found[4:8])]
    for odd in draw(st.lists(st.sampled_from(ODD_LINES), max_size=3)):
        found.insert(draw(st.integers(0, len(found))), odd + b"\n")
    ending = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
    prefix = draw(st.sampled_from([b"", b"", b"", b"bao: "]))
    text = b"".join(prefix + line.rstrip(b"\n") + ending for line in found)
    return text[: len(text) - draw(st.sampled_from([0, 0, 1, 40]))]


@contextmanager
def small_parts(number: int = RANGE_BYTES) -> Iterator[None]:
    with (
        mock.patch.object(ranges, "RANGE_BYTES", number),
        mock.patch.object(sources, "PARALLEL_BYTES", 0),
        mock.patch.object(lines, "BLOCK_BYTES", 2_000),
    ):
        yield


def answer(paths: list[str], query: Query, processes: int) -> Any:
    """Everything that a search says, or its error."""
    opened = open_sources(paths, digest=False)
    opened.processes = processes
    try:
        search = Search(opened, query, ("skyflow",), cut_offs=True)
        rows = list(search)
        return (
            rows,
            search.counts(),
            dict(search.covered),
            list(search.warnings()),
            opened.inputs(),
        )
    except SkyflowctlError as error:
        return error.problems


@pytest.mark.parametrize("name", QUERIES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=logs(), packed=st.sampled_from(["", ".gz", ".zst"]), twice=st.booleans())
def test_the_answer_does_not_depend_on_the_number_of_processes(
    name: str, content: bytes, packed: str, twice: bool
) -> None:
    with TemporaryDirectory() as folder:
        middle = content.rfind(b"\n", 0, len(content) // 2) + 1
        older, newer = content[:middle], content[middle:]
        if packed == ".gz":
            older = gzip.compress(older)
        elif packed == ".zst":
            older = zstandard.compress(older)
        paths = [Path(folder) / f"audit.log.1{packed}", Path(folder) / "audit.log"]
        paths[0].write_bytes(older)
        paths[1].write_bytes(newer)
        names = [str(path) for path in paths]
        if twice:  # a second stream
            second = Path(folder) / "b" / "audit.log"
            second.parent.mkdir()
            second.write_bytes(content)
            names.append(str(second))
        with small_parts():
            alone = answer(names, QUERIES[name], 1)
            for processes in (2, 3):
                assert answer(names, QUERIES[name], processes) == alone


def reported(paths: list[str], processes: int) -> Any:
    """The report of these logs, and the evidence of its files; or the error."""
    opened = open_sources(paths)
    opened.processes = processes
    try:
        return report(opened)
    except SkyflowctlError as error:
        return error.problems


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=logs(), packed=st.booleans(), copies=st.integers(1, 2), twice=st.booleans())
def test_the_report_does_not_depend_on_parts_or_processes(
    content: bytes, packed: bool, copies: int, twice: bool
) -> None:
    with TemporaryDirectory() as folder:
        middle = content.rfind(b"\n", 0, len(content) // 2) + 1
        paths = [Path(folder) / "audit.log.1", Path(folder) / "audit.log"]
        paths[0].write_bytes(gzip.compress(content[:middle]) if packed else content[:middle])
        paths[1].write_bytes(content[middle:] + content[middle:] * (copies - 1))
        names = [str(path) for path in paths]
        if twice:  # another device of the same node
            paths.append(Path(folder) / "other.log")
            paths[2].write_bytes(content)
            names = [f"n1={path}" for path in paths]
        whole = reported(names, 1)
        with small_parts():
            alone = reported(names, 1)
            assert reported(names, 2) == alone
            assert reported(names, 3) == alone
        if isinstance(whole, Report):
            assert replace(alone, counts=whole.counts) == whole
            counts = alone.counts, whole.counts
            assert counts[0].damaged == counts[1].damaged
            assert replace(counts[0], unread=counts[1].unread) == counts[1]
        else:
            assert alone == whole


@settings(max_examples=25, deadline=None)
@given(content=logs())
def test_parts_give_the_rows_of_the_whole(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "audit.log"
        path.write_bytes(content)
        for query in QUERIES.values():
            whole = answer([str(path)], query, 1)
            with small_parts():
                parts = answer([str(path)], query, 3)
            if isinstance(whole[0], list):
                assert parts[0] == whole[0]
                assert (parts[1].lines, parts[1].bytes) == (whole[1].lines, whole[1].bytes)


def test_a_log_that_shrinks_while_it_is_read_is_no_certain_answer(tmp_path: Path) -> None:
    story = Story()
    for _ in range(20):
        story.creds(approle("orders"), "order:1")
        story.wait(seconds=int(timedelta(minutes=1).total_seconds()))
    path = tmp_path / "audit.log"
    path.write_bytes(story.device())
    with small_parts():
        opened = open_sources([str(path)], digest=False)
        parts = opened.ranges(opened.streams[0])
        assert len(parts) > 3
        with mock.patch.object(sources.Sources, "ranges", return_value=parts):
            path.write_bytes(story.device()[: parts[-2].start + 10])
            search = Search(opened, QUERIES["app"], ("skyflow",))
            list(search)
    assert dict(search.counts().damaged)["unreadable"] == 2
    assert not search.certain


def tokens(ctx: str, number: int, *, hour: int = 0) -> bytes:
    story = Story(first_id=hour * 100_000 + 1)
    story.wait(hours=hour)
    for _ in range(number):
        story.creds(approle("orders"), ctx, plain=True)
    return story.device()


def read_disturbed(
    paths: list[Path], query: Query, processes: int, disturb: Callable[[], object]
) -> Any:
    """All rows, counts and digests; after the first row, the logs are disturbed."""
    opened = open_sources([str(path) for path in paths])
    opened.processes = processes
    found = scan(opened, scan_options(query, ("skyflow",)))
    rows = found.rows()
    first = next(rows)
    disturb()
    return [first, *rows], found.counts(), opened.inputs()


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("query", [Query(), QUERIES["ctx"]], ids=["all", "ctx"])
def test_logs_that_are_rotated_while_they_are_read_are_read_to_their_end(
    tmp_path: Path, query: Query, processes: int
) -> None:
    log, older, oldest = (tmp_path / f"audit.log{end}" for end in ("", ".1", ".2"))
    older.write_bytes(tokens("order:1", 1_500))
    newer = tokens("order:1", 1_000, hour=2)
    # Ids that occur again: such pairs are read once more, from the file.
    log.write_bytes(newer + b"".join(newer.splitlines(keepends=True)[:20]))

    def rotate() -> None:
        older.rename(oldest)
        log.rename(older)
        log.write_bytes(tokens("order:1", 1_200, hour=4))

    with small_parts(100_000):
        expected = read_disturbed([older, log], query, 1, lambda: None)
        assert read_disturbed([older, log], query, processes, rotate) == expected
    assert len(expected[0]) >= 2_500
    assert expected[1].certain


def test_no_process_is_started_for_what_must_be_read_here(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(tokens("order:1", 30))
    with small_parts():
        opened = open_sources([str(path)], digest=False)
        opened.processes = 2
        assert opened.readers_of(opened.streams[0]) == 2
        with mock.patch("os.fork", side_effect=AssertionError):
            assert len(list(scan(opened))) == 30


def open_logs(folder: Path) -> int:
    """How many files of a folder this process has open."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of this very list
            found.append(str(each.readlink()))
    return sum(name.startswith(f"{folder}/") for name in found)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("size", [1_000, 10**9], ids=["ranges", "whole"])
def test_few_of_many_files_are_open_at_once_and_none_afterwards(
    tmp_path: Path, processes: int, size: int
) -> None:
    paths = [tmp_path / f"audit.log.{number}" for number in range(1, 12)]
    for hour, path in enumerate(paths):
        path.write_bytes(tokens("order:1", 3, hour=hour))
    with small_parts(size), mock.patch.object(sources, "KEPT_OPEN_MAX", 4):
        opened = open_sources([str(path) for path in paths])
        opened.processes = processes
        counts = [open_logs(tmp_path) for _ in scan(opened).rows()]
        assert len(counts) == 33
        assert 4 <= max(counts) <= 5
        assert open_logs(tmp_path) == 0
        rows = scan(opened).rows()
        next(rows)
        rows.close()
        assert open_logs(tmp_path) == 0
