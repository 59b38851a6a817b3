"""The port through which an apply replaces a live credential."""

from typing import Protocol

from skyflowctl.credentials.model import Credential
from skyflowctl.errors import Problem
from skyflowctl.vault.gateway import Gateway


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
