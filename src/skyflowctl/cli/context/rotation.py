"""The rotation's part of the composition root: its dependencies, and its key provider."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from skyflowctl.cli.context import gateways, logins
from skyflowctl.cli.context.dev_stack import dev_layout
from skyflowctl.cli.runner import CommandRun

if TYPE_CHECKING:
    from skyflowctl.credentials.model import CredentialSource
    from skyflowctl.credentials.resolve import ReferenceResolver
    from skyflowctl.devstack.layout import DevLayout
    from skyflowctl.executor.stop import Stop
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.operations.replace_credential import RotatingReplacer
    from skyflowctl.operations.rotate.key_provider import KeyProvider
    from skyflowctl.operations.rotate.request import RotateRequest
    from skyflowctl.rotation.events import RotationEvent, RotationListener
    from skyflowctl.rotation.ports import Dependencies
    from skyflowctl.vault.gateway import Gateway


def rotation_dependencies(
    gateway: "Gateway",
    run: CommandRun,
    stop: "Stop",
    listener: "RotationListener",
    hosts: frozenset[str],
) -> "Dependencies":
    """Return the services of a rotation, for the server of this gateway."""
    from skyflowctl.rotation.owner_file import OwnerFile
    from skyflowctl.rotation.ports import Dependencies

    server = gateway.transport.server
    return Dependencies(
        gateway=gateway,
        connect=gateways.connect_node(gateway) if server.addresses else None,
        clock=run.clock,
        run_id=run.id,
        sleep=stop.wait,
        owners=OwnerFile(owner_folder(), f"{gateway.sys.cluster_id()} {server.namespace}"),
        listener=listener,
        stopping=lambda: stop.asked,
        token_hosts=hosts,
    )


def owner_folder() -> Path:
    """Return the folder of this machine's notes about running rotations."""
    return logins.state_folder() / "rotations"


def open_key_provider(
    gateway: "Gateway",
    manifest: "Manifest | None",
    request: "RotateRequest",
    run: CommandRun,
    allow_hosts: Sequence[str] | None,
    *,
    resolver: "ReferenceResolver",
) -> "KeyProvider":
    """Return the provider of new credentials; for the dev stack they are generated.

    Raises:
        RefusedError: it is a dev stack that is not known here.
        UsageError: a token service is not named as ``HOST:PORT``.
    """
    from skyflowctl.credentials.lint import CredentialLinter
    from skyflowctl.credentials.token_hosts import token_hosts
    from skyflowctl.operations.rotate.key_provider import dev_key_provider, key_provider

    hosts = token_hosts(allow_hosts, os.environ)
    resolver.transport = gateway.transport
    layout = dev_layout(gateway)
    if layout is None:
        return key_provider(request, manifest, CredentialLinter(hosts, run.clock), resolver)
    run.notice("the dev stack: generated credentials and its own operator are used")
    linter = CredentialLinter(hosts | dev_token_hosts(layout), run.clock)
    return dev_key_provider(request, manifest, linter, layout, resolver)


def dev_token_hosts(layout: "DevLayout") -> frozenset[str]:
    """Return the dev stack's own token service, from its folder's state file."""
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
    """Return the replacer of one apply; its parts are made on first use.

    Args:
        gateway: the server, with connections to its nodes.
        source: the source of the credentials, with their allowed token services.
        run: the command's run.
        stop: called between the steps of a rotation.
        say: shows a message to the waiting user.
        unverified_nodes: rotate although some nodes are not named.
    """

    from skyflowctl.credentials.sources import ManifestSource
    from skyflowctl.operations.replace_credential import DECLARED, RotatingReplacer
    from skyflowctl.rotation.events import Notice
    from skyflowctl.skyflow.http.on_demand import TokenServiceOnDemand

    def tell(event: "RotationEvent") -> None:
        if isinstance(event, Notice):
            say(f"{event.mount}: {event.text}")

    def dependencies(recorded: "Gateway") -> "Dependencies":
        hosts = source.allowed_hosts if isinstance(source, ManifestSource) else ()
        made = rotation_dependencies(gateway, run, stop, tell, frozenset(hosts))
        return replace(made, gateway=recorded, token_service=TokenServiceOnDemand())

    return RotatingReplacer(dependencies, replace(DECLARED, unverified_nodes=unverified_nodes))
