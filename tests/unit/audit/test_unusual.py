"""The rules of what is unusual, at their edges."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from support.audit_logs import Story, approle

from skyflowctl.audit.report import ReportScope, report
from skyflowctl.audit.report_model import Report, UnusualKind
from skyflowctl.audit.sources import open_sources
from skyflowctl.audit.unusual import (
    HABIT_DAYS,
    HABIT_REQUESTS,
    KNOWN_DAYS,
    Grounds,
    Habit,
    first_seen_detail,
    rules,
)

DAY = datetime(2026, 11, 2, tzinfo=UTC)


def habit_of(days: int, a_day: int, hours: tuple[int, ...]) -> Habit:
    """An app that asks evenly at these hours."""
    habit = Habit()
    for day in range(days):
        for hour in hours:
            habit.note(f"{DAY + timedelta(days=day, hours=hour):%Y-%m-%dT%H:%M}", a_day)
    return habit


def at(day: int, hour: int, minute: int = 0) -> str:
    return f"{DAY + timedelta(days=day, hours=hour, minutes=minute):%Y-%m-%dT%H:%M}"


def test_an_hour_far_from_all_others_is_unusual_and_the_next_one_is_not() -> None:
    habit = habit_of(10, 20, (9, 10, 11))
    for hour, unusual in ((9, False), (12, False), (8, False), (13, True), (7, True), (3, True)):
        assert habit.note(at(10, hour), 1) is unusual, hour


def test_midnight_has_neighbours_on_both_sides() -> None:
    habit = habit_of(10, 40, (23,))
    assert habit.note(at(10, 0), 1) is False
    assert habit.note(at(11, 1), 1) is True


def test_no_habit_without_enough_requests_or_days() -> None:
    few_days = habit_of(HABIT_DAYS - 1, HABIT_REQUESTS, (9,))
    assert few_days.note(at(HABIT_DAYS - 1, 3), 1) is False
    enough = habit_of(HABIT_DAYS, HABIT_REQUESTS, (9,))
    assert enough.note(at(HABIT_DAYS, 3), 1) is True
    few = habit_of(HABIT_REQUESTS - 1, 1, (9,))
    assert few.note(at(HABIT_REQUESTS - 1, 3), 1) is False


def test_one_percent_is_usual_and_less_is_not() -> None:
    habit = habit_of(9, 11, (9,))  # 99
    habit.note(at(9, 9), 297 - 99)
    habit.note(at(9, 3), 3)
    assert habit.note(at(10, 3), 1) is False  # 3 of 300
    habit = habit_of(9, 11, (9,))
    habit.note(at(9, 9), 298 - 99)
    habit.note(at(9, 3), 2)
    assert habit.note(at(10, 3), 1) is True


def test_a_burst_does_not_become_usual_within_its_day() -> None:
    habit = habit_of(10, 50, (9,))
    assert habit.note(at(10, 3), 10_000) is True
    assert habit.note(at(10, 3, 59), 1) is True
    assert habit.note(at(11, 3), 1) is False


def story_of(days: int, app: str = "orders") -> Story:
    """An app that asks 50 times each morning."""
    story = Story(start=DAY)
    for day in range(days):
        story.now = DAY + timedelta(days=day, hours=9)
        for _ in range(50):
            story.creds(approle(app), "c")
    return story


def told(story: Story, asked: ReportScope | None = None) -> Report:
    return report(open_sources(["-"], stdin=io.BytesIO(story.device())), asked=asked)


def test_requests_at_night_are_told_with_what_is_usual() -> None:
    story = story_of(10)
    story.now = DAY + timedelta(days=10, hours=3)
    story.creds(approle("orders"), "c")
    story.creds(approle("orders"), "c", outcome="denied")
    story.now += timedelta(hours=1)
    story.creds(approle("orders"), "c")
    (found,) = told(story).unusual
    assert found.kind is UnusualKind.OUTSIDE_USUAL_HOURS
    assert (found.count, found.granted) == (3, 2)
    assert found.detail == (
        "requests at 03-04h UTC; usual until then: 09h (500 requests on 10 days)"
    )
    assert found.first == DAY + timedelta(days=10, hours=3)
    assert found.last == DAY + timedelta(days=10, hours=4, milliseconds=20)


def test_what_came_before_the_range_is_habit_and_is_not_told() -> None:
    story = story_of(10)
    story.now = DAY + timedelta(days=10, hours=3)
    story.creds(approle("orders"), "c")
    story.now = DAY + timedelta(days=11, hours=4)
    story.creds(approle("orders"), "c")
    found = told(story, ReportScope(since=DAY + timedelta(days=11)))
    (unusual,) = found.unusual
    assert (unusual.count, found.totals.tally.requests) == (1, 1)


def test_a_new_app_on_a_role_is_told_after_a_week_of_log() -> None:
    story = story_of(8)
    story.creds(approle("newcomer"), "c")
    story.creds(approle("newcomer"), "c", outcome="denied")
    (found,) = told(story).unusual
    assert (found.kind, found.app) == (UnusualKind.FIRST_SEEN_APP, "newcomer")
    assert (found.count, found.granted) == (2, 1)
    assert found.detail == (
        "first request on this role after 7 days of log; one app requested this role before"
    )


def test_an_app_that_is_known_from_another_role_is_new_on_this_one() -> None:
    story = story_of(8)
    story.creds(approle("orders"), "c", role="order-admin")
    (found,) = told(story).unusual
    assert (found.role, found.app) == ("order-admin", "orders")
    assert "no app requested this role before" in found.detail


@pytest.mark.parametrize(("days", "findings"), [(KNOWN_DAYS, 0), (KNOWN_DAYS + 1, 1)])
def test_a_short_log_tells_nothing_of_new_apps(days: int, findings: int) -> None:
    story = story_of(days)
    story.creds(approle("newcomer"), "c")
    assert len(told(story).unusual) == findings


def test_an_app_that_was_there_before_the_range_is_not_new() -> None:
    story = story_of(8)
    story.creds(approle("newcomer"), "c")
    story.now = DAY + timedelta(days=9, hours=9)
    story.creds(approle("newcomer"), "c")
    found = told(story, ReportScope(since=DAY + timedelta(days=9)))
    assert found.unusual == ()
    assert found.totals.tally.requests == 1


def test_the_rules_name_their_figures_and_why_they_were_not_applied() -> None:
    found = {rule.kind: rule for rule in rules(Grounds(days=2))}
    assert f"{KNOWN_DAYS} days" in found[UnusualKind.FIRST_SEEN_APP].text
    habit = f"{HABIT_REQUESTS} requests on {HABIT_DAYS} days"
    assert habit in found[UnusualKind.OUTSIDE_USUAL_HOURS].text
    assert "cover 2 days, not the required 7" in found[UnusualKind.FIRST_SEEN_APP].not_applied
    applied = {kind for kind, rule in found.items() if not rule.not_applied}
    assert applied == {UnusualKind.ROOT_TOKEN}
    known = dict.fromkeys(("habits", "patterns", "plain", "failures", "declared", "runs"), True)
    whole = Grounds(9, **known)
    assert not any(rule.not_applied for rule in rules(whole))
    assert set(found) == set(UnusualKind)
    assert "3 apps" in first_seen_detail(9, 3)
