"""Service accounts, assertions and a running emulator process for tests.

Keys are made once a process; nothing here is a fixture file.
"""

from __future__ import annotations

import functools
import time
from datetime import UTC, datetime

import jwt as pyjwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from skyflowctl.skyflow.emulator.accounts import AccountKey
from skyflowctl.skyflow.emulator.keys import generate_key, private_pem, public_pem
from skyflowctl.skyflow.emulator.state import EmulatorState

TOKEN_URI = "https://localhost:18443/v1/auth/sa/oauth/token"
CLIENT_ID = "c" * 32
KEY_ID = "a" * 32
ROLES = ("role-read", "role-write")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def rsa_key(name: str = "account") -> RSAPrivateKey:
    """One RSA key per name and process."""
    return _rsa_key(name)


@functools.cache
def _rsa_key(_name: str) -> RSAPrivateKey:
    return generate_key()


class FixedClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: datetime = NOW) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return time.monotonic()


def make_state(clock: FixedClock | None = None, *, enforce_ctx: bool = False) -> EmulatorState:
    """An emulator that knows one account with one key and two roles."""
    state = EmulatorState(clock=clock or FixedClock(), signing_key=rsa_key("emulator"))
    state.put_account(CLIENT_ID, name="order", role_ids=ROLES, enforce_ctx=enforce_ctx)
    state.put_key(CLIENT_ID, AccountKey(KEY_ID, public_pem(rsa_key())))
    return state


def claims(**changes: object) -> dict[str, object]:
    """The claims of a good assertion; a change to None leaves the claim out."""
    good = {
        "iss": CLIENT_ID,
        "key": KEY_ID,
        "aud": TOKEN_URI,
        "sub": CLIENT_ID,
        "exp": int(NOW.timestamp()) + 3600,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def assertion(signer: RSAPrivateKey | None = None, /, **changes: object) -> str:
    """A signed assertion, made with PyJWT: another library than the emulator's."""
    pem = private_pem(signer or rsa_key()).reveal()
    return pyjwt.encode(claims(**changes), pem, algorithm="RS256")
