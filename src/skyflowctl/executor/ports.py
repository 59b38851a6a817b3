"""Where an apply gets a mount's credential from, and how it replaces one that is live."""

from dataclasses import dataclass
from typing import Protocol

from skyflowctl.errors import Problem
from skyflowctl.planner.identity import CredentialIdentity
from skyflowctl.secret import Secret
from skyflowctl.vault.gateway import Gateway


@dataclass(frozen=True, slots=True)
class Credential:
    """One service-account credential, ready to be sent.

    Args:
        identity: which one it is.
        json: the normalised credential, as the engine's ``credentials_json`` takes it.
        allow_revoked: it may be live again although a cut-off revoked it.
    """

    identity: CredentialIdentity
    json: Secret
    allow_revoked: bool = False


class CredentialSource(Protocol):
    """Gives the credentials of a manifest's mounts; called from several threads.

    Implementations: ``skyflowctl.operations.credentials.ManifestCredentials``, and the
    dev stack's own, which resolves no reference at all.
    """

    def identify(self, mount: str, live: CredentialIdentity | None) -> CredentialIdentity:
        """Tell which credential a mount should have, and keep nothing of it.

        Args:
            mount: the manifest's name of the mount.
            live: the credential that the mount runs on. The engine has checked that
                one, so a source may spare itself a full check of the same.

        Raises:
            skyflowctl.secretrefs.unresolved.UnresolvedReferenceError: there is none, or it
                cannot be read here.
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


class Replacer(Protocol):
    """Replaces live credentials so that no request fails; called from several threads.

    ``skyflowctl.operations.replacing.RotatingReplacer`` does it by a rotation. Both calls
    may be repeated, also by another process, after a kill at any point.
    """

    def replace(
        self, mount: str, path: str, credential: Credential, gateway: Gateway
    ) -> tuple[Problem, ...]:
        """Make a credential live that was never live before, and return warnings.

        Args:
            mount: the manifest's name of the mount.
            path: of the mount; it has a live credential.
            credential: checked in full.
            gateway: the server.

        Raises:
            SkyflowctlError: it is not live at the end; the one before it is, where the
                error does not say otherwise.
        """

    def finish(self, mount: str, path: str, gateway: Gateway) -> tuple[Problem, ...]:
        """Finish what an earlier call began, which has made its credential live already.

        Raises:
            SkyflowctlError: as for :meth:`replace`.
        """
