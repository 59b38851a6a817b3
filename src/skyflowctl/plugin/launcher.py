"""Runs before the plugin: cleans the environment, then checks every file that it may import.

This module is also text: ``plugin build`` writes it, with its findings, into a launcher
script, and the digest is then part of what the catalog's sha256 covers. So it uses the
standard library alone and imports nothing of this package.

Covered are the modules of the distributions that the plugin imports: sources, compiled
files that this interpreter would load instead of them, and native libraries; a file
that was added to a covered package, removed or changed is found. Each module is loaded
from its covered file, never by a search, so a file or folder beside one is not looked
at, and nothing else can be imported. ``site`` does not run, so no ``.pth`` file does.
Not covered are the interpreter itself, its standard library, the system's libraries, and
a change made between the check and the import; a user who can change those controls the
machine. Let only root write to them and to the covered folders.
"""

# ruff: noqa: PTH113, PTH123, PTH202
import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    ExtensionFileLoader,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from types import ModuleType
from typing import Any

# The server's own environment is handed to every plugin: its seal key may be in it.
ALLOWED = frozenset(
    {
        "PLUGIN_PROTOCOL_VERSIONS",
        "PLUGIN_CLIENT_CERT",
        "PLUGIN_MIN_PORT",
        "PLUGIN_MAX_PORT",
        "PLUGIN_UNIX_SOCKET_DIR",
        "PLUGIN_UNIX_SOCKET_GROUP",
        "PLUGIN_MULTIPLEX_GRPC",
        "VAULT_BACKEND_PLUGIN",
        "VAULT_VERSION",
        "VAULT_PLUGIN_AUTOMTLS_ENABLED",
        "VAULT_PLUGIN_METADATA_MODE",
        "BAO_VERSION",
        "BAO_PLUGIN_AUTOMTLS_ENABLED",
        "BAO_PLUGIN_METADATA_MODE",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "TMPDIR",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        # Telemetry; what would select code is not among them.
        "ENV",
        "RUNTIME_LOCAL",
        "TELEMETRY_ENABLED",
        "OTEL_SDK_DISABLED",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_BSP_EXPORT_TIMEOUT",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_METRIC_EXPORT_INTERVAL",
        *(
            f"OTEL_EXPORTER_OTLP_{signal}{name}"
            for signal in ("", "TRACES_", "METRICS_")
            for name in (
                "ENDPOINT",
                "PROTOCOL",
                "HEADERS",
                "TIMEOUT",
                "COMPRESSION",
                "INSECURE",
                "CERTIFICATE",
                "CLIENT_KEY",
                "CLIENT_CERTIFICATE",
            )
        ),
    }
)
# In the order in which Python prefers them.
_KINDS = (*EXTENSION_SUFFIXES, ".py", ".pyc")
CHECK = "--check"
"""Given alone: report whether the plugin could start, and do not start it."""
ENV_NAMES = "--env-names="
"""Begins an argument that lists the names of the environment's variables, because the server
never returns a catalog entry's environment. The plugin does not get this argument."""
_LARGE, _PIECE = 1 << 20, 1 << 18
_CACHED = f".{sys.implementation.cache_tag}.pyc"


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return only the variables that the plugin needs."""
    return {name: value for name, value in environ.items() if name in ALLOWED}


def covered_files(path: str) -> Iterator[str]:
    """Yield, in a fixed order, every file below a package that an import could load.

    Args:
        path: a package's folder, or one module's file.
    """
    if os.path.isfile(path):
        yield path
        folder, _, file = path.rpartition("/")
        cached = f"{folder}/__pycache__/{file.removesuffix('.py')}{_CACHED}"
        if os.path.isfile(cached):
            yield cached
        return
    suffix: str | tuple[str, ...] = _CACHED if path.endswith("/__pycache__") else _KINDS
    with os.scandir(path) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir():
            yield from covered_files(entry.path)
        elif entry.name.endswith(suffix):
            yield entry.path


def digest(modules: Sequence[Sequence[str]], meanwhile: Callable[[], object] | None = None) -> str:
    """Return one sha256 over the names and contents of all covered files.

    A thread reads the large files: native libraries, which are most of all bytes.

    Args:
        modules: pairs of a module's dotted name and its folder or file.
        meanwhile: is called while the thread reads.

    Raises:
        OSError: a file or folder is missing or cannot be read.
    """
    import hashlib
    import threading

    files = [(name, path, file) for name, path in modules for file in covered_files(path)]
    large = {file: "" for _, _, file in files if os.path.getsize(file) >= _LARGE}

    def read_large() -> None:
        piece = memoryview(bytearray(_PIECE))
        for file in large:
            with contextlib.suppress(OSError):  # raised below, in the caller's thread
                large[file] = _sha256(file, piece)

    thread = threading.Thread(target=read_large)
    thread.start()
    try:
        if meanwhile:
            meanwhile()
        piece = memoryview(bytearray(_PIECE))
        small = {file: _sha256(file, piece) for _, _, file in files if file not in large}
    finally:
        thread.join()
    total = hashlib.sha256()
    for name, path, file in files:
        content = small.get(file) or large[file] or _sha256(file, piece)
        base = len(path.rpartition("/")[0])
        total.update(f"{name}\0{file[base:]}\0{content}\0".encode())
    return total.hexdigest()


def _sha256(file: str, piece: memoryview) -> str:
    """Return the digest of a file, read in pieces: memory once taken stays with the process."""
    import hashlib

    total = hashlib.sha256()
    with open(file, "rb", buffering=0) as opened:
        while size := opened.readinto(piece):
            total.update(piece[:size])
    return total.hexdigest()


def module_files(modules: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the one covered file of every module, by dotted name.

    Where a package and modules of different kinds have one name, Python's own order
    decides. A package that has no file of its own has an empty text.

    Args:
        modules: as for :func:`digest`.
    """
    ranked: dict[str, tuple[int, str]] = {}
    for name, path in modules:
        if os.path.isfile(path):
            ranked[name] = (0, path)
            continue
        for file in covered_files(path):
            dotted, rank = _module_name(name, file[len(path) + 1 :])
            ranked[dotted] = min(ranked.get(dotted, (rank, file)), (rank, file))
    found = {name: file for name, (_, file) in ranked.items() if "__pycache__" not in name}
    for name in tuple(found):
        while name := name.rpartition(".")[0]:
            found.setdefault(name, "")
    return found


