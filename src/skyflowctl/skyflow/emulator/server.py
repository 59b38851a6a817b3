"""The emulator as a process: HTTPS, a state folder, a clean end on SIGTERM."""

import asyncio
import json
import os
import secrets
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from skyflowctl.frozen import dataclass
from skyflowctl.private_files import make_private_folder, read_private
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import snapshot
from skyflowctl.skyflow.emulator.application import ENDPOINT_PATH, Application
from skyflowctl.skyflow.emulator.control import ControlApi
from skyflowctl.skyflow.emulator.http_server import HttpServer
from skyflowctl.skyflow.emulator.issuing import KeyIssuer
from skyflowctl.skyflow.emulator.keys import generate_key, private_pem, read_private_key
from skyflowctl.skyflow.emulator.management import ManagementEndpoint
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.state import EmulatorState
from skyflowctl.telemetry.start import start_telemetry
from skyflowctl.version import __version__

_ACCOUNTS = "accounts.json"
_SIGNING_KEY = "signing-key.pem"
_CONTROL_TOKEN = "control-token"  # noqa: S105 - a file's name
_READY = "ready.json"
_FLUSH_SECONDS = 1.0


class StateFolder:
    """A folder (0700) with the accounts, the signing key and the control token (0600).

    Private halves of account keys are never written. Every file is replaced in one
    step, so that a killed emulator leaves the old or the new one, never half of one.

    Args:
        path: the folder; it is made when it is missing and closed to others.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        make_private_folder(path)

    def load(self) -> EmulatorState:
        """Return the state as it was saved; a new one in an empty folder.

        Raises:
            ValueError: a file is damaged; the text names it.
        """
        state = EmulatorState(signing_key=read_private_key(self._signing_key()))
        saved = self._path / _ACCOUNTS
        if saved.exists():
            try:
                snapshot.restore(state, json.loads(read_private(saved)))
            except (ValueError, ExchangeRefusedError) as error:
                raise ValueError(f"{saved} is damaged: {error}") from error
        return state

    def save(self, state: EmulatorState) -> None:
        """Write accounts, vaults and the token lifetime."""
        self._write(_ACCOUNTS, json.dumps(snapshot.snapshot_json(state), indent=1))

    def control_token(self) -> Secret:
        """Return the token of the control API, made at the first start."""
        return self._kept(_CONTROL_TOKEN, lambda: Secret(secrets.token_urlsafe(32)))

    def write_ready(self, ready: dict[str, Any]) -> None:
        """Record address and process of the emulator that serves this folder."""
        self._write(_READY, json.dumps(ready))

    def _signing_key(self) -> Secret:
        return self._kept(_SIGNING_KEY, lambda: private_pem(generate_key()))

    def _kept(self, name: str, make: Callable[[], Secret]) -> Secret:
        path = self._path / name
        if not path.exists():
            self._write(name, make().reveal())
        return Secret(read_private(path))

    def _write(self, name: str, text: str) -> None:
        # mkstemp makes the file 0600 from its first byte on.
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self._path)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(self._path / name)


_HTTPS_PORT = 443


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the emulator is reached.

    Args:
        state_dir: its folder.
        certificate: PEM file with the certificate, for ``name`` and ``localhost``.
        private_key: PEM file with the certificate's key.
        host: the address it listens on.
        port: the port; 0 picks a free one. Java and Node clients drop the port of a
            tokenURI and reach only 443 (measured with Node SDK v2).
        name: the host name in generated credentials.
        operator_token_file: holds the bearer token that opens the Management API; None:
            nothing opens it.
        account_id: the Skyflow account that the Management API belongs to.
    """

    state_dir: Path
    certificate: Path
    private_key: Path
    host: str = "127.0.0.1"
    port: int = 0
    name: str = "127.0.0.1"
    operator_token_file: Path | None = None
    account_id: str = ""


Assemble = Callable[[ServerSettings, StateFolder, int], Application]


async def serve(settings: ServerSettings, assemble: Assemble | None = None) -> None:
    """Serve until SIGTERM or SIGINT; print one JSON line as soon as requests are taken.

    Args:
        settings: how it is reached.
        assemble: makes what answers; None: :func:`assemble_application`.

    Raises:
        OSError: the port is taken, or a certificate or token file cannot be read.
        ValueError: a file in the state folder is damaged, or the token file is empty.
    """
    stopped = _stop_event()
    folder = StateFolder(settings.state_dir)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The audience names the port, so the port comes before the application.
    listener = socket.create_server((settings.host, settings.port), family=family)
    port = listener.getsockname()[1]
    application = (assemble or assemble_application)(settings, folder, port)
    telemetry = start_telemetry("skyflow-emulator", __version__)
    if telemetry is not None:
        application = replace(application, tracer=telemetry.tracer)
    server = HttpServer(application.open_session)
    await server.start(listener, _tls(settings))
    _announce(settings, folder, port)
    try:
        await stopped.wait()
    finally:
        await server.stop()
        if telemetry is not None:
            telemetry.flush(_FLUSH_SECONDS)


def token_uris(settings: ServerSettings, port: int) -> tuple[str, ...]:
    """Return the token URIs of this server; the first one is written into credentials."""
    hosts = dict.fromkeys((settings.name, "localhost", "127.0.0.1"))
    suffixes = ("", f":{_HTTPS_PORT}") if port == _HTTPS_PORT else (f":{port}",)
    return tuple(f"https://{host}{suffix}{ENDPOINT_PATH}" for host in hosts for suffix in suffixes)


def assemble_application(settings: ServerSettings, folder: StateFolder, port: int) -> Application:
    """Return the emulator that a folder holds, for a server on this port."""
    state = folder.load()
    state.operator_token = _operator_token(settings.operator_token_file)
    state.account_id = settings.account_id
    uris = token_uris(settings, port)
    issuer = KeyIssuer(state, uris[0], folder.save)
    return Application(
        state=state,
        control=ControlApi(state, issuer, folder.save),
        management=ManagementEndpoint(state, issuer, folder.save),
        control_token=folder.control_token(),
        own_uris=frozenset(uris),
    )


def _operator_token(path: Path | None) -> Secret | None:
    if path is None:
        return None
    text = path.read_text().strip()
    if not text:
        raise ValueError(f"{path} holds no operator token")
    return Secret(text)


def _tls(settings: ServerSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.certificate, settings.private_key)
    return context


def _announce(settings: ServerSettings, folder: StateFolder, port: int) -> None:
    ready: dict[str, Any] = {
        "ready": True,
        "address": f"https://{settings.name}:{port}",
        "port": port,
        "token_uri": token_uris(settings, port)[0],
        "pid": os.getpid(),
    }
    folder.write_ready(ready)
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()


def _stop_event() -> asyncio.Event:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped
