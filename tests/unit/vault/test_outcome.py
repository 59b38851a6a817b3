"""The closed type of a call's outcome: what a parked answer looks like, and what it is not."""

from __future__ import annotations

import pytest

from skyflowctl.errors import ExitCode
from skyflowctl.vault.call import (
    CallDone,
    CallForwarded,
    CallLost,
    CallPending,
    CallRefused,
    OutgoingRequest,
    Try,
    call_outcome,
    parked_answer,
)
from skyflowctl.vault.errors import BadRequestError
from skyflowctl.vault.parked import never_runs, withdrawn
from skyflowctl.vault.retry_rules import Disposition
from skyflowctl.vault.transport import make_reply

NULLS = {"request_id": "r", "data": None, "wrap_info": None, "auth": None, "warnings": None}
WRAPPED = {**NULLS, "wrap_info": {"token": "s.x", "accessor": "a", "ttl": 3600}}


@pytest.mark.parametrize(
    ("body", "wrap_asked", "parked"),
    [
        (WRAPPED, False, True),
        (WRAPPED, True, False),
        (NULLS, False, True),
        (NULLS, True, True),
        ({**NULLS, "data": {}}, False, False),
        ({**NULLS, "data": {"version": 2}}, False, False),
        ({**NULLS, "auth": {"client_token": "x"}}, False, False),
        ({**NULLS, "warnings": ["it was ignored"]}, False, False),
        ({}, False, False),
        ({"initialized": True, "sealed": False}, False, False),
    ],
    ids=str,
)
def test_a_parked_answer_is_told_from_a_done_one(body, wrap_asked, parked):
    assert parked_answer(body, make_reply(200, body, {}), wrap_asked=wrap_asked) is parked


@pytest.mark.parametrize(
    ("done", "idempotent", "kind"),
    [
        (Try(Disposition.DONE, reply=make_reply(200, {}, {})), True, CallDone),
        (Try(Disposition.PENDING, reply=make_reply(200, WRAPPED, {})), True, CallPending),
        (Try(Disposition.FINAL, BadRequestError("no")), True, CallRefused),
        (Try(Disposition.NOT_APPLIED, BadRequestError("busy")), True, CallRefused),
        (Try(Disposition.UNKNOWN, BadRequestError("lost")), True, CallLost),
        (Try(Disposition.UNKNOWN, BadRequestError("lost")), False, CallLost),
        (Try(Disposition.REDIRECT, BadRequestError("there")), True, CallForwarded),
        (Try(Disposition.REDIRECT, BadRequestError("there")), False, CallForwarded),
    ],
)
def test_every_end_of_a_try_is_one_outcome(done, idempotent, kind):
    call = OutgoingRequest("POST", "p", None, None, {}, idempotent=idempotent, fresh=True)
    outcome = call_outcome(call, done)
    assert type(outcome) is kind
    if isinstance(outcome, CallLost | CallForwarded):
        assert outcome.error.problems[0].code == (
            "bad-request" if idempotent else "outcome-unknown"
        )


@pytest.mark.parametrize(
    ("error", "code", "named"),
    [
        (withdrawn("GET", "p/config", writes=False, gone=True), ExitCode.NOT_PERMITTED, "p/config"),
        (withdrawn("POST", "p/config", writes=True, gone=True), ExitCode.REFUSED, "p/config"),
        (never_runs("POST", "p/config", make_reply(200, NULLS, {})), ExitCode.REFUSED, "ttl"),
    ],
)
def test_a_request_that_nobody_waits_for_has_its_exit_code_and_its_path(error, code, named):
    (problem,) = error.problems
    assert error.exit_code is code
    assert named in f"{problem.summary} {problem.fix}"
    assert "withdrawn" not in problem.why


def test_a_request_that_could_not_be_withdrawn_is_told():
    (problem,) = withdrawn("POST", "p", writes=True, gone=False).problems
    assert "do not approve it" in problem.why
