"""The dev stack's generated credentials: for it no reference of a manifest is resolved."""

import json
from threading import Lock

from skyflowctl.credentials.model import Credential, CredentialId
from skyflowctl.devstack.accounts import ensure_account
from skyflowctl.devstack.emulator_client import failures_said
from skyflowctl.devstack.layout import DevLayout, ensure_secret
from skyflowctl.devstack.state import load_state, not_running
from skyflowctl.manifest.model import Manifest, Reference
from skyflowctl.secret import Secret


class DevCredentials:
    """Generated credentials instead of the manifest's own; a ``CredentialSource``.

    Reading one creates a missing account and changes no other; only a real apply sets the accounts'
    roles from the manifest.

    Args:
        layout: the dev folder of the server that answered.
        manifest: the source of the mounts and roles of the emulator's accounts.
    """

    def __init__(self, layout: DevLayout, manifest: Manifest) -> None:
        self.layout = layout
        self._manifest = manifest
        self._making = Lock()

    def secret(self, reference: Reference, subject: str) -> Secret:  # noqa: ARG002 - the port's signature
        """Return a generated text, which is kept in the dev folder."""
        with self._making:
            return Secret(ensure_secret(self.layout.generated_value(reference)))

    def prepare_apply(self) -> None:
        """Give each mount's account exactly the roles that the manifest names.

        So a role that was added since ``dev up`` works at once.

        Raises:
            UnhealthyError: the emulator does not run.
        """
        sync_accounts(self.layout, self._manifest)

    def identify(self, mount: str, live: CredentialId | None) -> CredentialId:  # noqa: ARG002 - the port's signature
        """Return the generated credential's identity."""
        return self.resolve(mount).id

    def resolve(self, mount: str) -> Credential:
        """Return the generated credential.

        Raises:
            UnhealthyError: the emulator does not run.
        """
        text = account_credential(self.layout, self._manifest, mount)
        fields = json.loads(text.reveal())
        return Credential(CredentialId(fields["clientID"], fields["keyID"]), text)


def sync_accounts(layout: DevLayout, manifest: Manifest) -> tuple[str, ...]:
    """Give each mount's account exactly the roles that the manifest names now."""
    for mount in manifest.mounts:
        account_credential(layout, manifest, mount.name, replace=True)
    return tuple(mount.name for mount in manifest.mounts)


def account_credential(
    layout: DevLayout, manifest: Manifest, mount: str, *, replace: bool = False
) -> Secret:
    """Return the generated credential that replaces a mount's own.

    A missing account is created; ``replace`` gives an existing one the roles of the manifest, and
    removes all others.

    Raises:
        UnhealthyError: the emulator does not run.
    """
    part = load_state(layout).emulator
    if part is None:
        raise not_running()
    roles = next((each.roles for each in manifest.mounts if each.name == mount), ())
    role_ids = [role.role_id for role in roles]
    with failures_said():
        return ensure_account(layout, part, mount, role_ids, replace=replace)
