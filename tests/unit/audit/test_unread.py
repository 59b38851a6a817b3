"""D1: what could not be read is not "did not happen", in every answer out of the log."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest
from support.audit_logs import Story, approle, three_apps, written
from support.cli import checked_data, checked_envelope, invoke

from skyflowctl.audit.scan import scan
from skyflowctl.audit.sources import open_sources
from skyflowctl.operations.audit_exercised import exercised

CEE = b"@cee: "
COMMANDS = {
    "who": ("who",),
    "who --ctx": ("who", "--ctx", "order:1"),
    "denied": ("denied",),
    "report": ("report",),
    "unused": ("unused", "--days", "1h"),
}
UNDAMAGED = three_apps(plain_ctx=True)
UNDAMAGED.wait(hours=2)
UNDAMAGED.creds(approle("orders"), "order:1")


def ask(command: str, *logs: str) -> dict:
    verb, *rest = COMMANDS[command]
    done = invoke("audit", verb, *logs, *rest, "-o", "json")
    return {**checked_data(done.stdout), "stderr": " ".join(done.stderr.split())}


def certain(data: dict) -> bool:
    return data["certain"] if "certain" in data else data["summary"]["certain"]


def read(data: dict) -> dict:
    return data.get("read") or data.get("counts") or data["summary"]["read"]


def story_of(hours: int) -> Story:
    """One request an hour."""
    story = Story(plain_ctx=True)
    for number in range(hours):
        story.creds(approle("orders"), f"order:{number}")
        story.wait(hours=1)
    return story


def docker(line: bytes, cut: int = 0) -> list[bytes]:
    """As Docker's json-file driver writes it, in two parts if it is cut."""
    text = line.decode()
    parts = [text[:cut], text[cut:]] if cut else [text]
    return [
        json.dumps({"log": one, "stream": "stdout", "time": "2026-11-22T18:00:00.1Z"}).encode()
        + b"\n"
        for one in parts
    ]


def cri(line: bytes, cut: int = 0) -> list[bytes]:
    head = b"2026-11-22T18:00:00.123456789Z stdout "
    if not cut:
        return [head + b"F " + line]
    return [head + b"P " + line[:cut] + b"\n", head + b"F " + line[cut:]]


AROUND = {
    "prefix @cee:": lambda line: [CEE + line],
    "prefix openbao-1  |": lambda line: [b"openbao-1  | " + line],
    "syslog": lambda line: [b"Nov 22 18:00:00 node-1 vault[871]: " + line],
    "syslog ": lambda line: [b"2026-11-22T18:00:00.123456+00:00 node-1 bao[1]: " + line],
    "syslog  ": lambda line: [b'<134>1 2026-11-22T18:00:00Z n bao 1 - [x y="z"] ' + line],
    "Docker JSON": docker,
    "Docker JSON ": lambda line: docker(line, 400),
    "CRI": cri,
    "CRI ": lambda line: cri(line, 400),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("command", COMMANDS)
def test_d1_what_stands_around_an_entry_is_taken_off_and_named(tmp_path, around, command) -> None:
    plain = ask(command, written(tmp_path, "plain.log", UNDAMAGED.device()))
    wrapped = [part for line in UNDAMAGED.lines() for part in AROUND[around](line)]
    data = ask(command, written(tmp_path, "around.log", wrapped))
    assert read(data)["unwrapped"] == {around.strip(): len(wrapped)}
    assert (read(data)["damaged"], read(data)["unread"]["lines"]) == ({}, 0)
    assert certain(data)
    for name in ("requests", "denied", "usage", "changes", "unused"):
        if name in data:
            assert drop_node(data[name]) == drop_node(plain[name])


def drop_node(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "node"} for row in rows]


@pytest.mark.parametrize("command", COMMANDS)
def test_d1_a_byte_order_mark_is_skipped_and_named(tmp_path, command) -> None:
    log = written(tmp_path, "audit.log", b"\xef\xbb\xbf" + UNDAMAGED.device())
    data = ask(command, log)
    assert certain(data)
    assert read(data)["unwrapped"] == {"byte-order mark": 1}


