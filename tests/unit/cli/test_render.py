"""What people see: safe text, tables, fields, plans, progress, questions."""

from __future__ import annotations

import dataclasses
import io

import pytest

from skyflowctl.cli.commands.apply.progress import progress, reading
from skyflowctl.cli.commands.plan_view import plan_json, show_plan
from skyflowctl.cli.console import (
    Column,
    Styled,
    Terminal,
    columns,
    fitted,
    mask_tokens,
    safe,
    show,
)
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.problems import show_problems
from skyflowctl.errors import Problem
from skyflowctl.executor.events import ActionDone, ActionFailed, ActionSkipped, ActionStarted
from skyflowctl.planner.plan import Action, ActionType, Change, ObjectKind, Plan


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def terminal(out=None, **options):
    return Terminal(out=out or io.StringIO(), err=io.StringIO(), **options)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[2J", "\\e[2J"),
        ("\x07\x7f\x9b", "\\x07\\x7f\\x9b"),
        ("x\u202ey\u2066\u200b", "x\\u202ey\\u2066\\u200b"),
        ("Zürich 東京", "Zürich 東京"),
        ("\ud800", "\\ud800"),
    ],
)
def test_text_from_outside_cannot_act(given, shown):
    assert safe(given) == shown


def test_no_view_can_pass_an_escape_through():
    one = terminal()
    one.line("\x1b[2J", Styled("\x1b]0;x\x07", "red"))
    one.table(["A\x1b"], [["\x1b[31m"]])
    one.fields([("k\x1b", "v\x1b")])
    one.note("\x1b")
    one.alert("\x1b")
    assert "\x1b" not in one.out.getvalue() + one.err.getvalue()


def test_colour_is_only_for_people():
    screen = Screen()
    terminal(screen).line(Styled("x", "red"))
    assert screen.getvalue() == "\x1b[31mx\x1b[0m\n"
    screen = Screen()
    terminal(screen, no_color=True).line(Styled("x", "red"))
    assert screen.getvalue() == "x\n"
    paper = io.StringIO()
    terminal(paper).line(Styled("x", "red"))
    assert paper.getvalue() == "x\n"


def test_columns_are_aligned_also_with_wide_letters():
    one = terminal()
    one.table(["NAME", "X"], [["東京", "1"], ["abcdef", "2"], ["", "3"]])
    assert one.out.getvalue().splitlines() == ["NAME    X", "東京    1", "abcdef  2", "-       3"]
    assert columns("東京é") == 5


def test_values_read_well():
    assert show(None) == show("") == show([]) == "-"
    assert (show(True), show(False), show(0)) == ("yes", "no", "0")
    assert show(["a", "b"]) == "a, b"
    assert show({"purpose": "x", "n": 1}) == "purpose=x, n=1"


def test_long_words_of_unforeseen_messages_are_masked():
    assert mask_tokens("Invalid header 'hvs.CAESIJ1234567890abcdef'\n") == (
        "Invalid header '***'\\n"
    )


def action(kind=ObjectKind.ROLE, what=ActionType.UPDATE, path="skyflow/order/roles/a", changes=()):
    return Action(what, kind, "order", path, tuple(changes))


def test_a_plan_shows_signs_fields_and_counts():
    plan = Plan(
        (
            action(
                ObjectKind.MOUNT,
                ActionType.CREATE,
                "skyflow/order",
                [Change("type", None, "skyflow")],
            ),
            action(changes=[Change("tags", ["a"], ["a", "b"]), Change("description", "old", "")]),
            action(what=ActionType.DELETE),
            action(ObjectKind.CONFIG, ActionType.REPLACE_CREDENTIAL, "skyflow/order/config"),
        ),
        (Problem("w", "look"),),
        3,
    )
    one = terminal()
    show_plan(plan_json(plan), one)
    assert one.out.getvalue().splitlines() == [
        "+ mount skyflow/order",
        "    type  skyflow",
        "~ role skyflow/order/roles/a",
        "    tags         a → a, b",
        "    description  old → -",
        "- role skyflow/order/roles/a",
        "~ config skyflow/order/config (new credential)",
        "",
        "Plan: 1 to create, 2 to update, 1 to delete, 3 unchanged.",
    ]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("needs-adoption", "apply refuses the whole plan: see the messages."),
        ("needs-allow-move", "apply refuses the whole plan: see the messages."),
        (
            "nothing-to-keep",
            "apply refuses the whole plan, because 1 object is left out: see the messages.",
        ),
        ("takes-over", None),
    ],
)
def test_a_plan_that_an_apply_refuses_says_so(code, said):
    one = terminal()
    data = plan_json(Plan((action(),), (Problem(code, "look"),), 3))
    show_plan(data, one)
    assert ("apply refuses" in one.out.getvalue()) == (said is not None)
    assert one.out.getvalue().splitlines()[-1] == said or said is None
    quiet = dataclasses.replace(terminal(), quiet=True)
    show_plan(data, quiet)
    assert "see the messages" not in quiet.out.getvalue()
    assert ("without -q, the messages say why" in quiet.out.getvalue()) == (said is not None)


def test_an_empty_plan_says_so():
    one = terminal()
    show_plan(plan_json(Plan((), (), 7)), one)
    assert one.out.getvalue() == "No changes. 7 objects match the manifest.\n"


