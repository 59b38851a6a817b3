"""A server in memory, an emulator and a clock of its own, for what comes after a rotation."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from skyflowctl.engine.settings import EngineSettings
from skyflowctl.errors import SkyflowctlError, UnreachableError
from skyflowctl.rotation.model import KeyInfo, NewCredential, Options, RotationJob
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import EmulatorState, InProcessTokenService
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.memory_transport import MemoryTransport
from skyflowctl.vault.transport import Reply
from support.keys import credential_text

ROLE_IDS = ("r-read", "r-write")
MARGIN = timedelta(minutes=5)


class HandClock:
    """A clock that goes on only when somebody waits by it."""

    def __init__(self) -> None:
        self._started = self._now = datetime.now(UTC).replace(microsecond=0)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._started).total_seconds()

    def wait(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@dataclass
class SkyflowKeys:
    """Skyflow's Management API on the emulator's state; ``broken`` is raised by deletions."""

    state: EmulatorState
    deleted: list[str] = field(default_factory=list)
    broken: SkyflowctlError | None = None
    before_delete: Callable[[], object] = lambda: None

    def list_keys(self, client_id: str) -> tuple[KeyInfo, ...]:
        account = self.state.accounts.get(client_id)
        return tuple(KeyInfo(key_id) for key_id in account.keys) if account else ()

    def create_key(self, client_id: str) -> NewCredential:
        raise AssertionError(f"nothing here creates keys: {client_id}")

    def delete_key(self, client_id: str, key_id: str) -> None:
        self.before_delete()
        if self.broken:
            raise self.broken
        self.state.delete_key(client_id, key_id)
        self.deleted.append(key_id)


def unreachable() -> SkyflowctlError:
    """Skyflow's Management API does not answer."""
    return UnreachableError("no answer", why="timed out", fix="try again")


class Line:
    """A transport that can fail, or let something happen, before or after a request."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.sent: list[str] = []
        self.before: Callable[[str, str], object] = lambda _method, _path: None
        self.after: Callable[[str, str], object] = lambda _method, _path: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def request(self, method: str, path: str, **options: Any) -> Reply:
        self.sent.append(f"{method} {path}")
        self.before(method, path)
        reply = self._inner.request(method, path, **options)
        self.after(method, path)
        return reply


@dataclass
class Rig:
    """All of it, and the World that is made of it."""

    clock: HandClock
    service: InProcessTokenService
    line: Line
    gateway: Gateway
    operator: SkyflowKeys
    events: list[Any] = field(default_factory=list)

    def new_credential(self, **changes: Any) -> Secret:
        text = credential_text(now=self.clock.now(), **changes)
        self.service.trust(load_trusted(text), ROLE_IDS)
        return Secret(text)

    def mount(self, *roles: str, credential: Secret | None = None) -> str:
        """A mount with these roles; the first also asks for a ctx."""
        path = f"skyflow/{secrets.token_hex(4)}"
        self.gateway.enable_mount(path, {"type": "skyflow"})
        for role in roles or ("reader", "writer"):
            ctx = {} if role == "writer" else {"ctx_required": True, "ctx_probe": "a:1"}
            self.gateway.write_role(path, role, {"role_ids": [ROLE_IDS[0]], **ctx})
        first = credential or self.new_credential()
        self.gateway.write_config(path, {"credentials_json": first})
        return path

    def write(self, path: str, rotation_id: str = "rot", **changes: Any) -> None:
        """Write another key of the same account, as a rotation does; it stays open."""
        live = self.gateway.read_config(path)
        given = {"clientID": live.client_id, **changes}
        fields = {"credentials_json": self.new_credential(**given), "rotation_id": rotation_id}
        self.gateway.write_config(path, fields)

    def rotated(self) -> tuple[str, str, str]:
        """A mount with a committed rotation, the old key and the new one."""
        path = self.mount()
        old = self.gateway.read_config(path).key_id
        self.write(path)
        self.gateway.commit_rotation(path, "rot")
        return path, old, self.gateway.read_config(path).key_id

    def world(self, **changes: Any) -> Dependencies:
        values: Mapping[str, Any] = {
            "gateway": self.gateway,
            "connect": None,
            "clock": self.clock,
            "run_id": "run-1",
            "sleep": self.clock.wait,
            "operator": self.operator,
            "listener": self.events.append,
        }
        return Dependencies(**{**values, **changes})

    def past_the_old_tokens(self) -> None:
        self.clock.wait(3600 + MARGIN.total_seconds() + 5)


def job(path: str, **options: Any) -> RotationJob:
    return RotationJob(path.rpartition("/")[2], path, Options(retire_margin=MARGIN, **options))


@contextmanager
def opened_rig() -> Iterator[Rig]:
    clock = HandClock()
    state = EmulatorState(clock=clock)
    service = InProcessTokenService(state)
    line = Line(MemoryTransport(service, EngineSettings(), clock=clock))
    rig = Rig(clock, service, line, Gateway(line), SkyflowKeys(state))
    try:
        yield rig
    finally:
        rig.gateway.close()
