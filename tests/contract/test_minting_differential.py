"""Our assertions against those of the vendor's own SDK, claim by claim."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

import jwt
import pytest
from skyflow.service_account import _utils as sdk
from skyflow.service_account import generate_bearer_token_from_creds
from skyflow.utils.enums import LogLevel
from skyflow.utils.logger import Logger
from support.keys import account, pkcs8, rsa_key, unsigned_token

from skyflowctl.clock import SystemClock
from skyflowctl.secret import Secret
from skyflowctl.skyflow.http.token_service import GRANT_TYPE
from skyflowctl.skyflow.minting import Minter, MintingCredential, SigningKey
from skyflowctl.skyflow.token_service import Exchange

# The vendor's code calls datetime.utcnow, deprecated from Python 3.12 on.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

CONTEXTS = [
    None,
    "order:ORD-42",
    'with blanks, "quotes" and ünïcode ✓',
    {"order_id": "ORD-42"},
    {"count": 3, "ratio": 1.5, "flag": True, "off": False, "name": "ü ✓"},
]


@dataclass
class Recorder:
    """Stands where the SDK's generated client stands, and where our service stands."""

    asked: list[tuple[str, str | None]] = field(default_factory=list)
    base_urls: list[str] = field(default_factory=list)
    grants: list[str] = field(default_factory=list)

    def __call__(self, base_url: str) -> Recorder:
        self.base_urls.append(base_url)
        return self

    def get_auth_api(self) -> Recorder:
        return self

    def authentication_service_get_auth_token(self, *, assertion, grant_type, scope):
        self.grants.append(grant_type)
        self.asked.append((assertion, scope))
        return Exchange(Secret("t"), "Bearer", "")

    async def exchange(self, token_uri, assertion, scope, *, deadline) -> Exchange:
        self.asked.append((assertion.reveal(), scope))
        return Exchange(Secret(unsigned_token()), "Bearer", "")

    async def aclose(self) -> None:
        pass


def of_sdk(monkeypatch, found, role, ctx):
    recorder = Recorder()
    monkeypatch.setattr(sdk, "AuthClient", recorder)
    options = {} if role is None else {"role_ids": [role]}
    if ctx is not None:
        options["ctx"] = ctx
    text = found.to_json().reveal()
    generate_bearer_token_from_creds(text, options, Logger(LogLevel.OFF))
    return recorder


def of_ours(found, role, ctx):
    recorder = Recorder()
    credential = MintingCredential(found, SigningKey.trusted(found.private_key))
    asyncio.run(Minter(recorder, SystemClock()).mint(credential, role, ctx))
    return recorder


def verified(assertion: str) -> tuple[dict, dict]:
    public = SigningKey.trusted(Secret(pkcs8(rsa_key()))).public_pem()
    options = {"verify_aud": False}
    claims = jwt.decode(assertion, public, algorithms=["RS256"], options=options)
    return jwt.get_unverified_header(assertion), claims


@pytest.mark.parametrize("role", [None, "skyflow-role-order-prod"])
@pytest.mark.parametrize("ctx", CONTEXTS, ids=str)
def test_header_claims_and_scope_are_the_vendors(monkeypatch, role, ctx):
    found = account()
    theirs = of_sdk(monkeypatch, found, role, ctx)
    ours = of_ours(found, role, ctx)
    (their_assertion, their_scope), (our_assertion, our_scope) = theirs.asked[0], ours.asked[0]
    their_header, their_claims = verified(their_assertion)
    our_header, our_claims = verified(our_assertion)
    assert our_header == their_header == {"alg": "RS256", "typ": "JWT"}
    # Both read the clock, one after the other: a second may pass between.
    assert 0 <= our_claims.pop("exp") - their_claims.pop("exp") <= 5
    assert our_claims == their_claims
    assert [type(value) for value in our_claims.values()] == [
        type(value) for value in their_claims.values()
    ]
    assert (our_scope or "").split() == (their_scope or "").split()


def test_exp_is_one_hour_ahead(monkeypatch):
    before = datetime.now(UTC).timestamp()
    for recorder in (of_sdk(monkeypatch, account(), None, None), of_ours(account(), None, None)):
        _, claims = verified(recorder.asked[0][0])
        assert before + 3598 <= claims["exp"] <= before + 3610


def test_the_vendor_asks_the_base_url_with_the_same_grant(monkeypatch):
    theirs = of_sdk(monkeypatch, account(), None, None)
    assert theirs.base_urls == ["https://manage.skyflowapis.com"]
    assert theirs.grants == [GRANT_TYPE]


def test_the_reference_is_the_pinned_version():
    assert version("skyflow") == "2.1.3"


def test_the_vendor_takes_our_normal_form(monkeypatch):
    """One line of camelCase JSON: the SDK breaks pretty-printed credentials."""
    theirs = of_sdk(monkeypatch, account(), None, None)
    assert len(theirs.asked) == 1
    assert json.loads(account().to_json().reveal())["privateKey"] == pkcs8(rsa_key())
