"""Sources of credentials: the manifest, a reference, or the dev stack's generated ones."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from skyflowctl.cli.context.dev_stack import credential_source
from skyflowctl.cli.runner import CommandRun

if TYPE_CHECKING:
    from skyflowctl.credentials.model import CredentialSource
    from skyflowctl.credentials.sources import ManifestSource, ReferencedCredential
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.vault.gateway import Gateway


def credentials_for(
    manifest: "Manifest",
    gateway: "Gateway",
    run: CommandRun,
    allow_hosts: Sequence[str] | None = None,
) -> "CredentialSource":
    """Return the source of credentials: the manifest, or the dev stack's generated ones.

    The server that answers decides, not the way it was named: for the dev stack no reference is
    ever resolved. ``allow_hosts`` are the values of ``--allow-host``.

    Raises:
        RefusedError: it is a dev stack that is not known here.
        UsageError: a token service is not named as ``HOST:PORT``.
    """
    from skyflowctl.credentials.sources import ManifestSource

    own = manifest_credentials(manifest, run, allow_hosts)
    source = credential_source(gateway, manifest, own)
    if not isinstance(source, ManifestSource):
        run.notice("the dev stack: generated credentials replace the manifest's")
    return source


def manifest_credentials(
    manifest: "Manifest", run: CommandRun, allow_hosts: Sequence[str] | None = None
) -> "ManifestSource":
    """Return the manifest's own references as the source of credentials.

    Raises:
        UsageError: a token service is not named as ``HOST:PORT``.
    """
    from skyflowctl.credentials.sources import ManifestSource
    from skyflowctl.credentials.token_hosts import token_hosts

    hosts = token_hosts(allow_hosts, os.environ)
    return ManifestSource(manifest, allowed_hosts=hosts, clock=run.clock)


def referenced_credential(
    text: str,
    flag: str,
    run: CommandRun,
    allow_hosts: Sequence[str] | None = None,
    subject: str = "the new credential",
) -> "ReferencedCredential":
    """Return the credential of a command line reference, which is not resolved yet.

    ``subject`` is its name in messages.

    Raises:
        UsageError: the text is not a reference, or a token service is not ``HOST:PORT``.
    """
    from skyflowctl.credentials.lint import CredentialLinter
    from skyflowctl.credentials.references import parse_reference
    from skyflowctl.credentials.sources import ReferencedCredential
    from skyflowctl.credentials.token_hosts import token_hosts

    linting = CredentialLinter(token_hosts(allow_hosts, os.environ), run.clock)
    return ReferencedCredential(parse_reference(text, flag), subject, linting)
