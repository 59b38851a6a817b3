"""The way in and the way out: exit codes, the envelope, signals, unexpected errors."""

from __future__ import annotations

import io
import json
import os
import signal

import pytest
from support.cli import checked_data, checked_envelope, invoke

from skyflowctl.cli.app import command_named, json_asked
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.envelope import CommandResult, EventStream, safe_json
from skyflowctl.cli.options import OutputOptions
from skyflowctl.cli.registry import COMMANDS
from skyflowctl.cli.runner import new_run_id, run_command
from skyflowctl.errors import (
    ExitCode,
    InvalidInputError,
    NotPermittedError,
    PartlyDoneError,
    Problem,
    RefusedError,
    UnhealthyError,
    UnreachableError,
    UsageError,
    Where,
)
from skyflowctl.secret import Secret

JSON = OutputOptions(format="json")
TEXT = OutputOptions()


def run(work, output=TEXT, view=lambda *_: None):
    with pytest.raises(SystemExit) as left:
        run_command("version", output, work, view)
    return left.value.code


def raising(error):
    def work(_):
        raise error

    return work


@pytest.mark.parametrize(
    "args",
    [
        ["no-such-command"],
        ["version", "--frob"],
        ["version", "surplus"],
        ["creds", "order"],
        ["mount"],
        ["mount", "frob"],
        ["plan", "-p", "many"],
        ["plan", "-p", "0"],
        ["version", "-o", "yaml"],
        ["completion", "tcsh"],
        ["consumer", "manifest", "order-service"],
    ],
)
def test_a_wrong_command_line_is_64_in_three_lines(args):
    done = invoke(*args)
    assert done.exit_code == 64
    assert done.stdout == ""
    assert "\\" not in done.stderr
    first, second, third = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert second.startswith("because: ")
    assert third.startswith("fix: ")


@pytest.mark.parametrize(
    "asked", [["-o", "json"], ["-ojson"], ["--output", "json"], ["--output=json"]]
)
def test_a_wrong_command_line_speaks_the_envelope_when_json_was_asked(asked):
    done = invoke("mount", "list", "--frob", *asked)
    whole = checked_envelope(done.stdout)
    assert done.exit_code == 64
    assert (whole["command"], whole["status"], whole["data"]) == ("mount list", "error", {})
    assert whole["errors"][0]["code"] == "usage"


@pytest.mark.parametrize("name", [row.name for row in COMMANDS])
def test_every_command_speaks_the_envelope_when_it_fails(name):
    done = invoke(*name.split(), "--no-such-flag", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["command"], whole["status"]) == (64, name, "error")


def test_an_unknown_command_names_the_nearest():
    assert "did you mean 'version'?" in invoke("versoin").stderr
    assert "did you mean 'list'?" in invoke("mount", "lits").stderr


def test_json_is_asked_only_before_the_double_dash():
    assert json_asked(["exec", "-o", "json", "--", "x"])
    assert not json_asked(["exec", "--", "x", "-o", "json"])
    assert not json_asked(["creds", "-o", "raw"])


def test_a_command_line_names_its_command():
    assert command_named(["-v", "mount", "list"]) == "mount list"
    assert command_named(["mount", "frob"]) == "mount"
    assert command_named(["plan", "list"]) == "plan"
    assert command_named(["frob"]) == ""


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (PartlyDoneError, 3, "partial"),
        (NotPermittedError, 4, "error"),
        (RefusedError, 5, "refused"),
        (UnhealthyError, 6, "unhealthy"),
        (UsageError, 64, "error"),
        (InvalidInputError, 65, "error"),
        (UnreachableError, 69, "error"),
    ],
)
def test_an_error_class_decides_code_and_status(error, code, status, capsys):
    assert run(raising(error("it broke", why="so", fix="mend it", code="broken")), JSON) == code
    whole = checked_envelope(capsys.readouterr().out)
    assert whole["status"] == status
    assert whole["errors"] == [
        {"code": "broken", "summary": "it broke", "why": "so", "fix": "mend it", "where": None}
    ]


def test_many_problems_are_listed_with_their_places_and_counted(capsys):
    problems = [
        Problem("a", "first", "because", "do", Where("mounts.yaml", 3, 5, "/mounts")),
        Problem("b", "second", where=Where("mounts.yaml", 9, 1)),
    ]
    assert run(raising(InvalidInputError.of(problems))) == 65
    assert capsys.readouterr().err.splitlines() == [
        "mounts.yaml:3:5: error: first",
        "because: because",
        "fix: do",
        "mounts.yaml:9:1: error: second",
        "2 problems",
    ]


