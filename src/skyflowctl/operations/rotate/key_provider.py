"""The source of a mount's next credential, and the operator of its keys at Skyflow."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from skyflowctl.credentials.lint import CredentialLinter
from skyflowctl.credentials.model import Credential
from skyflowctl.credentials.resolve import ReferenceResolver
from skyflowctl.credentials.sources import ReferencedCredential
from skyflowctl.devstack.credentials import DevCredentials
from skyflowctl.devstack.emulator import dev_management
from skyflowctl.devstack.layout import DevLayout
from skyflowctl.errors import Problem, RefusedError, SkyflowctlError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest
from skyflowctl.operations.mount_refs import MountRef
from skyflowctl.operations.rotate.request import RotateRequest
from skyflowctl.rotation.model import KeyInfo, MountOutcome, RotationJob
from skyflowctl.rotation.ports import Generated, KeyService, KeySource, ServerFile
from skyflowctl.skyflow.management.api import ManagementApi, host_for
from skyflowctl.vault.live import LiveConfig

RETIRE_MARGIN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class RotationTarget:
    """One mount of a rotation command.

    Args:
        named: its name, path and rule.
        config: the live config when it was read; None: it could not be read.
        problem: why it could not be read.
        due: why its credential is due; empty: not due, or not checked.
        old_key: the key to retire; empty: none, or not checked.
        kills: what stops working if it is retired now, in one line.
        known: its outcome, if that is known without any work.
    """

    named: MountRef
    config: LiveConfig | None
    problem: SkyflowctlError | None = None
    due: str = ""
    old_key: str = ""
    kills: str = ""
    known: MountOutcome | None = None


@dataclass(frozen=True, slots=True)
class SkyflowKeys:
    """The Management API as a rotation's ``KeyService``; lints the keys that it creates."""

    api: ManagementApi
    linter: CredentialLinter

    def list_keys(self, client_id: str) -> tuple[KeyInfo, ...]:
        """Return the keys of a service account."""
        listed = self.api.list_keys(client_id)
        return tuple(KeyInfo(one.key_id, one.valid_after, one.valid_before) for one in listed)

    def create_key(self, client_id: str) -> Credential:
        """Create a key.

        Raises:
            InvalidInputError: a mount may not use the created key.
        """
        return self.linter.check(self.api.create_key(client_id), "the key that Skyflow made")

    def delete_key(self, client_id: str, key_id: str) -> None:
        """Delete a key."""
        self.api.delete_key(client_id, key_id)


@dataclass(frozen=True, slots=True)
class KeyProvider:
    """Provides each mount's next credential and operator; called from several threads.

    Args:
        request: the command line's request; it overrides the manifest.
        linter: checks credentials.
        declared: the next credential that the manifest names for a mount; None: none.
        operators: returns the key service of an operator; None: no operator is named. Raises the
            reason if an operator cannot be used.
        resolver: resolves the command line's references.
        margin: how long an old key is kept after its last token, if a mount's rule does not say.
        dev: for a dev stack: it has its own operator, and ignores the mounts' margins because its
            tokens are short.
    """

    request: RotateRequest
    linter: CredentialLinter
    declared: Callable[[RotationTarget], KeySource | None]
    operators: Callable[[RotationTarget], KeyService | None]
    resolver: ReferenceResolver
    margin: timedelta = RETIRE_MARGIN
    dev: bool = False

    @property
    def token_hosts(self) -> frozenset[str]:
        """The token services that may be called from this machine."""
        return frozenset(self.linter.allowed_hosts)

    def margin_of(self, named: MountRef) -> timedelta:
        """Return how long a mount's old key is kept after its last token."""
        own = None if self.dev else named.rotation.retire_margin
        return self.margin if own is None else own

    def job_of(self, named: MountRef) -> RotationJob:
        """Return the rotation job of one mount."""
        options = replace(self.request.options, retire_margin=self.margin_of(named))
        return RotationJob(named.name, named.path, options, self.previous())

    def previous(self) -> ReferencedCredential | None:
        """Return ``--previous``, the live credential, for a rollback on a basic engine."""
        reference = self.request.previous
        if reference is None:
            return None
        return ReferencedCredential(
            reference, "the credential that is live now", self.linter, self.resolver
        )

    def given(self) -> ReferencedCredential | None:
        """Return the new credential that the command line names."""
        reference = self.request.credentials
        if reference is None:
            return None
        return ReferencedCredential(reference, "the new credential", self.linter, self.resolver)

    def successor(self, target: RotationTarget) -> KeySource | None:
        """Return ``--credentials``, else ``--generate``, else the manifest's source.

        Raises:
            SkyflowctlError: a key must be created, and the operator cannot be used.
        """
        if given := self.given():
            return given
        if not self._generates(target):
            return self.declared(target)
        keys = self.operators(target)
        if keys is None:
            raise operator_needed(target.named.name)
        return Generated(keys)

    def coming(self, target: RotationTarget) -> str:
        """Return a few words about the next credential, for a confirmation prompt."""
        if self._generates(target) and self.request.credentials is None:
            return "a new key that Skyflow makes"
        source = self.given() or self.declared(target)
        if source is None:
            return "nothing: no successor is named"
        if isinstance(source, ServerFile):
            return f"the key in {source.path} on the server"
        if isinstance(source, ReferencedCredential):
            return f"the key behind {source.reference.text}"
        return "the dev stack's generated stand-in"

    def operator_if_usable(
        self, target: RotationTarget
    ) -> tuple[KeyService | None, tuple[Problem, ...]]:
        """Return the operator, or why there is none, for work that does not require one.

        Raises:
            SkyflowctlError: the command line names an operator that cannot be used; it is never
                ignored.
        """
        try:
            return self.operators(target), ()
        except SkyflowctlError as error:
            if self.request.names_operator:
                raise
            return None, error.problems

    def _generates(self, target: RotationTarget) -> bool:
        return self.request.generate or target.named.rotation.source == "generate"


