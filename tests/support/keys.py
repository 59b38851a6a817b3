"""RSA keys and service-account files for tests: generated here, shared, never stored."""

from __future__ import annotations

import functools
import json
import secrets
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import rsa

from skyflowctl.skyflow.service_account import ServiceAccount, load_trusted

TOKEN_URI = "https://manage.skyflowapis.com/v1/auth/sa/oauth/token"


def rsa_key(name: str = "first", bits: int = 2048) -> rsa.RSAPrivateKey:
    """One key per name and size in this process: generating one takes 50 ms and more."""
    return _generate(name, bits)


@functools.cache
def _generate(name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def pkcs8(key: Any) -> str:
    """The PEM that Skyflow's files hold."""
    return _pem(key, form.PrivateFormat.PKCS8)


def pkcs1(key: Any) -> str:
    """The older PEM form, RSA PRIVATE KEY."""
    return _pem(key, form.PrivateFormat.TraditionalOpenSSL)


def _pem(key: Any, layout: form.PrivateFormat) -> str:
    return key.private_bytes(form.Encoding.PEM, layout, form.NoEncryption()).decode()


def stamp(moment: datetime) -> str:
    """A time as Skyflow writes it: 2026-10-21T18:06:26.000Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def credential(
    *, key: str = "first", token_uri: str = TOKEN_URI, now: datetime | None = None, **changes: Any
) -> dict[str, Any]:
    """A service-account file's content, as Studio downloads it; ``None`` removes a field."""
    now = now or datetime.now(UTC)
    fields = {
        "clientID": secrets.token_hex(16),
        "clientName": "order-service-account",
        "tokenURI": token_uri,
        "keyID": secrets.token_hex(16),
        "privateKey": pkcs8(rsa_key(key)),
        "keyValidAfterTime": stamp(now - timedelta(days=30)),
        "keyValidBeforeTime": stamp(now + timedelta(days=335)),
        "keyAlgorithm": "KEY_ALG_RSA_2048",
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def credential_text(**options: Any) -> str:
    """The same as JSON text."""
    return json.dumps(credential(**options))


def account(**options: Any) -> ServiceAccount:
    """The same as a parsed account (no lint)."""
    return load_trusted(credential_text(**options))


@pytest.fixture(scope="session")
def signing_rsa_key() -> rsa.RSAPrivateKey:
    """An RSA-2048 private key, made once a session."""
    return rsa_key()


@pytest.fixture(scope="session")
def service_account_text() -> str:
    """A valid service-account file's text, made once a session."""
    return credential_text()


def unsigned_token(lifetime: float = 3600, **claims: Any) -> str:
    """A bearer token's form without a signature, for code that reads only its ``exp``."""
    claims = {"exp": int(datetime.now(UTC).timestamp() + lifetime), **claims}
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    encoded = (urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return ".".join([*encoded, "c2lnbmF0dXJl"])
