"""H4: lengths, encodings and ranges that once ended in "an error it did not expect"."""

from __future__ import annotations

import json
import os
import subprocess
from types import SimpleNamespace

import pytest
from support.cli import checked_envelope, invoke
from support.stack import BIN, clean_environ

from skyflowctl.clock import LONGEST_DURATION, parse_duration
from skyflowctl.devstack.layout import DevLayout
from skyflowctl.devstack.server import server_config
from skyflowctl.errors import UsageError
from skyflowctl.vault.answer_reader import as_answer
from skyflowctl.vault.connection import Received

LONG = "a" * 300
BROKEN = b"\xff\xfe"
HERE = {"BAO_ADDR": "http://127.0.0.1:1", "BAO_TOKEN": "x"}
MANIFEST = """version: 1
manifest: t
mounts:
  order:
    credentials: {%s}
    roles:
      w: {role_ids: [r1]}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mounts.yaml").write_text(MANIFEST % f"file: {LONG}.json")
    (tmp_path / "audit.log").write_text("")
    return tmp_path


def expected(done) -> dict:
    """The one error of a run: any but the unexpected one, with its fix."""
    error = checked_envelope(done.stdout)["errors"][0]
    assert error["code"] != "unexpected", error
    assert done.exit_code in {4, 5, 6, 7, 64, 65, 69}, done.stdout
    assert all((error["summary"], error["why"], error["fix"]))
    return error


LENGTHS = [
    ["validate"], ["creds", "order", "w", "--direct"], ["validate", "-f", LONG],
    ["init", "-f", LONG], ["status", "--ca-cert", LONG], ["status", "--token-file", LONG],
    ["rotate", "order", "-y", "--credentials", f"file:{LONG}"],
    ["rotate", "order", "-y", "--credentials", f"env:{LONG}"],
    ["audit", "who", LONG], ["audit", "report", "audit.log", "--html", LONG],
    ["audit", "report", "audit.log", "--evidence", LONG], ["audit", "tail", LONG],
    ["audit", "posture", "--log", LONG], ["plugin", "build", LONG],
]  # fmt: skip


@pytest.mark.parametrize("args", LENGTHS, ids=" ".join)
def test_a_name_of_300_characters_is_said_to_be_too_long(folder, args):
    expected(invoke(*args, "-o", "json", env=HERE))


def test_a_long_reference_stops_no_dry_run(folder):
    done = invoke("apply", "--dry-run", "-o", "json")
    assert done.exit_code == 0
    assert "File name too long" in done.stdout


@pytest.mark.parametrize("value", ["99999999999999s", "99999999999999", "999999999d", "0s", "-1s"])
@pytest.mark.parametrize(
    "args",
    [
        ["status", "--timeout"],
        ["rotate", "order", "-y", "--watch"],
        ["rotate", "order", "-y", "--stale-after"],
        ["creds", "order", "w", "--wrap-ttl"],
        ["apply", "-y", "--wait-approval"],
        ["audit", "unused", "audit.log", "--days"],
    ],
    ids=lambda args: args[-1],
)
def test_a_span_out_of_range_is_a_usage_error(folder, args, value):
    name = args[-1]
    done = invoke(*args[:-1], f"{name}={value}", "-o", "json", env=HERE)
    error = expected(done)
    if "no such option" not in error["summary"]:
        assert done.exit_code == 64
        assert name in error["summary"]


def test_the_longest_duration_can_be_added_to_now_and_waited_for():
    assert parse_duration("36500d") == LONGEST_DURATION
    for text in ("36501d", "9999999999999s", "9" * 400 + "d", "\u0661d"):
        with pytest.raises(ValueError, match=r"longer|no duration"):
            parse_duration(text)


def run(folder, *args: bytes | str, **env: bytes):
    """A real process: only there can an argument or a variable be no text."""
    environ = {os.fsencode(k): os.fsencode(v) for k, v in {**clean_environ(), **HERE}.items()}
    done = subprocess.run(
        [str(BIN / "skyflowctl").encode(), *(os.fsencode(one) for one in args), b"-o", b"json"],
        env={**environ, **{name.encode(): value for name, value in env.items()}},
        cwd=folder,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return SimpleNamespace(exit_code=done.returncode, stdout=done.stdout.decode())


ENCODINGS = [
    (["validate", "-f", "e.yaml"], {"CRED": BROKEN}),
    (["creds", "order", "w", "--direct", "-f", "e.yaml"], {"CRED": BROKEN}),
    (["validate", "-f", "v.yaml"], {"NAME": BROKEN}),
    (["status"], {"BAO_ADDR": b"http://\xff:1"}),
    (["status"], {"BAO_TOKEN": BROKEN}),
    (["status"], {"BAO_NAMESPACE": BROKEN}),
    (["status"], {"BAO_CACERT": b"/" + BROKEN}),
    (["validate"], {"SKYFLOWCTL_FILE": BROKEN}),
    (["validate"], {"SKYFLOWCTL_ALLOW_HOSTS": BROKEN + b":1"}),
    (["dev", "up"], {"SKYFLOWCTL_DEV_DIR": b"/tmp/" + BROKEN}),
    (["mount", "show", BROKEN], {}),
    (["config", "revoke", "order", "--reason", BROKEN, "-y"], {}),
    (["config", "write", "order", "--description", BROKEN], {}),
    (["creds", "order", "w", "--ctx", BROKEN], {}),
    (["rotate", "order", "-y", "--credentials", b"file:" + BROKEN], {}),
    (["init", "-f", b"/dev/null/" + BROKEN], {}),
]


@pytest.mark.parametrize(("args", "env"), ENCODINGS, ids=lambda value: str(value)[:40])
def test_an_argument_or_a_variable_that_is_no_utf_8_is_said(folder, args, env):
    (folder / "e.yaml").write_text(MANIFEST % "env: CRED")
    (folder / "v.yaml").write_text(MANIFEST % 'file: "${NAME}"')
    expected(run(folder, *args, **env))


def answered(text: str):
    return as_answer("GET", "sys/mounts", Received(200, {}, text.encode()))


def test_a_lone_surrogate_of_a_server_becomes_a_replacement_character():
    text = '{"data": {"a\\ud800": [{"description": "x\\udfff y \\ud83d\\ude00"}]}}'
    assert answered(text).body == {"data": {"a\ufffd": [{"description": "x\ufffd y \U0001f600"}]}}


def test_an_answer_too_deep_to_read_is_no_answer():
    assert answered("[" * 200_000).body is None
    assert answered('{"a":' * 100_000 + "1" + "}" * 100_000).body is None


@pytest.mark.parametrize("name", ["x${b}%{c}", "open${", 'q"uo\\te', "$$", "ünï"])
def test_a_folders_name_begins_no_interpolation_in_the_servers_configuration(tmp_path, name):
    text = server_config(DevLayout(tmp_path / name), 18200, "raft")
    line = next(one for one in text.splitlines() if one.startswith("plugin_directory"))
    assert "${" not in line
    said = line.partition(" = ")[2]
    assert json.loads(said.replace("\\U0000", "\\u")) == str(tmp_path / name / "plugins")


@pytest.mark.parametrize("name", ["two\nlines", "tab\t", "rtl\u202e", os.fsdecode(BROKEN)])
def test_a_folder_that_no_configuration_can_name_is_a_usage_error(tmp_path, name):
    with pytest.raises(UsageError) as refused:
        DevLayout(tmp_path / name).create()
    assert refused.value.problems[0].code == "dev-folder"
    assert list(tmp_path.iterdir()) == []