def _module_name(package: str, file: str) -> tuple[str, int]:
    """Return the module that a file below a package is, and its place among rivals."""
    rank, suffix = next(
        (rank, suffix) for rank, suffix in enumerate(_KINDS, 1) if file.endswith(suffix)
    )
    parts = [package, *file.removesuffix(suffix).split("/")]
    if parts[-1] == "__init__":
        return ".".join(parts[:-1]), 0
    return ".".join(parts), rank


class CoveredOnly:
    """An import hook that loads each covered module from its exact file.

    It never searches a folder, so a file that was put beside a covered one is not looked
    at. What is not covered below a covered package does not exist.
    """

    def __init__(self, modules: Sequence[Sequence[str]]) -> None:
        self._files = module_files(modules)

    def add(self, modules: Sequence[Sequence[str]]) -> None:
        """Cover more modules."""
        self._files |= module_files(modules)

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - given by the import system
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return a covered module; refuse an uncovered part of a covered package."""
        file = self._files.get(name)
        if file:
            return _spec(name, file)
        if file == "":
            return ModuleSpec(name, None, is_package=True)
        if name.partition(".")[0] in self._files:
            raise ModuleNotFoundError(f"{name} is not part of the plugin", name=name)
        return None


def _spec(name: str, file: str) -> ModuleSpec:
    loader: Any = ExtensionFileLoader
    if file.endswith(".py"):
        loader = SourceFileLoader
    elif file.endswith(".pyc"):
        loader = SourcelessFileLoader
    is_package = file.rpartition("/")[2].startswith("__init__.")
    spec = ModuleSpec(name, loader(name, file), origin=file, is_package=is_package)
    spec.has_location = True
    return spec


def refuse(message: str) -> int:
    """Say in one line of the server's log why the plugin does not start; the exit code."""
    import json
    import time

    line = {
        "@level": "error",
        "@message": message,
        "@module": "skyflowctl.plugin.launcher",
        "@timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime()),
    }
    sys.stderr.write(json.dumps(line) + "\n")
    return 1


def _import_uncovered() -> None:
    """Import the largest part of the standard library that the plugin needs.

    What these imports leave behind is collected at once: later imports take its place.
    """
    import asyncio  # noqa: F401 - only for the modules to be there
    import ctypes  # noqa: F401
    import dataclasses  # noqa: F401
    import json  # noqa: F401
    from datetime import datetime  # noqa: F401

    gc.collect()
    gc.freeze()


def _difference(
    modules: Sequence[Sequence[str]],
    expected: str,
    meanwhile: Callable[[], object] | None = None,
) -> str:
    """Return why the plugin does not start with these files; empty: it does."""
    try:
        found = digest(modules, meanwhile)
    except OSError as error:
        return f"the plugin does not start: {error.filename}: {error.strerror}"
    if found == expected:
        return ""
    return (
        "the plugin does not start: its files are not those that its launcher was built "
        f"with (digest {found[:16]}, expected {expected[:16]}); install the wanted version "
        "into a folder of its own, run `skyflowctl plugin build` there, and register that"
    )


def launch(
    modules: Sequence[Sequence[str]],
    expected: str,
    telemetry: Sequence[Sequence[str]] = (),
    telemetry_expected: str = "",
) -> int:
    """Start the plugin if its files are those that the launcher was built with.

    Args:
        modules: as for :func:`digest`.
        expected: their digest.
        telemetry: the libraries that send telemetry; read only where it is asked for.
        telemetry_expected: their digest.
    """
    if clean_environment(os.environ) != dict(os.environ):
        # A process shows its initial environment until it ends, so it starts again.
        command = [sys.executable, "-I", "-S", "-B", *sys.argv]
        os.execve(sys.executable, command, clean_environment(os.environ))  # noqa: S606
    # What a start makes is kept: looking for garbage would take a tenth of its time. The host
    # turns the collector on again.
    gc.disable()
    refusal = _difference(modules, expected, _import_uncovered)
    if refusal:
        return refuse(refusal)
    finder: Any = CoveredOnly(modules)
    sys.meta_path.insert(0, finder)
    from skyflowctl.plugin.__main__ import main
    from skyflowctl.telemetry.switch import telemetry_is_on

    if telemetry and telemetry_is_on(os.environ):
        refusal = _difference(telemetry, telemetry_expected)
        if refusal:
            return refuse(refusal)
        finder.add(telemetry)

    sys.argv = [argument for argument in sys.argv if not argument.startswith(ENV_NAMES)]
    if sys.argv[1:] == [CHECK]:
        sys.stdout.write(f"the plugin can start: digest {expected}\n")
        return 0
    return main()
