"""What ``apply`` replaces a live credential with: the rotation, wired to this server."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from skyflowctl.cli.runner import CommandRun
from skyflowctl.operations.credentials import ManifestCredentials
from skyflowctl.operations.replacing import DECLARED, RotatingReplacer
from skyflowctl.operations.token_service import TokenServiceOnDemand
from skyflowctl.rotation.events import Notice, RotationEvent
from skyflowctl.rotation.ports import Dependencies

if TYPE_CHECKING:
    from skyflowctl.executor.ports import CredentialSource
    from skyflowctl.executor.stop import Stop
    from skyflowctl.vault.gateway import Gateway


def replacer_for(
    gateway: "Gateway",
    source: "CredentialSource",
    run: CommandRun,
    stop: "Stop",
    say: Callable[[str], None],
    *,
    unverified_nodes: bool,
) -> RotatingReplacer:
    """Return the replacer of one apply; what it needs is made when it is used.

    Args:
        gateway: the server, and the way to each of its nodes.
        source: of the credentials; knows which token services they may name.
        run: the command's.
        stop: asked between the steps of a rotation.
        say: shows one line to a person who waits.
        unverified_nodes: go on though there are nodes that nobody named.
    """

    def tell(event: RotationEvent) -> None:
        if isinstance(event, Notice):
            say(f"{event.mount}: {event.text}")

    def world(recorded: "Gateway") -> Dependencies:
        from skyflowctl.cli.wiring_rotation import rotation_world

        hosts = source.allowed_hosts if isinstance(source, ManifestCredentials) else ()
        made = rotation_world(gateway, run, stop, tell, frozenset(hosts))
        return replace(made, gateway=recorded, token_service=TokenServiceOnDemand())

    return RotatingReplacer(world, replace(DECLARED, unverified_nodes=unverified_nodes))
