"""What a plan shows of a value: spans of time and certificates in words."""

import io
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from skyflowctl.cli.commands.plan_view import show_plan
from skyflowctl.cli.console import Terminal
from skyflowctl.clock import parse_duration, span_text

KEY = ec.generate_private_key(ec.SECP256R1())
SUMMARY = dict.fromkeys(("create", "update", "delete", "unchanged", "drift", "not_compared"), 0)


def certificate(name):
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
        .sign(KEY, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode(), made.fingerprint(hashes.SHA256()).hex()


def shown(field, before, after):
    change = {"field": field, "before": before, "after": after}
    action = {"action": "update", "kind": "login_role", "path": "auth/x/role/y"}
    data = {"actions": [action | {"changes": [change]}], "drift": [], "warnings": []}
    out = io.StringIO()
    show_plan(data | {"summary": SUMMARY, "not_compared": []}, Terminal(out=out))
    return [line.strip() for line in out.getvalue().splitlines()[1:3]]


@pytest.mark.parametrize("field", ["token_ttl", "rotation_period", "config.max_lease_ttl"])
def test_seconds_are_a_span(field):
    assert shown(field, 28_800, 1_800)[0] == f"{field}  8h → 30m"


@pytest.mark.parametrize(("field", "value"), [("secret_id_num_uses", 3600), ("token_ttl", 0)])
def test_a_number_of_something_else_stays_a_number(field, value):
    assert shown(field, "", value)[0].endswith(f"→ {value}")


@pytest.mark.parametrize("seconds", [1, 59, 60, 3_600, 5_400, 86_400, 90_061, 31_536_000])
def test_a_span_is_read_back_as_the_same_time(seconds):
    assert parse_duration(span_text(seconds)).total_seconds() == seconds


def test_a_certificate_is_its_name_its_end_and_its_digest():
    (old, first), (new, second) = certificate("clients"), certificate("other")
    text = " ".join(shown("certificate", old, new))
    assert f"certificate CN=clients, until 2036-01-01, sha256 {first}" in text
    both = " ".join(shown("certificate", "", new + old))
    assert f"CN=other, until 2036-01-01, sha256 {second}; certificate CN=clients" in both
    assert "BEGIN" not in text


def test_a_public_key_is_its_digest():
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = " ".join(shown("jwt_validation_pubkeys", [], [pem.decode().strip()]))
    assert "public key sha256 " in text
    assert "BEGIN" not in text


def test_a_text_that_only_looks_like_one_is_shown_as_it_is():
    text = "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----"
    assert "-----BEGIN" in " ".join(shown("certificate", "", text))
