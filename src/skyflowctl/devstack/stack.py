"""The whole stack: starts its parts in order, finds them again, and ends them."""

import contextlib
import os
import re
import shutil
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from skyflowctl.devstack import emulator, server
from skyflowctl.devstack.accounts import forget_retired
from skyflowctl.devstack.emulator_client import failures_said
from skyflowctl.devstack.layout import DevLayout, ServerStorage
from skyflowctl.devstack.processes import alive, running, stop
from skyflowctl.devstack.state import DevState, Part, ProcessRecord, load_state, save_state
from skyflowctl.errors import RefusedError
from skyflowctl.frozen import dataclass
from skyflowctl.private_files import is_private_folder, write_private

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StartedParts:
    """The running parts, and those that this call started (``openbao``, ``emulator``)."""

    state: DevState
    started: tuple[str, ...]


def start_parts(
    layout: DevLayout,
    find_binary: Callable[[], Path],
    environ: Mapping[str, str],
    on_step: OnStep,
    *,
    persist: bool,
) -> StartedParts:
    """Start the parts that do not run and reuse the others. Call it with the folder locked.

    Args:
        layout: the dev folder.
        find_binary: finds the server's binary; called only if a server has to start.
        environ: the caller's environment.
        on_step: is told what starts.
        persist: keep the server's data on disk. A folder that has data keeps it in any case.

    Raises:
        RefusedError: the data should persist, but a server runs that has it in memory.
        SkyflowctlError: a part did not start.
    """
    layout.create()
    ensure_certificates(layout)
    state = load_state(layout)
    started = []
    server_serves = _serves(state.server, lambda part: server.cluster_id(layout, part) != "")
    storage: ServerStorage = "raft" if persist else layout.storage
    if server_serves and storage != layout.storage:
        raise _in_memory()
    # Look for the binary first: without a server to start, start no part.
    binary = None if server_serves else find_binary()
    if not _serves(state.emulator, lambda part: emulator.is_current(layout, part)):
        on_step("starting the Skyflow emulator")
        before, state = state.emulator, _start_emulator(layout, state, environ)
        _tell_moved("the emulator", before, state.emulator, on_step)
        started.append("emulator")
    if binary is not None:
        on_step("starting OpenBao")
        starts_empty = layout.storage == "inmem"
        if starts_empty:
            _forget_retired(layout, state.emulator)
        before, state = (
            state.server,
            _start_server(layout, state, binary, storage=storage, environ=environ),
        )
        _tell_moved("OpenBao", before, state.server, on_step)
        if before is not None and starts_empty:
            on_step("the server starts empty, because it kept its data in memory: apply again")
        started.append("openbao")
    return StartedParts(state, tuple(started))


def stop_parts(layout: DevLayout) -> tuple[str, ...]:
    """End every process of the stack and return the names of the parts that ran.

    Plugin processes that outlived a killed server are found by their launcher's path. In a folder
    that the dev stack did not make no file is read or removed.
    """
    state = load_state(layout)
    parts = {"openbao": state.server, "emulator": state.emulator}
    ran = tuple(name for name, part in parts.items() if part and alive(part.process))
    if not ran:
        ran = unrecorded_parts(layout)
    # The server first: it ends its plugins itself.
    stop([part.process for part in parts.values() if part])
    stop(leftovers(layout))
    if layout.ours and is_private_folder(layout.sockets):
        shutil.rmtree(layout.sockets, ignore_errors=True)
    return ran


def leftovers(layout: DevLayout) -> list[ProcessRecord]:
    """Return this stack's running processes, recorded or not.

    A process must have exactly the arguments with which the stack starts it, so that an editor or a
    pager with one of these files does not count.
    """

    return running(
        lambda words: (
            _is_server(layout, words) or _is_emulator(layout, words) or _is_plugin(layout, words)
        )
    )


def unrecorded_parts(layout: DevLayout) -> tuple[str, ...]:
    """Return the names of parts whose processes run, even if dev.json does not record them."""
    kinds = {"openbao": _is_server, "emulator": _is_emulator, "engine processes": _is_plugin}
    return tuple(name for name, kind in kinds.items() if running(partial(kind, layout)))


def _is_server(layout: DevLayout, words: Sequence[str]) -> bool:
    return "server" in words and str(layout.server_config) in words


