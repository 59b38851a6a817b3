"""The composition root: options in, working parts out. Everything is imported late.

Commands ask here for a gateway, a source of credentials or an answer from the person;
nothing else in ``cli`` knows how those are made.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from skyflowctl.cli.options import ApprovingTargetOptions, TargetOptions
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from skyflowctl.executor.ports import CredentialSource
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.operations.credentials import ManifestCredentials
    from skyflowctl.operations.successors import ReferencedCredential
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.responses import ClusterNode
    from skyflowctl.vault.target import Target

# A socket counts its timeout in milliseconds of a C int, which is 24 days.
_LONGEST_TIMEOUT = timedelta(days=1)
_LONGEST_SPAN = timedelta(days=365)


@contextmanager
def open_gateway(options: TargetOptions, run: CommandRun, scope: str = "") -> "Iterator[Gateway]":
    """Connect to the chosen server for as long as the block runs.

    Nothing is sent before the first request, unless ``--dev`` starts the dev stack.
    ``scope`` is the manifest of an apply, which its parked requests are stored under.

    Raises:
        UsageError: no server is named, the flags contradict each other, or the span of
            ``--timeout`` is none.
    """
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.hvac_transport import HvacTransport
    from skyflowctl.vault.waits import WaitMonitor

    target, timeout = choose_target(options, run), _timeout(options)
    if isinstance(options, ApprovingTargetOptions):
        from skyflowctl.cli.wiring_approvals import approving_transport

        gateway = Gateway(approving_transport(options, target, run, timeout, scope))
    else:
        waits = WaitMonitor(run.notice)
        gateway = Gateway(HvacTransport(target, run_id=run.id, timeout=timeout, waits=waits))
    try:
        yield gateway
    finally:
        gateway.close()


def choose_target(options: TargetOptions, run: CommandRun) -> "Target":
    """Return the server and login that flags or environment name; ``--dev`` starts it.

    Raises:
        UsageError: none is named, what names it is malformed, or ``--dev`` stands beside
            another server.
    """
    if options.dev:
        from skyflowctl.cli.wiring_dev import started_dev_target

        return started_dev_target(options, run)
    from skyflowctl.vault.target import TargetFlags, resolve_target
    from skyflowctl.vault.waits import WaitMonitor

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
    with WaitMonitor(run.notice).watching("the login's token helper or file"):
        target = resolve_target(flags, os.environ)
    for warning in target.warnings:
        run.warn(warning)
    return target


def credentials_for(
    manifest: "Manifest",
    gateway: "Gateway",
    run: CommandRun,
    allow_hosts: Sequence[str] | None = None,
) -> "CredentialSource":
    """Return where credentials come from: the manifest, or the dev stack's stand-ins.

    The server that answers decides, not the way it was named: against the dev stack no
    reference is ever resolved. ``allow_hosts`` are the values of ``--allow-host``.

    Raises:
        RefusedError: it is a dev stack that is not known here.
        UsageError: a token service is not named as ``HOST:PORT``.
    """
    from skyflowctl.cli.wiring_dev import credential_source
    from skyflowctl.operations.credentials import ManifestCredentials

    own = manifest_credentials(manifest, run, allow_hosts)
    source = credential_source(gateway, manifest, own)
    if not isinstance(source, ManifestCredentials):
        run.notice("the dev stack: generated credentials stand in for the manifest's")
    return source


def manifest_credentials(
    manifest: "Manifest", run: CommandRun, allow_hosts: Sequence[str] | None = None
) -> "ManifestCredentials":
    """Return the manifest's own references as the source of credentials.

    Raises:
        UsageError: a token service is not named as ``HOST:PORT``.
    """
    from skyflowctl.operations.credentials import ManifestCredentials
    from skyflowctl.operations.token_hosts import token_hosts

    hosts = token_hosts(allow_hosts, os.environ)
    return ManifestCredentials(manifest, allowed_hosts=hosts, clock=run.clock)


def referenced_credential(
    text: str,
    flag: str,
    run: CommandRun,
    allow_hosts: Sequence[str] | None = None,
    subject: str = "the new credential",
) -> "ReferencedCredential":
    """Return the credential behind a reference of the command line; not followed yet.

    ``subject`` is what it is to the reader.

    Raises:
        UsageError: the text is no reference, or a token service is not ``HOST:PORT``.
    """
    from skyflowctl.operations.cli_references import parse_reference
    from skyflowctl.operations.successors import CredentialLinter, ReferencedCredential
    from skyflowctl.operations.token_hosts import token_hosts

    linting = CredentialLinter(token_hosts(allow_hosts, os.environ), run.clock)
    return ReferencedCredential(parse_reference(text, flag), subject, linting)


def server_is_named(options: TargetOptions) -> bool:
    """Tell whether flags or environment name a server at all."""
    from skyflowctl.vault.environment import named_address

    return options.dev or options.address is not None or bool(named_address(os.environ))


def connect_node(gateway: "Gateway") -> "Callable[[ClusterNode], Gateway | None]":
    """Return how to ask one node of the cluster alone; a node that was never named: None."""
    from skyflowctl.vault.errors import RedirectRefusedError
    from skyflowctl.vault.gateway import Gateway

    def connect(node: "ClusterNode") -> "Gateway | None":
        try:
            return Gateway(gateway.transport.at_node(node.api_address))
        except RedirectRefusedError:
            return None

    return connect


def _timeout(options: TargetOptions) -> float:
    """Return the seconds that one request may take: flag, environment, else 60."""
    from skyflowctl.vault.client_settings import client_timeout

    if options.timeout:
        return span_seconds(options.timeout, "--timeout", most=_LONGEST_TIMEOUT)
    return client_timeout(os.environ)


def state_folder() -> Path:
    """Return the folder of what skyflowctl remembers on this machine between commands."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    # The XDG rule: a relative path is ignored. It would lead into the working folder.
    home = named if named.is_absolute() else Path("~/.local/state").expanduser()
    return home / "skyflowctl"


