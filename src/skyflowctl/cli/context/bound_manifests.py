"""Holds a manifest that names its servers to these: a staging overlay must not reach production."""

from typing import TYPE_CHECKING

from skyflowctl.cli.context.dev_stack import dev_layout
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.vault.gateway import Gateway

_READS = frozenset({"health", "status", "metrics", "export"})
_READING_GROUPS = ("audit ", "dev ")
_READING_VERBS = (" list", " show", " history", " check", " manifest")


def bind(run: CommandRun, manifest: "Manifest") -> None:
    """Let a command work on this manifest's servers alone.

    Raises:
        RefusedError: the command has connected to another server.
    """
    run.manifest = manifest
    _check(run)


def reach(run: CommandRun, gateway: "Gateway") -> None:
    """Let a command work on this server, if it is one of its manifest's.

    Raises:
        RefusedError: it is another one.
    """
    run.gateway = gateway
    _check(run)


def _check(run: CommandRun) -> None:
    """Check manifest and server once both are known; a command that only shows is not checked."""
    if run.gateway is not None and not _only_shows(run.command):
        refuse_other_server(run.manifest, run.gateway)


def refuse_other_server(manifest: "Manifest | None", gateway: "Gateway") -> None:
    """Refuse a server that a manifest is not for, also to a command that mostly only shows.

    A server that is named by its address is not asked for its cluster id.

    Raises:
        RefusedError: the server is neither one of the manifest's nor the dev stack.
        VaultError: the cluster id cannot be read.
    """
    if manifest is None or not manifest.servers:
        return
    address = gateway.transport.server.address
    if address in map(_canonical, manifest.servers):
        return
    cluster = gateway.sys.cluster_id()
    if cluster in manifest.servers or dev_layout(gateway) is not None:
        return
    raise RefusedError(
        f"the manifest {manifest.id} is not for this server",
        why=f"its servers are {', '.join(manifest.servers)}; this is {address}, cluster {cluster}",
        fix=f"name one of these: export BAO_ADDR=https://HOST:8200; or add {cluster} to servers",
        code="server-not-in-manifest",
    )


def _only_shows(command: str) -> bool:
    return (
        command in _READS or command.startswith(_READING_GROUPS) or command.endswith(_READING_VERBS)
    )


def _canonical(server: str) -> str:
    """Return an address of the manifest in the form of a target's; a cluster id as it is."""
    from skyflowctl.vault.target import check_address

    if "://" not in server:
        return server
    try:
        return check_address(server)
    except UsageError:  # a port that is none: no target has this address
        return server
