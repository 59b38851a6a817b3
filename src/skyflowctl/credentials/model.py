"""Service-account credentials, and where a mount's credential comes from."""

from collections.abc import Mapping
from typing import Any, Protocol

from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Reference
from skyflowctl.secret import Secret
from skyflowctl.vault.live import SERVER_FILE


@dataclass(frozen=True, slots=True)
class CredentialId:
    """Identifies a service-account key; safe to print.

    Args:
        client_id: the service account.
        key_id: its key; unique for each key of a token service.
    """

    client_id: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Credential:
    """One service-account credential, fully checked and ready to be sent.

    Args:
        id: its identity.
        json: the normalised credential, for the engine's ``credentials_json``.
        warnings: the warnings of the lint; none of them makes the credential invalid.
        server_file: the path on the server where the engine reads it; ``json`` is then empty.
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
        """The field of a config's body that contains it."""
        if self.server_file:
            return {SERVER_FILE: self.server_file}
        return {"credentials_json": self.json}


class CredentialSource(Protocol):
    """Gives the credentials of a manifest's mounts; called from several threads.

    ``skyflowctl.credentials.sources`` has the source for a manifest, ``skyflowctl.devstack`` that
    of the dev stack, which resolves no references.
    """

    def identify(self, mount: str, live: CredentialId | None) -> CredentialId:
        """Return the identity of a mount's declared credential, without keeping the secret.

        Args:
            mount: the manifest's name of the mount.
            live: the mount's live credential. The engine has already checked it, so a source
                does not have to check the same one fully again.

        Raises:
            UnresolvedReferenceError: there is none, or it cannot be read here.
            InvalidInputError: it was read but is not a valid credential.
        """

    def resolve(self, mount: str) -> Credential:
        """Return a mount's credential, fully checked.

        Raises:
            InvalidInputError: as for :meth:`identify`.
        """

    def secret(self, reference: Reference, subject: str) -> Secret:
        """Return the secret at a reference of the manifest that is no credential.

        Args:
            reference: its location.
            subject: its description, for messages.

        Raises:
            UnresolvedReferenceError: it cannot be resolved.
        """

    def prepare_apply(self) -> None:
        """Prepare these credentials so that they can mint; called before an apply writes.

        Raises:
            SkyflowctlError: the preparation failed; nothing was written to the server.
        """
