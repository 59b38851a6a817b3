"""Minting: claims, signatures, what is read from the answer, what is never sent."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from support.keys import account, pkcs8, rsa_key, unsigned_token

from skyflowctl.secret import Secret
from skyflowctl.skyflow.minting import (
    MintedToken,
    Minter,
    MintingCredential,
    SigningKey,
    assertion_claims,
    expiry_of,
    mint_each,
    sign,
)
from skyflowctl.skyflow.token_service import (
    Exchange,
    TokenServiceRefusedError,
    TokenServiceUnreachableError,
)
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS

NOW = datetime(2026, 11, 22, 12, 0, 0, 700_000, tzinfo=UTC)


@dataclass
class FixedClock:
    """A clock that stands still for ``now`` and ticks a quarter second for spans."""

    ticks: float = 0.0

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        self.ticks += 0.25
        return self.ticks


@dataclass
class RecordingService:
    """Answers every exchange alike and keeps what it was asked."""

    token: str = field(default_factory=unsigned_token)
    asked: list[tuple[str, str, str | None, float]] = field(default_factory=list)

    async def exchange(self, token_uri, assertion, scope, *, deadline) -> Exchange:
        self.asked.append((token_uri, assertion.reveal(), scope, deadline))
        return Exchange(Secret(self.token), "Bearer", "req-7")

    async def aclose(self) -> None:
        pass


def credential(**options) -> MintingCredential:
    found = account(**options)
    return MintingCredential(found, SigningKey.trusted(found.private_key))


def mint(service, role="r1", ctx=None, *, of=None, **options):
    minter = Minter(service, FixedClock(), **options)
    return asyncio.run(minter.mint(of or credential(), role, ctx))


def test_the_claims_are_these_and_no_others():
    found = account()
    assert assertion_claims(found, None, NOW) == {
        "iss": found.client_id,
        "key": found.key_id,
        "aud": found.token_uri,
        "sub": found.client_id,
        "exp": int((NOW + timedelta(hours=1)).timestamp()),
    }


@pytest.mark.parametrize("ctx", ["order:ORD-42", "ü ✓", "", {"a": 1, "b": True, "c": "x"}, {}])
def test_ctx_goes_in_verbatim(ctx):
    assert assertion_claims(account(), ctx, NOW)["ctx"] == ctx


def test_the_assertion_verifies_with_the_public_half():
    claims = assertion_claims(account(), {"ünïcode": "✓"}, NOW)
    key = SigningKey.trusted(Secret(pkcs8(rsa_key())))
    text = sign(claims, key).reveal()
    assert jwt.get_unverified_header(text) == {"alg": "RS256", "typ": "JWT"}
    options = {"verify_aud": False, "verify_exp": False}
    assert jwt.decode(text, key.public_pem(), algorithms=["RS256"], options=options) == claims


def test_a_mint_asks_for_one_role_and_reads_exp_from_the_token():
    service = RecordingService(unsigned_token(exp=1_800_000_000))
    of = credential()
    minted = mint(service, "role-a", "c1", of=of, deadline=3.5)
    (asked,) = service.asked
    assert (asked[0], asked[2], asked[3]) == (of.account.token_uri, "role:role-a", 3.5)
    assert json.loads(decoded(asked[1].split(".")[1]))["ctx"] == "c1"
    assert minted.access_token == Secret(service.token)
    assert minted.expires_at == datetime.fromtimestamp(1_800_000_000, UTC)
    assert (minted.token_type, minted.key_id) == ("Bearer", of.account.key_id)
    assert (minted.request_id, minted.latency_ms) == ("req-7", 250)


def decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_without_a_role_there_is_no_scope():
    service = RecordingService()
    mint(service, None)
    assert service.asked[0][2] is None


def test_the_default_deadline_is_10_seconds():
    service = RecordingService()
    mint(service)
    assert service.asked[0][3] == 10.0


def token_with(payload: bytes) -> str:
    return "e30." + urlsafe_b64encode(payload).rstrip(b"=").decode() + ".c2ln"


USELESS = {
    "no JWT": "opaque-token",
    "two parts": "e30.e30",
    "four parts": "e30.e30.e30.e30",
    "no base64": "e30.%%%.e30",
    "no JSON": token_with(b"{"),
    "not UTF-8": token_with(b"\xff\xfe"),
    "an array": token_with(b"[1]"),
    "deep": token_with(b"[" * 50_000),
    "no exp": token_with(b"{}"),
    "null": token_with(b'{"exp":null}'),
    "text": token_with(b'{"exp":"1800000000"}'),
    "true": token_with(b'{"exp":true}'),
    "NaN": token_with(b'{"exp":NaN}'),
    "Infinity": token_with(b'{"exp":Infinity}'),
    "beyond the calendar": token_with(b'{"exp":1e18}'),
    "giant": token_with(b'{"exp":' + b"9" * 400 + b"}"),
}


@pytest.mark.parametrize("what", USELESS)
def test_a_token_without_a_readable_exp_is_no_usable_token(what):
    with pytest.raises(TokenServiceRefusedError) as caught:
        mint(RecordingService(USELESS[what]))
    error = caught.value
    assert (error.status, error.message) == (200, "answer holds no usable token")
    assert error.request_id == "req-7"
    with pytest.raises(ValueError, match="no readable exp"):
        expiry_of(Secret(USELESS[what]))


def test_a_fractional_exp_is_read():
    moment = expiry_of(Secret(token_with(b'{"exp":1800000000.5}')))
    assert moment == datetime.fromtimestamp(1_800_000_000.5, UTC)


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/v1/auth/sa/oauth/token",
        "http://manage.skyflowapis.com/v1/auth/sa/oauth/token",
        "https://manage.skyflowapis.com:444/v1/auth/sa/oauth/token",
    ],
)
def test_nothing_is_sent_to_a_host_that_nobody_named(uri):
    service = RecordingService()
    with pytest.raises(TokenServiceUnreachableError, match="nothing was sent"):
        mint(service, of=credential(token_uri=uri))
    assert service.asked == []


def test_a_named_host_replaces_the_usual_ones():
    service = RecordingService()
    local = "https://127.0.0.1:8443/v1/auth/sa/oauth/token"
    hosts = frozenset({"127.0.0.1:8443"})
    mint(service, of=credential(token_uri=local), allowed_hosts=hosts)
    with pytest.raises(TokenServiceUnreachableError):
        mint(service, allowed_hosts=hosts)
    assert [asked[0] for asked in service.asked] == [local]


def test_what_is_minted_does_not_print_its_token():
    service = RecordingService()
    assert service.token not in repr(mint(service))
    assert service.token not in str(mint(service))


def test_the_services_own_refusal_comes_through_unchanged():
    refusal = TokenServiceRefusedError(401, "Key expired", "req-8")

    class Refusing(RecordingService):
        async def exchange(self, token_uri, assertion, scope, *, deadline):
            raise refusal

    with pytest.raises(TokenServiceRefusedError) as caught:
        mint(Refusing())
    assert caught.value is refusal


class FullService(RecordingService):
    """Answers nobody before it has as many exchanges at once as it ever will have."""

    full = 8

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = self.closed = 0

    async def exchange(self, token_uri, assertion, scope, *, deadline) -> Exchange:
        self.now += 1
        self.most = max(self.most, self.now)
        while self.most < self.full:
            await asyncio.sleep(0)
        self.now -= 1
        if scope == "role:r3":
            raise TokenServiceRefusedError(401, "no such role")
        if scope == "role:r4":
            raise TokenServiceUnreachableError("no answer")
        return await super().exchange(token_uri, assertion, scope, deadline=deadline)

    async def aclose(self) -> None:
        self.closed += 1


def test_each_role_is_minted_for_eight_at_once_and_failures_are_results():
    service = FullService()
    scopes = {f"n{number}": (f"r{number}", None) for number in range(20)}
    who = account()
    minted = mint_each(who, scopes, service, FixedClock(), SKYFLOW_HOSTS)
    assert list(minted) == list(scopes)
    assert (service.most, service.closed) == (8, 1)
    assert isinstance(minted["n3"], TokenServiceRefusedError)
    assert isinstance(minted["n4"], TokenServiceUnreachableError)
    assert sum(isinstance(one, MintedToken) for one in minted.values()) == 18


def test_without_roles_one_token_without_scope_is_minted():
    service = RecordingService()
    (name,) = mint_each(account(), {}, service, FixedClock(), SKYFLOW_HOSTS)
    assert (name, [scope for _, _, scope, _ in service.asked]) == ("", [None])


class SlowKey:
    """Signs when it is told to, in the thread that asks."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.signing = 0
        self.most = 0
        self._lock = threading.Lock()

    def sign(self, _data: bytes) -> bytes:
        with self._lock:
            self.signing += 1
            self.most = max(self.most, self.signing)
        assert self.go.wait(20)
        with self._lock:
            self.signing -= 1
        return b"signature"


