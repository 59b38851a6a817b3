"""How ``apply`` makes a new credential live in the place of another one."""

from skyflowctl.errors import Problem
from skyflowctl.executor.ports import Credential
from skyflowctl.vault.gateway import Gateway


class WritingReplacer:
    """Writes it, and trusts the engine's own check; a ``Replacer``."""

    def replace(
        self,
        mount: str,  # noqa: ARG002 - the port's signature
        path: str,
        credential: Credential,
        gateway: Gateway,
    ) -> tuple[Problem, ...]:
        """Write the credential."""
        gateway.write_config(path, {"credentials_json": credential.json})
        return ()

    def finish(self, mount: str, path: str, gateway: Gateway) -> tuple[Problem, ...]:  # noqa: ARG002
        """Commit the rotation that is open."""
        rotation = gateway.read_config(path).rotation
        if rotation is not None:
            gateway.commit_rotation(path, rotation.id)
        return ()
