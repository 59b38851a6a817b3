"""Logs that mean harm, read by the command line as a process: all counted, nothing executed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import pytest
from support.audit_logs import Story, Token, approle
from support.processes import running
from support.stack import BIN, clean_environ

pytestmark = pytest.mark.timeout(90)

SCRIPT = "<script>alert(1)</script>"
ANSI = "\x1b[2J\x1b]0;owned\x07"
FORMULA = "=HYPERLINK(1)"
HIDDEN = "order:\u202e\u200b\u0085x"
NASTY = (SCRIPT, ANSI, FORMULA, HIDDEN, "+1", "-1", "@x", "\tx", "a\r\nb", 'x"onload="y')
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]")
LONG = 10 << 20
TOO_LONG = 17 << 20


def nasty_log(folder: Path) -> tuple[Path, int]:
    """A log of everything at once; how many requests are in it."""
    story = Story(plain_ctx=True)
    for number, text in enumerate(NASTY):
        app = story.login(approle(text, number=number))
        story.creds(app, text, claimed=text, role="order-producer")
    good = story.login(approle("orders"))
    story.creds(good, "order:long", claimed="x" * LONG)
    story.creds(good, "order:twice")
    story.creds(good, "order:last")
    lines = story.lines()
    # What another device would have written of the same request, and what nobody wrote.
    lines[-4:-2] = [*lines[-4:-2], *lines[-4:-2]]
    lines[10:10] = [
        b'{"time":"' + b"x" * TOO_LONG + b'"}\n',
        lines[3].replace(b"skyflow/order", b"skyflow/\xff\xfe"),
        b'{"a":' * 100_000 + b"\n",
        b"[" * 100_000 + b"]" * 100_000 + b"\n",
        b"\x00" * 4096 + b"\n",
        b"what is this\n",
        b'{"type":"response","request":[]}\n',
        b"null\n",
    ]
    path = folder / "audit.log"
    path.write_bytes(b"".join(lines) + lines[-1][:200])
    return path, len(NASTY) + 3


@pytest.fixture(scope="module")
def nasty(tmp_path_factory) -> tuple[Path, int]:
    return nasty_log(tmp_path_factory.mktemp("nasty"))


def audit(*args: str, encoding: str = "utf-8") -> str:
    done = subprocess.run(
        [str(BIN / "skyflowctl"), "audit", *args],
        env=clean_environ() | {"COLUMNS": "200", "PYTHONUTF8": "1"},
        capture_output=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert not CONTROLS.search(done.stderr.decode(encoding))
    return done.stdout.decode(encoding)


@pytest.mark.parametrize("args", [("who",), ("tail", "-n", "100")], ids=" ".join)
def test_every_request_is_found_and_every_bad_line_counted(nasty, args):
    path, requests = nasty
    shown = audit(args[0], str(path), *args[1:], "-o", "ndjson")
    _, *rows, result = (json.loads(line) for line in shown.splitlines())
    assert len(rows) == requests
    assert {row["ctx"] for row in rows} >= set(NASTY), "the JSON tells what the log says"
    read = result["data"]["summary"]["read"]
    assert read["damaged"].pop("line-too-long") == 1
    assert read["damaged"].pop("nul-bytes") == 1
    assert sum(read["damaged"].values()) == 7
    assert read["duplicates"] == 2
    assert read["unpaired"] == 0


@pytest.mark.parametrize(
    "args",
    [("who",), ("who", "-v"), ("tail",), ("denied",), ("report",), ("unused", "--days", "1h")],
    ids=" ".join,
)
def test_no_screen_shows_a_control_character(nasty, args):
    shown = audit(args[0], str(nasty[0]), *args[1:])
    assert not CONTROLS.search(shown)
    assert len(shown) < 200_000


@pytest.mark.parametrize("args", [("who",), ("tail", "-n", "100"), ("report",)], ids=" ".join)
def test_no_cell_is_a_formula(nasty, args):
    shown = audit(args[0], str(nasty[0]), *args[1:], "-o", "csv")
    cells = [cell for row in csv.reader(io.StringIO(shown)) for cell in row]
    assert f"'{FORMULA}" in cells
    assert not [cell for cell in cells if cell[:1] in set("=+@\t\r\n") or CONTROLS.search(cell)]
    assert "-1" not in cells


def test_page_and_evidence_hold_the_texts_and_no_element_of_theirs(nasty, tmp_path):
    page, folder = tmp_path / "page.html", tmp_path / "evidence"
    audit("report", str(nasty[0]), "--html", str(page), "--evidence", str(folder))
    text = page.read_text()
    assert SCRIPT not in text
    assert "&lt;script&gt;" in text
    assert 'x"onload="y' not in text
    assert ANSI not in text
    evidence = json.loads((folder / "evidence.json").read_text())
    assert evidence["counts"]["damaged"]["line-too-long"] == 1
    for file in folder.iterdir():
        assert not CONTROLS.search(file.read_text()), file.name


@dataclass
class Tailing:
    """``audit tail -f`` as a process, and what it said so far."""

    process: subprocess.Popen[bytes]
    lines: Queue[dict[str, Any]]

    def rows(self, count: int) -> list[str]:
        """The ctx of the next requests."""
        return [self.lines.get(timeout=20)["ctx"] for _ in range(count)]

    def silent(self, seconds: float) -> bool:
        """Whether nothing is said for so long."""
        try:
            self.lines.get(timeout=seconds)
        except Empty:
            return True
        return False


@contextmanager
def tailing(log: Path) -> Iterator[Tailing]:
    """Follow a log from its end; it stops as by Ctrl-C, and says so."""
    with running(
        [str(BIN / "skyflowctl"), "audit", "tail", "-f", "-n", "1", str(log), "-o", "ndjson"],
        env=clean_environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        lines: Queue[dict[str, Any]] = Queue()

        def pump() -> None:
            assert process.stdout
            for line in process.stdout:
                told = json.loads(line)
                if told["type"] != "version":
                    lines.put(told)

        reader = Thread(target=pump, daemon=True)
        reader.start()
        yield Tailing(process, lines)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        reader.join(20)
        assert lines.get(timeout=5)["type"] == "result"


def pairs(story: Story, app: Token, *ctx: str) -> list[bytes]:
    """The lines of these requests, a pair each."""
    before = len(story.lines())
    for one in ctx:
        story.creds(app, one)
    lines = story.lines()[before:]
    return [b"".join(lines[at : at + 2]) for at in range(0, len(lines), 2)]


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def test_following_through_half_lines_garbage_and_both_kinds_of_rotation(tmp_path):
    log = tmp_path / "audit.log"
    story = Story(plain_ctx=True)
    app = story.login(approle("orders"))
    story.creds(app, "before")
    log.write_bytes(story.device())
    parts = pairs(story, app, *"abcdefg")
    with tailing(log) as tail:
        assert tail.rows(1) == ["before"]
        append(log, parts[0])
        assert tail.rows(1) == ["a"]

        # Half a last line is no row, and no damage once the rest is there.
        append(log, parts[1][:-100])
        assert tail.silent(0.8)
        append(log, parts[1][-100:])
        assert tail.rows(1) == ["b"]

        append(log, b"\xff\xfe\n" + b'{"a":' * 50_000 + b"\n" + parts[2] * 2)
        assert tail.rows(1) == ["c"]

        # Rename: the server goes on in the old file until it is told to open the new one.
        log.rename(tmp_path / "audit.log.1")
        append(tmp_path / "audit.log.1", parts[3])
        append(log, parts[4])
        assert tail.rows(2) == ["d", "e"]

        # Copytruncate: the same file, shorter than before.
        shutil.copy(log, tmp_path / "audit.log.2")
        os.truncate(log, 0)
        assert tail.silent(0.8)
        append(log, parts[5])
        append(log, parts[6])
        assert tail.rows(2) == ["f", "g"]