def test_the_loop_goes_on_while_a_key_signs():
    async def main():
        key = SlowKey()
        minter = Minter(RecordingService(), FixedClock(), allowed_hosts=SKYFLOW_HOSTS)
        slow = MintingCredential(credential().account, key)
        minting = asyncio.ensure_future(minter.mint(slow, "r1", None))
        async with asyncio.timeout(10):
            while not key.signing:
                await asyncio.sleep(0.001)
        key.go.set()
        return (await minting).key_id == slow.account.key_id

    assert asyncio.run(main())


def test_a_thousand_cancelled_mints_keep_their_places_until_their_threads_are_done():
    async def main():
        key = SlowKey()
        minter = Minter(RecordingService(), FixedClock(), allowed_hosts=SKYFLOW_HOSTS)
        held = 0

        slow = MintingCredential(credential().account, key)

        async def held_mint():
            nonlocal held
            held += 1
            try:
                await minter.mint(slow, "r1", None)
            finally:
                held -= 1

        minting = [asyncio.ensure_future(held_mint()) for _ in range(1000)]
        async with asyncio.timeout(10):
            while not key.signing:
                await asyncio.sleep(0.001)
        for _ in range(3):
            for task in minting:
                task.cancel()
            await asyncio.sleep(0)
        assert held >= key.signing > 0
        key.go.set()
        results = await asyncio.gather(*minting, return_exceptions=True)
        return held, {type(result) for result in results}, key.signing

    assert asyncio.run(main()) == (0, {asyncio.CancelledError}, 0)
    assert mint(RecordingService()).access_token
