"""The bounds of the join, and what it makes of entries that do not fit together."""

import pytest
from support.audit_logs import Story, Token, approle, created, userpass

from skyflowctl.audit import join, logins, recogniser
from skyflowctl.audit.entries import Entry, decode_line
from skyflowctl.audit.join import Handlers, JoinedRow, Joiner
from skyflowctl.audit.logins import Logins
from skyflowctl.audit.model import RequestOutcome
from skyflowctl.audit.recogniser import Recogniser
from skyflowctl.audit.seen import Seen


def joined(story: Story) -> tuple[list[JoinedRow], Joiner]:
    rows: list[JoinedRow] = []
    joiner = Joiner(Recogniser(("skyflow",)), Logins(), Handlers(rows.append))
    for line in story.lines():
        joiner.feed(entry(line), "n1", len(line))
    joiner.finish()
    return rows, joiner


def entry(line: bytes) -> Entry:
    found = decode_line(line)
    assert isinstance(found, Entry)
    return found


def test_a_row_has_the_requests_time_and_the_answers_outcome() -> None:
    story = Story()
    story.creds(approle("orders"), "order:1", plain=True)
    (row,), _ = joined(story)
    assert row.time == "2026-11-22T18:00:00"
    assert (row.outcome, row.app, row.auth, row.ctx, row.node) == (
        RequestOutcome.GRANTED,
        "orders",
        "approle",
        "order:1",
        "n1",
    )


def test_waiting_requests_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "PENDING_BYTES", 5000)
    story = Story()
    for _ in range(20):
        story.creds(approle("orders"), "order:1", outcome="unknown")
    rows: list[JoinedRow] = []
    joiner = Joiner(Recogniser(("skyflow",)), Logins(), Handlers(rows.append))
    for line in story.lines():
        joiner.feed(entry(line), "n1", len(line))
    assert len(rows) >= 15
    joiner.finish()
    assert len(rows) == 20
    assert joiner.unpaired == 20


def test_a_denied_request_without_a_response_is_denied() -> None:
    story = Story()
    story.creds(approle("orders"), "order:1", outcome="denied")
    story.entries.pop()
    rows, _ = joined(story)
    assert [row.outcome for row in rows] == [RequestOutcome.DENIED]


def test_an_answer_that_comes_after_its_request_was_given_up_is_no_second_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(join, "PENDING_MAX", 1)
    story = Story()
    story.creds(approle("orders"), "order:1")
    story.creds(approle("orders"), "order:2")
    first, answer, *rest = story.entries
    story.entries = [first, *rest, answer]
    rows, joiner = joined(story)
    assert [row.outcome for row in rows] == [RequestOutcome.UNKNOWN, RequestOutcome.GRANTED]
    assert joiner.duplicates == 1


def test_seen_ids_are_bounded_and_the_newest_are_known() -> None:
    seen = Seen(most=10)
    for number in range(100):
        seen.add(number, number * 2)
    for number in (99, 95):
        assert seen.fits(seen.get(number) or 0, number * 2)
    assert seen.get(50) is None


def test_paths_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recogniser, "TARGETS_MAX", 3)
    story = Story()
    for number in range(10):
        story.creds(approle("orders"), role=f"role{number}")
    rows, _ = joined(story)
    assert [row.role for row in rows] == [f"role{number}" for number in range(10)]


def test_a_failed_login_teaches_nothing_and_a_renewal_changes_nothing() -> None:
    story = Story()
    token = story.login(userpass("bob"))
    renewed = {"auth": token.auth(allowed=None)}
    story.pair(
        token,
        "update",
        "auth/token/renew-self",
        mount=("auth/token/", "token"),
        response=renewed,
    )
    story.creds(token, "order:1")
    (row,), _ = joined(story)
    assert (row.app, row.auth) == ("bob", "userpass")


def test_a_login_tells_what_the_token_cannot() -> None:
    story = Story()
    token = Token("corp-1", "corp-bob", metadata={"username": "bob"}, entity_id="e1")
    story.creds(token, "order:1")
    answer = {"auth": token.auth(allowed=None)}
    story.pair(None, "update", "auth/corp/login/bob", mount=("auth/corp/", "ldap"), response=answer)
    story.creds(token, "order:2")
    story.creds(Token("b", "corp-bob", entity_id="e1", kind="batch"), "order:3")
    rows, _ = joined(story)
    assert [(row.app, row.auth) for row in rows] == [
        ("bob", "corp"),
        ("bob", "ldap"),
        ("corp-bob", "ldap"),
    ]


def test_a_child_token_does_not_speak_for_its_parents_entity() -> None:
    story = Story()
    parent = Token("p", "oidc-alice", entity_id="e1", kind="batch")
    answer = {"auth": parent.auth(allowed=None)}
    story.pair(
        None, "update", "auth/oidc/oidc/callback", mount=("auth/oidc/", "oidc"), response=answer
    )
    child = Token("c", "token-child", entity_id="e1")
    story.login(child)
    story.creds(parent, "order:1")
    story.creds(child, "order:2")
    rows, _ = joined(story)
    assert [(row.app, row.auth) for row in rows] == [
        ("oidc-alice", "oidc"),
        ("token-child", "token"),
    ]


def test_logins_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "LOGINS_MAX", 2)
    story = Story()
    tokens = [
        Token(f"t{number}", "corp", metadata={"username": "x"}, entity_id=f"e{number}")
        for number in range(4)
    ]
    for token in tokens:
        answer = {"auth": token.auth(allowed=None)}
        story.pair(None, "update", "auth/corp/login", mount=("auth/corp/", "ldap"), response=answer)
    for token in tokens:
        story.creds(token, "order:1")
    rows, _ = joined(story)
    assert [row.auth for row in rows] == ["", "", "ldap", "ldap"]


def test_nobody_asked() -> None:
    story = Story()
    story.creds(None, "order:1", outcome="denied")
    story.creds(created("x"), "order:1")
    (first, second), _ = joined(story)
    assert (first.app, first.auth, first.outcome) == ("", "", RequestOutcome.DENIED)
    assert (second.app, second.auth) == ("token-x", "token")
