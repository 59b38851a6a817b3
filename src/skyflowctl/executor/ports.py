"""How an apply replaces a credential that is live."""

from typing import Protocol

from skyflowctl.credentials.model import Credential
from skyflowctl.errors import Problem
from skyflowctl.vault.gateway import Gateway


class Replacer(Protocol):
    """Replaces live credentials so that no request fails; called from several threads.

    ``skyflowctl.operations.replacing.RotatingReplacer`` does it by a rotation. Both calls
    may be repeated, also by another process, after a kill at any point.
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
            credential: checked in full.
            gateway: the server.
            allow_revoked: it may be live again although a cut-off revoked it.

        Raises:
            SkyflowctlError: it is not live at the end; the one before it is, where the
                error does not say otherwise.
        """

    def finish(self, mount: str, path: str, gateway: Gateway) -> tuple[Problem, ...]:
        """Finish what an earlier call began, which has made its credential live already.

        Raises:
            SkyflowctlError: as for :meth:`replace`.
        """
