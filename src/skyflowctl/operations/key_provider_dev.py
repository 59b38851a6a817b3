"""The dev stack's keys for a rotation: generated placeholders, and its own operator."""

from datetime import timedelta

from skyflowctl.credentials.lint import CredentialLinter
from skyflowctl.credentials.resolve import resolve_reference
from skyflowctl.devstack.credentials import DevCredentials, dev_management
from skyflowctl.devstack.layout import DevLayout
from skyflowctl.manifest.model import Manifest
from skyflowctl.operations.key_provider import KeyProvider, RotationTarget, SkyflowKeys
from skyflowctl.operations.rotate_request import RotateRequest
from skyflowctl.rotation.ports import KeyService, KeySource

DEV_RETIRE_MARGIN = timedelta(seconds=2)


def dev_key_provider(
    request: RotateRequest, manifest: Manifest | None, linter: CredentialLinter, layout: DevLayout
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
        token = resolve_reference(given, "the operator token") if given else None
        return SkyflowKeys(dev_management(layout, token, request.account_id), linter)

    return KeyProvider(request, linter, declared, operators, DEV_RETIRE_MARGIN, dev=True)
