"""Our signed data tokens against those that the vendor's Node, Java and Go SDKs made once.

Each SDK was run once with a service account whose private key is gone, and the signed data tokens
have ended. The Python SDK runs live in ``test_sign_differential``.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from support.keys import account

from skyflowctl.skyflow.minting import MintingCredential, SigningKey
from skyflowctl.skyflow.signed_data_tokens import PREFIX, DataTokenSigner

RECORDED = json.loads(
    (Path(__file__).parent / "fixtures" / "signed_data_tokens.json").read_text("utf-8")
)
INPUT, ACCOUNT = RECORDED["input"], RECORDED["account"]
TTL = INPUT["ttl_seconds"]
# Exactly what an SDK's has and ours has not, and the reverse: (header, claims) of each.
AUDIENCE = {"aud": ACCOUNT["token_uri"]}
EXTRA = {"node": ({}, AUDIENCE), "java": ({}, {}), "go": ({}, AUDIENCE)}
LACKING = {"node": ({}, {}), "java": ({"typ": "JWT"}, {}), "go": ({}, {})}

SIGNED = [
    pytest.param(sdk, position, id=f"{sdk}-{position}")
    for sdk in RECORDED["sdks"]
    for position in range(len(INPUT["data_tokens"]))
]


def _theirs(sdk: str, position: int) -> tuple[dict, dict]:
    recorded = RECORDED["sdks"][sdk]
    signed = recorded["signed_data_tokens"][position]
    assert signed.startswith(PREFIX)
    return _decoded(signed.removeprefix(PREFIX), recorded["public_key"])


def _decoded(token: str, public_key: str) -> tuple[dict, dict]:
    unchecked = {"verify_exp": False, "verify_aud": False}
    claims = jwt.decode(token, public_key, algorithms=["RS256"], options=unchecked)
    return jwt.get_unverified_header(token), claims


def _ours(data_token: str, issued: int) -> tuple[dict, dict]:
    ours = account(clientID=ACCOUNT["client_id"], keyID=ACCOUNT["key_id"])
    key = SigningKey.trusted(ours.private_key)
    now = datetime.fromtimestamp(issued, UTC)
    credential = MintingCredential(ours, key)
    signer = DataTokenSigner(credential, INPUT["ctx"], now, timedelta(seconds=TTL))
    signed = signer.sign(data_token).reveal()
    assert signed.startswith(PREFIX)
    return _decoded(signed.removeprefix(PREFIX), key.public_pem())


def _typed(values: dict) -> dict:
    """With each value's type: 1 and 1.0 and True are equal, but no JSON is the same."""
    return {name: (type(value), value) for name, value in values.items()}


def test_every_sdk_signed_every_data_token():
    assert set(RECORDED["sdks"]) == set(EXTRA) == set(LACKING)
    for recorded in RECORDED["sdks"].values():
        assert len(recorded["signed_data_tokens"]) == len(INPUT["data_tokens"])


@pytest.mark.parametrize(("sdk", "position"), SIGNED)
def test_header_and_claims_differ_by_exactly_what_the_table_says(sdk, position):
    theirs = _theirs(sdk, position)
    ours = _ours(INPUT["data_tokens"][position], theirs[1]["iat"])
    for their_part, our_part, extra, lacking in zip(
        theirs, ours, EXTRA[sdk], LACKING[sdk], strict=True
    ):
        assert _typed(their_part | lacking) == _typed(our_part | extra)
        assert not lacking.keys() & their_part.keys()
        assert not extra.keys() & our_part.keys()


@pytest.mark.parametrize(("sdk", "position"), SIGNED)
def test_the_signed_data_tokens_have_ended(sdk, position):
    _, claims = _theirs(sdk, position)
    assert claims["exp"] - claims["iat"] == TTL
    assert claims["exp"] < datetime.now(UTC).timestamp()
