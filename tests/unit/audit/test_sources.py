"""Patterns to files, files to streams, streams to bytes and digests."""

import gzip
import hashlib
import io
import os
from pathlib import Path

import pytest
import zstandard
from support.audit_logs import Story, approle, three_apps, written

from skyflowctl.audit.model import TokenRequest
from skyflowctl.audit.scan import scan
from skyflowctl.audit.sources import base_name, open_sources
from skyflowctl.errors import InvalidInputError, UsageError


def story_at(hours: int, first_id: int) -> bytes:
    story = Story(first_id=first_id)
    story.wait(hours=hours)
    story.creds(approle("orders"), f"order:{first_id}", plain=True)
    return story.device()


def ctxs(*patterns: str) -> list[str]:
    return [row.ctx for row in scan(open_sources(patterns)) if isinstance(row, TokenRequest)]


def test_rotated_files_are_one_stream_from_old_to_new(tmp_path: Path) -> None:
    written(tmp_path, "audit.log", story_at(3, 4))
    written(tmp_path, "audit.log.1", story_at(2, 3))
    written(tmp_path, "audit.log.10.gz", gzip.compress(story_at(0, 1)))
    written(tmp_path, "audit.log.2.zst", zstandard.compress(story_at(1, 2)))
    pattern = str(tmp_path / "audit.log*")
    sources = open_sources([pattern])
    assert [stream.node for stream in sources.streams] == ["audit.log"]
    assert [Path(file.name).name for file in sources.files] == [
        "audit.log.10.gz",
        "audit.log.2.zst",
        "audit.log.1",
        "audit.log",
    ]
    assert ctxs(pattern) == ["order:1", "order:2", "order:3", "order:4"]


@pytest.mark.parametrize(
    "name",
    [
        "audit.log",
        "audit.log.1",
        "audit.log.12.gz",
        "audit.log-20261122",
        "audit.log-20261122.zst",
        "audit-2026-11-22.log",
        "audit-2026-11-22T18-44-11.123.log.gz",
    ],
)
def test_base_names(name: str) -> None:
    assert base_name(Path(name)) == "audit.log"


@pytest.mark.parametrize("name", ["node1.log", "audit2.log", "main"])
def test_names_that_are_no_rotation(name: str) -> None:
    assert base_name(Path(name)) == name


def test_files_that_overlap_in_time_are_streams_of_their_own(tmp_path: Path) -> None:
    story = three_apps()
    written(tmp_path, "audit.1", story.device("a"))
    written(tmp_path, "audit.2", story.device("b"))
    sources = open_sources([str(tmp_path / "audit.*")])
    assert [len(stream.files) for stream in sources.streams] == [1, 1]
    found = scan(sources)
    assert sum(isinstance(each, TokenRequest) for each in found) == 6


