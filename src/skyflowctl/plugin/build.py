"""Builds the launcher: the file in a server's plugin directory and catalog."""

import argparse
import hashlib
import importlib.util
import json
import os
import py_compile
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from skyflowctl.errors import RefusedError, SkyflowctlError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.plugin import launcher
from skyflowctl.version import __version__, semver

Module = tuple[str, str]

# Whole packages that the plugin imports; of cffi only the native part is needed. A package that is
# not listed cannot be imported.
_LIBRARIES = (
    "_cffi_backend",
    "cryptography",
    "h11",
    "hpack",
)
# The extras otel and otel-grpc; without charset_normalizer, which requests does not need: one of
# its modules has another name in each release.
_TELEMETRY = frozenset(
    "certifi google idna opentelemetry requests typing_extensions urllib3".split()  # noqa: SIM905
)
# The part of this package that runs in a server; without the command line.
_OWN = (
    "skyflowctl",
    "skyflowctl.clock",
    "skyflowctl.engine",
    "skyflowctl.errors",
    "skyflowctl.frozen",
    "skyflowctl.plugin",
    "skyflowctl.secret",
    "skyflowctl.skyflow",
    "skyflowctl.telemetry",
    "skyflowctl.version",
)
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
# Characters that would end a quoted word of the shell, or the Python string around it.
_UNQUOTABLE = re.compile(r"['\\\n\x00]")

_VERSION = re.compile(rb"^# skyflowctl (\S+): a launcher made by", re.MULTILINE)
_INSTALLED = frozenset({"site-packages", "dist-packages"})
ENVIRONMENT_MARK = "built-launcher.json"
"""A file next to this package's own, which names the launcher that was built from them."""
_MARK = "a launcher made by `skyflowctl plugin build`"
_TEMPLATE = """\
#!/bin/sh
''':'
# skyflowctl {version}: a launcher made by `skyflowctl plugin build`. Do not edit: its
# sha256 is in the server's plugin catalog. The lines for sh find the interpreter,
# whose path may be longer than the kernel reads from a first line.
if [ ! -x '{python}' ]; then
  echo '{{"@level":"error","@message":"the plugin does not start: {python} is missing"}}' >&2
  exit 1
fi
# A process shows its initial environment until it ends: keep only the allowed variables.
if [ -x /usr/bin/env ]; then
  exec /usr/bin/env -i {environment} \\
    '{python}' -I -S -B "$0" "$@"
fi
exec '{python}' -I -S -B "$0" "$@"
'''
{source}

if __name__ == "__main__":
    sys.exit(launch({modules}, "{digest}", {telemetry}, "{telemetry_digest}"))
"""


@dataclass(frozen=True, slots=True)
class BuiltLauncher:
    """A launcher in a plugin directory.

    Args:
        path: the script.
        sha256: of the script, for the catalog entry.
        digest: over every module that the script allows the plugin to import; the libraries of
            telemetry have a second one in the script.
        python: the interpreter that it runs.
    """

    path: Path
    sha256: str
    digest: str
    python: str


def build_launcher(
    plugin_dir: Path,
    name: str = "skyflow",
    *,
    python: str = sys.executable,
    own_environment: bool = True,
) -> BuiltLauncher:
    """Write a launcher for this installation into a server's plugin directory.

    Its file name is ``NAME-VERSION-`` and 12 hex digits of its sha256, so that a new build never
    changes the file of a catalog entry. The script is written atomically, with mode 0755. All
    modules are compiled first, so that no process writes compiled files later.

    Args:
        plugin_dir: an existing folder; the server allows no subfolders.
        name: the plugin's name, with which the file's name begins.
        python: the interpreter that runs it, of the same version as this one; the script holds the
            folders of the libraries, so the interpreter needs none of its own.
        own_environment: refuse if another launcher was built from the same folders: it no longer
            starts once they have changed. The first build marks an installation, so the other
            launcher may be anywhere; for a checkout under development only launchers in the same
            folder count.

    Raises:
        UsageError: the folder, the name or the interpreter's path cannot be used.
        RefusedError: a library is missing, its compiled files cannot be written, another launcher
            has this environment, or the file exists with other bytes.
    """
    _check(plugin_dir, name, python)
    modules, telemetry = find_modules(), find_telemetry_modules()
    _compile((*modules, *telemetry))
    digest = launcher.digest(modules)
    text = _render(modules, digest, telemetry, python)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    path = plugin_dir / f"{name}-{semver()}-{sha256[:12]}"
    if own_environment:
        _refuse_shared_environment(plugin_dir, modules, text)
        _mark_environment(modules, digest, path)
    _write(path, text)
    return BuiltLauncher(path, sha256, digest, python)


