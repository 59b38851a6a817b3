"""Finds the manifest of a command, and the path of a MOUNT argument."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skyflowctl.cli.context.contexts import default_prefix
from skyflowctl.cli.runner import CommandRun
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.discover import DEFAULT_PLUGIN, DEFAULT_PREFIX, existing_files
from skyflowctl.text import name_one_of

if TYPE_CHECKING:
    from skyflowctl.manifest.load import LoadedManifest
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.operations.mount_refs import MountRef

# The form in nearly every manifest, read without loading a YAML parser; for any other form
# :func:`path_prefix` reads the whole manifest.
_DEFAULTS_BLOCK = re.compile(
    r"^defaults:[ \t]*(?:#.*)?\n((?:[ \t].*\n|[ \t]*\n|#.*\n)*)", re.MULTILINE
)
# A mount with a path of its own.
_OWN_PATH = re.compile(r"""\bpath["']?[ \t]*:""")
_SERVERS = re.compile(r"""["']?\bservers["']?[ \t]*:""")
_PREFIX_LINE = re.compile(
    r"^[ \t]+path_prefix:[ \t]*([\"']?)([a-z0-9][a-z0-9_/-]*)\1[ \t]*(?:#.*)?$", re.MULTILINE
)


def manifest_files(flag_values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the manifest's files for a command that requires one."""
    from skyflowctl.manifest.discover import default_files

    return default_files(tuple(flag_values or ()), os.environ)


def load_named_manifest(flag_values: Sequence[str] | None, run: CommandRun) -> "LoadedManifest":
    """Return the manifest named by ``-f``, the environment or the folder.

    Its warnings are shown on stderr.

    Raises:
        InvalidInputError: holds every problem in it.
        RefusedError: it is not for the server that the command has connected to.
    """
    from skyflowctl.manifest.load import load_manifest as load

    loaded = load(manifest_files(flag_values), environ=os.environ)
    for warning in loaded.warnings:
        run.warn(warning)
    if loaded.manifest.servers:
        from skyflowctl.cli.context.bound_manifests import bind

        bind(run, loaded.manifest)
    return loaded


def optional_manifest(
    flag_values: Sequence[str] | None, run: CommandRun
) -> "LoadedManifest | None":
    """Return the same, or None if none was named and the folder has none."""
    files = existing_files(tuple(flag_values or ()), os.environ)
    return load_named_manifest(files, run) if files else None


def resolve_path(
    mount: str, flag_values: Sequence[str] | None = None, run: CommandRun | None = None
) -> str:
    """Return the path of a MOUNT argument: itself if it has a slash, else the manifest's path of
    that mount, else below its ``path_prefix``, else below the context's, else below ``skyflow``.

    ``run`` is that of a command that writes or mints: it is held to the manifest's ``servers``.

    Raises:
        UsageError: it is neither a name nor a path.
        InvalidInputError: a manifest was named and cannot be read.
        RefusedError: the manifest is not for the server that the command has connected to.
    """
    from skyflowctl.operations.mounts import resolve_mount_path

    if run is None and "/" in mount:
        return resolve_mount_path(mount, "")
    files = existing_files(tuple(flag_values or ()), os.environ)
    text = _text_of(files)
    if run is not None and text is not None and _SERVERS.search(text):
        load_named_manifest(files, run)
    if "/" in mount:
        return resolve_mount_path(mount, "")
    prefix = _scanned_prefix(text) if files else default_prefix()
    if prefix is not None:
        return resolve_mount_path(mount, prefix)
    from skyflowctl.manifest.load import load_manifest as load

    manifest = load(files, environ=os.environ).manifest
    declared = (one.path for one in manifest.mounts if one.name == mount)
    return next(declared, None) or resolve_mount_path(mount, manifest.path_prefix)


def mount_name(mount: str, path: str, flag_values: Sequence[str] | None = None) -> str:
    """Return a mount's name for the output: the argument if it is a name, else the part of its path
    below the prefix, else the path. Loads no manifest."""
    if "/" not in mount:
        return mount
    files = existing_files(tuple(flag_values or ()), os.environ)
    scanned = _scanned_prefix(_text_of(files)) if files else default_prefix()
    prefix = scanned or DEFAULT_PREFIX
    return path.removeprefix(f"{prefix}/")


def path_prefix(flag_values: Sequence[str] | None = None) -> str:
    """Return the manifest's ``path_prefix`` if there is a manifest, else the context's, else
    ``skyflow``."""
    files = existing_files(tuple(flag_values or ()), os.environ)
    found = _scanned_prefix(_text_of(files)) if files else default_prefix()
    if found is None:
        from skyflowctl.manifest.load import load_manifest as load

        return load(files, environ=os.environ).manifest.path_prefix
    return found


def _text_of(files: Sequence[str]) -> str | None:
    """Return the text of manifest files; None if they cannot be read twice, or not at all."""
    if "-" in files:
        return None
    try:
        return "\n".join(Path(file).read_text(encoding="utf-8") for file in files)
    except (OSError, UnicodeDecodeError):
        return None


def _scanned_prefix(text: str | None) -> str | None:
    """Return the prefix if a text search proves it for every mount, or None."""
    if text is None or _OWN_PATH.search(text):
        return None
    if "path_prefix" not in text:
        return DEFAULT_PREFIX
    blocks = _DEFAULTS_BLOCK.findall(text + "\n")
    lines = [match[1] for block in blocks for match in _PREFIX_LINE.findall(block)]
    return lines[0] if len(lines) == text.count("path_prefix") == 1 else None


def named_mounts(manifest: "Manifest", names: Sequence[str] | None) -> frozenset[str] | None:
    """Return the manifest's mount names of MOUNT arguments; None: all.

    Raises:
        UsageError: the manifest has no such mount.
    """
    from skyflowctl.errors import UsageError

    if not names:
        return None
    known = _known_mounts(manifest)
    unknown = [name for name in names if name.strip("/") not in known]
    if unknown:
        from skyflowctl.manifest.messages import did_you_mean

        names = [mount.name for mount in manifest.mounts]
        near = did_you_mean(unknown[0].rpartition("/")[2], names)
        raise UsageError(
            f"the manifest has no mount {', '.join(unknown)}",
            why="this command is about the manifest's mounts",
            fix=near or name_one_of(names),
            code="unknown-mount",
        )
    return frozenset(known[name.strip("/")] for name in names)


def _known_mounts(manifest: "Manifest") -> dict[str, str]:
    """Return the manifest's mount names by name and by path."""
    by_path = {mount.path: mount.name for mount in manifest.mounts}
    return {mount.name: mount.name for mount in manifest.mounts} | by_path


@dataclass(frozen=True, slots=True)
class ChosenMounts:
    """The mounts of a command.

    Args:
        mounts: the mounts; None: all of this engine on the server.
        plugin_name: the mount type of this engine.
        prefix: removed from names that only the server knows.
        manifest: the manifest, where there is one.
    """

    mounts: "tuple[MountRef, ...] | None"
    plugin_name: str
    prefix: str
    manifest: "Manifest | None"


def choose_mounts(
    names: Sequence[str] | None, flag_values: Sequence[str] | None, run: CommandRun
) -> ChosenMounts:
    """Return the named mounts, else the manifest's, else the server's.

    Raises:
        UsageError: an argument is neither a name nor a path.
        InvalidInputError: the manifest is invalid.
    """
    from skyflowctl.operations.mount_refs import MountRef, declared_mounts
    from skyflowctl.operations.mounts import resolve_mount_path

    loaded = optional_manifest(flag_values, run)
    manifest = loaded.manifest if loaded else None
    kind = manifest.plugin.name if manifest else DEFAULT_PLUGIN
    prefix = manifest.path_prefix if manifest else default_prefix()
    declared = declared_mounts(manifest) if manifest else None
    if not names:
        return ChosenMounts(declared, kind, prefix, manifest)
    by_name = {mount.name: mount for mount in declared or ()}
    by_path = {mount.path: mount for mount in declared or ()}
    paths = [(name, resolve_mount_path(name, prefix)) for name in names]
    chosen = tuple(
        # A declared mount may have a path of its own.
        by_name.get(name) or by_path.get(path) or MountRef(name, path)
        for name, path in paths
    )
    return ChosenMounts(chosen, kind, prefix, manifest)
