"""Signed data tokens at the emulator: who may use which, and what is refused."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import jwt as pyjwt
import pytest
from support.emulator import Caller, rsa_key

from skyflowctl.skyflow.minting import MintingCredential, SigningKey
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.skyflow.signed_data_tokens import DataTokenSigner

NOW = datetime.now(UTC)


@pytest.fixture
def caller(emulator):
    with Caller(emulator) as one:
        yield one


class Bench:
    """An account that enforces signed data tokens, and a vault of its role."""

    def __init__(self, emulator, caller, **rules: str) -> None:
        self.emulator, self.caller, self.vault = emulator, caller, os.urandom(4).hex()
        self.credentials = emulator.new_account("reader")
        self.fields = json.loads(self.credentials)
        emulator.control.put_vault(
            self.vault, "reader", tokens={"tok-1": "Ada"}, context_rules=rules
        )
        shown = emulator.control.configure(self.fields["clientID"], enforceSignedDataTokens=True)
        assert shown["enforce_signed_data_tokens"] is True

    def claims(self, **changes: object) -> dict[str, object]:
        good = {
            "iss": "sdk",
            "key": self.fields["keyID"],
            "sub": self.fields["clientID"],
            "tok": "tok-1",
            "iat": int(NOW.timestamp()),
            "exp": int(NOW.timestamp()) + 600,
        }
        return {name: one for name, one in {**good, **changes}.items() if one is not None}

    def signed(self, pem: str = "", **changes: object) -> str:
        pem = pem or self.fields["privateKey"]
        return "signed_token_" + pyjwt.encode(self.claims(**changes), pem, algorithm="RS256")

    def detokenize(self, text: str, ctx: object = None) -> tuple[int, str]:
        """Return the status, and the value or the message."""
        token = self.caller.token(self.credentials, "role:reader", ctx=ctx)
        status, _, body = self.caller.call(
            "POST",
            f"/v1/vaults/{self.vault}/detokenize",
            {"detokenizationParameters": [{"token": text}]},
            authorization=f"Bearer {token}",
        )
        if status == 200:
            return status, body["records"][0]["value"]
        assert body["error"]["http_code"] == status
        assert body["error"]["grpc_code"] == {400: 3, 403: 7, 404: 5}[status]
        assert text not in json.dumps(body)
        return status, body["error"]["message"]


@pytest.fixture
def bench(emulator, caller) -> Bench:
    return Bench(emulator, caller)


def test_a_token_of_our_signer_is_the_data_token_that_it_wraps(bench):
    account = load_trusted(bench.credentials)
    credential = MintingCredential(account, SigningKey.trusted(account.private_key))
    signer = DataTokenSigner(credential, "order:1", NOW, timedelta(minutes=10))
    assert bench.detokenize(signer.sign("tok-1").reveal(), "order:1") == (200, "Ada")
    assert bench.detokenize(signer.sign("tok-2").reveal(), "order:1")[0] == 404


def test_an_unsigned_one_is_refused_only_where_signed_ones_are_enforced(bench):
    assert bench.detokenize("tok-1") == (400, "The service account demands signed data tokens.")
    client_id = bench.fields["clientID"]
    # Another name or other roles change nothing about it: 'dev up' sends them at each start.
    bench.emulator.control.put_account(client_id, name="other", role_ids=["reader"])
    assert bench.detokenize("tok-1")[0] == 400
    shown = bench.emulator.control.configure(client_id, enforceSignedDataTokens=False)
    assert "enforce_signed_data_tokens" not in shown
    assert bench.detokenize("tok-1") == (200, "Ada")
    assert bench.detokenize(bench.signed()) == (200, "Ada")


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"iss": "else"}, 400, "iss"),
        ({"tok": None}, 400, "tok"),
        ({"tok": ["tok-1"]}, 400, "tok"),
        ({"exp": None}, 400, "expiry"),
        ({"exp": int(NOW.timestamp()) - 1}, 403, "expired"),
        ({"key": "other"}, 403, "key is not known"),
        ({"key": None}, 403, "key is not known"),
        ({"sub": "other"}, 403, "key is not known"),
    ],
)
def test_a_claim_that_is_wrong_is_refused(bench, changes, status, said):
    answered, message = bench.detokenize(bench.signed(**changes))
    assert answered == status
    assert said in message


def test_a_wrong_signature_and_another_algorithm_are_refused(bench):
    from skyflowctl.skyflow.emulator.keys import private_pem

    other = private_pem(rsa_key("wrong")).reveal()
    assert bench.detokenize(bench.signed(other))[0] == 403
    secret = "signed_token_" + pyjwt.encode(bench.claims(), "x" * 32, algorithm="HS256")
    none = "signed_token_" + pyjwt.encode(bench.claims(), None, algorithm="none")
    assert [bench.detokenize(one)[0] for one in (secret, none)] == [403, 403]
    assert bench.detokenize("signed_token_tok-1")[0] == 400


def test_the_key_of_an_account_without_the_vaults_role_signs_nothing_here(bench, emulator):
    other = json.loads(emulator.new_account("writer"))
    names = {"key": other["keyID"], "sub": other["clientID"]}
    assert bench.detokenize(bench.signed(other["privateKey"], **names))[0] == 403


def test_a_deleted_key_no_longer_counts(bench):
    signed = bench.signed()
    second = bench.emulator.control.create_key(bench.fields["clientID"]).reveal()
    bench.emulator.control.delete_key(bench.fields["clientID"], bench.fields["keyID"])
    bench.credentials = second
    assert bench.detokenize(signed)[0] == 403


@pytest.mark.parametrize(
    ("bound", "ctx", "status"),
    [
        ("order:1", "order:1", 200),
        ("order:1", "order:2", 403),
        ("order:1", None, 403),
        ({"batch": 1}, {"batch": 1}, 200),
        ({"batch": 1}, {"batch": 2}, 403),
        (None, "order:1", 200),
    ],
)
def test_a_token_that_is_bound_to_a_ctx_needs_a_bearer_of_the_same(bench, bound, ctx, status):
    assert bench.detokenize(bench.signed(ctx=bound), ctx)[0] == status


@pytest.mark.parametrize(
    ("rules", "ctx", "status"),
    [
        ({"request.context": "order:*"}, "order:1", 200),
        ({"request.context": "order:*"}, "payment:1", 403),
        ({"request.context": "order:*"}, None, 403),
        ({"request.context": "order:*"}, {"order": "order:1"}, 403),
        ({"request.context.purpose": "settlement"}, {"purpose": "settlement", "n": 1}, 200),
        ({"request.context.purpose": "settlement"}, {"purpose": "settlements"}, 403),
        ({"request.context.purpose": "settlement"}, "settlement", 403),
        ({"request.context.n": "1", "request.context.on": "true"}, {"n": 1, "on": True}, 200),
        ({"request.context.n": "1", "request.context.on": "true"}, {"n": 1, "on": False}, 403),
    ],
)
def test_the_vaults_rules_are_on_the_bearers_ctx(emulator, caller, rules, ctx, status):
    bench = Bench(emulator, caller, **rules)
    assert bench.detokenize(bench.signed(), ctx)[0] == status


@pytest.mark.parametrize("name", ["context", "request.context.", "request.context.a.b"])
def test_a_rule_on_something_else_is_refused(emulator, name):
    with pytest.raises(Exception, match=r"request\.context"):
        emulator.control.put_vault("odd", "reader", context_rules={name: "x"})
