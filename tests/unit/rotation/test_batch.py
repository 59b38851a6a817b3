"""Several mounts at once: order, failures of one, and the exit code of all."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from skyflowctl.errors import ExitCode, NotPermittedError, RefusedError
from skyflowctl.rotation.batch import exit_code, rotate_many
from skyflowctl.rotation.model import MountOutcome, Result, RotationJob

OK, PARTIAL, REFUSED = ExitCode.OK, ExitCode.PARTIAL, ExitCode.REFUSED


def job(name):
    return RotationJob(name, f"skyflow/{name}")


def done(one):
    return MountOutcome(one.name, one.path, Result.ROTATED)


def raising(error):
    def work(_job):
        raise error

    return work


def outcome(code, serves=True):
    return MountOutcome("m", "skyflow/m", Result.FAILED, serves=serves, exit_code=code)


def test_the_outcomes_are_in_the_order_of_the_jobs_whichever_ends_first():
    last_is_done = threading.Event()

    def slow(one):
        assert last_is_done.wait(10)
        return done(one)

    def quick(one):
        last_is_done.set()
        return done(one)

    outcomes = rotate_many([(job("a"), slow), (job("b"), quick)], 2)
    assert [one.name for one in outcomes] == ["a", "b"]


def test_one_at_a_time_when_told_so():
    at_work, most, lock = 0, 0, threading.Lock()

    def work(one):
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        threading.Event().wait(0.01)
        with lock:
            at_work -= 1
        return done(one)

    rotate_many([(job(str(n)), work) for n in range(4)], 1)
    assert most == 1


def test_what_one_raises_is_its_own_failure():
    outcomes = rotate_many(
        [
            (job("a"), raising(ValueError("contains a key"))),
            (job("b"), done),
            (job("c"), raising(RefusedError("no", why="w", fix="f"))),
            (job("d"), raising(NotPermittedError("no", why="w", fix="f"))),
        ],
        4,
    )
    assert [(one.result, one.exit_code) for one in outcomes] == [
        (Result.FAILED, ExitCode.UNEXPECTED),
        (Result.ROTATED, OK),
        (Result.REFUSED, REFUSED),
        (Result.FAILED, ExitCode.NOT_PERMITTED),
    ]
    assert "contains a key" not in str(outcomes[0])
    assert "ValueError" in outcomes[0].problems[0].why


def test_one_path_is_one_job():
    seen = []

    def work(one):
        seen.append(one.name)
        return done(one)

    again = RotationJob("skyflow/a", "skyflow/a")
    outcomes = rotate_many([(job("a"), work), (again, work), (job("b"), work)], 1)
    assert seen == [one.name for one in outcomes] == ["a", "b"]


def test_an_interruption_waits_for_what_has_begun():
    began, go_on, ended = (threading.Event() for _ in range(3))

    def writes(one):
        began.set()
        go_on.wait(10)
        ended.set()
        return done(one)

    def interrupts(_one):
        began.wait(10)
        threading.Timer(0.1, go_on.set).start()
        raise KeyboardInterrupt

    # The first place is waited for first, so the interruption must stand there.
    with pytest.raises(KeyboardInterrupt):
        rotate_many([(job("a"), interrupts), (job("b"), writes)], 2)
    assert ended.is_set()


NOT_DUE = replace(outcome(OK), result=Result.NOT_DUE)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], OK),
        ([outcome(OK)] * 2, OK),
        ([outcome(REFUSED)] * 2, REFUSED),
        ([outcome(ExitCode.INVALID)], ExitCode.INVALID),
        ([outcome(OK), outcome(REFUSED)], PARTIAL),
        ([NOT_DUE, outcome(REFUSED), NOT_DUE], REFUSED),
        ([NOT_DUE, NOT_DUE], OK),
        ([outcome(REFUSED), outcome(ExitCode.INVALID)], PARTIAL),
        ([outcome(PARTIAL), outcome(OK)], PARTIAL),
        ([outcome(PARTIAL, serves=False), outcome(OK)], ExitCode.UNHEALTHY),
        ([outcome(OK), outcome(ExitCode.UNHEALTHY)], ExitCode.UNHEALTHY),
    ],
)
def test_one_exit_code_for_all(outcomes, code):
    assert exit_code(outcomes) is code
