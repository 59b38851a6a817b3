"""Where a mount's next credential comes from, and who manages its keys at Skyflow."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from skyflowctl.credentials.lint import CredentialLinter
from skyflowctl.credentials.model import Credential
from skyflowctl.credentials.resolve import resolve_reference
from skyflowctl.credentials.sources import ReferencedCredential
from skyflowctl.errors import Problem, RefusedError, SkyflowctlError, UsageError
from skyflowctl.manifest.model import Manifest
from skyflowctl.operations.rotate_request import RotateRequest
from skyflowctl.operations.targets import MountRef
from skyflowctl.rotation.model import KeyInfo, MountOutcome, RotationJob
from skyflowctl.rotation.ports import Generated, KeyService, KeySource, ServerFile
from skyflowctl.skyflow.management.api import ManagementApi, host_for
from skyflowctl.vault.live import LiveConfig

RETIRE_MARGIN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class RotationTarget:
    """One mount that a command about rotation is at.

    Args:
        named: its name, path and rule.
        config: what was live when it was looked at; None: it could not be read.
        problem: why it could not be read.
        due: why its credential is due; empty: it is not, or nobody asked.
        old_key: the key that is to be retired; empty: none, or nobody asked.
        kills: what retiring it now would kill, in one line.
        known: what becomes of it, where that is known without any work.
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
    """The Management API as a rotation's ``KeyService``: what it creates is linted."""

    api: ManagementApi
    linter: CredentialLinter

    def list_keys(self, client_id: str) -> tuple[KeyInfo, ...]:
        """Return the keys of a service account."""
        listed = self.api.list_keys(client_id)
        return tuple(KeyInfo(one.key_id, one.valid_after, one.valid_before) for one in listed)

    def create_key(self, client_id: str) -> Credential:
        """Have a key made.

        Raises:
            InvalidInputError: what Skyflow made is not what a mount may take.
        """
        return self.linter.check(self.api.create_key(client_id), "the key that Skyflow made")

    def delete_key(self, client_id: str, key_id: str) -> None:
        """Delete a key."""
        self.api.delete_key(client_id, key_id)


@dataclass(frozen=True, slots=True)
class KeyProvider:
    """Gives each mount its successor and its operator; called from several threads.

    Args:
        request: what the command line asks for; it wins over the manifest.
        linter: judges credentials.
        declared: the successor that the manifest names for a mount; None: none.
        operators: Skyflow's keys as an operator sees them; None: no operator is named.
            Raises what makes one unusable.
        margin: how long an old key outlives its last token, where a mount's rule is silent.
        dev: a dev stack's: its tokens are short, so that no mount's own margin counts, and
            its operator is its own.
    """

    request: RotateRequest
    linter: CredentialLinter
    declared: Callable[[RotationTarget], KeySource | None]
    operators: Callable[[RotationTarget], KeyService | None]
    margin: timedelta = RETIRE_MARGIN
    dev: bool = False

    @property
    def token_hosts(self) -> frozenset[str]:
        """The token services that may be asked from this machine."""
        return frozenset(self.linter.allowed_hosts)

    def margin_of(self, named: MountRef) -> timedelta:
        """Return how long a mount's old key outlives its last token."""
        own = None if self.dev else named.rotation.retire_margin
        return self.margin if own is None else own

    def job_of(self, named: MountRef) -> RotationJob:
        """Return what the request is for one mount."""
        options = replace(self.request.options, retire_margin=self.margin_of(named))
        return RotationJob(named.name, named.path, options, self.previous())

    def previous(self) -> ReferencedCredential | None:
        """Return the way back that the command line names, for an engine that keeps none."""
        reference = self.request.previous
        if reference is None:
            return None
        return ReferencedCredential(reference, "the credential that is live now", self.linter)

    def given(self) -> ReferencedCredential | None:
        """Return the new credential that the command line names."""
        reference = self.request.credentials
        if reference is None:
            return None
        return ReferencedCredential(reference, "the new credential", self.linter)

    def successor(self, target: RotationTarget) -> KeySource | None:
        """Return ``--credentials``, else ``--generate``, else what the manifest says.

        Raises:
            SkyflowctlError: a key is to be made, and the operator cannot be used.
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
        """Return what the next credential will be, in a few words for a question."""
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
        """Return the operator, or why there is none, where the work goes on without one.

        Raises:
            SkyflowctlError: the command line names one that cannot be used; it is never
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
    request: RotateRequest, manifest: Manifest | None, linter: CredentialLinter
) -> KeyProvider:
    """Return the provider for a real server: references of the command line and the manifest."""
    mounts = {mount.path: mount for mount in manifest.mounts} if manifest else {}

    def declared(target: RotationTarget) -> KeySource | None:
        mount = mounts.get(target.named.path)
        if mount is None or mount.credentials is None:
            return None
        if path := mount.credentials.server_file:
            return ServerFile(path)
        return ReferencedCredential(mount.credentials, f"the credential of {mount.name}", linter)

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
        token = resolve_reference(reference, "the operator token")
        return SkyflowKeys(ManagementApi(host, token, account_id), linter)

    return KeyProvider(request, linter, declared, operators)


def operator_needed(name: str) -> RefusedError:
    """Return the refusal of what only an operator of the Skyflow account can have done."""
    return RefusedError(
        f"nobody is named who may manage the keys of {name} at Skyflow",
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
