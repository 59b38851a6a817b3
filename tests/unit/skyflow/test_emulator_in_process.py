"""The emulator without sockets: trust, tokens, log, faults."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace

import jwt as pyjwt
import pytest
from support.emulator import (
    CLIENT_ID,
    KEY_ID,
    NOW,
    ROLES,
    TOKEN_URI,
    FixedClock,
    assertion,
    make_state,
    rsa_key,
)
from support.faulty_emulator import Fault, FaultKind, FaultQueue, FaultyTokenService

from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import EmulatorState, InProcessTokenService
from skyflowctl.skyflow.emulator.exchange import bearer_claims
from skyflowctl.skyflow.emulator.keys import private_pem, public_pem
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.service_account import ServiceAccount
from skyflowctl.skyflow.token_service import TokenServiceRefusedError, TokenServiceUnreachableError


def exchange(service: InProcessTokenService, text: str | None = None, scope=None, deadline=5.0):
    secret = Secret(text or assertion())
    return asyncio.run(service.exchange(TOKEN_URI, secret, scope, deadline=deadline))


def account(key_name: str = "account", key_id: str = KEY_ID) -> ServiceAccount:
    return ServiceAccount(CLIENT_ID, "order", key_id, TOKEN_URI, private_pem(rsa_key(key_name)))


def test_a_trusted_account_gets_a_token_that_says_who_and_what():
    service = InProcessTokenService(make_state())
    service.trust(account(), ROLES)
    got = exchange(service, assertion(ctx={"order": 42}), "role:role-read")
    claims = pyjwt.decode(
        got.access_token.reveal(),
        public_pem(rsa_key("emulator")),
        algorithms=["RS256"],
        options={"verify_exp": False, "verify_iat": False},
    )
    assert got.token_type == "Bearer"
    assert claims["sub"] == CLIENT_ID
    assert claims["roles"] == ["role-read"]
    assert claims["ctx"] == {"order": 42}
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["iat"] == int(NOW.timestamp())
    assert claims["iss"]
    assert claims["jti"]


def test_a_fresh_service_makes_its_own_signing_key():
    service = InProcessTokenService(EmulatorState(clock=FixedClock()))
    service.trust(account(), ROLES)
    token = exchange(service).access_token.reveal()
    assert bearer_claims(service.state, token)["roles"] == list(ROLES)


def test_an_unknown_account_is_refused_with_status_and_request_id():
    service = InProcessTokenService(EmulatorState(clock=FixedClock()))
    with pytest.raises(TokenServiceRefusedError) as caught:
        exchange(service)
    assert caught.value.status == 401
    assert len(caught.value.request_id) == 32


def test_an_enforced_ctx_is_enforced():
    service = InProcessTokenService(EmulatorState(clock=FixedClock()))
    service.trust(account(), ROLES, enforce_ctx=True)
    with pytest.raises(TokenServiceRefusedError) as caught:
        exchange(service)
    assert caught.value.status == 400


def test_the_audience_is_the_accounts_own_token_uri():
    service = InProcessTokenService(EmulatorState(clock=FixedClock()))
    service.trust(replace(account(), token_uri="https://other/v1/auth/sa/oauth/token"), ROLES)
    with pytest.raises(TokenServiceRefusedError, match="audience"):
        exchange(service)


def test_a_second_key_of_an_account_joins_the_first():
    service = InProcessTokenService(make_state())
    service.trust(account("other", "b" * 32), ROLES)
    assert exchange(service)
    assert exchange(service, assertion(rsa_key("other"), key="b" * 32))


def test_the_keys_validity_is_the_credentials():
    clock = FixedClock()
    service = InProcessTokenService(EmulatorState(clock=clock, signing_key=rsa_key("emulator")))
    service.trust(replace(account(), key_valid_before=NOW), ROLES)
    with pytest.raises(TokenServiceRefusedError, match="Key expired"):
        exchange(service)


def test_the_log_names_the_token_and_holds_neither_token_nor_assertion():
    service = InProcessTokenService(make_state())
    text = assertion(ctx="order:42")
    got = exchange(service, text, "role:role-read")
    with pytest.raises(TokenServiceRefusedError):
        exchange(service, text, "role:other")
    good, bad = service.state.log
    token = got.access_token.reveal()
    assert good.token_sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert (good.client_id, good.key_id, good.role_ids) == (CLIENT_ID, KEY_ID, ("role-read",))
    assert (good.ctx, good.status, good.request_id) == ("order:42", 200, got.request_id)
    assert (bad.client_id, bad.key_id, bad.status, bad.jti) == (CLIENT_ID, KEY_ID, 401, "")
    written = json.dumps([good.to_json(), bad.to_json()])
    assert token not in written
    assert text not in written
    assert text.rpartition(".")[2] not in written


def test_counters_count():
    service = InProcessTokenService(make_state())
    exchange(service)
    with pytest.raises(TokenServiceRefusedError):
        exchange(service, scope="role:other")
    counters = service.state.counters
    assert (counters.exchanges, counters.granted, counters.refused) == (2, 1, 1)


def test_token_lifetime_and_clock_offset():
    service = InProcessTokenService(make_state())
    service.state.token_lifetime = 7
    service.state.clock_offset = -100
    token = exchange(service, assertion(exp=int(NOW.timestamp()))).access_token.reveal()
    claims = bearer_claims(service.state, token)
    assert (claims["iat"], claims["exp"]) == (NOW.timestamp() - 100, NOW.timestamp() - 93)
    service.state.clock_offset = -93
    with pytest.raises(ExchangeRefusedError, match="expired"):
        bearer_claims(service.state, token)


@pytest.mark.parametrize("text", ["", "x", "a.b.c"])
def test_a_bearer_that_is_no_token_is_a_401(text):
    with pytest.raises(ExchangeRefusedError) as caught:
        bearer_claims(make_state(), text)
    assert caught.value.status == 401


def test_a_bearer_of_another_emulator_is_refused():
    token = exchange(InProcessTokenService(make_state())).access_token.reveal()
    other = EmulatorState(clock=FixedClock(), signing_key=rsa_key("other"))
    with pytest.raises(ExchangeRefusedError, match="not valid"):
        bearer_claims(other, token)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(FaultKind.STATUS, status=429, message="slow down"), 429),
        (Fault(FaultKind.STATUS, status=500), 500),
        (Fault(FaultKind.HTML), 200),
        (Fault(FaultKind.EMPTY), 200),
    ],
)
def test_a_fault_that_answers_is_a_refusal_once(fault, status):
    service = FaultyTokenService(make_state())
    service.state.faults.add(fault)
    with pytest.raises(TokenServiceRefusedError) as caught:
        exchange(service)
    assert caught.value.status == status
    assert exchange(service)
    assert [record.status for record in service.state.log] == [status, 200]


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.DRIP, FaultKind.RESET])
def test_a_fault_that_answers_nothing_is_unreachable_at_the_deadline(kind):
    service = FaultyTokenService(make_state())
    service.state.faults.add(Fault(kind))
    started = time.monotonic()
    with pytest.raises(TokenServiceUnreachableError):
        exchange(service, deadline=0.05)
    assert time.monotonic() - started < 3
    assert service.state.log[0].status == 0


def test_a_delay_within_the_deadline_is_an_honest_answer_and_beyond_it_none():
    service = FaultyTokenService(make_state())
    service.state.faults.add(Fault(FaultKind.DELAY, count=2, seconds=0.05))
    assert exchange(service, deadline=5)
    with pytest.raises(TokenServiceUnreachableError):
        exchange(service, deadline=0.01)


def test_faults_are_counted_and_can_be_meant_for_one_account():
    queue = FaultQueue()
    queue.add(Fault(FaultKind.EMPTY, count=2, client_id="a"))
    queue.add(Fault(FaultKind.HTML, count=0))
    taken = [queue.take(client).kind for client in ("b", "a", "a", "a")]
    assert taken == ["html", "empty", "empty", "html"]
    assert [fault.kind for fault in queue.pending()] == ["html"]
    queue.clear()
    assert queue.take("a") is None


@pytest.mark.parametrize(
    "wrong", [{"count": -1}, {"seconds": -0.1}, {"status": 200}, {"status": 600}]
)
def test_a_fault_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError):
        Fault(FaultKind.STATUS, **wrong)


def test_keys_that_are_no_rsa_keys_are_refused():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    elliptic = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(ValueError, match="not an RSA key"):
        InProcessTokenService().trust(
            replace(account(), private_key=Secret(elliptic.decode())), ROLES
        )


def test_a_dry_run_imports_no_server():
    code = (
        "import sys, skyflowctl.skyflow.emulator as e; e.InProcessTokenService();"
        "print([m for m in ('h11', 'http.client', 'email', 'http.server', 'requests', 'httpx')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
