"""``config revoke``: the cut-off of one mount, once it is allowed."""

from collections.abc import Collection
from dataclasses import replace

from skyflowctl.errors import Problem, Refused
from skyflowctl.manifest.model import Manifest
from skyflowctl.operations.rotation_supply import Subject, Supply, no_operator
from skyflowctl.rotation.model import Job
from skyflowctl.rotation.ports import KeyService, World
from skyflowctl.rotation.revoke import revoke_mount
from skyflowctl.rotation.revoked import RevokeOutcome


def refuse_protected(path: str, manifest: Manifest | None, allowed: Collection[str]) -> None:
    """Stop where the manifest protects a mount and its path was not given as well.

    Raises:
        Refused: with the word that is missing.
    """
    mounts = manifest.mounts if manifest else ()
    protected = any(mount.path == path and mount.protect for mount in mounts)
    if protected and path not in {one.strip("/") for one in allowed}:
        raise Refused(
            f"{path} is protected",
            why="the manifest says `protect: true`, so --yes alone does not cut it off",
            fix=f"add --allow-destroy={path}",
            code="needs-allow-destroy",
        )


def revoke(
    subject: Subject, supply: Supply, world: World, *, reason: str, delete_keys: bool
) -> RevokeOutcome:
    """Cut a mount off and prove it.

    Args:
        subject: the mount, looked at.
        supply: whose operator lists the keys at Skyflow.
        world: without an operator.
        reason: for the incident file.
        delete_keys: have the operator delete them, too.

    Raises:
        UsageError: keys are to be deleted, and no operator is named.
        SkyflowctlError: the mount could not be cut off.
    """
    operator, warnings = _operator(subject, supply, needed=delete_keys)
    outcome = revoke_mount(
        Job(subject.named.name, subject.named.path),
        replace(world, operator=operator),
        reason=reason,
        delete_keys=delete_keys,
    )
    return replace(outcome, warnings=(*warnings, *outcome.warnings))


def _operator(
    subject: Subject, supply: Supply, *, needed: bool
) -> tuple[KeyService | None, tuple[Problem, ...]]:
    if not needed:
        return supply.operator_if_usable(subject)
    operator = supply.operators(subject)
    if operator is None:
        raise no_operator(subject.named.name)
    return operator, ()
