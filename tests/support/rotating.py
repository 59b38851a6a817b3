"""Mounts on the real engine, the emulator in process, and a server that fails on demand."""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from skyflowctl.credentials.model import Credential, CredentialId
from skyflowctl.engine.settings import EngineSettings
from skyflowctl.errors import InvalidInputError, SkyflowctlError, UnreachableError
from skyflowctl.rotation.model import KeyInfo, MountOutcome, Options, RotationJob
from skyflowctl.rotation.ports import Dependencies, Generated
from skyflowctl.rotation.rotate import rotate_mount
from skyflowctl.secret import Secret
from skyflowctl.skyflow import signing_key
from skyflowctl.skyflow.emulator import state as emulator_state
from skyflowctl.skyflow.emulator.state import EmulatorState
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.memory_transport import MemoryTransport
from skyflowctl.vault.transport import Request
from support.engine import FrozenClock
from support.faulty_emulator import FaultyTokenService
from support.keys import credential, rsa_key

PATH = "skyflow/order"
A, B = "skyflow-role-a", "skyflow-role-b"
ROLE_IDS = ("r-read", "r-write")
MARGIN = timedelta(minutes=5)


@pytest.fixture
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the one RSA key of all these credentials once, and not 40 ms each time."""
    monkeypatch.setattr(signing_key, "_load", _load_once)
    monkeypatch.setattr(emulator_state, "read_private_key", _read_once)


_load_once = functools.cache(signing_key._load)
_read_once = functools.cache(emulator_state.read_private_key)


class Killed(BaseException):
    """The process ends here: nothing is cleaned up after it."""


class Requests:
    """A transport that does something at each request: counts, fails, kills, waits.

    Args:
        inner: answers.
        before: called with the request's number, method and path before it is sent.
        after: the same, once the server has done it and before its answer arrives.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.before: Callable[[int, str, str], None] = lambda *_: None
        self.after: Callable[[int, str, str], None] = lambda *_: None
        self.seen: list[tuple[str, str, dict]] = []

    @property
    def sent(self) -> list[str]:
        """Each request's method and path."""
        return [f"{method} {path}" for method, path, _ in self.seen]

    def send(self, request: Request) -> Any:
        method, path = request.method, request.path
        number = len(self.seen)
        self.seen.append((method, path, dict(request.body or {})))
        self.before(number, method, path)
        reply = self.inner.send(request)
        self.after(number, method, path)
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@dataclass
class Keys:
    """Skyflow's keys over the emulator's state. ``before``/``after``: as for requests.

    ``broken`` is raised by deletions.
    """

    service: FaultyTokenService
    clock: FrozenClock
    texts: dict[str, str] = field(default_factory=dict)
    before: Callable[[str], None] = lambda _: None
    after: Callable[[str], None] = lambda _: None
    broken: SkyflowctlError | None = None
    deleted: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def list_keys(self, client_id: str) -> tuple[KeyInfo, ...]:
        self._called("list")
        return tuple(map(KeyInfo, self.ids(client_id)))

    def ids(self, client_id: str) -> tuple[str, ...]:
        account = self.service.state.accounts.get(client_id)
        return tuple(account.keys) if account else ()

    def create_key(self, client_id: str) -> Credential:
        self._called("create")
        account = self.service.state.accounts[client_id]
        fields = credential(now=self.clock.now(), clientID=client_id)
        self.service.trust(load_trusted(json.dumps(fields)), account.role_ids)
        self.after("create")
        return new_credential(json.dumps(fields))

    def delete_key(self, client_id: str, key_id: str) -> None:
        self._called("delete")
        if self.broken:
            raise self.broken
        with contextlib.suppress(KeyError):
            self.service.state.delete_key(client_id, key_id)
        self.deleted.append(key_id)
        self.after("delete")

    def _called(self, what: str) -> None:
        self.calls.append(what)
        self.before(what)


def new_credential(text: str) -> Credential:
    fields = json.loads(text)
    return Credential(
        CredentialId(fields["clientID"], fields["keyID"]), load_trusted(text).to_json()
    )


