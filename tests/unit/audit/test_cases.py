"""The inputs of operators' own trials that went wrong, each with what is right."""

from __future__ import annotations

import json
import lzma

import pytest
from support.audit_logs import Story, approle, written
from support.cli import checked_data, checked_envelope, invoke

ROLES = [f"order-{name}" for name in ("producer", "reader", "support", "analytics")]


def in_use(prefix: bytes = b"") -> list[bytes]:
    """101 days in which each of four roles is asked for; a device's prefix before each line."""
    story = Story(plain_ctx=True)
    for number in range(404):
        story.creds(approle("orders"), "order:1", role=ROLES[number % 4])
        story.wait(hours=6)
    return [prefix + line for line in story.lines()]


@pytest.mark.parametrize("prefix", [b"", b"@cee: ", b"audit: "])
def test_case_01_roles_in_use_are_in_use_behind_a_devices_prefix(tmp_path, prefix) -> None:
    """A file device with ``prefix=@cee: `` (for rsyslog), and 808 lines of it."""
    log = written(tmp_path, "prefixed.log", in_use(prefix))
    data = checked_data(invoke("audit", "unused", log, "--days", "90", "-o", "json").stdout)
    assert (data["certain"], data["read"]["damaged"], data["read"]["lines"]) == (True, {}, 808)
    assert [one for one in data["unused"] if one["kind"] == "role"] == []
    found = checked_data(invoke("audit", "who", log, "-o", "json").stdout)
    assert found["summary"]["found"] == 404


def sorted_keys(line: bytes) -> bytes:
    return json.dumps(json.loads(line), sort_keys=True).encode() + b"\n"


def docker(line: bytes) -> bytes:
    """As a driver writes it that takes the line's end off."""
    return json.dumps({"log": line.decode().rstrip(), "stream": "stdout"}).encode() + b"\n"


@pytest.mark.parametrize(
    "rewrite",
    [sorted_keys, lambda line: b"@cee: " + sorted_keys(line), docker],
    ids=["sorted keys", "@cee and sorted keys", "Docker without line ends"],
)
def test_case_01_a_log_that_another_writer_rewrote_is_read_whole(tmp_path, rewrite) -> None:
    lines = [rewrite(line) for line in in_use()]
    log = written(tmp_path, "rewritten.log", [*lines, sorted_keys(b'{"event": {"a": 1}}')])
    data = checked_data(invoke("audit", "unused", log, "--days", "90", "-o", "json").stdout)
    assert [one for one in data["unused"] if one["kind"] == "role"] == []
    found = checked_data(invoke("audit", "who", log, "-o", "json").stdout)
    assert found["summary"]["found"] == 404


def test_case_01_an_unknown_prefix_is_an_error_that_shows_it(tmp_path) -> None:
    log = written(tmp_path, "prefixed.log", in_use(b'{"@cee"} '))
    for command in ("unused", "who", "denied", "report"):
        done = invoke("audit", command, log, "-o", "json")
        assert done.exit_code == 65, command
        assert checked_envelope(done.stdout)["errors"][0]["code"] == "no-audit-log-file"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (lzma.compress(b"".join(in_use()[:8])), "it is compressed with xz"),
        (b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/bin/sh\n", "first line is not JSON"),
        (b"\x7fELF\x02\x01\x01" + b"\0\n\x01" * 900, "it is a program"),
    ],
    ids=["xz -k plain.log", "/etc/passwd", "/bin/ls"],
)
def test_case_04_what_is_no_audit_log_is_65_and_says_what_it_is(tmp_path, content, what) -> None:
    done = invoke("audit", "who", written(tmp_path, "plain.log.xz", content), "-o", "json")
    assert done.exit_code == 65
    assert what in checked_envelope(done.stdout)["errors"][0]["why"]
