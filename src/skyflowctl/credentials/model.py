"""Service-account credentials, and where a mount's credential comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from skyflowctl.errors import Problem
from skyflowctl.secret import Secret
from skyflowctl.vault.live import SERVER_FILE


@dataclass(frozen=True, slots=True)
class CredentialId:
    """Tells one service-account key from another; safe to print.

    Args:
        client_id: the service account.
        key_id: its key; a token service gives no two keys the same one.
    """

    client_id: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Credential:
    """One service-account credential, checked in full and ready to be sent.

    Args:
        id: which one it is.
        json: the normalised credential, as the engine's ``credentials_json`` takes it.
        warnings: what the lint found; none of it refuses the credential.
        server_file: the path where the engine reads it on the server; ``json`` is empty then.
    """

    id: CredentialId
    json: Secret
    warnings: tuple[Problem, ...] = ()
    server_file: str = ""

    @property
    def client_id(self) -> str:
        """The service account."""
        return self.id.client_id

    @property
    def key_id(self) -> str:
        """The key."""
        return self.id.key_id

    @property
    def field(self) -> Mapping[str, Any]:
        """The one field of a config's body that brings it."""
        if self.server_file:
            return {SERVER_FILE: self.server_file}
        return {"credentials_json": self.json}


class CredentialSource(Protocol):
    """Gives the credentials of a manifest's mounts; called from several threads.

    ``skyflowctl.credentials.sources`` has the manifest's own, ``skyflowctl.devstack`` the
    dev stack's, which resolves no reference.
    """

    def identify(self, mount: str, live: CredentialId | None) -> CredentialId:
        """Return which credential a mount should have, and keep nothing of it.

        Args:
            mount: the manifest's name of the mount.
            live: the credential that the mount runs on. The engine has checked that
                one, so a source need not check the same one in full again.

        Raises:
            UnresolvedReferenceError: there is none, or it cannot be read here.
            InvalidInputError: it was read, and is no valid credential.
        """

    def resolve(self, mount: str) -> Credential:
        """Return a mount's credential, checked in full.

        Raises:
            InvalidInputError: as for :meth:`identify`.
        """

    def prepare_apply(self) -> None:
        """Do what these credentials need in order to mint; called before an apply writes.

        Raises:
            SkyflowctlError: it cannot be done; nothing was written to the server.
        """