def key_provider(
    request: RotateRequest,
    manifest: Manifest | None,
    linter: CredentialLinter,
    resolver: ReferenceResolver,
) -> KeyProvider:
    """Return the provider for a real server, from the command line and the manifest."""
    mounts = {mount.path: mount for mount in manifest.mounts} if manifest else {}

    def declared(target: RotationTarget) -> KeySource | None:
        mount = mounts.get(target.named.path)
        if mount is None or mount.credentials is None:
            return None
        if path := mount.credentials.server_file:
            return ServerFile(path)
        subject = f"the credential of {mount.name}"
        return ReferencedCredential(mount.credentials, subject, linter, resolver)

    def operators(target: RotationTarget) -> KeyService | None:
        rule = target.named.rotation
        reference = request.operator_token or rule.operator_token
        account_id = request.account_id or rule.account_id
        if reference is None or not account_id:
            if request.operator_token or request.account_id:
                raise _half_an_operator(target.named.name, "--account-id ID" if reference else "")
            return None
        uri = target.config.token_uri if target.config else ""
        host = host_for(uri, named=request.management_host)
        token = resolver.resolve(reference, "the operator token")
        return SkyflowKeys(ManagementApi(host, token, account_id), linter)

    return KeyProvider(request, linter, declared, operators, resolver)


def operator_needed(name: str) -> RefusedError:
    """Return the refusal of work that needs an operator of the Skyflow account."""
    return RefusedError(
        f"no operator is given who may manage the keys of {name} at Skyflow",
        why="it takes an operator's bearer token and the account's id",
        fix="give --operator-token REF and --account-id ID, or `operator_token` and `account_id`"
        " in the mount's `rotation`",
        code="no-operator-token",
    )


def _half_an_operator(name: str, missing: str) -> UsageError:
    return UsageError(
        f"what is given of an operator for {name} is not enough",
        why="it takes an operator's bearer token and the account's id",
        fix=f"add {missing or '--operator-token REF'}, or leave out what you gave",
        code="half-an-operator",
    )


DEV_RETIRE_MARGIN = timedelta(seconds=2)


def dev_key_provider(
    request: RotateRequest,
    manifest: Manifest | None,
    linter: CredentialLinter,
    layout: DevLayout,
    resolver: ReferenceResolver,
) -> KeyProvider:
    """Return the dev stack's provider: no reference of the manifest is ever resolved.

    An operator that the command line names is used, or fails.
    """
    placeholders = DevCredentials(layout, manifest) if manifest else None
    mounts = {mount.path: mount for mount in manifest.mounts} if manifest else {}

    def declared(target: RotationTarget) -> KeySource | None:
        mount = mounts.get(target.named.path)
        if mount is None or mount.credentials is None or placeholders is None:
            return None
        name = mount.name
        return lambda: linter.check(placeholders.resolve(name).json, f"the stand-in of {name}")

    def operators(_target: RotationTarget) -> KeyService | None:
        given = request.operator_token
        token = resolver.resolve(given, "the operator token") if given else None
        return SkyflowKeys(dev_management(layout, token, request.account_id), linter)

    return KeyProvider(request, linter, declared, operators, resolver, DEV_RETIRE_MARGIN, dev=True)