def is_launcher(path: Path) -> bool:
    """Return whether a file is a launcher of ``plugin build``, by its head."""
    try:
        if not path.is_file():
            return False  # opening a pipe would wait for its other end
        with path.open("rb") as opened:
            return _MARK.encode() in opened.read(512)
    except OSError:
        return False


def launcher_version(path: Path) -> str:
    """Return the version (``v1.0.0``) of a launcher; empty: it has none."""
    with path.open("rb") as opened:
        found = _VERSION.search(opened.read(512))
    return semver(found[1].decode()) if found else ""


def _refuse_shared_environment(folder: Path, modules: tuple[Module, ...], text: str) -> None:
    """Refuse if another launcher in the folder loads the same installation.

    Raises:
        RefusedError: there is one, built from an earlier state of the installation.
    """
    prune = f"skyflowctl plugin prune {folder}"
    own = repr(next(module for module in modules if module[0] == "skyflowctl.engine"))
    for other in sorted(folder.iterdir()):
        if not is_launcher(other):
            continue
        present = other.read_bytes()
        if own.encode() in present and present != text.encode():
            raise _in_use(other.name, prune)


def _in_use(launcher_name: str, way_out: str) -> RefusedError:
    return RefusedError(
        f"{launcher_name} was built from this same installation, which has changed since",
        why="a launcher starts only with the files it was built with, and the "
        "server's catalog may still name that one",
        fix=f"install this version into a folder of its own, such as "
        f"/opt/skyflowctl/{semver()}, and build there; once nothing uses the old "
        f"launcher: {way_out}",
        code="environment-in-use",
    )


def _mark_environment(modules: tuple[Module, ...], digest: str, path: Path) -> None:
    """Record the built launcher in the installation; the digest does not cover this file.

    Raises:
        RefusedError: another build is recorded, or the file cannot be written.
    """
    package = Path(dict(modules)["skyflowctl"]).parent
    if not _INSTALLED.intersection(package.parts):
        return
    mark = package / ENVIRONMENT_MARK
    try:
        with mark.open("x", encoding="utf-8") as opened:
            json.dump({"digest": digest, "launcher": str(path.absolute())}, opened)
    except FileExistsError:
        noted = _noted(mark)
        if noted.get("digest") != digest:
            raise _in_use(noted.get("launcher") or "a launcher", f"rm {mark}") from None
    except OSError as error:
        raise RefusedError(
            "the plugin cannot be built: its installation cannot be marked as used",
            why=f"{mark}: {error.strerror}; a later build could not see that it is",
            fix="build as the user who owns the installation",
            code="environment-not-marked",
        ) from error


def _noted(mark: Path) -> dict[str, str]:
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a build was killed, or is running now
    return found if isinstance(found, dict) else {}


def find_modules() -> tuple[Module, ...]:
    """Return what the plugin may import: dotted names with their folder or file.

    Raises:
        RefusedError: a library of the plugin is not installed.
    """
    return tuple(_find(name) for name in (*_LIBRARIES, *_OWN))


def find_telemetry_modules() -> tuple[Module, ...]:
    """Return the libraries of telemetry; none if an extra for it is not installed."""
    found = [name for name in sorted(_TELEMETRY | {"grpc"}) if importlib.util.find_spec(name)]
    return tuple(map(_find, found)) if _TELEMETRY.issubset(found) else ()


def _find(name: str) -> Module:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        raise RefusedError(
            f"the plugin cannot be built: {name} is not installed",
            why="the plugin's libraries are an extra of this package",
            fix="pip install 'skyflowctl[plugin]'",
            code="plugin-library-missing",
        )
    # Only parts of skyflowctl are covered, so its own file represents it.
    if spec.submodule_search_locations and name != "skyflowctl":
        return name, str(Path(next(iter(spec.submodule_search_locations))))
    return name, str(spec.origin)


