"""The rotation's side of the composition root: its world, and who supplies new keys."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from skyflowctl.cli.context import gateways
from skyflowctl.cli.context.dev_stack import dev_layout
from skyflowctl.cli.runner import CommandRun

if TYPE_CHECKING:
    from skyflowctl.devstack.layout import DevLayout
    from skyflowctl.executor.ports import CredentialSource
    from skyflowctl.executor.stop import Stop
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.operations.replacing import RotatingReplacer
    from skyflowctl.operations.rotate_flags import RotateFlags
    from skyflowctl.operations.rotation_supply import KeyProvider
    from skyflowctl.rotation.events import RotationEvent, RotationListener
    from skyflowctl.rotation.ports import Dependencies
    from skyflowctl.vault.gateway import Gateway


@dataclass(frozen=True, slots=True)
class RotationSetup:
    """Who supplies a rotation on the server that answers.

    Args:
        supply: successors and operators.
        retire_margin: where a mount's rule names none.
        token_hosts: the token services that may be asked from this machine.
        dev: it is the dev stack's, whose tokens are short and whose operator is its own.
    """

    supply: "KeyProvider"
    retire_margin: timedelta
    token_hosts: frozenset[str]
    dev: bool = False


def rotation_world(
    gateway: "Gateway",
    run: CommandRun,
    stop: "Stop",
    listener: "RotationListener",
    hosts: frozenset[str],
) -> "Dependencies":
    """Return everything outside of a rotation, for the server of this gateway."""
    from skyflowctl.rotation.owner_file import OwnerFile
    from skyflowctl.rotation.ports import Dependencies

    server = gateway.transport.server
    return Dependencies(
        gateway=gateway,
        connect=gateways.connect_node(gateway) if server.addresses else None,
        clock=run.clock,
        run_id=run.id,
        sleep=stop.wait,
        journal=OwnerFile(owner_folder(), f"{gateway.cluster_id()} {server.namespace}"),
        listener=listener,
        stopping=lambda: stop.asked,
        token_hosts=hosts,
    )


def owner_folder() -> Path:
    """Return where this machine notes which rotations its processes are at."""
    return gateways.state_folder() / "rotations"


def rotation_supply(
    gateway: "Gateway",
    manifest: "Manifest | None",
    wishes: "RotateFlags",
    run: CommandRun,
    allow_hosts: Sequence[str] | None,
) -> RotationSetup:
    """Return where new credentials come from; on the dev stack its stand-ins.

    Raises:
        RefusedError: it is a dev stack that is not known here.
        UsageError: a token service is not named as ``HOST:PORT``.
    """
    from skyflowctl.operations.rotation import DEV_RETIRE_MARGIN, RETIRE_MARGIN
    from skyflowctl.operations.rotation_supply import own_supply
    from skyflowctl.operations.successors import CredentialLinter
    from skyflowctl.operations.token_hosts import token_hosts

    hosts = token_hosts(allow_hosts, os.environ)
    layout = dev_layout(gateway)
    if layout is None:
        supply = own_supply(wishes, manifest, CredentialLinter(hosts, run.clock))
        return RotationSetup(supply, RETIRE_MARGIN, hosts)
    from skyflowctl.operations.rotation_supply_dev import dev_supply

    run.notice("the dev stack: generated credentials and its own operator stand in")
    hosts |= dev_token_hosts(layout)
    supply = dev_supply(wishes, manifest, CredentialLinter(hosts, run.clock), layout)
    return RotationSetup(supply, DEV_RETIRE_MARGIN, hosts, dev=True)


def dev_token_hosts(layout: "DevLayout") -> frozenset[str]:
    """Return the dev stack's own token service, as its folder's state file has it."""
    from skyflowctl.devstack.state import load_state

    part = load_state(layout).emulator
    return frozenset({f"127.0.0.1:{part.port}"}) if part else frozenset()


def replacer_for(
    gateway: "Gateway",
    source: "CredentialSource",
    run: CommandRun,
    stop: "Stop",
    say: Callable[[str], None],
    *,
    unverified_nodes: bool,
) -> "RotatingReplacer":
    """Return the replacer of one apply; what it needs is made when it is used.

    Args:
        gateway: the server, and the way to each of its nodes.
        source: of the credentials; knows which token services they may name.
        run: the command's.
        stop: asked between the steps of a rotation.
        say: shows one line to a person who waits.
        unverified_nodes: go on though there are nodes that nobody named.
    """

    from skyflowctl.operations.credentials import ManifestCredentials
    from skyflowctl.operations.replacing import DECLARED, RotatingReplacer
    from skyflowctl.operations.token_service import TokenServiceOnDemand
    from skyflowctl.rotation.events import Notice

    def tell(event: "RotationEvent") -> None:
        if isinstance(event, Notice):
            say(f"{event.mount}: {event.text}")

    def world(recorded: "Gateway") -> "Dependencies":
        hosts = source.allowed_hosts if isinstance(source, ManifestCredentials) else ()
        made = rotation_world(gateway, run, stop, tell, frozenset(hosts))
        return replace(made, gateway=recorded, token_service=TokenServiceOnDemand())

    return RotatingReplacer(world, replace(DECLARED, unverified_nodes=unverified_nodes))