@dataclass
class Rig:
    """A server, its token service, Skyflow's keys and a clock that moves only by hand.

    Args:
        roles: of the mount at ``PATH``, r1, r2 and so on, by their ids at Skyflow.
        configured: that mount has a credential.
        mounted: there is such a mount.
        operator: what the rig's dependencies have as an operator unless they name another.
    """

    roles: tuple[str, ...] = (A,)
    configured: bool = True
    mounted: bool = True
    operator: bool = False

    def __post_init__(self) -> None:
        self.clock = FrozenClock()
        state = EmulatorState(clock=self.clock, signing_key=rsa_key("emulator"))
        self.tokens = FaultyTokenService(state)
        self.server = MemoryTransport(self.tokens, EngineSettings(), clock=self.clock)
        self.line = Requests(self.server)
        self.gateway = Gateway(self.line)
        self.keys = Keys(self.tokens, self.clock)
        self.events: list[Any] = []
        self.client, self.old = "", ""
        if self.mounted:
            self._mount_first()

    def _mount_first(self) -> None:
        self.gateway.sys.enable_mount(PATH, {"type": "skyflow"})
        for number, role_id in enumerate(self.roles, 1):
            self.gateway.engine(PATH).write_role(f"r{number}", {"role_ids": [role_id]})
        if self.configured:
            text = self.key(*self.roles)
            fields = json.loads(text)
            self.client, self.old = fields["clientID"], fields["keyID"]
            self.gateway.engine(PATH).write_config({"credentials_json": Secret(text)})
            # Long ago, so that nobody is thought to be at it.
            self.clock.pass_seconds(600)

    @property
    def state(self) -> EmulatorState:
        return self.tokens.state

    def close(self) -> None:
        self.server.close()

    def key(self, *role_ids: str, **changes: Any) -> str:
        """A credential's text that the emulator trusts with these roles."""
        fields = credential(now=self.clock.now(), **changes)
        text = json.dumps(fields)
        self.tokens.trust(load_trusted(text), role_ids or self.roles)
        return text

    def successor(self, *role_ids: str, **changes: Any) -> Credential:
        """A second key of the account that is live."""
        more = {"clientID": self.client} if self.client else {}
        return new_credential(self.key(*role_ids, **{**more, **changes}))

    # More mounts -----------------------------------------------------------------

    def new_secret(self, **changes: Any) -> Secret:
        """A credential that may use both roles of :meth:`mount`."""
        return Secret(self.key(*ROLE_IDS, **changes))

    def mount(self, *roles: str, credential: Secret | None = None) -> str:
        """A mount with these roles; all but ``writer`` ask for a ctx."""
        path = f"skyflow/{secrets.token_hex(4)}"
        self.gateway.sys.enable_mount(path, {"type": "skyflow"})
        for role in roles or ("reader", "writer"):
            ctx = {} if role == "writer" else {"ctx_required": True, "ctx_probe": "a:1"}
            self.gateway.engine(path).write_role(role, {"role_ids": [ROLE_IDS[0]], **ctx})
        first = credential or self.new_secret()
        self.gateway.engine(path).write_config({"credentials_json": first})
        return path

    def write(self, path: str, rotation_id: str = "rot", **changes: Any) -> None:
        """Write another key of the same account, as a rotation does; it stays open."""
        live = self.gateway.engine(path).config()
        given = {"clientID": live.client_id, **changes}
        fields = {"credentials_json": self.new_secret(**given), "rotation_id": rotation_id}
        self.gateway.engine(path).write_config(fields)

    def rotated(self) -> tuple[str, str, str]:
        """A mount with a committed rotation, the old key and the new one."""
        path = self.mount()
        old = self.gateway.engine(path).config().key_id
        self.write(path)
        self.gateway.engine(path).commit("rot")
        return path, old, self.gateway.engine(path).config().key_id

    def past_the_old_tokens(self) -> None:
        self.clock.pass_seconds(3600 + MARGIN.total_seconds() + 5)

    # What acts -------------------------------------------------------------------

    def dependencies(self, transport: Any = None, **changes: Any) -> Dependencies:
        gateway = Gateway(transport) if transport is not None else self.gateway
        values = {
            "gateway": gateway,
            "connect": None,
            "clock": self.clock,
            "run_id": "run-1",
            "sleep": self.clock.pass_seconds,
            "operator": self.keys if self.operator else None,
            "listener": self.events.append,
        }
        return Dependencies(**{**values, **changes})

    def rotate(
        self, source: Any, world: Dependencies | None = None, **options: Any
    ) -> MountOutcome:
        job = RotationJob("order", PATH, Options(**options))
        return rotate_mount(job, source, world or self.dependencies())

    def generated(self) -> Generated:
        return Generated(self.keys)

    # What is true afterwards -----------------------------------------------------

    def config(self) -> Any:
        return self.gateway.engine(PATH).config()

    def serves(self) -> str:
        """Read a token of each role as an application does; return the key that minted."""
        minted = {
            self.gateway.engine(PATH).creds(f"r{number}").key_id
            for number in range(1, len(self.roles) + 1)
        }
        (key_id,) = minted
        assert key_id == self.config().key_id
        assert key_id in self.keys.ids(self.config().client_id)
        return key_id


@contextlib.contextmanager
def rig(*roles: str, configured: bool = True) -> Iterator[Rig]:
    """A rig for the time of a block."""
    made = Rig(roles or (A,), configured)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def empty_rig() -> Iterator[Rig]:
    """A rig without a mount, whose operator may manage Skyflow's keys."""
    made = Rig(mounted=False, operator=True)
    try:
        yield made
    finally:
        made.close()


def job(path: str, **options: Any) -> RotationJob:
    """The job of a mount that :meth:`Rig.mount` made."""
    return RotationJob(path.rpartition("/")[2], path, Options(retire_margin=MARGIN, **options))


def unreachable() -> SkyflowctlError:
    """Skyflow's Management API does not answer."""
    return UnreachableError("no answer", why="timed out", fix="try again")


def invalid() -> Credential:
    """A reference that holds no credential."""
    raise InvalidInputError("no credential", why="it is a shopping list", fix="name another file")