def test_an_unexpected_error_is_three_lines_without_its_text(capsys):
    token = "hvs." + "x" * 40
    assert run(raising(ValueError(f"bad header {token}"))) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 3
    assert "ValueError" in err
    assert token not in err


def test_a_traceback_is_shown_on_request_without_locals_and_long_words(capsys):
    token = "hvs." + "x" * 40

    def work(_):
        held = token
        raise ValueError(f"bad header {held}")

    assert run(work, OutputOptions(verbose=1)) == 1
    err = capsys.readouterr().err
    assert "raise ValueError" in err
    assert "bad header ***" in err
    assert token not in err


def test_the_debug_variable_asks_for_the_traceback_too(capsys, monkeypatch):
    monkeypatch.setenv("SKYFLOWCTL_DEBUG", "1")
    run(raising(ValueError("bad")))
    assert "raise error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_ends_in_order(number, code, word, capsys):
    ended = []

    def work(_):
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            ended.append(True)

    before = signal.getsignal(signal.SIGTERM)
    assert run(work, JSON) == code
    assert ended == [True]
    assert checked_envelope(capsys.readouterr().out)["errors"][0]["code"] == word
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_result_decides_the_exit_code_and_its_warnings_go_to_stderr(capsys):
    result = CommandResult(
        {"x": 1}, "changes", ExitCode.CHANGES, warnings=[Problem("w", "look here")]
    )
    assert run(lambda _: result, JSON) == 2
    out, err = capsys.readouterr()
    assert checked_envelope(out)["data"] == {"x": 1}
    assert err == "warning: look here\n"


def test_quiet_hides_warnings_and_notices_and_no_error(capsys):
    def work(run):
        run.notice("working")
        return CommandResult({}, "error", 65, [Problem("p", "bad")], [Problem("w", "look here")])

    run(work, OutputOptions(quiet=True))
    assert capsys.readouterr().err == "error: bad\n"


def test_a_stream_is_ndjson_with_version_first_and_the_envelope_last(capsys):
    def work(run):
        events = run.events()
        assert run.events() is events
        events.event("request", app="checkout")
        return CommandResult({"requests": 1})

    assert run(work, JSON) == 0
    first, second, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["type"], first["format_version"]) == ("version", "1.0")
    assert second == {"type": "request", "app": "checkout"}
    assert last.pop("type") == "result"
    assert checked_envelope(json.dumps(last))["data"] == {"requests": 1}
    assert first["run_id"] == last["run_id"]


def test_a_stream_that_fails_still_ends_with_its_envelope(capsys):
    def work(run):
        run.events()
        raise UnreachableError("gone")

    assert run(work, JSON) == 69
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["type"], last["status"]) == ("result", "error")


def test_text_output_has_no_stream(capsys):
    def work(run):
        assert run.events() is None
        return CommandResult({})

    assert run(work) == 0


def test_no_secret_gets_into_json():
    with pytest.raises(TypeError):
        safe_json({"token": Secret("s3cret")})


def test_json_holds_nothing_that_acts_on_a_terminal():
    text = safe_json({"name": "a\x1b[2J\x7f\u202e\u2028\x9b"})
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == {"name": "a\x1b[2J\x7f\u202e\u2028\x9b"}


def test_an_event_is_written_at_once():
    out = io.StringIO()
    EventStream(out, "audit tail", "id").event("x", n=1)
    assert out.getvalue().count("\n") == 2


def test_run_ids_are_sortable_and_never_alike():
    ids = [new_run_id(at) for at in range(1_800_000_000_000, 1_800_000_000_300, 3)]
    assert ids == sorted(ids)
    assert len({new_run_id(1) for _ in range(200)}) == 200
    assert {len(one) for one in ids} == {16}


class GonePipe(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def test_a_reader_that_went_away_changes_nothing(capsys):
    class Gone(OutputOptions):
        def terminal(self):
            return Terminal(out=GonePipe())

    with pytest.raises(SystemExit) as left:
        run_command(
            "plan", Gone(format="json"), lambda _: CommandResult({}, "changes", 2), lambda *_: None
        )
    assert left.value.code == 2


def test_version_in_all_its_forms():
    line = invoke("version").stdout
    assert line.startswith("skyflowctl ")
    assert invoke("--version").stdout == line
    assert checked_data(invoke("version", "-o", "json").stdout)["plugin_version"].startswith("v")
