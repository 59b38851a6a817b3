"""Credentials that are refused: each with a clear finding, no traceback and no leak."""

from __future__ import annotations

import json
import time

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from support.keys import credential, pkcs1, pkcs8, rsa_key
from support.lint import NOW, accept, changed, refuse, rewrapped

from skyflowctl.secret import Secret
from skyflowctl.skyflow.service_account import InvalidCredentialError, parse_service_account
from skyflowctl.skyflow.signing_key import InvalidKeyError, SigningKey

# --- what is refused

NOT_JSON_OBJECTS = {
    "nothing": ("", "empty"),
    "blanks": (" \n\t ", "empty"),
    "array": ("[]", "not-an-object"),
    "number": ("7", "not-an-object"),
    "null": ("null", "not-an-object"),
    "string": ('"word"', "not-an-object"),
    "quoted twice": (json.dumps('{"clientID": "x"}'), "quoted-twice"),
    "yaml": ("clientID: x", "not-json"),
    "a bare key": ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "not-json"),
    "truncated": ('{"clientID": "x', "not-json"),
    "single quotes": ("{'clientID': 'x'}", "not-json"),
    "trailing comma": ('{"clientID": "x",}', "not-json"),
    "two objects": ("{} {}", "not-json"),
    "byte-order mark": ("\ufeff{}", "byte-order-mark"),
    "UTF-16 read as latin-1": ("{}".encode("utf-16").decode("latin-1"), "wrong-encoding"),
    "NUL byte": ('{"clientID": "x\0"}', "wrong-encoding"),
    "undecodable": ('{"clientID": "\udcff"}', "wrong-encoding"),
    "replaced": ('{"clientID": "\ufffd"}', "wrong-encoding"),
    "huge": ('{"clientID": "' + "x" * 70_000 + '"}', "too-large"),
    "deep array": ("[" * 60_000, "not-json"),
    "deep object": ('{"a":' * 10_000 + "1" + "}" * 10_000, "not-json"),
    "twice the same key": ('{"clientID":"x","clientID":"y"}', "not-json"),
    "twice below": ('{"x":{"a":1,"a":1}}', "not-json"),
    "NaN": ('{"clientID":NaN}', "not-json"),
    "Infinity": ('{"clientID":-Infinity}', "not-json"),
    "giant number": ('{"clientID":' + "9" * 5000 + "}", "not-json"),
    "control characters and broken": ('{"clientID":"\x01"', "not-json"),
    "API key": ("sky-ab1de-" + "0" * 32, "api-key"),
    "quoted API key": ('"sky-ab1de-' + "0" * 32 + '"', "api-key"),
    "API-key file": (json.dumps({"apiKeyID": "x", "apiKey": "sky-ab1de-" + "0" * 32}), "api-key"),
}


@pytest.mark.parametrize("what", NOT_JSON_OBJECTS)
def test_what_is_no_credential_at_all_is_one_clear_finding(what):
    text, code = NOT_JSON_OBJECTS[what]
    assert refuse(text) == [code]


def test_broken_json_is_located():
    with pytest.raises(InvalidCredentialError, match=r"line 3, column 1"):
        parse_service_account('{\n"clientID": "x"\n"keyID": "y"}', now=NOW)


@pytest.mark.parametrize("field", ["clientID", "keyID", "tokenURI", "privateKey"])
class TestEachRequiredField:
    def test_missing(self, field):
        assert refuse(changed(**{field: None})) == ["field-missing"]

    @pytest.mark.parametrize("value", [7, 1.5, True, None, [], {}, ["x"]])
    def test_of_another_type(self, field, value):
        assert refuse(json.dumps({**credential(now=NOW), field: value})) == ["field-type"]

    @pytest.mark.parametrize("value", ["", "  ", "\n"])
    def test_empty(self, field, value):
        assert refuse(changed(**{field: value})) == ["field-empty"]

    @pytest.mark.parametrize("value", ["<YOUR_VALUE>", "<insert here>", "YOUR_KEY", "your_key"])
    def test_placeholder(self, field, value):
        assert refuse(changed(**{field: value})) == ["placeholder"]

    def test_twice_in_two_spellings(self, field):
        fields = credential(now=NOW)
        assert refuse(json.dumps({**fields, field.lower(): fields[field]})) == ["field-twice"]


@pytest.mark.parametrize("value", ["a\x1b[31mb", "two\nlines", "x" * 600, "a\u202eb"])
def test_a_name_that_would_disturb_a_terminal_is_refused(value):
    assert refuse(changed(clientName=value)) == ["field-text"]


def test_everything_wrong_is_said_at_once():
    text = changed(clientID=3, keyID=None, tokenURI="http://x", privateKey="none")
    assert refuse(text) == ["field-type", "field-missing", "token-uri", "key-not-pem"]


