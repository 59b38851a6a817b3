"""Brings the dev stack up: starts parts, registers the engine, creates accounts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from skyflowctl.devstack import emulator, server
from skyflowctl.devstack.binary import find_bao
from skyflowctl.devstack.credentials import sync_accounts
from skyflowctl.devstack.layout import DEV_DIR_VARIABLE, DevLayout, find_layout
from skyflowctl.devstack.processes import alive
from skyflowctl.devstack.stack import (
    leftovers,
    plugin_processes,
    start_parts,
    stop_parts,
    unrecorded_parts,
    write_bundle,
)
from skyflowctl.devstack.state import DevState, Part, load_state, locked, not_running
from skyflowctl.errors import UnhealthyError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.discover import DEFAULT_PLUGIN
from skyflowctl.operations.plugins import Registration, register_plugin
from skyflowctl.plugin.build import build_launcher, is_launcher
from skyflowctl.private_files import read_private
from skyflowctl.secret import Secret
from skyflowctl.vault.target import Target
from skyflowctl.version import semver

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.vault.gateway import Gateway

OpenGateway = Callable[[Target], "Gateway"]


@dataclass(frozen=True, slots=True)
class DevUp:
    """A running dev stack.

    Args:
        layout: its folder.
        state: its parts.
        started: the parts that were started now; empty: all were running.
        registered: whether the engine was registered or registered again.
        accounts: the mounts that now have an account at the emulator.
    """

    layout: DevLayout
    state: DevState
    started: tuple[str, ...]
    registered: bool
    accounts: tuple[str, ...]


def bring_up(
    environ: Mapping[str, str],
    manifest: "Manifest | None",
    open_gateway: OpenGateway,
    on_step: Callable[[str], None],
    *,
    persist: bool,
) -> DevUp:
    """Start or reuse the stack, and give every mount of the manifest an account.

    Raises:
        RefusedError: ``persist``, but its server runs with its data in memory.
        SkyflowctlError: a part did not start, or the engine could not be registered.
    """
    layout = find_layout(environ)
    layout.create()
    with locked(layout):
        parts = start_parts(layout, lambda: find_bao(environ), environ, on_step, persist=persist)
        gateway = open_gateway(running_dev_target(layout, parts.state))
        try:
            registered = _ensure_engine(layout, parts.state, manifest, gateway, on_step)
        finally:
            gateway.close()
        accounts = sync_accounts(layout, manifest) if manifest else ()
    return DevUp(layout, parts.state, parts.started, registered, accounts)


def running_dev_target(layout: DevLayout, state: DevState) -> Target:
    """Return the running server as a target, with its operator's token.

    Raises:
        UnhealthyError: it does not run.
    """
    if state.server is None or not layout.operator_token.exists():
        raise not_running()
    return Target(
        address=state.server.address,
        namespace="",
        token=Secret(read_private(layout.operator_token).strip()),
        source="context",
        ca_cert=str(layout.ca),
    )


def _ensure_engine(
    layout: DevLayout,
    state: DevState,
    manifest: "Manifest | None",
    gateway: "Gateway",
    on_step: Callable[[str], None],
) -> bool:
    """Register this installation's engine, unless exactly this one is registered."""
    name = manifest.plugin.name if manifest else DEFAULT_PLUGIN
    # Here the installation may be a checkout under development.
    built = build_launcher(layout.plugins, name, own_environment=False)
    wanted = Registration(
        name=name,
        version=semver(),
        command=built.path.name,
        sha256=built.sha256,
        args=_engine_arguments(state),
    )
    present = gateway.sys.catalog.read(name, wanted.version)
    if present and (present.sha256, present.args) == (wanted.sha256, wanted.args):
        return False
    on_step(f"registering the engine as {name} {wanted.version}")
    register_plugin(gateway, wanted)
    if present:
        gateway.sys.catalog.reload(name)
    _remove_older(built.path, name)
    return True


def _remove_older(built: Path, name: str) -> None:
    """Remove the launchers of earlier states of this installation."""
    for path in built.parent.glob(f"{name}-v*"):
        if path != built and is_launcher(path):
            path.unlink()


