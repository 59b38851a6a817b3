"""The same gateway over both transports: the in-process server and a real OpenBao."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from skyflowctl.engine.settings import EngineSettings
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import InProcessTokenService
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.memory_transport import MemoryTransport
from skyflowctl.vault.target import Target
from skyflowctl.vault.transport import Transport
from support.bao import BaoServer
from support.emulator import RunningEmulator
from support.keys import credential_text
from support.plugin import build_from, register

ROLE_IDS = ("r-read", "r-write")


def target_of(server: BaoServer, **changes: object) -> Target:
    """The target that a test server is."""
    values = {
        "address": server.address,
        "namespace": "",
        "token": Secret(server.token),
        "source": "flags",
        "ca_cert": str(server.ca or ""),
    }
    return Target(**{**values, **changes})


@dataclass
class Rig:
    """A gateway, its plugin's name, and credentials that its token service trusts."""

    gateway: Gateway
    plugin: str
    new_credential: Callable[[], Secret]
    real: bool
    _numbers: itertools.count = field(default_factory=itertools.count)

    @property
    def transport(self) -> Transport:
        return self.gateway.transport

    def mount(self, **fields: object) -> str:
        """A mount of our type at a path of its own."""
        path = f"contract/{secrets.token_hex(4)}{next(self._numbers)}"
        self.gateway.sys.enable_mount(path, {"type": self.plugin, **fields})
        return path

    def configured(self, *roles: str) -> str:
        """A mount with a credential and these roles."""
        path = self.mount()
        for role in roles:
            self.gateway.engine(path).write_role(role, {"role_ids": [ROLE_IDS[0]]})
        self.gateway.engine(path).write_config({"credentials_json": self.new_credential()})
        return path


def identity(credential: Secret) -> tuple[str, str]:
    """Client id and key id of a credential."""
    fields = json.loads(credential.reveal())
    return fields["clientID"], fields["keyID"]


def memory_rig() -> Rig:
    """The in-process server with an in-process token service."""
    service = InProcessTokenService()

    def new_credential() -> Secret:
        text = credential_text()
        service.trust(load_trusted(text), ROLE_IDS)
        return Secret(text)

    transport = MemoryTransport(service, EngineSettings())
    return Rig(Gateway(transport), "skyflow", new_credential, real=False)


def real_rig(server: BaoServer, emulator: RunningEmulator, source) -> Rig:
    """A real server that runs the plugin, which trusts a running emulator."""
    sha256 = build_from(source, server.plugin_dir, "skyflow")
    args = ["--allow-host", emulator.host]
    env = [f"SSL_CERT_FILE={emulator.ca}"]
    status, body = register(server, "skyflow", sha256, args=args, env=env)
    assert status == 204, body
    transport = HttpTransport(target_of(server), run_id="contract")
    return Rig(
        Gateway(transport), "skyflow", lambda: Secret(emulator.new_account(*ROLE_IDS)), real=True
    )