BAD_URIS = {
    "http": "http://manage.skyflowapis.com/v1/auth/sa/oauth/token",
    "upper-case scheme": "HTTPS://manage.skyflowapis.com/v1/auth/sa/oauth/token",
    "other host": "https://manage.skyflowapis.com.evil.example/v1/auth/sa/oauth/token",
    "trailing dot": "https://manage.skyflowapis.com./v1/auth/sa/oauth/token",
    "other port": "https://manage.skyflowapis.com:8443/v1/auth/sa/oauth/token",
    "port 0": "https://manage.skyflowapis.com:0/v1/auth/sa/oauth/token",
    "port text": "https://manage.skyflowapis.com:https/v1/auth/sa/oauth/token",
    "user": "https://user@manage.skyflowapis.com/v1/auth/sa/oauth/token",
    "user that looks like the host": "https://manage.skyflowapis.com:443@evil.example/v1/auth/sa/oauth/token",
    "backslash": "https://evil.example\\@manage.skyflowapis.com/v1/auth/sa/oauth/token",
    "query": "https://manage.skyflowapis.com/v1/auth/sa/oauth/token?x=1",
    "empty query": "https://manage.skyflowapis.com/v1/auth/sa/oauth/token?",
    "fragment": "https://manage.skyflowapis.com/v1/auth/sa/oauth/token#x",
    "other path": "https://manage.skyflowapis.com/v1/auth/sa/oauth/token/",
    "double slash": "https://manage.skyflowapis.com//v1/auth/sa/oauth/token",
    "no path": "https://manage.skyflowapis.com",
    "dots": "https://manage.skyflowapis.com/x/../v1/auth/sa/oauth/token",
    "tab": "https://manage.skyflow\tapis.com/v1/auth/sa/oauth/token",
    "full-width": "https://manage\uff0eskyflowapis.com/v1/auth/sa/oauth/token",
    "no host": "https:///v1/auth/sa/oauth/token",
    "no URL": "manage.skyflowapis.com",
}


@pytest.mark.parametrize("what", BAD_URIS)
def test_a_token_uri_in_another_form_or_elsewhere_is_refused(what):
    codes = refuse(changed(tokenURI=BAD_URIS[what]))
    assert codes in (["token-uri"], ["field-text"])


@pytest.mark.parametrize(
    "uri",
    [
        "https://manage.skyflowapis-preview.com/v1/auth/sa/oauth/token",
        "https://manage.skyflowapis.com:443/v1/auth/sa/oauth/token",
        "https://Manage.SkyflowAPIs.com/v1/auth/sa/oauth/token",
    ],
)
def test_skyflows_own_hosts_are_accepted_as_written(uri):
    assert accept(changed(tokenURI=uri))[0].token_uri == uri


def test_only_the_named_hosts_are_accepted():
    local = "https://127.0.0.1:8443/v1/auth/sa/oauth/token"
    six = "https://[::1]:8443/v1/auth/sa/oauth/token"
    allowed = frozenset({"127.0.0.1:8443", "[::1]:8443"})
    assert accept(changed(tokenURI=local), allowed_hosts=allowed)[0].token_uri == local
    assert accept(changed(tokenURI=six), allowed_hosts=allowed)[0].token_uri == six
    assert refuse(changed(), allowed_hosts=allowed) == ["token-uri"]
    assert refuse(changed(tokenURI=local)) == ["token-uri"]


# --- keys


def other_pem(kind: str) -> str:
    key = rsa_key()
    if kind == "encrypted":
        lock = form.BestAvailableEncryption(b"word")
        return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock).decode()
    if kind == "encrypted PKCS#1":
        lock = form.BestAvailableEncryption(b"word")
        layout = form.PrivateFormat.TraditionalOpenSSL
        return key.private_bytes(form.Encoding.PEM, layout, lock).decode()
    if kind == "public":
        layout = form.PublicFormat.SubjectPublicKeyInfo
        return key.public_key().public_bytes(form.Encoding.PEM, layout).decode()
    if kind == "EC":
        return pkcs8(ec.generate_private_key(ec.SECP256R1()))
    if kind == "EC, old form":
        return pkcs1(ec.generate_private_key(ec.SECP256R1()))
    if kind == "1024 bits":
        return pkcs8(rsa_key("small", 1024))
    if kind == "8192 bits":
        return pkcs8(giant_key())
    if kind == "two keys":
        return pkcs8(key) * 2
    return pkcs8(wrong_exponent(key))


def giant_key() -> rsa.RSAPrivateKey:
    """A key's form of 8192 bits, with numbers that are no primes: made in no time."""
    p, q = 2**4096 - 1, 2**4096 - 3
    d = pow(65537, -1, (p - 1) * (q - 1) | 1)
    return rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=d % (p - 1),
        dmq1=d % (q - 1),
        iqmp=pow(q, -1, p),
        public_numbers=rsa.RSAPublicNumbers(65537, p * q),
    ).private_key(unsafe_skip_rsa_key_validation=True)


def wrong_exponent(key: rsa.RSAPrivateKey) -> rsa.RSAPrivateKey:
    numbers = key.private_numbers()
    return rsa.RSAPrivateNumbers(
        p=numbers.p,
        q=numbers.q,
        d=numbers.d + 2,
        dmp1=numbers.dmp1,
        dmq1=numbers.dmq1,
        iqmp=numbers.iqmp,
        public_numbers=numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("encrypted", "key-encrypted"),
        ("encrypted PKCS#1", "key-encrypted"),
        ("public", "key-public"),
        ("EC", "key-not-rsa"),
        ("EC, old form", "key-not-rsa"),
        ("1024 bits", "key-too-small"),
        ("8192 bits", "key-too-large"),
        ("two keys", "key-several"),
        ("wrong exponent", "key-broken"),
    ],
)
def test_a_key_that_cannot_serve_is_refused(kind, code):
    assert refuse(changed(privateKey=other_pem(kind))) == [code]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda pem: pem[:800], "key-not-pem"),
        (lambda pem: pem.replace("END", "ENDE"), "key-not-pem"),
        (lambda pem: "".join(pem.splitlines()[1:-1]), "key-not-pem"),
        (lambda pem: pem.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"), "key-format"),
        (lambda pem: "\n".join([*pem.splitlines()[:5], *pem.splitlines()[6:]]), "key-broken"),
        (lambda pem: pem.replace("\n", "\n%", 3), "key-broken"),
        (lambda pem: rewrapped(pem, 64).replace("PRIVATE", "RSA PRIVATE"), "key-broken"),
    ],
)
def test_a_damaged_key_is_refused(change, code):
    assert refuse(changed(privateKey=change(pkcs8(rsa_key())))) == [code]


def test_the_trusted_way_skips_only_the_consistency_check():
    broken = Secret(other_pem("wrong exponent"))
    assert SigningKey.trusted(broken).bits == 2048
    with pytest.raises(InvalidKeyError):
        SigningKey.parse(broken)
    for kind in ("encrypted", "EC", "public"):
        with pytest.raises(InvalidKeyError):
            SigningKey.trusted(Secret(other_pem(kind)))


def test_a_signing_key_prints_its_size_only():
    key = SigningKey.trusted(Secret(pkcs8(rsa_key())))
    assert repr(key) == str(key) == "SigningKey(RSA, 2048 bits)"
    assert key.to_pem().reveal() == pkcs8(rsa_key())


# --- nothing leaks, nothing crashes


def windows(text: str, size: int = 24) -> set[str]:
    return {text[at : at + size] for at in range(len(text) - size + 1)}


@pytest.mark.parametrize(
    "field", ["clientID", "clientName", "keyID", "tokenURI", "keyValidBeforeTime"]
)
def test_no_finding_holds_a_part_of_a_key_pasted_elsewhere(field):
    body = "".join(pkcs8(rsa_key()).splitlines()[1:-1])
    for pasted in (body[:400], body, f"https://{body[:60]}.example/", body[:40]):
        text = json.dumps({**credential(now=NOW), field: pasted, body[:90]: 1})
        assert not windows(body) & windows(everything_said(text))


def everything_said(text: str) -> str:
    said = ""
    try:
        _, findings = parse_service_account(text, now=NOW)
    except InvalidCredentialError as error:
        findings, said = error.findings, f"{error} {error!r}"
    return " ".join([said, *(finding.message + finding.fix for finding in findings)])


HOSTILE = {
    "backslashes": "\\" * 30_000,
    "beginnings": "-----BEGIN PRIVATE KEY-----" * 2_000,
    "beginnings and ends": "-----BEGIN PRIVATE KEY-----A-----END" * 1_500,
    "angles": "<" * 60_000,
    "one long body": f"-----BEGIN PRIVATE KEY-----{'A' * 60_000}-----END PRIVATE KEY-----",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_text_costs_no_time(what):
    text = changed(privateKey=HOSTILE[what])
    started = time.process_time()
    refuse(text)
    assert time.process_time() - started < 1


def outcome(text: str) -> str:
    try:
        parse_service_account(text, now=NOW)
    except InvalidCredentialError as error:
        return error.findings[0].code
    return "accepted"


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_any_text_ends_in_a_finding(text):
    assert outcome(text) != "accepted"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["clientID", "keyID", "tokenURI", "privateKey", "keyValidBeforeTime"]),
    JSON_VALUES,
)
def test_any_value_in_any_field_is_accepted_or_a_finding(field, value):
    fields = {**credential(now=NOW), "privateKey": "none", field: value}
    assert outcome(json.dumps(fields)) != "accepted"
