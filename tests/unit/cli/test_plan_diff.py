"""The text of a plan as a diff: what fits stands on one line, and what does not in several."""

from __future__ import annotations

import io
import re

import pytest

from skyflowctl.cli.commands.plan_view import plan_json, show_plan
from skyflowctl.cli.console import Terminal
from skyflowctl.planner.plan import Action, ActionType, Change, ObjectKind, Plan

SQL = "\n".join(f"GRANT {name} ON x TO y;" for name in "ABCDEFGHIJ")
LONG = "a description that " + "goes on and " * 8 + "ends"


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def text_of(*changes, what=ActionType.UPDATE, out=None, **options):
    action = Action(what, ObjectKind.ROLE, "m", "skyflow/m/roles/r", changes)
    screen = out or io.StringIO()
    show_plan(plan_json(Plan((action,), (), 0)), Terminal(out=screen, **options))
    return screen.getvalue().partition("\n\n")[0].splitlines()[1:]


def on(monkeypatch, width, *changes, **options):
    """The lines on a terminal of this width, without colour."""
    monkeypatch.setenv("COLUMNS", str(width))
    return text_of(*changes, out=Screen(), no_color=True, **options)


def test_a_text_is_compared_line_by_line():
    after = SQL.replace("GRANT E", "GRANT ALL") + "\nGRANT K ON x TO y;"
    assert text_of(Change("statements", SQL, after)) == [
        "    statements",
        "        (2 unchanged lines)",
        "        GRANT C ON x TO y;",
        "        GRANT D ON x TO y;",
        "      - GRANT E ON x TO y;",
        "      + GRANT ALL ON x TO y;",
        "        GRANT F ON x TO y;",
        "        GRANT G ON x TO y;",
        "        (1 unchanged line)",
        "        GRANT I ON x TO y;",
        "        GRANT J ON x TO y;",
        "      + GRANT K ON x TO y;",
    ]


def test_unchanged_lines_at_both_ends_are_counted():
    lines = text_of(Change("statements", SQL, SQL.replace("GRANT E", "GRANT ALL")))
    assert (lines[1].strip(), lines[-1].strip()) == ("(2 unchanged lines)", "(3 unchanged lines)")


def test_of_a_long_list_only_the_items_that_differ_are_shown():
    names = [f"name-{number}" for number in range(100)]
    assert text_of(Change("names", names, [*names[1:], "new"])) == [
        "    names",
        "      - name-0",
        "      + new",
        "        (99 unchanged)",
    ]


def test_an_item_that_is_there_twice_is_not_lost():
    lines = text_of(Change("names", ["a", *"abcd"], [*"abcd"]))
    assert lines == ["    names", "      - a", "        (4 unchanged)"]


def test_another_order_shows_both_lists():
    lines = text_of(Change("names", [*"abcde"], [*"edcba"]))
    assert lines == ["    names", "      - a, b, c, d, e", "      + e, d, c, b, a"]


def test_of_an_object_the_keys_that_differ_are_shown():
    before = dict.fromkeys("abcde", 1)
    assert text_of(Change("claims", before, {**before, "e": 2})) == [
        "    claims",
        "      - e=1",
        "      + e=2",
        "        (4 unchanged)",
    ]


@pytest.mark.parametrize("width", [80, 140])
def test_no_line_is_longer_than_the_terminal(monkeypatch, width):
    changes = (
        Change("description", LONG, LONG.replace("goes", "went")),
        Change("names", [], [f"name-{number}" for number in range(40)]),
        Change("short", "a", "b"),
    )
    lines = on(monkeypatch, width, *changes)
    assert max(map(len, lines)) <= width
    assert "    short        a → b" in lines
    whole = " ".join(" ".join(lines).split())
    assert f"- {LONG}" in whole
    assert f"+ {LONG.replace('goes', 'went')}" in whole
    created = on(monkeypatch, width, *changes, what=ActionType.CREATE)
    assert max(map(len, created)) <= width


def test_what_fits_on_140_columns_and_not_on_80_is_on_one_line_or_on_two(monkeypatch):
    change = Change("client_id", "a" * 36, "b" * 36)
    assert on(monkeypatch, 140, change) == [f"    client_id  {'a' * 36} → {'b' * 36}"]
    assert on(monkeypatch, 80, change) == [
        "    client_id",
        f"      - {'a' * 36}",
        f"      + {'b' * 36}",
    ]


def test_colour_only_paints_what_is_there_without_it(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    changes = (Change("statements", SQL, SQL.replace("GRANT E", "X")), Change("a", LONG, ""))
    painted = text_of(*changes, out=Screen())
    bare = on(monkeypatch, 80, *changes)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in painted] == bare
    assert any("\x1b[31m" in line for line in painted)
    assert any("\x1b[32m" in line for line in painted)
    monkeypatch.setenv("NO_COLOR", "1")
    assert text_of(*changes, out=Screen()) == bare


def test_a_line_of_a_value_cannot_act_on_the_terminal():
    lines = text_of(Change("statements", "a\nb", "a\n\x1b[2J\u202eb\n"))
    assert lines[1:] == ["        a", "      - b", "      + \\e[2J\\u202eb"]
