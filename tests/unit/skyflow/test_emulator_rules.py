"""Which exchanges the emulator grants, and why it refuses the others."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import timedelta

import jwt as pyjwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.emulator import (
    CLIENT_ID,
    KEY_ID,
    NOW,
    ROLES,
    TOKEN_URI,
    assertion,
    claims,
    make_state,
    rsa_key,
)

from skyflowctl.skyflow.emulator.accounts import AccountKey
from skyflowctl.skyflow.emulator.keys import public_pem
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.rules import (
    JWT_BEARER,
    ExchangeForm,
    Grant,
    check_exchange,
    parse_scope,
)

OWN = frozenset({TOKEN_URI})


def check(text: object, scope: object = None, *, accounts=None, grant_type=JWT_BEARER) -> Grant:
    return check_exchange(
        ExchangeForm(grant_type, text, scope), accounts or make_state().accounts, OWN, NOW
    )


def refused(text: object, scope: object = None, **options) -> ExchangeRefusedError:
    with pytest.raises(ExchangeRefusedError) as caught:
        check(text, scope, **options)
    return caught.value


def test_a_good_assertion_without_scope_gets_every_role():
    assert check(assertion()) == Grant(CLIENT_ID, KEY_ID, ROLES, None)


@pytest.mark.parametrize("scope", ["role:role-read", " role:role-read", "role:role-read  "])
def test_blanks_around_a_scope_do_not_matter(scope):
    assert check(assertion(), scope).role_ids == ("role-read",)


def test_several_roles_are_granted_once_each():
    scope = " role:role-write  role:role-read role:role-write"
    assert check(assertion(), scope).role_ids == ("role-write", "role-read")


@pytest.mark.parametrize("scope", ["role-read", "role:", "role:role-read x", 7, ["role:a"], {}])
def test_a_malformed_scope_is_a_400(scope):
    refusal = refused(assertion(), scope)
    assert (refusal.status, refusal.message) == (
        400,
        "Scopes in request token in wrong format",
    )


@pytest.mark.parametrize("scope", [None, "", "   "])
def test_a_scope_without_items_asks_for_all(scope):
    assert parse_scope(scope) is None


def test_a_role_that_is_not_assigned_is_refused_even_beside_a_good_one():
    assert refused(assertion(), "role:other").status == 401
    assert refused(assertion(), "role:role-read role:other").status == 401


def test_ctx_comes_through_verbatim():
    for ctx in ("order:42", {"app": "order", "n": 1, "on": True}, 7, True):
        assert check(assertion(ctx=ctx)).ctx == ctx


def test_ctx_as_a_list_is_refused():
    assert refused(assertion(ctx=["a"])).status == 400


@pytest.mark.parametrize("ctx", [None, "", "  ", {}])
def test_an_account_that_enforces_ctx_refuses_an_assertion_without(ctx):
    accounts = make_state(enforce_ctx=True).accounts
    assert refused(assertion(ctx=ctx), accounts=accounts).status == 400
    assert check(assertion(ctx="order:1"), accounts=accounts).ctx == "order:1"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"iss": "d" * 32}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"sub": "d" * 32}, "issuer"),
        ({"sub": None}, "issuer"),
        ({"sub": 7}, "issuer"),
        ({"key": "d" * 32}, "key"),
        ({"key": None}, "key"),
        ({"key": ["a"]}, "key"),
        ({"aud": "https://elsewhere/v1/auth/sa/oauth/token"}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": [TOKEN_URI]}, "audience"),
        ({"exp": None}, "no expiry"),
        ({"exp": int(NOW.timestamp())}, "expired"),
        ({"exp": int(NOW.timestamp()) + 3661}, "too far"),
        ({"nbf": int(NOW.timestamp()) + 61}, "not valid yet"),
    ],
)
def test_a_wrong_claim_is_refused_though_the_signature_is_good(change, word):
    refusal = refused(assertion(**change))
    assert refusal.status == 401
    assert word in refusal.message


@pytest.mark.parametrize("exp", [True, "soon", "9999999999", {}])
def test_an_expiry_that_is_no_number_is_refused(exp):
    header = base64.urlsafe_b64encode(b'{"alg":"RS256"}').rstrip(b"=").decode()
    body = base64.urlsafe_b64encode(json.dumps(claims(exp=exp)).encode()).rstrip(b"=").decode()
    assert "no expiry" in refused(signed_by_account(f"{header}.{body}")).message


def test_the_bounds_of_exp():
    now = int(NOW.timestamp())
    assert check(assertion(exp=now + 1))
    assert check(assertion(exp=now + 3660))


def test_iat_and_jti_are_not_needed_and_do_no_harm():
    assert check(assertion(iat=int(NOW.timestamp()), jti="once"))


def test_another_accounts_key_is_refused():
    state = make_state()
    state.put_account("other", name="", role_ids=(), enforce_ctx=False)
    state.put_key("other", AccountKey("b" * 32, public_pem(rsa_key("other"))))
    stolen = assertion(rsa_key("other"), key="b" * 32)
    assert "key" in refused(stolen, accounts=state.accounts).message


def test_a_signature_by_an_unregistered_key_is_refused():
    assert "signature" in refused(assertion(rsa_key("other"))).message


@pytest.mark.parametrize(("after", "before"), [(1, None), (None, 0), (None, -1)])
def test_a_key_outside_its_validity_is_refused(after, before):
    state = make_state()
    account = state.accounts[CLIENT_ID]
    key = replace(
        account.keys[KEY_ID],
        valid_after=None if after is None else NOW + timedelta(seconds=after),
        valid_before=None if before is None else NOW + timedelta(seconds=before),
    )
    state.put_key(CLIENT_ID, key)
    refusal = refused(assertion(), accounts=state.accounts)
    assert refusal.message == "Error: Key expired, consider rotating."


def test_a_deleted_key_is_refused():
    state = make_state()
    state.delete_key(CLIENT_ID, KEY_ID)
    assert refused(assertion(), accounts=state.accounts).status == 401


def test_alg_none_is_refused():
    assert refused(pyjwt.encode(claims(), None, algorithm="none")).status == 401


def test_hs256_with_the_public_key_as_secret_is_refused():
    signing_input = assertion().rpartition(".")[0].partition(".")[2]
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
    message = f"{header}.{signing_input}"
    digest = hmac.digest(public_pem(rsa_key()).encode(), message.encode(), hashlib.sha256)
    forged = f"{message}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
    assert "signature" in refused(forged).message


def test_rs384_is_refused():
    from skyflowctl.skyflow.emulator.keys import private_pem

    pem = private_pem(rsa_key()).reveal()
    assert refused(pyjwt.encode(claims(), pem, algorithm="RS384")).status == 401


@pytest.mark.parametrize(
    ("text", "grant_type", "status"),
    [
        (None, JWT_BEARER, 400),
        ("", JWT_BEARER, 400),
        (7, JWT_BEARER, 400),
        ("a.b", JWT_BEARER, 401),
        ("....", JWT_BEARER, 401),
        ("é.é.é", JWT_BEARER, 401),
        ("x" * 20_000, JWT_BEARER, 401),
        ("a.b.c", "client_credentials", 400),
        ("a.b.c", None, 400),
    ],
)
def test_a_body_of_another_kind_is_refused(text, grant_type, status):
    assert refused(text, grant_type=grant_type).status == status


def test_a_claim_that_appears_twice_is_refused():
    header, body, _ = assertion().split(".")
    raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    doubled = raw[:-1] + b',"sub":"' + CLIENT_ID.encode() + b'"}'
    part = base64.urlsafe_b64encode(doubled).rstrip(b"=").decode()
    assert "twice" in refused(f"{header}.{part}.AA").message


def test_an_account_with_its_own_token_uri_accepts_only_that():
    state = make_state()
    own = "https://manage.skyflowapis.com/v1/auth/sa/oauth/token"
    state.accounts[CLIENT_ID] = replace(state.accounts[CLIENT_ID], token_uri=own)
    assert check(assertion(aud=own), accounts=state.accounts)
    assert "audience" in refused(assertion(), accounts=state.accounts).message


def test_no_refusal_repeats_what_was_sent():
    marker = "sentinel-3f9c"
    for change in ({"iss": marker}, {"key": marker}, {"aud": marker}, {"ctx": [marker]}):
        assert marker not in refused(assertion(**change)).message
    assert marker not in refused(assertion(), f"role:{marker}").message
    assert marker not in refused(assertion(), marker).message


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@settings(deadline=None)
@given(st.integers(0, 4095), st.sampled_from(_ALPHABET + "=.+/ \n"))
def test_no_assertion_with_one_character_changed_is_granted(index, character):
    good = good_assertion()
    index %= len(good)
    mutated = good[:index] + character + good[index + 1 :]
    if mutated != good:
        assert refused(mutated).status == 401


@settings(deadline=None)
@given(st.sampled_from(list(claims())), st.none() | st.integers() | st.text() | st.lists(st.text()))
def test_no_claim_may_be_swapped_under_the_same_signature(name, value):
    header, _, signature = good_assertion().split(".")
    changed = {**claims(), name: value}
    if changed == claims():
        return
    body = base64.urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b"=").decode()
    assert refused(f"{header}.{body}.{signature}").status == 401


@given(
    st.sampled_from(["iss", "sub", "aud", "key"]),
    st.text() | st.integers() | st.booleans() | st.lists(st.text(), max_size=2),
)
def test_no_other_identity_is_granted_even_when_signed_by_the_key(name, value):
    if value != claims()[name]:
        assert refused(signed_claims({**claims(), name: value})).status == 401


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["alg", "typ", "crit", "kid"]), st.text(max_size=8)))
def test_a_header_is_granted_only_with_rs256_and_without_crit(header):
    text = signed_claims(claims(), header=header)
    if header.get("alg") == "RS256" and "crit" not in header:
        assert check(text)
    else:
        assert refused(text).status == 401


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_garbage_breaks_the_verifier(raw):
    assert refused(raw.decode("latin-1") or "x").status == 401


@functools.cache
def good_assertion() -> str:
    return assertion(ctx="order:42")


def signed_claims(content: dict, header: dict | None = None) -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "RS256"} if header is None else header, content)
    ]
    return signed_by_account(".".join(parts))


def signed_by_account(signing_input: str) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    raw = rsa_key().sign(signing_input.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signing_input}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}"
