"""The composition root: options in, working parts out. Everything is imported late.

Commands ask here for a gateway, a manifest or an answer from the person; nothing else in
``cli`` knows how those are made.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from skyflowctl.cli.options import TargetOptions
from skyflowctl.cli.run import Run
from skyflowctl.errors import Refused, UsageError

if TYPE_CHECKING:
    from skyflowctl.manifest.load import LoadedManifest
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.target import Target

DEFAULT_PREFIX = "skyflow"
# Exactly what nearly every manifest says, found without loading a YAML reader; any other
# way to write it makes :func:`path_prefix` read the whole manifest.
_DEFAULTS_BLOCK = re.compile(
    r"^defaults:[ \t]*(?:#.*)?\n((?:[ \t].*\n|[ \t]*\n|#.*\n)*)", re.MULTILINE
)
_PREFIX_LINE = re.compile(
    r"^[ \t]+path_prefix:[ \t]*([\"']?)([a-z0-9][a-z0-9_/-]*)\1[ \t]*(?:#.*)?$", re.MULTILINE
)


def manifest_files(flag_values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the manifest's files for a command that cannot do without one."""
    from skyflowctl.manifest.discover import default_files

    return default_files(tuple(flag_values or ()), os.environ)


def load_manifest(flag_values: Sequence[str] | None, run: Run) -> "LoadedManifest":
    """Return the manifest that ``-f``, the environment or the folder names.

    Its warnings are shown on stderr.

    Raises:
        InvalidInput: with every problem in it.
    """
    from skyflowctl.manifest.load import load_manifest as load

    loaded = load(manifest_files(flag_values), environ=os.environ)
    for warning in loaded.warnings:
        run.warn(warning)
    return loaded


def optional_manifest(flag_values: Sequence[str] | None, run: Run) -> "LoadedManifest | None":
    """Return the same, or None when none was named and the folder has none."""
    from skyflowctl.manifest.discover import existing_files

    files = existing_files(tuple(flag_values or ()), os.environ)
    return load_manifest(files, run) if files else None


def resolve_path(mount: str, flag_values: Sequence[str] | None = None) -> str:
    """Return the path of a MOUNT argument: itself with a slash, else below the prefix.

    Raises:
        UsageError: it is no name and no path.
        InvalidInput: a manifest was named and cannot be read.
    """
    from skyflowctl.operations.mounts import mount_path

    prefix = "" if "/" in mount else path_prefix(flag_values)
    return mount_path(mount, prefix)


def path_prefix(flag_values: Sequence[str] | None = None) -> str:
    """Return the manifest's ``path_prefix`` if there is a manifest, else ``skyflow``."""
    from skyflowctl.manifest.discover import existing_files

    files = existing_files(tuple(flag_values or ()), os.environ)
    if not files:
        return DEFAULT_PREFIX
    found = None if "-" in files else _scanned_prefix(files)
    if found is None:
        from skyflowctl.manifest.load import load_manifest as load

        return load(files, environ=os.environ).manifest.path_prefix
    return found


def _scanned_prefix(files: Sequence[str]) -> str | None:
    """Return the prefix that plain text shows beyond doubt, or None."""
    try:
        texts = [Path(file).read_text(encoding="utf-8") for file in files]
    except (OSError, UnicodeDecodeError):
        return None
    whole = "\n".join(texts)
    if "path_prefix" not in whole:
        return DEFAULT_PREFIX
    blocks = _DEFAULTS_BLOCK.findall(whole + "\n")
    lines = [match[1] for block in blocks for match in _PREFIX_LINE.findall(block)]
    return lines[0] if len(lines) == whole.count("path_prefix") == 1 else None


def choose_target(options: TargetOptions, run: Run) -> "Target":
    """Return the server and login that flags or environment name.

    Raises:
        UsageError: none is named, or the flags contradict each other.
    """
    from skyflowctl.vault.target import TargetFlags, resolve_target

    flags = TargetFlags(
        address=options.address,
        namespace=options.namespace,
        token_file=options.token_file,
        ca_cert=options.ca_cert,
        ca_path=options.ca_path,
        client_cert=options.client_cert,
        client_key=options.client_key,
        tls_server_name=options.tls_server_name,
        skip_verify=options.skip_verify or None,
        nodes=tuple(options.nodes or ()),
    )
    target = resolve_target(flags, os.environ)
    for warning in target.warnings:
        run.warn(warning)
    return target


@contextmanager
def open_gateway(options: TargetOptions, run: Run) -> "Iterator[Gateway]":
    """Connect to the chosen server for as long as the block runs.

    Nothing is sent before the first request.

    Raises:
        UsageError: none is named, the flags contradict each other, or the span of
            ``--timeout`` is none.
    """
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.hvac_transport import HvacTransport

    target = choose_target(options, run)
    transport = HvacTransport(target, run_id=run.id, timeout=_timeout(options))
    gateway = Gateway(transport)
    try:
        yield gateway
    finally:
        gateway.close()


def _timeout(options: TargetOptions) -> float:
    """Return the seconds that one request may take: flag, environment, else 60."""
    from skyflowctl.vault.target import variable

    text = options.timeout or variable(os.environ, "CLIENT_TIMEOUT") or "60s"
    return span_seconds(text, "--timeout or BAO_CLIENT_TIMEOUT")


def span_seconds(text: str, origin: str) -> float:
    """Return the seconds of a span such as ``30s``, or of a plain number of seconds.

    Raises:
        UsageError: it is neither, or zero.
    """
    from skyflowctl.clock import parse_duration

    try:
        seconds = float(text) if text.isdecimal() else parse_duration(text).total_seconds()
    except ValueError as error:
        raise _bad_span(origin, str(error)) from None
    if seconds <= 0:
        raise _bad_span(origin, "it is zero")
    return seconds


def _bad_span(origin: str, why: str) -> UsageError:
    return UsageError(f"{origin} is no span of time", why=why, fix="for example 30s")


def confirm(question: str, run: Run, *, yes: bool, no_input: bool) -> None:
    """Ask y/N on stderr; return only when the answer is yes.

    Raises:
        Refused: the answer is no, or nobody can answer (no terminal, or ``--no-input``).
    """
    if yes:
        return
    if no_input or run.json or not sys.stdin.isatty():
        raise Refused(
            "this needs a confirmation",
            why="nobody can be asked here",
            fix="give --yes to confirm it on the command line",
            code="needs-confirmation",
        )
    sys.stdout.flush()
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if answer.strip().lower() not in {"y", "yes"}:
        raise Refused("not confirmed", why="the answer was not yes", code="not-confirmed")
