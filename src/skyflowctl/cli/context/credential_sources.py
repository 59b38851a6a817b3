"""Sources of credentials: the manifest, a reference, or the dev stack's generated ones."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from skyflowctl.cli.context.dev_stack import credential_source, devstack_extra
from skyflowctl.cli.options import ReferenceOptions
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import UsageError

if TYPE_CHECKING:
    from skyflowctl.credentials.model import CredentialSource
    from skyflowctl.credentials.resolve import ReferenceResolver
    from skyflowctl.credentials.sources import ManifestSource, ReferencedCredential
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.vault.gateway import Gateway


def reference_resolver(
    run: CommandRun, permits: ReferenceOptions, gateway: "Gateway | None" = None
) -> "ReferenceResolver":
    """Return the command's resolver of references.

    Args:
        run: shows what is read from the server or printed by a program.
        permits: what the command line allows references to do.
        gateway: the server; None: there is none, or not yet.

    Raises:
        UsageError: an allowed program is not an absolute path.
    """
    from skyflowctl.credentials.resolve import ReferenceResolver

    programs = frozenset(permits.allow_exec or ())
    if not all(program.startswith("/") for program in programs):
        raise UsageError(
            "--allow-exec is not an absolute path",
            why="a relative one could be another program in another folder",
            fix="for example --allow-exec=/usr/bin/pass",
            code="bad-program",
        )
    return ReferenceResolver(
        transport=gateway.transport if gateway else None,
        allowed_programs=programs,
        allowed_paths=tuple(permits.allow_ref or ()),
        watched=sys.stdin.isatty() and sys.stderr.isatty() and not run.terminal.quiet,
        notice=run.notice,
    )


def credentials_for(
    manifest: "Manifest",
    gateway: "Gateway",
    run: CommandRun,
    allow_hosts: Sequence[str] | None,
    resolver: "ReferenceResolver",
) -> "CredentialSource":
    """Return the source of credentials: the manifest, or the dev stack's generated ones.

    The server that answers decides, not the way it was named: for the dev stack no reference is
    ever resolved. ``allow_hosts`` are the values of ``--allow-host``.

    Raises:
        RefusedError: it is a dev stack that is not known here.
        UsageError: a token service is not named as ``HOST:PORT``.
    """
    from skyflowctl.credentials.sources import ManifestSource

    own = manifest_credentials(manifest, run, allow_hosts, resolver)
    source = credential_source(gateway, manifest, own)
    if not isinstance(source, ManifestSource) and manifest.references:
        run.notice("the dev stack: generated credentials replace the manifest's")
    return source


def manifest_for(manifest: "Manifest", source: "CredentialSource", run: CommandRun) -> "Manifest":
    """Return the manifest as it is planned on the server of a source of credentials.

    On the dev stack, stand-ins replace what it cannot reach, and each is named.
    """
    from skyflowctl.credentials.sources import ManifestSource

    if isinstance(source, ManifestSource):
        return manifest
    with devstack_extra():
        from skyflowctl.devstack.credentials import DevCredentials
        from skyflowctl.devstack.stand_ins import with_stand_ins

        if not isinstance(source, DevCredentials):
            return manifest
        planned, replaced = with_stand_ins(manifest, source.layout)
    for one in replaced:
        run.notice(f"the dev stack: {one}")
    return planned


def manifest_credentials(
    manifest: "Manifest",
    run: CommandRun,
    allow_hosts: Sequence[str] | None,
    resolver: "ReferenceResolver",
) -> "ManifestSource":
    """Return the manifest's own references as the source of credentials.

    Raises:
        UsageError: a token service is not named as ``HOST:PORT``.
    """
    from skyflowctl.credentials.sources import ManifestSource
    from skyflowctl.credentials.token_hosts import token_hosts

    hosts = token_hosts(allow_hosts, os.environ)
    return ManifestSource(manifest, allowed_hosts=hosts, clock=run.clock, resolver=resolver)


def referenced_credential(
    text: str,
    flag: str,
    run: CommandRun,
    allow_hosts: Sequence[str] | None,
    resolver: "ReferenceResolver",
) -> "ReferencedCredential":
    """Return the credential of a command line reference, which is not resolved yet.

    Raises:
        UsageError: the text is not a reference, or a token service is not ``HOST:PORT``.
    """
    from skyflowctl.credentials.lint import CredentialLinter
    from skyflowctl.credentials.references import parse_reference
    from skyflowctl.credentials.sources import ReferencedCredential
    from skyflowctl.credentials.token_hosts import token_hosts

    linting = CredentialLinter(token_hosts(allow_hosts, os.environ), run.clock)
    return ReferencedCredential(
        parse_reference(text, flag), "the new credential", linting, resolver
    )