def test_packed_files_are_told_by_their_content(tmp_path: Path) -> None:
    content = story_at(0, 1)
    for packed in (
        gzip.compress(content),
        gzip.compress(content[:100]) + gzip.compress(content[100:]),
        zstandard.compress(content),
        zstandard.compress(content[:100]) + zstandard.compress(content[100:]),
    ):
        assert ctxs(written(tmp_path, "plain.log", packed)) == ["order:1"]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_packed_file_that_breaks_off_gives_what_it_has(tmp_path: Path, pack) -> None:
    story = Story()
    for number in range(300):
        # What cannot be packed, so that the first half of the file holds half of the lines.
        story.creds(approle("orders"), os.urandom(3000).hex() + str(number), plain=True)
    packed = pack(story.device())
    found = scan(open_sources([written(tmp_path, "cut", packed[: len(packed) // 2])]))
    assert 50 < len(list(found)) < 250
    assert dict(found.counts().damaged)["broken-compression"] == 1


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_packed_file_that_is_garbage_gives_nothing(tmp_path: Path, pack) -> None:
    packed = pack(b"x" * 100)[:6] + b"\xff" * 500
    found = scan(open_sources([written(tmp_path, "garbage", packed)]))
    with pytest.raises(InvalidInputError, match="no line could be read") as raised:
        list(found)
    assert raised.value.problems[0].why == "it is compressed, and corrupt from the start"


def test_digests_are_of_the_bytes_as_stored(tmp_path: Path) -> None:
    contents = {
        "a.log": story_at(0, 1),
        "b.log.gz": gzip.compress(story_at(1, 2)),
        "c.log": zstandard.compress(story_at(2, 3)) + b"",
        "empty.log": b"",
        "cut.gz": gzip.compress(story_at(1, 5) + b"\n" * 9)[:-8],
    }
    names = [written(tmp_path, name, content) for name, content in contents.items()]
    sources = open_sources(names[::-1])
    found = scan(sources)
    assert len(list(found)) == 4
    assert [(Path(one.name).name, one.bytes, one.sha256) for one in sources.inputs()] == sorted(
        (name, len(content), hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    )
    assert found.counts().bytes == sum(map(len, contents.values()))
    assert found.counts().files == 5


def test_a_scan_that_stops_early_still_has_whole_digests(tmp_path: Path) -> None:
    content = story_at(0, 1) * 5000
    sources = open_sources([written(tmp_path, "audit.log", content)])
    rows = scan(sources).rows()
    next(rows)
    rows.close()
    (found,) = sources.inputs()
    assert (found.bytes, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_digests_can_be_left_out(tmp_path: Path) -> None:
    sources = open_sources([written(tmp_path, "audit.log", story_at(0, 1))], digest=False)
    assert len(list(scan(sources))) == 1
    assert sources.inputs()[0].sha256 == ""


def test_standard_input_is_read_once() -> None:
    content = gzip.compress(story_at(0, 1))
    sources = open_sources(["-"], stdin=io.BytesIO(content))
    assert len(list(scan(sources))) == 1
    (found,) = sources.inputs()
    assert (found.name, found.sha256) == ("stdin", hashlib.sha256(content).hexdigest())


def test_nodes_are_named_by_argument_folder_or_file(tmp_path: Path) -> None:
    one = written(tmp_path, "n1/logs/audit.log", story_at(0, 1))
    two = written(tmp_path, "n2/logs/audit.log", story_at(0, 2))
    flat = [written(tmp_path, name, story_at(0, 3)) for name in ("x.log", "y.log")]
    assert _nodes(one, two) == ["n1/logs", "n2/logs"]
    assert _nodes(f"left={one}", f"right={two}") == ["left", "right"]
    assert _nodes(*flat) == ["x.log", "y.log"]
    assert _nodes(f"n1={tmp_path}/?.log") == ["n1", "n1"]
    assert _nodes(one) == ["audit.log"]


def _nodes(*patterns: str) -> list[str]:
    return [stream.node for stream in open_sources(patterns).streams]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    name = written(tmp_path, "audit.log", story_at(0, 1))
    os.link(name, tmp_path / "linked.log")
    (tmp_path / "soft.log").symlink_to(name)
    assert len(open_sources([name, name, str(tmp_path / "*.log")]).files) == 1


def test_a_name_with_an_equals_sign_or_brackets_can_be_a_file(tmp_path: Path) -> None:
    for name in ("a=b.log", "audit[1].log"):
        path = written(tmp_path, name, story_at(0, 1))
        assert [file.name for file in open_sources([path]).files] == [path]


@pytest.mark.parametrize(
    ("patterns", "error", "words"),
    [
        ([], UsageError, "no audit log is named"),
        (["-", "-"], UsageError, "- is given twice"),
        (["-", "n1=-"], UsageError, "- is given twice"),
        (["{tmp}/none*.log"], UsageError, "no file matches"),
        (["{tmp}/none.log"], InvalidInputError, "there is no file"),
        (["n1={tmp}/none.log"], InvalidInputError, "there is no file"),
        (["{tmp}"], UsageError, "is a folder"),
    ],
)
def test_patterns_that_cannot_be_used(
    tmp_path: Path, patterns: list[str], error: type[UsageError | InvalidInputError], words: str
) -> None:
    with pytest.raises(error) as caught:
        open_sources([each.format(tmp=tmp_path) for each in patterns])
    (problem,) = caught.value.problems
    assert words in problem.summary
    assert problem.why
    assert problem.fix


def test_a_file_that_vanishes_before_it_is_read_is_an_error(tmp_path: Path) -> None:
    name = written(tmp_path, "audit.log", story_at(0, 1))
    sources = open_sources([name])
    Path(name).unlink()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        list(scan(sources))


def test_a_pipe_is_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, story_at(0, 1))
    os.close(writing)
    try:
        assert ctxs(f"/dev/fd/{reading}") == ["order:1"]
    finally:
        os.close(reading)
