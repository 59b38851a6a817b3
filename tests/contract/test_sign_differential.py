"""Our signed data tokens against those of the vendor's own SDK, claim by claim."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import jwt
import pytest
from skyflow.service_account import _utils as sdk
from skyflow.service_account import generate_signed_data_tokens_from_creds
from support.keys import account, pkcs8, rsa_key

from skyflowctl.secret import Secret
from skyflowctl.skyflow.minting import MintingCredential, SigningKey
from skyflowctl.skyflow.signed_data_tokens import PREFIX, DataTokenSigner

ACCOUNT = account()
NOW = datetime.now(UTC)
DATA_TOKENS = ["5479-4229-4622-1393", "ünïcode ✓", "5479-4229-4622-1393"]
CONTEXTS = [
    None,
    "order:ORD-42",
    'with blanks, "quotes" and ünïcode ✓',
    {"count": 3, "ratio": 1.5, "flag": True, "off": False, "name": "ü ✓"},
]


def _theirs(ctx, ttl):
    options = {"data_tokens": DATA_TOKENS} | ({} if ctx is None else {"ctx": ctx})
    options |= {} if ttl is None else {"time_to_live": ttl}
    return generate_signed_data_tokens_from_creds(ACCOUNT.to_json().reveal(), options)


def _ours(ctx, ttl):
    key = SigningKey.trusted(ACCOUNT.private_key)
    span = timedelta(seconds=60 if ttl is None else ttl)
    signer = DataTokenSigner(MintingCredential(ACCOUNT, key), ctx, NOW, span)
    return [(token, signer.sign(token).reveal()) for token in DATA_TOKENS]


def _verified(signed: str) -> tuple[dict, list]:
    assert signed.startswith(PREFIX)
    token = signed.removeprefix(PREFIX)
    public = SigningKey.trusted(Secret(pkcs8(rsa_key()))).public_pem()
    claims = jwt.decode(token, public, algorithms=["RS256"], options={"verify_exp": False})
    # Kept as pairs: the order of the claims is compared too.
    return jwt.get_unverified_header(token), list(claims.items())


@pytest.mark.parametrize("ttl", [None, 600])
@pytest.mark.parametrize("ctx", CONTEXTS, ids=str)
def test_header_claims_and_order_are_the_vendors(monkeypatch, ctx, ttl):
    monkeypatch.setattr(sdk, "time", SimpleNamespace(time=NOW.timestamp))
    theirs, ours = _theirs(ctx, ttl), _ours(ctx, ttl)
    assert [token for token, _ in ours] == [token for token, _ in theirs]
    for (_, their_token), (_, our_token) in zip(theirs, ours, strict=True):
        their_header, their_claims = _verified(their_token)
        our_header, our_claims = _verified(our_token)
        assert our_header == their_header
        assert json.dumps(our_claims) == json.dumps(their_claims)
