"""The dev stack's supply of a rotation: its stand-ins, and its own operator."""

from skyflowctl.devstack.layout import DevLayout
from skyflowctl.manifest.model import Manifest
from skyflowctl.operations.dev_credentials import DevCredentials, dev_management
from skyflowctl.operations.rotate_flags import RotateFlags
from skyflowctl.operations.rotation_supply import (
    KeyProvider,
    ManifestSuccessor,
    RotationTarget,
    SkyflowKeys,
)
from skyflowctl.operations.successors import CredentialLinter, resolve_successor
from skyflowctl.rotation.model import NewCredential
from skyflowctl.rotation.ports import KeyService


def dev_supply(
    wishes: RotateFlags, manifest: Manifest | None, linting: CredentialLinter, layout: DevLayout
) -> KeyProvider:
    """Return the dev stack's supply: no reference of the manifest is ever resolved.

    An operator that the command line names is used all the same, or fails.
    """
    stand_ins = DevCredentials(layout, manifest) if manifest else None
    mounts = {mount.path: mount for mount in manifest.mounts} if manifest else {}

    def declared(subject: RotationTarget) -> ManifestSuccessor | None:
        mount = mounts.get(subject.named.path)
        if mount is None or mount.credentials is None or stand_ins is None:
            return None
        name = mount.name

        def stand_in() -> NewCredential:
            return linting.check(stand_ins.resolve(name).json, f"the stand-in of {name}")

        return ManifestSuccessor("the dev stack's generated stand-in", stand_in)

    def operators(_subject: RotationTarget) -> KeyService | None:
        given = wishes.operator_token
        token = resolve_successor(given, "the operator token") if given else None
        return SkyflowKeys(dev_management(layout, token, wishes.account_id), linting)

    return KeyProvider(wishes, linting, declared, operators)