def _engine_arguments(state: DevState) -> tuple[str, ...]:
    port = state.emulator.port if state.emulator else 0
    return (f"--only-host=127.0.0.1:{port}",)


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One part of the stack, as ``dev status`` shows it."""

    name: str
    state: str
    pid: int | None
    address: str


@dataclass(frozen=True, slots=True)
class DevStatus:
    """The whole stack: ``running`` is True when every part answers.

    ``unrecorded``: parts whose processes run, but that the folder does not record.
    """

    layout: DevLayout
    cluster_id: str
    parts: tuple[PartStatus, ...]
    plugin_processes: int
    unrecorded: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Whether every part answers."""
        return all(part.state == "running" for part in self.parts)


def dev_stack_status(environ: Mapping[str, str]) -> DevStatus:
    """Return the state of each part; changes nothing."""
    layout = find_layout(environ)
    layout.check()
    state = load_state(layout)
    parts = (
        _server_status(layout, state.server),
        _part_status("emulator", state.emulator, lambda part: emulator.answers(layout, part)),
    )
    known = {part.name for part in parts if part.state != "stopped"}
    lost = tuple(name for name in unrecorded_parts(layout) if name not in known)
    if known:
        lost = tuple(name for name in lost if name != "engine processes")
    return DevStatus(layout, state.cluster_id, parts, len(plugin_processes(layout)), lost)


def _part_status(name: str, part: Part | None, answers: Callable[[Part], bool]) -> PartStatus:
    if part is None or not alive(part.process):
        return PartStatus(name, "stopped", None, part.address if part else "")
    state = "running" if answers(part) else "silent"
    return PartStatus(name, state, part.process.pid, part.address)


def _server_status(layout: DevLayout, part: Part | None) -> PartStatus:
    found = _part_status("openbao", part, lambda part: bool(server.cluster_id(layout, part)))
    sealed = found.state == "silent" and part is not None and server.is_sealed(layout, part)
    return replace(found, state="sealed") if sealed else found


def bring_down(environ: Mapping[str, str]) -> tuple[str, ...]:
    """End every process of the stack; return the parts that ran. Keeps the files.

    Processes are identified by their command line. So they end even if the folder was removed or
    its marker no longer matches.

    Raises:
        RefusedError: the folder is a link or belongs to another user.
    """
    layout = find_layout(environ)
    layout.check_owner()
    if not layout.ours:
        return stop_parts(layout)
    with locked(layout):
        return stop_parts(layout)


def reset(environ: Mapping[str, str]) -> bool:
    """End the stack and delete all its generated files; False if there were none.

    Raises:
        RefusedError: the folder is not one that the dev stack made.
    """
    import shutil

    layout = find_layout(environ)
    layout.check()
    if layout.ours:
        bring_down(environ)
        if leftovers(layout):
            raise UnhealthyError(
                "a process of the dev stack does not end",
                why="it is still there after it was killed, so its files are kept",
                fix="'skyflowctl dev status' names it; end it, then run the command again",
                code="dev-leftover",
            )
        shutil.rmtree(layout.root)
        if layout.root.parent.name == ".skyflowctl" and not any(layout.root.parent.iterdir()):
            layout.root.parent.rmdir()
        return True
    return False


def exports(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that bao, vault and Skyflow SDKs need for the stack.

    Raises:
        UnhealthyError: it does not run.
    """
    layout = find_layout(environ)
    layout.check()
    state = load_state(layout)
    if not all(part and alive(part.process) for part in (state.server, state.emulator)):
        raise not_running()
    target = running_dev_target(layout, state)
    token = target.token.reveal() if target.token else ""
    named = {DEV_DIR_VARIABLE: str(layout.root)}
    for prefix in ("BAO", "VAULT"):
        named[f"{prefix}_ADDR"] = target.address
        named[f"{prefix}_TOKEN"] = token
        named[f"{prefix}_CACERT"] = str(layout.ca)
        named[f"{prefix}_NAMESPACE"] = ""
    # The shell's other programs keep trusting what they trusted before.
    write_bundle(layout, environ)
    named["SSL_CERT_FILE"] = str(layout.bundle)
    named["REQUESTS_CA_BUNDLE"] = str(layout.bundle)
    return named
