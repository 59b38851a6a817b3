"""Rotations inside this process: the real engine, an emulator without sockets, no command line."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from skyflowctl.clock import SystemClock
from skyflowctl.credentials.lint import CredentialLinter
from skyflowctl.credentials.resolve import ReferenceResolver
from skyflowctl.credentials.sources import ReferencedCredential
from skyflowctl.engine.settings import EngineSettings
from skyflowctl.errors import Where
from skyflowctl.manifest.model import Reference
from skyflowctl.rotation.events import RotationEvent, StepStarted
from skyflowctl.rotation.model import MountOutcome, Options, RotationJob, StepName
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.rotation.rotate import rotate_mount
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.accounts import AccountKey
from skyflowctl.skyflow.emulator.keys import public_pem
from skyflowctl.skyflow.emulator.state import EmulatorState
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig
from skyflowctl.vault.memory_transport import MemoryTransport
from support.faulty_emulator import Fault, FaultyTokenService
from support.keys import credential, rsa_key

PATH = "skyflow/pay"
ROLES = {"reader": "r-read", "writer": "r-write"}


class SwiftClock:
    """The real time of day; a monotonic clock that passes only, and fast, as somebody waits."""

    SPEED = 6

    def __init__(self) -> None:
        self.waited = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self.waited

    def sleep(self, seconds: float) -> None:
        self.waited += seconds * self.SPEED


@dataclass
class Bench:
    """A mount with two roles and a live credential.

    Args:
        folder: for the files of new credentials.
        deadline: seconds that the engine gives an exchange.
    """

    folder: Path
    deadline: float = 10.0
    clock: SwiftClock = field(default_factory=SwiftClock)

    def __post_init__(self) -> None:
        # Its signing key is shared: making one for each bench would take most of the time.
        self.service = FaultyTokenService(EmulatorState(signing_key=rsa_key("emulator")))
        settings = EngineSettings(mint_deadline=self.deadline)
        self.gateway = Gateway(MemoryTransport(self.service, settings))
        self.gateway.sys.enable_mount(PATH, {"type": "skyflow"})
        for name, role_id in ROLES.items():
            self.gateway.engine(PATH).write_role(name, {"role_ids": [role_id]})
        first = self.new_credential(client_id=secrets.token_hex(16))
        self.gateway.engine(PATH).write_config({"credentials_json": Secret(json.dumps(first))})
        self.account = first["clientID"]

    def close(self) -> None:
        self.gateway.close()

    def new_credential(
        self,
        *,
        client_id: str = "",
        roles: tuple[str, ...] = tuple(ROLES.values()),
        known: bool = True,
        **changes: Any,
    ) -> dict[str, Any]:
        """A key of the mount's account or another; ``known``: the token service knows it."""
        made = credential(key="rotation", clientID=client_id or self.account, **changes)
        if known:
            self.service.trust(load_trusted(json.dumps(made)), roles)
        return made

    def expire(self, made: dict[str, Any]) -> None:
        """Have the token service hold a key for one of the past."""
        key = AccountKey(
            made["keyID"], public_pem(rsa_key("rotation")), None, datetime(2024, 1, 1, tzinfo=UTC)
        )
        self.service.state.put_key(made["clientID"], key)

    def rotate(
        self,
        new: dict[str, Any] | str | bytes,
        listener: Callable[[RotationEvent], None] = lambda _: None,
        **options: Any,
    ) -> MountOutcome:
        """Rotate to a credential in a file of its own."""
        file = self.folder / f"{secrets.token_hex(4)}.json"
        content = json.dumps(new) if isinstance(new, dict) else new
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        file.chmod(0o600)
        reference = Reference("file", (str(file),), f"file: {file.name}", Where())
        world = Dependencies(
            gateway=self.gateway,
            connect=None,
            clock=self.clock,
            run_id=f"run-{secrets.token_hex(4)}",
            sleep=self.clock.sleep,
            listener=listener,
        )
        source = ReferencedCredential(
            reference,
            "the new credential",
            CredentialLinter(SKYFLOW_HOSTS, SystemClock()),
            ReferenceResolver(),
        )
        return rotate_mount(RotationJob("pay", PATH, Options(**options)), source, world)

    def state(self) -> tuple[LiveConfig, Any]:
        """What is live, and every credential version that there ever was."""
        return self.gateway.engine(PATH).config(), self.gateway.engine(PATH).history()

    def mints(self) -> set[str]:
        """The keys that mint for the mount's roles now; a role that gives no token is an error."""
        return {self.gateway.engine(PATH).creds(role).key_id for role in ROLES}

    def faults_at(self, step: StepName, *faults: Fault) -> Callable[[RotationEvent], None]:
        """A listener that injects faults as a step begins, once."""
        left = list(faults)

        def listen(event: RotationEvent) -> None:
            if isinstance(event, StepStarted) and event.name is step:
                for fault in left:
                    self.service.state.faults.add(fault)
                left.clear()

        return listen
