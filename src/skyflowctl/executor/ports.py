"""The ports through which an apply replaces a live credential and upgrades a mount."""

from collections.abc import Sequence
from typing import Protocol

from skyflowctl.credentials.model import Credential
from skyflowctl.errors import Problem
from skyflowctl.planner.plan import Action
from skyflowctl.vault.gateway import Gateway


class Upgrader(Protocol):
    """Makes mounts run another version of the engine, each node's plugin for itself.

    ``skyflowctl.operations.upgrade.in_apply.ApplyUpgrader`` does so as ``plugin upgrade`` does.
    """

    def prove(self, actions: Sequence[Action], gateway: Gateway) -> tuple[Problem, ...]:
        """Prove before the first write what can be proved of the upgrades among some actions.

        Returns:
            What could not be proved.

        Raises:
            SkyflowctlError: one cannot be carried out or rolled back; nothing was written.
        """

    def upgrade(self, action: Action, gateway: Gateway) -> None:
        """Upgrade the action's mount and verify it; may be repeated after a kill at any point.

        Raises:
            SkyflowctlError: it was not upgraded; the exit code says whether it serves.
        """


class Replacer(Protocol):
    """Replaces live credentials so that no request fails; called from several threads.

    ``skyflowctl.operations.replace_credential.RotatingReplacer`` does so by a rotation. Both calls
    may be repeated after a kill at any point, even by another process.
    """

    def replace(
        self,
        mount: str,
        path: str,
        credential: Credential,
        gateway: Gateway,
        *,
        allow_revoked: bool = False,
    ) -> tuple[Problem, ...]:
        """Make a credential live that was never live before, and return warnings.

        Args:
            mount: the manifest's name of the mount.
            path: of the mount; it has a live credential.
            credential: the new credential, fully checked.
            gateway: the server.
            allow_revoked: whether it may be live again although a cut-off revoked it.

        Raises:
            SkyflowctlError: the credential is not live; the previous one still is, unless the
                error says otherwise.
        """

    def finish(self, mount: str, path: str, gateway: Gateway) -> tuple[Problem, ...]:
        """Finish an earlier call that has already made its credential live.

        Raises:
            SkyflowctlError: as for :meth:`replace`.
        """