def _check(plugin_dir: Path, name: str, python: str) -> None:
    check_plugin_folder(plugin_dir, "a launcher goes into a folder that the server reads already")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid plugin name",
            why="a name has lower-case letters, digits, dots, dashes and underscores",
            fix="for example --name skyflow",
            code="plugin-name",
        )
    if not os.path.isabs(python) or _UNQUOTABLE.search(python):  # noqa: PTH117 - a str
        raise UsageError(
            f"the interpreter's path {python!r} cannot be used",
            why="it is not absolute, or has a quote, a backslash or a line break in it",
            fix="install skyflowctl in another folder",
            code="plugin-interpreter",
        )


def check_plugin_folder(
    folder: Path, why: str, fix: str = "name the server's plugin_directory"
) -> None:
    """Check that the path is a folder.

    Raises:
        UsageError: it is not.
    """
    if not folder.is_dir():
        summary = f"{folder} is not a folder"
        raise UsageError(summary, why=why, fix=fix, code="plugin-directory")


def _compile(modules: tuple[Module, ...]) -> None:
    for _, path in modules:
        for source in launcher.covered_files(path):
            if source.endswith(".py") and not _is_compiled(Path(source)):
                _compile_one(source)


def _is_compiled(source: Path) -> bool:
    """Return whether Python would use the existing compiled file."""
    try:
        head = Path(importlib.util.cache_from_source(str(source))).read_bytes()[:16]
    except OSError:
        return False
    state = source.stat()
    stamp = (int(state.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
    size = (state.st_size & 0xFFFFFFFF).to_bytes(4, "little")
    return head == importlib.util.MAGIC_NUMBER + bytes(4) + stamp + size


def _compile_one(source: str) -> None:
    try:
        py_compile.compile(source, doraise=True)
    except OSError as error:
        raise RefusedError(
            f"the plugin cannot be built: no compiled file for {source}",
            why=f"{error.filename}: {error.strerror}; written later, it would change the digest",
            fix="build as the user who owns the installation",
            code="plugin-not-compiled",
        ) from error


def _render(
    modules: tuple[Module, ...], digest: str, telemetry: tuple[Module, ...], python: str
) -> str:
    source = Path(launcher.__file__).read_text(encoding="utf-8")
    return _TEMPLATE.format(
        version=__version__,
        python=python,
        source=source.strip(),
        environment=" ".join(f'${{{name}+"{name}=${name}"}}' for name in sorted(launcher.ALLOWED)),
        modules="(\n" + "".join(_lines(modules)) + "    )",
        digest=digest,
        telemetry="(\n" + "".join(_lines(telemetry)) + "    )",
        telemetry_digest=launcher.digest(telemetry) if telemetry else "",
    )


def _lines(modules: tuple[Module, ...]) -> Iterator[str]:
    return (f"        {module!r},\n" for module in modules)


def _write(path: Path, text: str) -> None:
    """Write a new file atomically; keep an equal one.

    Raises:
        RefusedError: the file exists with other bytes.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.close(descriptor)
        Path(temporary).write_text(text, encoding="utf-8")
        Path(temporary).chmod(0o755)
        os.link(temporary, path)
    except FileExistsError:
        if path.is_symlink() or path.read_bytes() != text.encode():
            raise RefusedError(
                f"{path} exists with different content",
                why="its name contains the sha256 of the build, so it was changed afterwards",
                fix="find out who changed it, remove it, and build again",
                code="launcher-changed",
            ) from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build from the engine's own environment, which has no command line.

    Prints the data of ``skyflowctl plugin build -o json``; errors go to stderr in three lines.
    Returns the exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m skyflowctl.plugin.build",
        description="Write the engine's launcher into a server's plugin directory.",
    )
    parser.add_argument("directory", type=Path, help="the server's plugin directory")
    parser.add_argument("--name", default="skyflow", help="the plugin's name (default skyflow)")
    given = parser.parse_args(arguments)
    try:
        built = _built(given.directory, given.name)
    except SkyflowctlError as error:
        for problem in error.problems:
            lines = f"error: {problem.summary}\nbecause: {problem.why}\nfix: {problem.fix}\n"
            sys.stderr.write(lines)
        return int(error.exit_code)
    report = {**asdict(built), "path": str(built.path), "version": semver()}
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0


def _built(folder: Path, name: str) -> BuiltLauncher:
    try:
        return build_launcher(folder, name)
    except OSError as error:
        raise UsageError.of_file(
            f"a file cannot be used: {error.filename}",
            error,
            fix="correct its name, its folder or its permissions",
            code="unusable-file",
        ) from None


if __name__ == "__main__":
    sys.exit(main())
