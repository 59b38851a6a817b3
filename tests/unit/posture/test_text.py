"""``audit posture`` as a command: how it ends, and what a person reads."""

from __future__ import annotations

import io
import json

import pytest
from support.cli import invoke
from support.posture import ADDRESS, facts, mount

from skyflowctl.cli.commands.audit import posture as audit_posture
from skyflowctl.cli.commands.audit.posture_view import posture_json, show_posture
from skyflowctl.cli.console import Terminal
from skyflowctl.posture.checks.registry import run_checks
from skyflowctl.posture.facts import LiveToken, NotRead, Tokens

NO = NotRead("sys/x", ("read",))
NARROW = {"mounts": NO, "audit_devices": NO, "policies": NO, "catalog": NO, "tokens": NO}


class Screen(io.StringIO):
    def isatty(self):
        return True


def text_of(given, out):
    show_posture(posture_json(run_checks(given), ADDRESS), Terminal(out=out, no_color=True))
    return out.getvalue()


@pytest.fixture
def narrow_login(monkeypatch):
    """A login with the policy default alone, as far as the checks see it."""
    report = run_checks(facts(**NARROW))
    monkeypatch.setattr(audit_posture, "_ask", lambda *_: (report, ADDRESS))


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [((), 6, "unhealthy"), (("--allow-unchecked",), 0, "ok")],
)
def test_a_login_that_could_look_at_almost_nothing_is_not_well(narrow_login, words, code, status):
    done = invoke("audit", "posture", "-o", "json", *words)
    assert done.exit_code == code
    envelope = json.loads(done.stdout)
    assert envelope["status"] == status
    high = [one for one in envelope["data"]["findings"] if one["grade"] == "high"]
    assert {one["check"] for one in high} >= {"mounts", "audit-devices", "creds-wildcards"}
    assert ("--allow-unchecked" in done.stderr) is (code == 6)


def test_the_last_line_says_how_many_checks_could_not_be_made():
    given = facts(**NARROW)
    report = run_checks(given)
    last = text_of(given, io.StringIO()).splitlines()[-1]
    asked = sum(one.result.value != "skipped" for one in report.checks)
    assert f". {report.not_made()} of {asked} checks could not be made" in last
    assert "in order" not in last
    assert "could not be made" not in text_of(facts(), io.StringIO())


def test_long_lines_break_between_words_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    root = LiveToken("acc", "token-root", ("root",), "", "auth/token/root")
    given = facts(mount("order"), tokens=Tokens((root,), 1), audit_devices=())
    plain = text_of(given, io.StringIO())
    drawn = text_of(given, Screen())
    assert drawn.split() == plain.split()
    fixes = [line for line in drawn.splitlines() if line.startswith(" " * 10)]
    assert len(fixes) > sum(line.startswith(" " * 10) for line in plain.splitlines())
    assert max(map(len, fixes)) <= 60
