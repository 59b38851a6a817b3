"""What the engine may rely on, held by both token services: over HTTPS and in process."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import jwt as pyjwt
import pytest
from support.emulator import rsa_key, sign

from skyflowctl.clock import SystemClock
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import EmulatorState, InProcessTokenService
from skyflowctl.skyflow.emulator.faults import Fault, FaultKind
from skyflowctl.skyflow.emulator.keys import private_pem
from skyflowctl.skyflow.http_exchange import HttpTokenService
from skyflowctl.skyflow.minting import Minter, MintingCredential
from skyflowctl.skyflow.service_account import ServiceAccount, parse_service_account
from skyflowctl.skyflow.signing_key import SigningKey
from skyflowctl.skyflow.token_service import (
    TokenService,
    TokenServiceRefused,
    TokenServiceUnreachable,
)

ROLES = ("role-read", "role-write")


@dataclass
class Case:
    """One kind of token service with one account that has both roles."""

    make: Callable[[], TokenService]
    account: ServiceAccount
    add_fault: Callable[[Fault], None]
    host: str

    def exchange(self, scope: str | None = None, deadline: float = 5, **claims: object):
        text = sign(self.account.to_json().reveal(), **claims)
        return asyncio.run(self._exchange(Secret(text), scope, deadline))

    async def _exchange(self, assertion: Secret, scope: str | None, deadline: float):
        service = self.make()
        try:
            return await service.exchange(
                self.account.token_uri, assertion, scope, deadline=deadline
            )
        finally:
            await service.aclose()

    def fault(self, kind: FaultKind, **fields) -> None:
        self.add_fault(Fault(kind, client_id=self.account.client_id, **fields))


@pytest.fixture(params=["https", "in-process"])
def case(request) -> Case:
    if request.param == "in-process":
        return in_process_case()
    return https_case(request.getfixturevalue("emulator"))


def in_process_case() -> Case:
    service = InProcessTokenService(EmulatorState(signing_key=rsa_key("emulator")))
    account = ServiceAccount(
        client_id="c" * 32,
        client_name="order",
        key_id="a" * 32,
        token_uri="https://manage.skyflowapis.com/v1/auth/sa/oauth/token",
        private_key=private_pem(rsa_key()),
    )
    service.trust(account, ROLES)
    host = "manage.skyflowapis.com:443"
    return Case(lambda: service, account, service.state.faults.add, host)


def https_case(emulator) -> Case:
    hosts = frozenset({emulator.host})
    account, _ = parse_service_account(
        emulator.new_account(*ROLES), allowed_hosts=hosts, now=datetime.now(UTC)
    )
    return Case(
        make=lambda: HttpTokenService(environ={}, context=emulator.tls),
        account=account,
        add_fault=emulator.control.add_fault,
        host=emulator.host,
    )


def test_a_token_says_who_may_do_what(case):
    got = case.exchange("role:role-read", ctx="order:42")
    claims = pyjwt.decode(got.access_token.reveal(), options={"verify_signature": False})
    assert (claims["sub"], claims["roles"]) == (case.account.client_id, ["role-read"])
    assert claims["ctx"] == "order:42"
    assert got.token_type == "Bearer"
    assert got.request_id


def test_without_scope_the_token_has_every_role(case):
    token = case.exchange().access_token.reveal()
    claims = pyjwt.decode(token, options={"verify_signature": False})
    assert claims["roles"] == list(ROLES)


@pytest.mark.parametrize(
    ("scope", "claims", "status", "words"),
    [
        ("role:other", {}, 401, "not assigned"),
        ("role-read", {}, 400, "wrong format"),
        (None, {"key": "f" * 32}, 401, "key"),
        (None, {"sub": "f" * 32}, 401, "issuer"),
        (None, {"aud": "https://elsewhere.test/"}, 401, "audience"),
        (None, {"exp": 1}, 401, "expired"),
    ],
)
def test_a_refusal_carries_status_words_and_request_id(case, scope, claims, status, words):
    with pytest.raises(TokenServiceRefused) as caught:
        case.exchange(scope, **claims)
    assert caught.value.status == status
    assert words in caught.value.message
    assert caught.value.request_id


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 502, 503])
def test_every_status_is_a_refusal_and_is_not_tried_again(case, status):
    case.fault(FaultKind.STATUS, status=status, message="as told")
    with pytest.raises(TokenServiceRefused) as caught:
        case.exchange()
    assert (caught.value.status, caught.value.message) == (status, "as told")
    assert case.exchange()


@pytest.mark.parametrize("kind", [FaultKind.HTML, FaultKind.EMPTY])
def test_an_answer_without_a_token_is_a_refusal_with_status_200(case, kind):
    case.fault(kind)
    with pytest.raises(TokenServiceRefused) as caught:
        case.exchange()
    assert caught.value.status == 200
    assert caught.value.message
    assert "<" not in caught.value.message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(case, status):
    case.fault(FaultKind.STATUS, status=status, headers={"location": case.account.token_uri})
    with pytest.raises(TokenServiceUnreachable) as caught:
        case.exchange()
    assert str(status) in caught.value.reason


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.DRIP])
def test_the_deadline_covers_the_whole_answer(case, kind):
    case.fault(kind)
    started = time.monotonic()
    with pytest.raises(TokenServiceUnreachable):
        case.exchange(deadline=0.5)
    assert 0.4 < time.monotonic() - started < 5


def test_a_reset_connection_is_unreachable(case):
    case.fault(FaultKind.RESET, count=2)
    with pytest.raises(TokenServiceUnreachable):
        case.exchange()


def test_a_late_answer_within_the_deadline_is_good(case):
    case.fault(FaultKind.DELAY, seconds=0.1)
    assert case.exchange()


def test_a_cancelled_exchange_ends_at_once_and_harms_no_later_one(case):
    async def scenario() -> None:
        service = case.make()
        text = Secret(sign(case.account.to_json().reveal()))
        try:
            for _ in range(3):
                case.fault(FaultKind.HANG)
                waiting = asyncio.create_task(
                    service.exchange(case.account.token_uri, text, None, deadline=30)
                )
                await asyncio.sleep(0.05)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            await clear(case, service, text)
        finally:
            await service.aclose()

    asyncio.run(asyncio.wait_for(scenario(), 20))


async def clear(case: Case, service: TokenService, text: Secret) -> None:
    """Exchange until an honest answer comes: a cancelled exchange may not have begun."""
    for _ in range(4):
        try:
            got = await service.exchange(case.account.token_uri, text, None, deadline=1)
        except TokenServiceUnreachable:
            continue
        assert got.access_token
        return
    raise AssertionError("no exchange was answered")


def test_the_minter_mints_through_it(case):
    credential = MintingCredential(case.account, SigningKey.parse(case.account.private_key))

    async def mint():
        service = case.make()
        minter = Minter(service, SystemClock(), allowed_hosts=frozenset({case.host}))
        try:
            return await minter.mint(credential, "role-write", {"order": 42})
        finally:
            await service.aclose()

    minted = asyncio.run(mint())
    claims = pyjwt.decode(minted.access_token.reveal(), options={"verify_signature": False})
    assert claims["ctx"] == {"order": 42}
    assert minted.expires_at.timestamp() == claims["exp"]
    assert minted.key_id == case.account.key_id
    assert json.dumps(claims["roles"]) == '["role-write"]'
