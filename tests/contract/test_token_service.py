"""The port's contract, seen from minting: the same tests over HTTPS and in process.

What a dry run proves holds for production only if the in-process service grants, refuses
and fails as the one over the network does.
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from support.emulator import rsa_key
from support.emulator import sign as sign_claims
from support.faulty_emulator import Fault, FaultKind, FaultyTokenService

from skyflowctl.clock import SystemClock
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import EmulatorState
from skyflowctl.skyflow.http.pool import ConnectionPool
from skyflowctl.skyflow.http.token_service import HttpTokenService
from skyflowctl.skyflow.minting import (
    MintedToken,
    Minter,
    MintingCredential,
    SigningKey,
    assertion_claims,
    sign,
)
from skyflowctl.skyflow.service_account import ServiceAccount, load_trusted
from skyflowctl.skyflow.token_service import (
    TokenService,
    TokenServiceRefusedError,
    TokenServiceUnreachableError,
)
from skyflowctl.skyflow.token_uri import token_host

ROLES = ("role-read", "role-write")


@dataclass
class Subject:
    """One implementation, an account that it knows, and how faults are injected."""

    open: Callable[[], TokenService]
    account: ServiceAccount
    add_fault: Callable[[Fault], None]

    def run(self, use):
        """Run ``use(service)`` on a fresh service in a loop of its own."""

        async def main():
            service = self.open()
            try:
                return await use(service)
            finally:
                await service.aclose()

        return asyncio.run(main())

    def mint(self, role="role-read", ctx=None, *, deadline=5.0, account=None) -> MintedToken:
        found = account or self.account
        credential = MintingCredential(found, SigningKey.trusted(found.private_key))
        hosts = frozenset({token_host(found.token_uri)})

        def use(service):
            minter = Minter(service, SystemClock(), deadline=deadline, allowed_hosts=hosts)
            return minter.mint(credential, role, ctx)

        return self.run(use)

    def exchange(self, scope: str | None = None, deadline: float = 5, **claims: object):
        """One exchange of an assertion in which claims are changed."""
        text = Secret(sign_claims(self.account.to_json().reveal(), **claims))
        uri = self.account.token_uri
        return self.run(lambda service: service.exchange(uri, text, scope, deadline=deadline))

    def assertion(self) -> Secret:
        claims = assertion_claims(self.account, None, datetime.now(UTC))
        return sign(claims, SigningKey.trusted(self.account.private_key))

    def fault(self, kind: FaultKind, **options) -> None:
        self.add_fault(Fault(kind, client_id=self.account.client_id, **options))


@pytest.fixture(params=["https", "in-process"])
def subject(request, emulator) -> Subject:
    account = load_trusted(emulator.new_account(*ROLES))
    if request.param == "https":
        return Subject(
            lambda: HttpTokenService(ConnectionPool(environ={}, context=emulator.tls)),
            account,
            emulator.control.add_fault,
        )
    service = FaultyTokenService(EmulatorState(signing_key=rsa_key("emulator")))
    service.trust(account, ROLES)
    return Subject(lambda: service, account, service.state.faults.add)


def claims_of(minted: MintedToken) -> dict:
    return payload_of(minted.access_token)


def payload_of(token: Secret) -> dict:
    payload = token.reveal().split(".")[1]
    return json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def refusal(subject: Subject, *args, **options) -> TokenServiceRefusedError:
    with pytest.raises(TokenServiceRefusedError) as caught:
        subject.mint(*args, **options)
    return caught.value


def unreachable(subject: Subject, **options) -> str:
    with pytest.raises(TokenServiceUnreachableError) as caught:
        subject.mint(**options)
    return caught.value.reason


def test_a_token_lives_about_an_hour_and_carries_the_request_id(subject):
    minted = subject.mint()
    lifetime = minted.expires_at - datetime.now(UTC)
    assert timedelta(minutes=58) < lifetime <= timedelta(minutes=61)
    assert (minted.token_type, minted.key_id) == ("Bearer", subject.account.key_id)
    assert minted.request_id
    assert 0 <= minted.latency_ms < 5000


@pytest.mark.parametrize("ctx", ["order:ORD-42", "ü ✓", {"order": "x", "n": 3, "ok": True}])
def test_ctx_is_in_the_token_verbatim(subject, ctx):
    assert claims_of(subject.mint(ctx=ctx))["ctx"] == ctx


def test_without_ctx_there_is_no_such_claim(subject):
    assert claims_of(subject.mint()).get("ctx") is None


def test_many_exchanges_at_once_are_as_many_tokens(subject):
    assertion, uri = subject.assertion(), subject.account.token_uri

    async def use(service):
        exchanges = (
            service.exchange(uri, assertion, f"role:{ROLES[n % 2]}", deadline=10) for n in range(30)
        )
        return await asyncio.gather(*exchanges)

    answers = subject.run(use)
    assert len({answer.access_token.reveal() for answer in answers}) == 30
    assert len({answer.request_id for answer in answers}) == 30


def test_an_account_or_key_that_the_service_does_not_know(subject):
    assert refusal(subject, account=replace(subject.account, key_id="f" * 32)).status == 401
    assert refusal(subject, account=replace(subject.account, client_id="f" * 32)).status == 401


@pytest.mark.parametrize("assertion", ["", "x", "e30.e30.e30"])
def test_what_is_no_assertion_is_refused(subject, assertion):
    uri = subject.account.token_uri
    with pytest.raises(TokenServiceRefusedError) as caught:
        subject.run(lambda service: service.exchange(uri, Secret(assertion), None, deadline=5))
    assert caught.value.status in (400, 401)


def test_the_services_words_are_one_clean_line_without_tokens(subject):
    token = subject.assertion().reveal()
    subject.fault(FaultKind.STATUS, status=429, message=f"Rate\nexceeded\x1b for {token}")
    error = refusal(subject)
    assert (error.status, error.message) == (429, "Rate exceeded for ***")


@pytest.mark.parametrize("kind", [FaultKind.EMPTY, FaultKind.HTML])
def test_a_good_status_without_a_token_has_one_wording(subject, kind):
    subject.fault(kind)
    error = refusal(subject)
    assert (error.status, error.message) == (200, "answer holds no usable token")


@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_redirect_names_the_host_that_it_leads_to(subject, status):
    headers = {"location": "https://evil.example/v1/auth/sa/oauth/token"}
    subject.fault(FaultKind.STATUS, status=status, headers=headers)
    assert f"HTTP {status} redirects to evil.example" in unreachable(subject)


def test_an_answer_after_the_deadline_is_none(subject):
    subject.fault(FaultKind.DELAY, seconds=5)
    assert "within 0.2 s" in unreachable(subject, deadline=0.2)


def test_the_wait_for_an_answer_is_measured(subject):
    subject.fault(FaultKind.DELAY, seconds=0.1)
    assert subject.mint().latency_ms >= 90


def test_closing_twice_is_no_error(subject):
    async def use(service):
        await service.exchange(subject.account.token_uri, subject.assertion(), None, deadline=5)
        await service.aclose()

    subject.run(use)


def test_a_token_says_who_may_do_what(subject):
    got = subject.exchange("role:role-read", ctx="order:42")
    claims = payload_of(got.access_token)
    assert (claims["sub"], claims["roles"]) == (subject.account.client_id, ["role-read"])
    assert claims["ctx"] == "order:42"
    assert got.token_type == "Bearer"
    assert got.request_id


def test_without_scope_the_token_has_every_role(subject):
    assert payload_of(subject.exchange().access_token)["roles"] == list(ROLES)


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
def test_a_refusal_carries_status_words_and_request_id(subject, scope, claims, status, words):
    with pytest.raises(TokenServiceRefusedError) as caught:
        subject.exchange(scope, **claims)
    assert caught.value.status == status
    assert words in caught.value.message
    assert caught.value.request_id


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 502, 503])
def test_every_status_is_a_refusal_and_is_not_tried_again(subject, status):
    subject.fault(FaultKind.STATUS, status=status, message="as told")
    with pytest.raises(TokenServiceRefusedError) as caught:
        subject.exchange()
    assert (caught.value.status, caught.value.message) == (status, "as told")
    assert subject.exchange()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(subject, status):
    subject.fault(FaultKind.STATUS, status=status, headers={"location": subject.account.token_uri})
    with pytest.raises(TokenServiceUnreachableError) as caught:
        subject.exchange()
    assert str(status) in caught.value.reason


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.DRIP])
def test_the_deadline_covers_the_whole_answer(subject, kind):
    subject.fault(kind)
    started = time.monotonic()
    with pytest.raises(TokenServiceUnreachableError):
        subject.exchange(deadline=0.5)
    assert 0.4 < time.monotonic() - started < 5


def test_a_reset_connection_is_unreachable(subject):
    subject.fault(FaultKind.RESET, count=2)
    with pytest.raises(TokenServiceUnreachableError):
        subject.exchange()


def test_a_cancelled_exchange_ends_at_once_and_harms_no_later_one(subject):
    async def scenario() -> None:
        service = subject.open()
        text = Secret(sign_claims(subject.account.to_json().reveal()))
        try:
            for _ in range(3):
                subject.fault(FaultKind.HANG)
                waiting = asyncio.create_task(
                    service.exchange(subject.account.token_uri, text, None, deadline=30)
                )
                await asyncio.sleep(0.05)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            await clear(subject, service, text)
        finally:
            await service.aclose()

    asyncio.run(asyncio.wait_for(scenario(), 20))


async def clear(subject: Subject, service: TokenService, text: Secret) -> None:
    """Exchange until an honest answer comes: a cancelled exchange may not have begun."""
    for _ in range(4):
        try:
            got = await service.exchange(subject.account.token_uri, text, None, deadline=1)
        except TokenServiceUnreachableError:
            continue
        assert got.access_token
        return
    raise AssertionError("no exchange was answered")


def test_a_mint_says_when_it_ends_and_by_which_key(subject):
    minted = subject.mint("role-write", {"order": 42})
    claims = claims_of(minted)
    assert (claims["ctx"], claims["roles"]) == ({"order": 42}, ["role-write"])
    assert minted.expires_at.timestamp() == claims["exp"]
    assert minted.key_id == subject.account.key_id