def events():
    step = action(what=ActionType.CREATE)
    return [
        ActionStarted(step),
        ActionDone(step, 12.3),
        ActionFailed(step, 4.0, Problem("x", "no")),
        ActionSkipped(step, Problem("x", "no")),
    ]


def test_progress_is_plain_lines_where_nobody_watches():
    one = terminal()
    with progress(3, one) as tell:
        for event in events():
            tell(event)
    assert one.err.getvalue().splitlines() == [
        "  ok created skyflow/order/roles/a  12 ms",
        "  failed skyflow/order/roles/a  4 ms",
    ]
    assert one.out.getvalue() == ""


def test_progress_is_silent_when_quiet():
    one = terminal(quiet=True)
    with progress(3, one) as tell:
        for event in events():
            tell(event)
    assert one.err.getvalue() == ""


def test_progress_is_a_bar_on_a_terminal():
    one = Terminal(out=io.StringIO(), err=Screen())
    with progress(3, one) as tell:
        for event in events():
            tell(event)
        assert tell._show._bar.tasks[0].completed == 3
    assert one.out.getvalue() == ""


def test_what_is_read_is_shown_on_a_terminal_and_nowhere_else():
    watched = Terminal(out=io.StringIO(), err=Screen())
    with reading(watched) as tell:
        tell("database/roles\x1b[2J")
    assert "database/roles\\e[2J" in watched.err.getvalue()
    for one in (terminal(), Terminal(out=io.StringIO(), err=Screen(), quiet=True)):
        with reading(one) as tell:
            tell("database/roles")
        assert one.err.getvalue() == ""
    assert watched.out.getvalue() == ""


def test_results_are_immutable():
    with pytest.raises(AttributeError):
        CommandResult({}).status = "error"


def test_the_same_problem_is_said_once_with_its_count():
    one = terminal()
    same, other = Problem("x", "busy", "because", "wait"), Problem("x", "gone", "so", "look")
    show_problems([same, other, same, same], one)
    assert one.err.getvalue().splitlines() == [
        "error: busy (3 times)",
        "because: because",
        "fix: wait",
        "error: gone",
        "because: so",
        "fix: look",
        "4 problems",
    ]


def test_one_cause_and_fix_of_several_problems_is_told_once():
    one = terminal()
    alike = [Problem("c", f"{name} was not compared", "forbidden", "log in") for name in "ab"]
    show_problems([*alike, Problem("c", "c was not compared", "", "log in")], one)
    assert one.err.getvalue().splitlines() == [
        "error: a was not compared",
        "error: b was not compared",
        "because: forbidden",
        "fix: log in",
        "error: c was not compared",
        "fix: log in",
        "3 problems",
    ]


@pytest.mark.parametrize("wide", [80, 200])
def test_tables_and_sentences_break_no_word_on_80_columns(monkeypatch, wide):
    from skyflowctl.cli.commands import role
    from skyflowctl.cli.commands.config import command
    from skyflowctl.cli.envelope import CommandResult

    monkeypatch.setattr(Terminal, "interactive_out", True)
    monkeypatch.setattr(Terminal, "width", wide)
    cut = {"at": "2026-11-28T12:48:57Z", "by": "ann", "reason": "INC " * 20, "run": "r1"}
    entry = {
        "credential_version": 12,
        "key_id": "0123456789abcdef0123456789abcdef",
        "written_at": "2026-11-28T12:48:57.819Z",
        "written_by": "token-dev-operator",
        "description": "the key of the order team",
        "live": False,
        "kept": False,
        "revoked": {**cut, "key_id": "0123456789abcdef0123456789abcdef"},
    }
    listed = {
        "name": "order-producer",
        "role_ids": ["skyflow-role-order-producer-prod"],
        "ctx_pattern": "order:*",
        "ctx_required": True,
        "description": "Order service, which writes orders",
    }
    out = io.StringIO()
    terminal = Terminal(out=out, no_color=True)
    command._view_history(CommandResult({"history": [entry]}), terminal)
    role._view_list(CommandResult({"roles": [listed]}), terminal)
    lines = out.getvalue().splitlines()
    assert [line for line in lines if len(line.rstrip()) > wide] == []
    assert "order-producer " in out.getvalue()
    assert (entry["key_id"] in lines[1]) is (wide == 200)
    assert not any(line.endswith("IN") for line in lines)


LONG = "payment-audit-of-the-night-shift"
NAMES = (
    Column("ROLE", lambda row: row["role"], whole=True),
    Column("KEY", lambda row: row["key"], whole=True),
    Column("NOTE", lambda row: row["note"]),
)


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_a_name_to_be_typed_is_never_cut_and_no_line_is_too_wide(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    screen = Screen()
    rows = [{"role": LONG, "key": "skyflow-role-payment-audit", "note": "what it is for " * 5}]
    fitted(terminal(screen, no_color=True), NAMES, rows)
    shown = screen.getvalue()
    lines = shown.splitlines()
    assert all(len(line) <= width for line in lines), shown
    assert LONG in shown
    assert "skyflow-role-payment-audit" in shown
    assert lines[0].split()[0] == "ROLE"
    assert len(lines) == (2 if width >= 80 else 4 if width == 60 else 6), shown
