"""What a rotation needs from outside: new credentials, Skyflow's keys, the nodes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from skyflowctl.clock import Clock
from skyflowctl.credentials.model import Credential
from skyflowctl.rotation.events import RotationListener, ignore
from skyflowctl.rotation.model import KeyInfo
from skyflowctl.skyflow.token_service import TokenService
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS
from skyflowctl.vault.gateway import Gateway, GatewayForNode
from skyflowctl.vault.responses import ClusterNode


class KeyService(Protocol):
    """Skyflow's Management API, as far as keys go; ``skyflowctl.skyflow.management.api`` has one.

    Every call raises ``skyflowctl.errors.SkyflowctlError`` when it is refused or unanswered.
    """

    def list_keys(self, client_id: str) -> tuple[KeyInfo, ...]:
        """Return the keys of a service account."""

    def create_key(self, client_id: str) -> Credential:
        """Have a key made for a service account; its private half is returned only here."""

    def delete_key(self, client_id: str, key_id: str) -> None:
        """Delete a key; one that is deleted already is no error."""


class FromReference(Protocol):
    """The successor stands behind a reference; asked once for each rotation."""

    def __call__(self) -> Credential:
        """Return it, linted in full.

        Raises:
            InvalidInputError: it was read, and is no valid credential; every finding at once.
            UnresolvedReferenceError: it cannot be read here.
        """


@dataclass(frozen=True, slots=True)
class Generated:
    """The successor is to be created by Skyflow, for the account that is live."""

    keys: KeyService


@dataclass(frozen=True, slots=True)
class ServerFile:
    """The successor is in a file on the server, which the engine alone reads."""

    path: str


KeySource = FromReference | Generated | ServerFile


def never_stop() -> bool:
    """Never ask to stop."""
    return False


class OwnerRecord(Protocol):
    """This machine's notes of open rotations: a cache that spares a wait, never the truth."""

    def begin(self, path: str, rotation_id: str) -> None:
        """Note that this process is at this rotation."""

    def end(self, path: str) -> None:
        """Forget it; the rotation is settled."""

    def owner_alive(self, path: str, rotation_id: str) -> bool | None:
        """Tell whether the process of this machine that began it still runs; None: unknown."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything outside of a rotation.

    Args:
        gateway: the cluster; writes and fresh reads go to its leader.
        connect: opens a gateway to one node; None: this server has no nodes of its own
            (a server within this process).
        clock: the time.
        run_id: this command's, found in the audit log; a new rotation is named after it.
        operator: how to delete keys at Skyflow; None: no operator token is named.
        owners: notes on this machine which rotation this process is at.
        listener: gets every step.
        stopping: asked between steps; True: begin nothing new.
        sleep: waits so many seconds.
        token_service: mints from this machine where an engine cannot try a candidate;
            None: such an engine tries it when it is written.
        token_hosts: ``host:port`` of the token services that it may ask.
    """

    gateway: Gateway
    connect: GatewayForNode | None
    clock: Clock
    run_id: str
    sleep: Callable[[float], None]
    operator: KeyService | None = None
    owners: OwnerRecord | None = None
    listener: RotationListener = ignore
    stopping: Callable[[], bool] = never_stop
    token_service: TokenService | None = None
    token_hosts: frozenset[str] = SKYFLOW_HOSTS


def names(nodes: Sequence[ClusterNode]) -> tuple[str, ...]:
    """Return nodes as people know them."""
    return tuple(node.api_address or node.hostname for node in nodes)
