"""What is transient, how long a retry waits, and when retries end."""

from __future__ import annotations

import pytest

from skyflowctl.retry import (
    Backoff,
    is_gateway_failure,
    is_transient,
    retry,
    retry_after,
    retry_error,
)
from skyflowctl.vault import errors, failed_answers

URI_REFUSED = (
    "skyflow: tokenURI names a host that is not allowed: h:1 (allowed: a:443); nothing was sent"
)


@pytest.mark.parametrize(
    ("status", "transient", "gateway"),
    [
        (0, True, False),
        (200, False, False),
        (401, False, False),
        (404, False, False),
        (429, True, False),
        (500, True, False),
        (502, True, True),
        (503, True, True),
        (504, True, True),
    ],
)
def test_a_status_says_whether_another_try_may_help(status, transient, gateway):
    assert is_transient(status) is transient
    assert is_gateway_failure(status) is gateway


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        (" 900 ", 900.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_nothing(header, seconds):
    assert retry_after(header) == seconds


def test_pauses_grow_by_the_factor_up_to_the_longest():
    assert [Backoff(0.5, 3.0).pause(tries) for tries in range(1, 6)] == [0.5, 1, 2, 3, 3]
    assert [Backoff(1, 50, factor=3).pause(tries) for tries in (1, 2, 3, 4)] == [1, 3, 9, 27]
    assert Backoff(0.05, 1.0).pause(10**9) == 1.0


def test_retry_ends_with_the_first_final_result():
    results, waits = iter([1, 2, 3, 4]), []
    found = retry(
        lambda: next(results), lambda one: one == 3, lambda *one: waits.append(one) or True
    )
    assert found == 3
    assert waits == [(1, 1), (2, 2)]


def test_retry_returns_the_last_result_when_no_more_tries_are_allowed():
    results = iter([1, 2, 3, 4])
    assert retry(lambda: next(results), lambda _: False, lambda _, tries: tries < 2) == 2


def test_retry_error_ends_with_the_first_result_or_with_an_error_that_is_not_retried():
    waits = []

    def failing(*raised: Exception):
        left = list(raised)

        def call():
            if left:
                raise left.pop(0)
            return "done"

        return call

    def on_wait(error: LookupError, tries: int) -> bool:
        waits.append((type(error), tries))
        return tries < 3

    assert retry_error(failing(KeyError(), IndexError()), LookupError, on_wait) == "done"
    assert waits == [(KeyError, 1), (IndexError, 2)]
    with pytest.raises(IndexError, match="last"):
        retry_error(
            failing(KeyError(), IndexError("last")), LookupError, lambda _, tries: tries < 2
        )
    with pytest.raises(ValueError, match="other"):
        retry_error(failing(ValueError("other")), LookupError, on_wait)


@pytest.mark.parametrize(
    ("status", "texts", "transient"),
    [
        (400, ("no",), False),
        (403, ("permission denied",), False),
        (409, ("cas",), False),
        (429, (), True),
        (472, (), False),
        (500, ("boom",), True),
        (501, (), True),
        (503, ("Vault is sealed",), True),
        (503, ("no active",), True),
        (502, ("token service refused: 401 no",), False),
        (502, ("token service refused: 429 slow down",), True),
        (502, ("token service refused: 503 later",), True),
        (503, ("skyflow: timed out",), True),
        (503, (URI_REFUSED,), False),
    ],
)
def test_an_error_says_whether_the_same_request_may_get_another_answer(status, texts, transient):
    assert failed_answers.error_for(status, texts, method="PUT", path="p").transient is transient


def test_an_error_without_an_answer_is_transient_only_if_the_server_was_asked():
    assert errors.ServerUnreachableError("s", why="w", fix="f").transient
    assert errors.NotAServerError("s", why="w", fix="f", status=200).transient
    assert not errors.BadRoleNameError("s", why="w", fix="f").transient
    assert not errors.RedirectRefusedError("s", why="w", fix="f").transient
