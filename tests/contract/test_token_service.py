"""The port's contract, seen from minting: the same tests over HTTPS and in process.

What a dry run proves holds for production only if the in-process service grants, refuses
and fails as the one over the network does. The emulator's own rules, held the same way,
are in ``test_emulator_token_service.py``.
"""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from skyflowctl.clock import SystemClock
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import InProcessTokenService
from skyflowctl.skyflow.emulator.faults import Fault, FaultKind
from skyflowctl.skyflow.http_exchange import HttpTokenService
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
    TokenServiceRefused,
    TokenServiceUnreachable,
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
            lambda: HttpTokenService(environ={}, context=emulator.tls),
            account,
            emulator.control.add_fault,
        )
    service = InProcessTokenService()
    service.trust(account, ROLES)
    return Subject(lambda: service, account, service.state.faults.add)


def claims_of(minted: MintedToken) -> dict:
    payload = minted.access_token.reveal().split(".")[1]
    return json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def refusal(subject: Subject, *args, **options) -> TokenServiceRefused:
    with pytest.raises(TokenServiceRefused) as caught:
        subject.mint(*args, **options)
    return caught.value


def unreachable(subject: Subject, **options) -> str:
    with pytest.raises(TokenServiceUnreachable) as caught:
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
    with pytest.raises(TokenServiceRefused) as caught:
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