def _is_emulator(layout: DevLayout, words: Sequence[str]) -> bool:
    return emulator.state_option(layout) in words


def plugin_processes(layout: DevLayout) -> list[ProcessRecord]:
    """Return the processes of the engine, one for each mount.

    They can outlive a kill -9 of the server (measured); then only the launcher's path identifies
    them.
    """
    return running(lambda words: _is_plugin(layout, words))


def _is_plugin(layout: DevLayout, words: Sequence[str]) -> bool:
    return "-I" in words and any(word.startswith(f"{layout.plugins}/") for word in words)


def _tell_moved(what: str, before: Part | None, now: Part | None, on_step: OnStep) -> None:
    if before and now and before.port != now.port:
        on_step(
            f"port {before.port} is in use, so {what} moved to port {now.port}: "
            'run eval "$(skyflowctl dev env)" again'
        )


def _in_memory() -> RefusedError:
    return RefusedError(
        "the dev stack runs with its data in memory",
        why="its server would lose all data by a restart with storage on disk",
        fix="to go on without that data: 'skyflowctl dev down', then 'skyflowctl dev up --persist'",
        code="dev-in-memory",
    )


def _forget_retired(layout: DevLayout, part: Part | None) -> None:
    """Delete the unknown credentials before a server starts that has no mounts yet."""
    if part is not None:
        with failures_said():
            forget_retired(layout, part)


def _serves(part: Part | None, answers: Callable[[Part], bool]) -> bool:
    return part is not None and alive(part.process) and answers(part)


def _start_emulator(layout: DevLayout, state: DevState, environ: Mapping[str, str]) -> DevState:
    before = state.emulator
    if before:
        stop([before.process])
    part = emulator.start_emulator(
        layout, preferred_port=before.port if before else None, environ=environ
    )
    state = state.with_emulator(part)
    save_state(layout, state)
    return state


def _start_server(
    layout: DevLayout,
    state: DevState,
    binary: Path,
    *,
    storage: ServerStorage,
    environ: Mapping[str, str],
) -> DevState:
    before = state.server
    if before:
        stop([before.process])
    stop(plugin_processes(layout))
    part, cluster_id = server.start_server(
        layout,
        binary,
        storage,
        preferred_port=before.port if before else None,
        environ=environ,
    )
    state = state.with_server(part, cluster_id)
    save_state(layout, state)
    return state


def ensure_certificates(layout: DevLayout) -> None:
    """Create CA and server certificate, unless they exist.

    The CA's key is never written, so no other certificate can be signed later.
    """
    if not layout.ca.exists():
        _issue(layout)


def _issue(layout: DevLayout) -> None:
    import trustme

    authority = trustme.CA(organization_name="skyflowctl dev stack")
    issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
    write_private(layout.private_key, issued.private_key_pem.bytes().decode())
    chain = "".join(blob.bytes().decode() for blob in issued.cert_chain_pems)
    write_private(layout.certificate, chain)
    write_private(layout.ca, authority.cert_pem.bytes().decode())


def write_bundle(layout: DevLayout, environ: Mapping[str, str]) -> None:
    """Write the file with every CA that a shell of the dev stack trusts: those that it trusted
    before, and the dev stack's.

    A shell trusts what SSL_CERT_FILE and REQUESTS_CA_BUNDLE name, and the system's roots. What is
    in the file stays, because other shells use it.

    Raises:
        OSError: it cannot be written.
    """
    import certifi

    usual = ssl.get_default_verify_paths()
    roots = _certificates(usual.openssl_cafile) or _certificates(usual.openssl_capath)
    places = [environ.get(name, "") for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")]
    found = roots or _certificates(certifi.where())
    for place in (*places, str(layout.bundle), str(layout.ca)):
        found += _certificates(place)
    write_private(layout.bundle, "".join(f"{one}\n" for one in dict.fromkeys(found)))


def _certificates(place: str) -> list[str]:
    """Return the certificates in a PEM file, or in the files of a folder; none if unreadable."""
    found: list[str] = []
    path = Path(place or os.devnull)
    files = [path]
    with contextlib.suppress(OSError):
        files = sorted(path.iterdir())
    for file in files:
        with contextlib.suppress(OSError):
            found += _CERTIFICATE.findall(file.read_text(encoding="latin-1"))
    return found
