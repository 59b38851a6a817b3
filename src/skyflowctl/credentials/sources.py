"""Sources of referenced credentials: for all mounts of a manifest, and for a single one."""

from collections.abc import Set as AbstractSet

from skyflowctl.clock import Clock, SystemClock
from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.credentials.lint import CredentialLinter, credential_id, unchecked_id
from skyflowctl.credentials.model import Credential, CredentialId
from skyflowctl.credentials.resolve import ReferenceResolver, position
from skyflowctl.errors import Where
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest, Mount, Reference
from skyflowctl.secret import Secret
from skyflowctl.skyflow.service_account import ServiceAccount
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS


class ManifestSource:
    """Resolves the manifest's own references, again at each call; keeps no secrets.

    It is the ``CredentialSource`` of every server except the dev stack's.

    Args:
        manifest: the manifest with the references.
        allowed_hosts: ``host:port`` of the token services that a credential may name; kept
            as an attribute of that name.
        clock: gives the time for the check of a key's validity.
        resolver: resolves the references.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        allowed_hosts: AbstractSet[str] = SKYFLOW_HOSTS,
        clock: Clock | None = None,
        resolver: ReferenceResolver | None = None,
    ) -> None:
        self._mounts = {mount.name: mount for mount in manifest.mounts}
        self.allowed_hosts = allowed_hosts
        self._linter = CredentialLinter(allowed_hosts, clock or SystemClock())
        self._resolver = resolver or ReferenceResolver()

    def identify(self, mount: str, live: CredentialId | None) -> CredentialId:
        """Return the identity of a mount's credential; see ``CredentialSource``.

        The full check costs a millisecond of CPU. The credential that is already live
        was checked by the engine when it was written, so it is only read.
        """
        declared = self._mounts[mount]
        text = self._text(declared)
        found = unchecked_id(text)
        if found is not None and found == live:
            return found
        return credential_id(self._parse(declared, text))

    def resolve(self, mount: str) -> Credential:
        """Return a mount's credential, fully checked and normalised."""
        account = self.account(mount)
        return Credential(credential_id(account), account.to_json())

    def secret(self, reference: Reference, subject: str) -> Secret:
        """Return the secret at a reference; see ``CredentialSource``."""
        return self._resolver.resolve(reference, subject)

    def prepare_apply(self) -> None:
        """Do nothing, because Skyflow already has these keys."""

    def account(self, mount: str) -> ServiceAccount:
        """Return a mount's credential as a service account.

        Raises:
            UnresolvedReferenceError: there is none, or it cannot be read here.
            InvalidInputError: it was read but is not a valid credential.
        """
        declared = self._mounts[mount]
        return self._parse(declared, self._text(declared))

    def _text(self, mount: Mount) -> Secret:
        if mount.credentials is None:
            raise UnresolvedReferenceError(
                f"the manifest names no credential for {mount.name}",
                why="what needs one cannot be done for this mount",
                fix=f"add `credentials:` to {mount.name}",
                code="no-credential",
                where=mount.where,
            )
        return self._resolver.resolve(mount.credentials, _subject(mount))

    def _parse(self, mount: Mount, text: Secret) -> ServiceAccount:
        account, _ = self._linter.account(text, _subject(mount), _place(mount))
        return account


@dataclass(frozen=True, slots=True)
class ReferencedCredential:
    """A referenced credential, which is read at each call.

    Args:
        reference: its location.
        subject: its description for the user, such as ``the credential of order``.
        linter: checks it.
        resolver: resolves it.
    """

    reference: Reference
    subject: str
    linter: CredentialLinter
    resolver: ReferenceResolver

    def __call__(self) -> Credential:
        """Return the credential, fully checked.

        Raises:
            UnresolvedReferenceError: the reference cannot be resolved.
            InvalidInputError: it was read but is not a valid credential.
        """
        text = self.resolver.resolve(self.reference, self.subject)
        return self.linter.check(text, self.subject, position(self.reference))


def _subject(mount: Mount) -> str:
    return f"the credential of {mount.name}"


def _place(mount: Mount) -> Where:
    return mount.credentials.where if mount.credentials else mount.where
