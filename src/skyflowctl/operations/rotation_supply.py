"""Where a mount's next credential comes from, and who may speak to Skyflow for it."""

from collections.abc import Callable
from dataclasses import dataclass

from skyflowctl.errors import Problem, RefusedError, SkyflowctlError, UsageError
from skyflowctl.manifest.model import Manifest
from skyflowctl.operations.rotate_flags import RotateFlags
from skyflowctl.operations.successors import (
    CredentialLinter,
    ReferencedCredential,
    resolve_successor,
)
from skyflowctl.operations.targets import MountRef
from skyflowctl.rotation.model import KeyInfo, MountOutcome, NewCredential
from skyflowctl.rotation.ports import FromReference, Generated, KeyService, KeySource, ServerFile
from skyflowctl.skyflow.management.api import ManagementApi, host_for
from skyflowctl.vault.live import LiveConfig


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
    linting: CredentialLinter

    def list_keys(self, client_id: str) -> tuple[KeyInfo, ...]:
        """Return the keys of a service account."""
        listed = self.api.list_keys(client_id)
        return tuple(KeyInfo(one.key_id, one.valid_after, one.valid_before) for one in listed)

    def create_key(self, client_id: str) -> NewCredential:
        """Have a key made.

        Raises:
            InvalidInputError: what Skyflow made is not what a mount may take.
        """
        return self.linting.check(self.api.create_key(client_id), "the key that Skyflow made")

    def delete_key(self, client_id: str, key_id: str) -> None:
        """Delete a key."""
        self.api.delete_key(client_id, key_id)


@dataclass(frozen=True, slots=True)
class ManifestSuccessor:
    """What a manifest says of a mount's next credential: in words, and where it is."""

    text: str
    source: FromReference | ServerFile


@dataclass(frozen=True, slots=True)
class KeyProvider:
    """Gives each mount its successor and its operator; called from several threads.

    Args:
        wishes: of the command line.
        linting: how credentials are judged.
        declared: what the manifest says of a mount; None: nothing.
        operators: Skyflow's keys as an operator sees them; None: no operator is named.
            Raises what makes one unusable.
    """

    wishes: RotateFlags
    linting: CredentialLinter
    declared: Callable[[RotationTarget], ManifestSuccessor | None]
    operators: Callable[[RotationTarget], KeyService | None]

    def successor(self, subject: RotationTarget) -> KeySource | None:
        """Return ``--credentials``, else ``--generate``, else what the manifest says.

        Raises:
            SkyflowctlError: a key is to be made, and the operator cannot be used.
        """
        if self.wishes.credentials:
            return ReferencedCredential(self.wishes.credentials, "the new credential", self.linting)
        if self._generates(subject):
            keys = self.operators(subject)
            if keys is None:
                raise operator_needed(subject.named.name)
            return Generated(keys)
        declared = self.declared(subject)
        return declared.source if declared else None

    def coming(self, subject: RotationTarget) -> str:
        """Return what the next credential will be, in a few words for a question."""
        if self.wishes.credentials:
            return f"the key behind {self.wishes.credentials.text}"
        if self._generates(subject):
            return "a new key that Skyflow makes"
        declared = self.declared(subject)
        return declared.text if declared else "nothing: no successor is named"

    def operator_if_usable(
        self, subject: RotationTarget
    ) -> tuple[KeyService | None, tuple[Problem, ...]]:
        """Return the operator, or why there is none, where the work goes on without one.

        Raises:
            SkyflowctlError: the command line names one that cannot be used; it is never
                ignored.
        """
        try:
            return self.operators(subject), ()
        except SkyflowctlError as error:
            if self.wishes.of_operator:
                raise
            return None, error.problems

    def _generates(self, subject: RotationTarget) -> bool:
        return self.wishes.generate or subject.named.rotation.source == "generate"


def own_supply(
    wishes: RotateFlags, manifest: Manifest | None, linting: CredentialLinter
) -> KeyProvider:
    """Return the supply of a real server: references of the command line and the manifest."""
    mounts = {mount.path: mount for mount in manifest.mounts} if manifest else {}

    def declared(subject: RotationTarget) -> ManifestSuccessor | None:
        mount = mounts.get(subject.named.path)
        if mount is None or mount.credentials is None:
            return None
        if path := mount.credentials.server_file:
            return ManifestSuccessor(f"the key in {path} on the server", ServerFile(path))
        source = ReferencedCredential(mount.credentials, f"the credential of {mount.name}", linting)
        return ManifestSuccessor(f"the key behind {mount.credentials.text}", source)

    def operators(subject: RotationTarget) -> KeyService | None:
        rule = subject.named.rotation
        reference = wishes.operator_token or rule.operator_token
        account_id = wishes.account_id or rule.account_id
        if reference is None or not account_id:
            if wishes.operator_token or wishes.account_id:
                raise _half_an_operator(subject.named.name, "--account-id ID" if reference else "")
            return None
        uri = str(subject.config.raw.get("token_uri") or "") if subject.config else ""
        host = host_for(uri, named=wishes.management_host)
        token = resolve_successor(reference, "the operator token")
        return SkyflowKeys(ManagementApi(host, token, account_id), linting)

    return KeyProvider(wishes, linting, declared, operators)


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