BROKEN = {
    "no JSON": lambda line: b"segfault at 0\n",
    "torn at its end": lambda line: line[: len(line) // 2] + b"\n",
    "torn at its start": lambda line: line[len(line) // 2 :],
    "with NUL": lambda line: b"\0\0\0\0" + line,
    "another text before it, of a torn entry": lambda line: b'"x"}' + line,
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("command", COMMANDS)
def test_d1_one_damaged_line_makes_every_answer_uncertain(tmp_path, broken, command) -> None:
    lines = story_of(6).lines()
    lines[5] = BROKEN[broken](lines[5])
    data = ask(command, written(tmp_path, "audit.log", lines))
    assert not certain(data)
    unread = read(data)["unread"]
    assert unread["lines"] == sum(read(data)["damaged"].values()) == 1
    # The request of the third hour: between its neighbours, or its own time.
    assert "2026-11-22T20:00" <= unread["first"] <= unread["last"] < "2026-11-22T21:01"
    assert "warning: 1 line could not be read (" in data["stderr"]


def test_d1_only_lines_that_are_selected_are_decoded_to_find_damage(tmp_path) -> None:
    lines = story_of(3).lines()
    lines[4] = lines[4].replace(b'"type"', b'"type', 1)
    log = written(tmp_path, "audit.log", lines)
    assert certain(ask("who --ctx", log))
    assert not certain(ask("who", log))
    done = invoke("audit", "who", log, "--ctx", "order:2", "-o", "json")
    assert not checked_data(done.stdout)["summary"]["certain"]


def test_d1_text_says_what_was_not_read(tmp_path) -> None:
    log = written(tmp_path, "audit.log", [*story_of(2).lines(), b"garbage\n"])
    done = invoke("audit", "who", log, "--app", "nobody")
    assert "no such request in what could be read; 5 lines of 1 file read" in done.stderr
    assert "1 line could not be read (between 2026-11-22 19:00:00Z and the end of a log)" in (
        " ".join(done.stderr.split())
    )
    done = invoke("audit", "denied", log)
    assert "none of 2 requests turned down in what could be read" in done.stderr
    done = invoke("audit", "unused", log, "--days", "1h")
    assert "not seen in use in 60 minutes" in " ".join(done.stderr.split())


def test_d1_posture_does_not_check_unused_roles_in_a_damaged_log(tmp_path) -> None:
    lines = story_of(3).lines()
    whole = exercised([written(tmp_path, "a.log", lines)], plugin_name="skyflow")
    assert (whole.unread, whole.roles) == ("", {("skyflow/order", "order-producer")})
    torn = exercised([written(tmp_path, "b.log", [*lines, b"x\n"])], plugin_name="skyflow")
    assert torn.unread.startswith("1 line could not be read (between 2026-11-22 20:00:00Z")
    assert (whole.since, whole.until) == (torn.since, torn.until)


def test_d1_a_line_that_is_cut_off_by_compression_makes_the_answer_uncertain(tmp_path) -> None:
    packed = gzip.compress(story_of(40).device())
    data = ask("who", written(tmp_path, "audit.log.gz", packed[: len(packed) // 2]))
    assert not certain(data)
    assert read(data)["damaged"].keys() >= {"broken-compression"}
    assert read(data)["unread"]["last"] is None


# A binary, a packed file, a list of users, another program's logs.
FOREIGN = {
    "packed with xz: unpack": (lzma.compress, "it is compressed with xz"),
    "bzip2": (bz2.compress, "it is compressed with bzip2"),
    "zip": (lambda content: b"PK\x03\x04" + content, "it is a zip archive"),
    "binary": (lambda _: b"\x7fELF\x02\x01\x01\0\0\0\n" * 400, "it is a program"),
    "another binary": (lambda _: b"\x01\x02\0\x04\n" * 400, "it is not text"),
    "UTF-16": (lambda content: content.decode().encode("utf-16"), "it is text in UTF-16"),
    "passwd": (lambda _: b"root:x:0:0:root:/root:/bin/bash\n", "its first line is not JSON"),
    "another JSON log": (
        lambda _: b'{"level":"info","msg":"hello"}\n{"level":"info","msg":"x"}\n',
        "not entries of an audit device (keys: level, msg)",
    ),
    "the server's own log": (
        lambda _: b"2026-11-22T18:00:00.100Z [INFO]  core: post-unseal setup complete\n",
        "it is the server's own log",
    ),
    "an unknown prefix": (
        lambda content: b"".join(b'x{y} "z" ' + line + b"\n" for line in content.splitlines()),
        "its first line has the unknown prefix",
    ),
    "packed twice": (
        lambda content: gzip.compress(lzma.compress(content)),
        "it is compressed with xz",
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("command", [*COMMANDS, "tail"])
def test_d1_a_file_of_which_nothing_can_be_read_is_65_and_says_what_it_is(
    tmp_path: Path, kind: str, command: str
) -> None:
    make, what = FOREIGN[kind]
    log = written(tmp_path, "foreign.log", make(story_of(2).device()))
    good = written(tmp_path, "audit.log", story_of(2).device())
    verb, *rest = COMMANDS.get(command, (command,))
    for logs in ([log], [good, log]):
        done = invoke("audit", verb, *logs, *rest, "-o", "json")
        assert done.exit_code == 65
        text = done.stdout.splitlines()[-1] if command == "tail" else done.stdout
        envelope = checked_envelope(text)
        (problem,) = envelope["errors"]
        assert problem["code"] == "no-audit-log-file"
        assert "foreign.log is not an audit log" in problem["summary"]
        assert what in problem["why"]


def test_d1_the_fix_for_a_packed_file_works_as_it_stands(tmp_path, monkeypatch) -> None:
    import shlex
    import subprocess

    monkeypatch.chdir(tmp_path)
    written(tmp_path, "audit.log.xz", lzma.compress(story_of(2).device()))
    done = invoke("audit", "who", "audit.log.xz", "-o", "json")
    fix = checked_envelope(done.stdout)["errors"][0]["fix"]
    subprocess.run(shlex.split(fix.partition(": ")[2]), check=True)
    assert len(ask("who", "audit.log")["requests"]) == 2


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\r\n"])
def test_an_empty_file_is_no_error(tmp_path, content) -> None:
    data = ask("who", written(tmp_path, "audit.log", content))
    assert (data["requests"], certain(data)) == ([], True)


def without_type(story: Story) -> list[bytes]:
    for entry in story.entries:
        entry["request"].pop("mount_type", None)
        (entry.get("response") or {}).pop("mount_type", None)
    return story.lines()


def test_d1_entries_without_a_mount_type_are_matched_by_path(tmp_path) -> None:
    log = written(tmp_path, "audit.log", without_type(story_of(3)))
    assert len(ask("who", log)["requests"]) == 3


def test_d1_a_path_that_was_met_with_its_type_is_known_without_it(tmp_path) -> None:
    named, later = Story(plain_ctx=True), Story(plain_ctx=True, first_id=50)
    named.creds(approle("orders"), "order:1", mount="team/tokens")
    later.wait(minutes=1)
    later.creds(approle("orders"), "order:2", mount="team/tokens")
    later.creds(approle("orders"), "order:3", mount="database/other")
    log = written(tmp_path, "audit.log", [*named.lines(), *without_type(later)])
    assert [row["ctx"] for row in ask("who", log)["requests"]] == ["order:1", "order:2"]


def test_d1_another_engines_creds_are_not_ours(tmp_path) -> None:
    story = Story()
    story.creds(approle("orders"), mount="skyflow/db", role="x")
    for entry in story.entries:
        entry["request"]["mount_type"] = "database"
    assert ask("who", written(tmp_path, "audit.log", story.device()))["requests"] == []


def test_d1_nul_lines_count_once(tmp_path) -> None:
    lines = [*story_of(1).lines(), b"\0\x01garbage\n", b"\0" * 100 + b"\n"]
    counts = read(ask("who", written(tmp_path, "audit.log", lines)))
    assert (counts["damaged"], counts["lines"]) == ({"nul-bytes": 2}, 4)


def test_d1_what_the_server_says_between_entries_in_a_container_is_no_damage(tmp_path) -> None:
    said = b"2026-11-22T18:00:00.100Z [INFO]  core: sealed\n"
    lines = [part for line in [*story_of(1).lines(), said] for part in docker(line)]
    data = ask("who", written(tmp_path, "audit.log", lines))
    assert certain(data)
    assert read(data)["unwrapped"] == {"Docker JSON": 3, "the server's own log": 1}


def test_a_log_is_covered_by_what_could_be_read_of_it(tmp_path) -> None:
    story = story_of(4)
    reading = scan(open_sources([written(tmp_path, "audit.log", story.lines()[2:])]))
    list(reading)
    (span,) = reading.covered.values()
    assert [time[:13] for time in span] == ["2026-11-22T19", "2026-11-22T21"]