def span_seconds(text: str, origin: str, *, most: timedelta = _LONGEST_SPAN) -> float:
    """Return the seconds of a span such as ``30s``, or of a plain number of seconds.

    Args:
        text: the span.
        origin: the flag or variable that it comes from.
        most: the longest that is taken.

    Raises:
        UsageError: it is neither, zero, or longer.
    """
    from skyflowctl.clock import parse_duration

    try:
        plain = text.isascii() and text.isdecimal()
        seconds = parse_duration(f"{text}s" if plain else text).total_seconds()
    except ValueError as error:
        raise _bad_span(origin, str(error)) from None
    if seconds <= 0:
        raise _bad_span(origin, "it is zero")
    if seconds > most.total_seconds():
        raise _bad_span(origin, f"it is longer than {most.days * 24}h")
    return seconds


def _bad_span(origin: str, why: str) -> UsageError:
    return UsageError(f"{origin} is not a span of time", why=why, fix="for example 30s")


def confirm(question: str, run: CommandRun, *, yes: bool, no_input: bool) -> None:
    """Ask y/N on stderr; return only when the answer is yes.

    Raises:
        RefusedError: the answer is no, or nobody can answer (no terminal, or ``--no-input``).
    """
    if yes:
        return
    if no_input or run.json or not sys.stdin.isatty():
        raise RefusedError(
            "this needs a confirmation",
            why="nobody can be asked here",
            fix="give --yes to confirm it on the command line",
            code="needs-confirmation",
        )
    sys.stdout.flush()
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise
    if not answer.endswith("\n"):  # Ctrl-D leaves the cursor behind the question
        sys.stderr.write("\n")
    if answer.strip().lower() not in {"y", "yes"}:
        raise RefusedError(
            "not confirmed",
            why="the answer was not yes",
            fix="run it again and answer y, or give --yes",
            code="not-confirmed",
        )
