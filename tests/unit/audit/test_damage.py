"""What damage costs: work that grows with the log alone, and memory that does not grow."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.audit_logs import Story, approle, written
from support.cli import invoke

from skyflowctl.audit import envelopes, unread
from skyflowctl.audit import lines as line_reader
from skyflowctl.audit.scan import Scan, scan
from skyflowctl.audit.scan_options import ScanOptions
from skyflowctl.audit.sources import open_sources
from skyflowctl.audit.unread import Dating, Unread


def entry() -> bytes:
    story = Story(plain_ctx=True)
    story.creds(approle("orders"), "order:1")
    return story.lines()[-1]


def docker(text: str, stream: str = "stdout") -> bytes:
    return json.dumps({"log": text, "stream": stream}).encode() + b"\n"


DAMAGE: dict[str, Callable[[int], bytes]] = {
    "other JSON": lambda _: b'{"a":1}\n',
    "no JSON": lambda _: b"x\n",
    "both in turn": lambda number: b'{"a":1}\n' if number % 2 else b"x\n",
    "JSON, then none": lambda number: b'{"a":1}\n' if number < 9_000 else b"x\n",
    "an entry without a time, then none": lambda number: b"x\n" if number % 3 else UNTIMED,
    "parts without an end": lambda _: docker("x"),
    "empty parts": lambda _: docker(""),
    "parts of many streams": lambda number: docker("x", str(number)),
    "parts of a container's runtime": lambda _: b"2026-11-22T18:00:00.123456789Z stdout P x\n",
}
UNTIMED = b'{"type":"request","request":{"id":"x","path":"secret/x"}}\n'
OPTIONS = {"every line": ScanOptions(), "lines with a text": ScanOptions(prefilter=(b"a",))}


def damaged(tmp_path: Path, kind: str, lines: int) -> Path:
    log = tmp_path / f"{lines}.log"
    with log.open("wb") as file:
        file.write(entry())
        file.writelines(DAMAGE[kind](number) for number in range(lines))
    return log


def scanned(log: Path, options: ScanOptions) -> Scan:
    reading = scan(open_sources([str(log)]), options)
    for _ in reading.rows():
        pass
    return reading


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many bytes were searched for a time."""
    found: Counter[str] = Counter()

    def counting(search: Callable[[bytes], str]) -> Callable[[bytes], str]:
        def counted(text: bytes) -> str:
            found["bytes"] += len(text)
            return search(text)

        return counted

    for module in (unread, envelopes):
        for name in ("time_in", "last_time_in"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, counting(getattr(unread, name)))
    return found


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", DAMAGE)
def test_no_byte_of_a_damaged_log_is_searched_many_times(
    tmp_path: Path, searched: Counter[str], kind: str, options: str
) -> None:
    log = damaged(tmp_path, kind, 12_000)
    scanned(log, OPTIONS[options])
    assert 0 < searched["bytes"] < 5 * log.stat().st_size


@pytest.mark.parametrize("kind", DAMAGE)
def test_memory_does_not_grow_with_the_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(line_reader, "BLOCK_BYTES", 4096)

    def peak(lines: int) -> int:
        log = damaged(tmp_path, kind, lines)
        tracemalloc.start()
        scanned(log, ScanOptions())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)  # what is made once
    few, many = peak(4_000), peak(24_000)
    # A part of a line is kept until its end comes: one byte of each of 20 000 lines.
    assert many - few < 2 * 20_000, f"{few} bytes, then {many}"


@pytest.mark.parametrize("command", ["report", "who", "denied"])
def test_a_log_of_other_json_is_no_audit_log_however_long(tmp_path: Path, command: str) -> None:
    log = written(tmp_path, "other.log", b'{"a":1}\n' * 20_000)
    done = invoke("audit", command, log, "-o", "json")
    assert done.exit_code == 65
    assert "not entries of an audit device (keys: a)" in json.loads(done.stdout)["errors"][0]["why"]


def at(second: int) -> bytes:
    return b'{"time":"2026-11-22T18:00:%02dZ","type":"request"}' % second


EARLY, LATE = "2026-11-22T18:00:01", "2026-11-22T18:00:09"


@pytest.mark.parametrize(
    ("lines", "span"),
    [
        ([b"x", at(1), at(9)], ("", EARLY)),
        ([at(1), b"x", b"y", at(9)], (EARLY, LATE)),
        ([at(1), at(9), b"x"], (LATE, "")),
        ([b"x"], ("", "")),
        ([at(1), b'{"a":1}', b"x", b'{"a":1}', at(9)], (EARLY, LATE)),
        # Two nodes' clocks, or two requests at once: the later entry has the earlier time.
        ([at(9), b"x", at(1)], (EARLY, LATE)),
    ],
)
def test_a_line_is_dated_by_the_entries_around_it(
    lines: list[bytes], span: tuple[str, str]
) -> None:
    found = Unread()
    dating = Dating(found)
    for line in lines:
        (dating.readable if line[:1] == b"{" else dating.unreadable)(line)
    dating.end()
    assert found.span() == span
    assert found.lines == sum(line[:1] != b"{" for line in lines)


def test_a_block_is_dated_by_its_last_entry() -> None:
    found = Unread()
    dating = Dating(found)
    dating.readable(at(1) + b"\n" + at(8) + b'\n{"a":1}\n')
    dating.unreadable(b"x")
    dating.readable(at(9) + b"\n" + at(10) + b"\n")
    assert found.span() == ("2026-11-22T18:00:08", LATE)
    assert dating.last == "2026-11-22T18:00:10"


@pytest.mark.parametrize("command", ["report", "who"])
@pytest.mark.parametrize("time", ["2026-13-45T99:99:99Z", "0000-00-00T00:00:00Z"])
def test_a_time_that_cannot_be_is_no_time(tmp_path: Path, command: str, time: str) -> None:
    log = written(tmp_path, "audit.log", [entry(), b'{"time":"%s","ty\n' % time.encode()])
    done = invoke("audit", command, log, "-o", "json")
    assert done.exit_code == 0
    data = json.loads(done.stdout)["data"]
    counts = data.get("counts") or data["summary"]["read"]
    assert (counts["unread"]["lines"], counts["unread"]["last"]) == (1, None)
