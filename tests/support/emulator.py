"""Service accounts, assertions and a running emulator process for tests.

Keys are made once a process; nothing here is a fixture file.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import secrets
import select
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from skyflowctl.private_files import write_private
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.accounts import AccountKey
from skyflowctl.skyflow.emulator.keys import generate_key, private_pem, public_pem
from skyflowctl.skyflow.emulator.rules import JWT_BEARER
from skyflowctl.skyflow.emulator.state import EmulatorState
from skyflowctl.skyflow.management.api import ManagementApi
from support.faulty_emulator import FaultyEmulatorControl
from support.processes import with_tests_importable
from support.tied import die_with_parent

TOKEN_URI = "https://localhost:18443/v1/auth/sa/oauth/token"
ACCOUNT_ID = "e" * 32
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


@dataclass
class RunningEmulator:
    """An emulator process. ``folder`` holds its certificate (ca.pem) and its state."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    control: FaultyEmulatorControl
    operator_token: Secret
    account_id: str

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def token_uri(self) -> str:
        return f"{self.address}/v1/auth/sa/oauth/token"

    @property
    def host(self) -> str:
        """Host and port, as an allow-list names them."""
        return f"127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def new_account(self, *roles: str, enforce_ctx: bool = False) -> str:
        """Create an account of its own for one test; returns its credentials.json."""
        client_id = os.urandom(16).hex()
        self.control.put_account(client_id, name="test", role_ids=roles, enforce_ctx=enforce_ctx)
        return self.control.create_key(client_id).reveal()

    def management(self, token: Secret | None = None, **options: Any) -> ManagementApi:
        """The client of its Management API; without a token the operator's own."""
        return ManagementApi(
            options.pop("host", self.host),
            token or self.operator_token,
            options.pop("account_id", self.account_id),
            environ=options.pop("environ", {}),
            context=self.tls,
            **options,
        )

    def stop(self) -> int:
        """SIGTERM, then wait: the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        assert self.process.stdout
        self.process.stdout.close()
        return self.process.returncode


def write_certificate(folder: Path) -> None:
    """A CA and a certificate for localhost and 127.0.0.1: ca.pem, cert.pem, key.pem."""
    import trustme

    ca = trustme.CA()
    issued = ca.issue_cert("localhost", "127.0.0.1")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(folder / "cert.pem"), append=number > 0)
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))


def start_emulator(folder: Path, port: int = 0) -> RunningEmulator:
    """Start an emulator that takes faults on a folder that holds a certificate, and wait until it serves."""
    command = [sys.executable, "-m", "support.faulty_emulator"]
    command += ["--state-dir", str(folder / "state"), "--port", str(port)]
    command += ["--cert", str(folder / "cert.pem"), "--key", str(folder / "key.pem")]
    operator = Secret(f"opaque-{secrets.token_hex(16)}")
    write_private(folder / "operator.token", operator.reveal())
    command += ["--operator-token-file", str(folder / "operator.token")]
    command += ["--account-id", ACCOUNT_ID]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, preexec_fn=die_with_parent, env=with_tests_importable()
    )
    assert process.stdout
    readable, _, _ = select.select([process.stdout], [], [], 30)
    line = process.stdout.readline() if readable else b""
    if not line:
        process.kill()
        process.wait(10)
        process.stdout.close()
        raise AssertionError(f"the emulator did not start (exit {process.returncode})")
    ready = json.loads(line)
    token = Secret((folder / "state" / "control-token").read_text())
    control = FaultyEmulatorControl(ready["address"], token, folder / "ca.pem")
    return RunningEmulator(process, folder, ready["port"], control, operator, ACCOUNT_ID)


@contextlib.contextmanager
def running_emulator() -> Iterator[RunningEmulator]:
    """An emulator process in a folder of its own; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sfe"))
    try:
        write_certificate(folder)
        emulator = start_emulator(folder)
        try:
            yield emulator
        finally:
            emulator.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def emulator() -> Iterator[RunningEmulator]:
    """One emulator for the session. Use own accounts and vaults, faults with a client_id."""
    with running_emulator() as running:
        yield running


class Caller:
    """A plain HTTPS client of an emulator on one keep-alive connection."""

    def __init__(self, emulator: RunningEmulator, timeout: float = 10) -> None:
        self.connection = http.client.HTTPSConnection(
            "127.0.0.1", emulator.port, context=emulator.tls(), timeout=timeout
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def call(self, method: str, path: str, body: object = None, **headers: str):
        """Returns (status, headers, parsed body or raw text)."""
        raw = body if isinstance(body, str | bytes | None) else json.dumps(body)
        self.connection.request(method, path, body=raw, headers=headers)
        reply = self.connection.getresponse()
        text = reply.read().decode()
        is_json = reply.headers.get_content_type() == "application/json"
        return reply.status, reply.headers, json.loads(text) if is_json else text

    def mint(self, credentials: str, scope: str | None = None, **claims: object):
        """One exchange with a credentials.json; further claims replace the good ones."""
        body = {"grant_type": JWT_BEARER, "assertion": sign(credentials, **claims), "scope": scope}
        return self.call("POST", "/v1/auth/sa/oauth/token", body)

    def token(self, credentials: str, scope: str | None = None, **claims: object) -> str:
        """The token of one exchange that must be granted."""
        status, _, body = self.mint(credentials, scope, **claims)
        assert status == 200, body
        return body["accessToken"]


def sign(credentials: str, **changes: object) -> str:
    """An assertion by the key of a credentials.json, as the vendor SDK makes it."""
    account = json.loads(credentials)
    claims = {
        "iss": account["clientID"],
        "key": account["keyID"],
        "aud": account["tokenURI"],
        "sub": account["clientID"],
        "exp": int(time.time()) + 3600,
    }
    return pyjwt.encode({**claims, **changes}, account["privateKey"], algorithm="RS256")
