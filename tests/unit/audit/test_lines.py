"""Blocks and lines out of bytes; a log that is followed while it is rotated."""

import io
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyflowctl.audit import lines
from skyflowctl.audit.lines import blocks, follow_lines, lines_with


class Trickle:
    """A file that gives a few bytes at a time."""

    def __init__(self, content: bytes, size: int) -> None:
        self._inner = io.BytesIO(content)
        self._size = size

    def read(self, size: int, /) -> bytes:
        return self._inner.read(min(size, self._size))


def read(content: bytes, size: int = 7) -> tuple[list[bytes], Counter[str]]:
    damaged: Counter[str] = Counter()
    found = [each for block in blocks(Trickle(content, size), damaged) for each in [block]]
    return found, damaged


@given(
    st.lists(st.binary(max_size=30).map(lambda each: each.replace(b"\n", b""))), st.integers(1, 40)
)
def test_blocks_are_whole_lines_and_lose_nothing(parts: list[bytes], size: int) -> None:
    content = b"\n".join(parts)
    found, damaged = read(content, size)
    assert b"".join(found) == content
    assert all(block.endswith(b"\n") for block in found[:-1])
    assert not damaged


@pytest.mark.parametrize("ending", [b"\n", b"\nlast", b""])
def test_a_line_that_is_too_long_is_counted_and_not_kept(
    monkeypatch: pytest.MonkeyPatch, ending: bytes
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 50)
    found, damaged = read(b"one\n" + b"x" * 500 + ending)
    assert b"".join(found) == b"one\n" + ending[1:]
    assert damaged == {"line-too-long": 1}


def test_lines_with_finds_each_line_once_and_in_order() -> None:
    block = b"a1\nb2 b2\nc3 a1\nd4\na1"
    assert lines_with(block, (b"b2", b"a1")) == [b"a1", b"b2 b2", b"c3 a1", b"a1"]
    assert lines_with(block, (b"zz",)) == []


class Script:
    """Does one thing at each wait, then ends the following."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        self._acts = list(acts)

    def __call__(self, seconds: float) -> bool:
        assert 0 < seconds <= 1
        if not self._acts:
            return False
        self._acts.pop(0)()
        return True


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    path.write_bytes(b"old\n")
    return path


def test_following_gives_lines_once_they_are_complete(log: Path) -> None:
    script = Script(
        lambda: append(log, b"on"),
        lambda: append(log, b"e\ntwo\nthr"),
        lambda: append(log, b"ee\n"),
    )
    assert list(follow_lines(log, script)) == [b"one", b"two", b"three"]


def test_following_can_start_at_the_beginning(log: Path) -> None:
    assert list(follow_lines(log, Script(), from_start=True)) == [b"old"]


def test_half_a_last_line_is_not_given_while_it_is_being_written(log: Path) -> None:
    script = Script(lambda: append(log, b"half"))
    assert list(follow_lines(log, script)) == []


def test_rotation_by_rename_loses_no_line(log: Path) -> None:
    def rotate() -> None:
        append(log, b"last of the old\n")
        log.rename(log.with_name("audit.log.1"))
        log.write_bytes(b"first of the new\n")

    script = Script(lambda: append(log, b"one\n"), rotate, lambda: append(log, b"two\n"))
    assert list(follow_lines(log, script)) == [
        b"one",
        b"last of the old",
        b"first of the new",
        b"two",
    ]


def test_a_log_that_is_away_for_a_while_is_waited_for(log: Path) -> None:
    moved = log.with_name("audit.log.1")
    script = Script(
        lambda: log.rename(moved),
        lambda: append(moved, b"late\n"),
        lambda: log.write_bytes(b"new\n"),
    )
    assert list(follow_lines(log, script)) == [b"late", b"new"]


def test_copytruncate_starts_again(log: Path) -> None:
    script = Script(
        lambda: append(log, b"a long line before\n"),
        lambda: os.truncate(log, 0),
        lambda: append(log, b"after\n"),
    )
    assert list(follow_lines(log, script)) == [b"a long line before", b"after"]


def test_a_log_that_does_not_exist_yet_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    assert list(follow_lines(path, Script(lambda: path.write_bytes(b"one\n")))) == [b"one"]


def test_following_keeps_no_line_that_is_too_long(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 50)
    script = Script(
        lambda: append(log, b"x" * 60),
        lambda: append(log, b"x" * 60),
        lambda: append(log, b"x\nfine\n"),
    )
    followed = follow_lines(log, script)
    assert list(followed) == [b"fine"]
    assert followed.damaged == {"line-too-long": 1}
