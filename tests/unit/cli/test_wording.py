"""Small words of messages: a fix with one name, a deleted secret, notices on a terminal."""

import io

import pytest

from skyflowctl.cli.console import Terminal
from skyflowctl.errors import SkyflowctlError
from skyflowctl.manifest.load import load_manifest
from skyflowctl.planner.messages import drift_title
from skyflowctl.text import name_one_of


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("names", "fix"),
    [
        (["a"], "name a"),
        (["a", "b"], "name one of a, b"),
        ([], "add one to the manifest"),
    ],
)
def test_one_name_is_no_choice(names, fix):
    assert name_one_of(names) == fix


def test_a_deleted_secret_says_when():
    at = drift_title("deleted", "secret/data/x", "2026-11-28T21:00:22.123456789Z", "")
    assert at == "secret/data/x was deleted at 2026-11-28 21:00:22 UTC"
    assert drift_title("deleted", "secret/data/x", "", "") == "secret/data/x was deleted"


def test_a_notice_is_wrapped_at_blanks_on_a_terminal_only(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    text = "the dev stack: its key replaces the issuer of every login of the manifest"
    screen, file = Screen(), io.StringIO()
    Terminal(err=screen).notice(text)
    Terminal(err=file).notice(text)
    lines = screen.getvalue().splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 40
    assert " ".join(lines) == text == file.getvalue().strip()
    Terminal(quiet=True, err=screen).notice(text)
    assert screen.getvalue().splitlines() == lines


def test_a_misspelled_capability_in_hcl_gets_the_right_one(tmp_path):
    text = 'path "secret/data/x" { capabilities = ["reed"] }'
    file = tmp_path / "mounts.yaml"
    file.write_text(f"version: 1\nmanifest: a\nmounts: {{}}\npolicies: {{p: {{text: '{text}'}}}}\n")
    with pytest.raises(SkyflowctlError) as refused:
        load_manifest([str(file)], environ={})
    (problem,) = refused.value.problems
    assert problem.summary == '"reed" is not a capability'
    assert problem.fix == 'did you mean "read"?'
