"""Every command's help, found by walking the table; topics; completion."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest
from support.cli import SCHEMAS, checked_data, invoke

from skyflowctl.cli import help as pages
from skyflowctl.cli.app import every_command
from skyflowctl.cli.command import load
from skyflowctl.cli.main import quick_page
from skyflowctl.cli.registry import COMMANDS, GROUPS, find_command
from skyflowctl.errors import ExitCode

NAMES = [row.name for row in COMMANDS]


@pytest.mark.parametrize("name", NAMES)
def test_every_help_has_its_parts_and_no_long_line(name):
    done = invoke(*name.split(), "--help", env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    page = done.stdout
    for heading in ("Usage", "Examples", "Options", "Exit codes"):
        assert f"\n{heading}\n" in page
    assert f"  skyflowctl {name}" in page
    copied = [line for line in page.splitlines() if not line.startswith("  # ")]
    assert [line for line in copied if len(line) > 80] == []
    assert "\x1b" not in page


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_three_to_five_examples_that_parse(name):
    facts = load(find_command(name)).facts
    assert 3 <= len(facts.examples) <= 5
    for line, note in facts.examples:
        assert "skyflowctl" in line
        assert note
        assert len(line) <= 78
        shlex.split(line.replace("<(", "("))
    assert set(facts.env) <= set(pages.ENVIRONMENT)
    assert {int(code) for code in facts.exits} <= set(pages.EXIT_CODES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "help"])
def test_every_command_has_a_published_schema_and_json(name):
    assert (SCHEMAS / f"{name.replace(' ', '-')}.schema.json").is_file()
    formats = next(one for one in load(find_command(name)).params if one.name == "format")
    assert "json" in formats.type.choices


def test_no_schema_is_left_over():
    published = {path.name.split(".")[0] for path in SCHEMAS.iterdir()}
    assert published == {name.replace(" ", "-") for name in NAMES if name != "help"} | {"envelope"}


def test_every_summary_fits_and_every_panel_option_has_a_text():
    for row in COMMANDS:
        assert len(row.summary) <= 60
    for name, command in every_command():
        for parameter in command.params:
            assert parameter.help, (name, parameter.name)


@pytest.mark.parametrize("args", [["--help"], ["-h"], [], ["help"]])
def test_the_root_page_is_static(args):
    page = quick_page(args)
    for name in NAMES:
        assert f"\n  {name.split()[0]} " in page
    assert [line for line in page.splitlines() if len(line) > 80] == []


def test_both_ways_in_show_the_same_page(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert invoke("--help").stdout == quick_page(["--help"])
    for group in GROUPS:
        assert invoke(group, "--help").stdout == quick_page([group, "--help"])


def test_what_is_not_static_is_left_to_typer():
    for args in (["plan", "--help"], ["frob", "--help"], ["version"], ["help", "plan"]):
        assert quick_page(args) is None


def test_topics_say_all_there_is():
    codes = quick_page(["help", "exit-codes"])
    for code in ExitCode:
        assert f"\n  {int(code)} " in codes
    environment = quick_page(["help", "environment"])
    assert all(name in environment for name in pages.ENVIRONMENT)
    for topic in pages.TOPICS:
        assert invoke("help", topic, env={"NO_COLOR": "1"}).stdout == quick_page(["help", topic])


def test_help_of_a_command_is_its_page():
    assert invoke("help", "mount", "list").stdout == invoke("mount", "list", "--help").stdout
    assert invoke("help", "frob").exit_code == 64


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "0"}, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        ({}, False),
    ],
)
def test_colour_is_decided_by_the_environment(environ, expected, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert pages.wants_color() is expected
    assert ("\x1b[" in quick_page(["--help"])) is expected


def test_a_command_page_is_coloured_when_forced(monkeypatch):
    env = {"NO_COLOR": None, "FORCE_COLOR": "1"}
    assert "\x1b[1mUsage" in invoke("version", "--help", env=env).stdout


def test_a_command_to_copy_is_never_broken():
    text = "then run 'skyflowctl apply --replace-credential order', and look at the server's log"
    lines = pages.wrap(text, 30)
    assert "'skyflowctl apply --replace-credential order'," in lines
    assert max(len(line) for line in lines if "apply" not in line) <= 30
    assert " ".join(lines) == text


@pytest.mark.parametrize("colon", [": ", ":  "])
def test_a_command_after_a_colon_is_never_broken(colon):
    command = "skyflowctl consumer revoke order-service --accessor 0d9f2c61-7f0a-4f0e"
    lines = pages.wrap(f"open it{colon}{command}, then look at the log of the server", 30)
    assert command in [line.removesuffix(",") for line in lines]
    assert lines[-2:] == ["then look at the log of the", "server"]


def test_text_is_wrapped_but_not_within_brackets():
    lines = pages.wrap("a long text here [env: ONE, TWO]", 20, "  ")
    assert lines == ["  a long text here", "  [env: ONE, TWO]"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_knows_every_command_and_flag(shell):
    script = checked_data(invoke("completion", shell, "-o", "json").stdout)["script"]
    for name in NAMES:
        assert name.split()[-1] in script
    assert "detailed-exitcode" in script
    assert "exit-codes" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("skyflowctl val", ["validate"]),
        ("skyflowctl mount l", ["list"]),
        ("skyflowctl plan --detailed", ["--detailed-exitcode"]),
        ("skyflowctl creds order x -o r", ["raw"]),
        ("skyflowctl completion f", ["fish"]),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(line, expected):
    words = line.split()
    script = invoke("completion", "bash").stdout + (
        f"\nCOMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}\n"
        '_skyflowctl; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc"], input=script, text=True, capture_output=True, check=True
    )
    assert done.stdout.split() == expected
