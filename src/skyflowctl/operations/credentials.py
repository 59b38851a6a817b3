"""The credentials that a manifest's references lead to."""

from collections.abc import Set as AbstractSet

from skyflowctl.clock import Clock, SystemClock
from skyflowctl.errors import InvalidInputError, Problem
from skyflowctl.executor.ports import Credential
from skyflowctl.manifest.model import Manifest, Mount, Reference
from skyflowctl.planner.identity import CredentialIdentity
from skyflowctl.secret import Secret
from skyflowctl.secretrefs.unresolved import UnresolvedReferenceError
from skyflowctl.skyflow.credential_fields import read_fields
from skyflowctl.skyflow.lint import Findings, InvalidCredentialError
from skyflowctl.skyflow.service_account import ServiceAccount, parse_service_account
from skyflowctl.skyflow.strict_json import read_object
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS

NOT_AS_GIVEN_OUT = "a mount takes a service-account key just as Skyflow gave it out"
"""Why a finding about a credential matters."""


class ManifestCredentials:
    """Follows the manifest's own references, anew each time; nothing is kept.

    It is the ``CredentialSource`` of every server but the dev stack's.

    Args:
        manifest: whose references are followed.
        allowed_hosts: ``host:port`` of the token services that a credential may name; kept
            as an attribute of that name.
        clock: against which a key's validity is judged.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        allowed_hosts: AbstractSet[str] = SKYFLOW_HOSTS,
        clock: Clock | None = None,
    ) -> None:
        self._mounts = {mount.name: mount for mount in manifest.mounts}
        self.allowed_hosts = allowed_hosts
        self._clock = clock or SystemClock()

    def identify(self, mount: str, live: CredentialIdentity | None) -> CredentialIdentity:
        """Tell which credential a mount should have; see ``CredentialSource``.

        The full check costs 40 ms of CPU for the key alone, so the credential that is
        live already, which the engine checked when it took it, is only read.
        """
        declared = self._mounts[mount]
        text = _follow(declared)
        try:
            identity = _read_identity(text)
            if identity is not None and identity == live:
                return identity
            return _identity(self._parse(text))
        except InvalidCredentialError as error:
            raise _invalid(declared, error) from None

    def resolve(self, mount: str) -> Credential:
        """Return a mount's credential, checked in full and normalised."""
        account = self.account(mount)
        return Credential(_identity(account), account.to_json())

    def prepare_apply(self) -> None:
        """Do nothing: Skyflow has these keys already."""

    def account(self, mount: str) -> ServiceAccount:
        """Return a mount's credential as a service account.

        Raises:
            UnresolvedReferenceError: there is none, or it cannot be read here.
            InvalidInputError: it was read, and is no valid credential.
        """
        declared = self._mounts[mount]
        try:
            return self._parse(_follow(declared))
        except InvalidCredentialError as error:
            raise _invalid(declared, error) from None

    def _parse(self, text: Secret) -> ServiceAccount:
        account, _ = parse_service_account(
            text.reveal(), allowed_hosts=self.allowed_hosts, now=self._clock.now()
        )
        return account


def _follow(mount: Mount) -> Secret:
    """Return what a mount's reference leads to."""
    from skyflowctl.secretrefs.resolve import resolve

    reference = mount.credentials
    if reference is None:
        raise UnresolvedReferenceError(
            f"the manifest names no credential for {mount.name}",
            why="what needs one cannot be done for this mount",
            fix=f"add `credentials:` to {mount.name}",
            code="no-credential",
            where=mount.where,
        )
    try:
        return resolve(reference.scheme, reference.target)
    except UnresolvedReferenceError as error:
        raise _unresolved(mount, reference, error) from None


def _unresolved(
    mount: Mount, reference: Reference, error: UnresolvedReferenceError
) -> UnresolvedReferenceError:
    cause = error.problems[0]
    why = f"{cause.summary}: {cause.why}" if cause.why else cause.summary
    return type(error)(
        f"the credential of {mount.name} ({reference.text}) could not be resolved",
        why=why,
        fix=cause.fix,
        code=cause.code,
        where=reference.where,
    )


def _read_identity(text: Secret) -> CredentialIdentity | None:
    """Return the identity without a look at the key, or None when it is not plain to see."""
    findings = Findings()
    fields = read_fields(read_object(text.reveal(), findings), findings)
    if "clientID" not in fields or "keyID" not in fields:
        return None
    return CredentialIdentity(fields["clientID"], fields["keyID"])


def _identity(account: ServiceAccount) -> CredentialIdentity:
    return CredentialIdentity(account.client_id, account.key_id)


def _invalid(mount: Mount, error: InvalidCredentialError) -> InvalidInputError:
    where = mount.credentials.where if mount.credentials else mount.where
    return InvalidInputError.of(
        Problem(
            finding.code,
            f"the credential of {mount.name}: {finding.message}",
            NOT_AS_GIVEN_OUT,
            finding.fix,
            where,
        )
        for finding in error.findings
    )
