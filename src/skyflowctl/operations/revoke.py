"""``config revoke``: cuts one mount off, if that is allowed."""

from collections.abc import Collection
from dataclasses import replace

from skyflowctl.credentials.model import Credential
from skyflowctl.errors import Problem, RefusedError, SkyflowctlError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest
from skyflowctl.operations.rotate.key_provider import KeyProvider, RotationTarget, operator_needed
from skyflowctl.operations.rotate.request import RotateRequest
from skyflowctl.planner.plan import is_named
from skyflowctl.rotation.model import KeyInfo, RotationJob
from skyflowctl.rotation.ports import Dependencies, KeyService
from skyflowctl.rotation.revocation.model import RevokeOutcome
from skyflowctl.rotation.revocation.revoke import revoke_mount
from skyflowctl.skyflow.management.api import host_for


def refuse_protected(path: str, manifest: Manifest | None, allowed: Collection[str]) -> None:
    """Refuse a mount that the manifest protects, unless its path is given as well.

    Raises:
        RefusedError: names the missing flag.
    """
    if _protected(path, manifest) and not is_named(path, allowed):
        raise RefusedError(
            f"{path} is protected",
            why="the manifest says `protect: true`, so --yes alone does not cut it off",
            fix=f"add --allow-destroy={path}",
            code="needs-allow-destroy",
        )


def _protected(path: str, manifest: Manifest | None) -> bool:
    mounts = manifest.mounts if manifest else ()
    return any(mount.path == path and mount.protect for mount in mounts)


def revoke(
    target: RotationTarget,
    provider: KeyProvider,
    deps: Dependencies,
    *,
    reason: str,
    delete_keys: bool,
) -> RevokeOutcome:
    """Cut a mount off and prove it.

    Args:
        target: the mount, with its live config.
        provider: provides the operator that lists the keys at Skyflow.
        deps: the services, without an operator.
        reason: for the incident file.
        delete_keys: also delete the keys at Skyflow.

    Raises:
        RefusedError: ``delete_keys`` is True, and no operator is named.
        SkyflowctlError: the mount could not be cut off.
    """
    operator, warnings = _operator(target, provider, needed=delete_keys)
    outcome = revoke_mount(
        RotationJob(target.named.name, target.named.path),
        replace(deps, operator=operator),
        reason=reason,
        delete_keys=delete_keys,
    )
    return replace(outcome, warnings=(*warnings, *outcome.warnings))


def command_for_keys(
    target: RotationTarget, manifest: Manifest | None, reason: str, host: str | None
) -> tuple[str, ...]:
    """Return the command, as a list, that deletes the remaining keys at Skyflow.

    Args:
        target: the mount as it was before the cut-off.
        manifest: the manifest, which may protect the mount.
        reason: of this cut-off.
        host: the management host, which the mount no longer implies after a cut-off; None: the dev
            stack's own.
    """
    words = ["skyflowctl", "config", "revoke", target.named.name, "--reason", reason, "-y"]
    words.append("--delete-keys")
    if _protected(target.named.path, manifest):
        words.append(f"--allow-destroy={target.named.path}")
    return (*words, *([] if host is None else ["--management-host", host]))


def management_host(target: RotationTarget, request: RotateRequest) -> str:
    """Return the host at which an operator's token can delete the mount's keys.

    Empty: no operator is named, or no host, and the live credential implies none.
    """
    rule, config = target.named.rotation, target.config
    if not (request.operator_token or rule.operator_token):
        return ""
    if not (request.account_id or rule.account_id):
        return ""
    uri = config.token_uri if config else ""
    try:
        return host_for(uri, named=request.management_host)
    except RefusedError:
        return ""


@dataclass(frozen=True, slots=True)
class _Unusable:
    """The key service of a named operator that cannot be used; a ``KeyService``."""

    error: SkyflowctlError

    def list_keys(self, client_id: str) -> tuple[KeyInfo, ...]:  # noqa: ARG002 - the port's signature
        """Raise why."""
        raise self.error

    def create_key(self, client_id: str) -> Credential:  # noqa: ARG002 - the port's signature
        """Raise why."""
        raise self.error

    def delete_key(self, client_id: str, key_id: str) -> None:  # noqa: ARG002 - the port's signature
        """Raise why."""
        raise self.error


def _operator(
    target: RotationTarget, provider: KeyProvider, *, needed: bool
) -> tuple[KeyService | None, tuple[Problem, ...]]:
    """Return the operator for the keys; a failure here does not delay the cut-off.

    Raises:
        RefusedError: keys must be deleted, and no operator is named.
        UsageError: the command line is wrong.
    """
    try:
        operator = provider.operators(target)
    except UsageError:
        raise
    except SkyflowctlError as error:
        return (_Unusable(error), ()) if needed else (None, error.problems)
    if operator is None and needed:
        raise operator_needed(target.named.name)
    return operator, ()
