"""What a rotation needs from outside: new credentials, Skyflow's keys, the nodes."""

from collections.abc import Callable, Sequence
from typing import Protocol

from skyflowctl.clock import Clock
from skyflowctl.credentials.model import Credential
from skyflowctl.frozen import dataclass
from skyflowctl.rotation.events import RotationListener, ignore
from skyflowctl.rotation.model import KeyInfo
from skyflowctl.skyflow.token_service import TokenService
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS
from skyflowctl.vault.gateway import Gateway, GatewayForNode
from skyflowctl.vault.responses import ClusterNode


class KeyService(Protocol):
    """The keys part of Skyflow's Management API.

    ``skyflowctl.skyflow.management.api`` implements it.

    Every call raises ``skyflowctl.errors.SkyflowctlError`` if it is refused or unanswered.
    """

    def list_keys(self, client_id: str) -> tuple[KeyInfo, ...]:
        """Return the keys of a service account."""

    def create_key(self, client_id: str) -> Credential:
        """Create a key for a service account; only this call returns its private half."""

    def delete_key(self, client_id: str, key_id: str) -> None:
        """Delete a key; a key that is already deleted is no error."""


class FromReference(Protocol):
    """The new credential comes from a reference, which is read once for each rotation."""

    def __call__(self) -> Credential:
        """Return the credential, fully linted.

        Raises:
            InvalidInputError: it was read and is no valid credential; holds every finding.
            UnresolvedReferenceError: it cannot be read here.
        """


@dataclass(frozen=True, slots=True)
class Generated:
    """Skyflow creates the new credential, for the live account."""

    keys: KeyService


@dataclass(frozen=True, slots=True)
class ServerFile:
    """The new credential is in a file on the server, which only the engine reads."""

    path: str


KeySource = FromReference | Generated | ServerFile


def never_stop() -> bool:
    """Return False, so that a run never stops early."""
    return False


class OwnerRecord(Protocol):
    """This machine's notes of open rotations: a cache that saves a wait, never the truth."""

    def begin(self, path: str, rotation_id: str) -> None:
        """Note that this process runs this rotation."""

    def end(self, path: str) -> None:
        """Delete the note; the rotation has ended."""

    def owner_alive(self, path: str, rotation_id: str) -> bool | None:
        """Return whether the process of this machine that began it still runs; None: unknown."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The services that a rotation uses.

    Args:
        gateway: the cluster; writes and fresh reads go to its leader.
        connect: opens a gateway to one node; None: this server has no separate nodes (a server
            within this process).
        clock: the time.
        run_id: this command's id, recorded in the audit log; part of a new rotation's id.
        operator: deletes keys at Skyflow; None: no operator token is named.
        owners: this machine's notes of the rotations that this process runs.
        listener: gets every step.
        stopping: called between steps; True: begin nothing new.
        sleep: waits so many seconds.
        token_service: mints from this machine for an engine that cannot try a candidate; None: such
            an engine tries the credential when it is written.
        token_hosts: ``host:port`` of the token services that it may call.
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
    """Return the nodes' names, as messages show them."""
    return tuple(node.name for node in nodes)
