"""Reads a new credential from a request: from its body, or from a file on the server."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from skyflowctl.engine.contract import EngineError
from skyflowctl.engine.key_files import UnreadableFileError, read_key_file
from skyflowctl.engine.settings import EngineSettings
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.skyflow.lint import LintFinding
from skyflowctl.skyflow.minting import MintingCredential, SigningKey
from skyflowctl.skyflow.service_account import InvalidCredentialError, parse_service_account
from skyflowctl.skyflow.token_uri import HOST_NOT_ALLOWED

INLINE = "credentials_json"
FILE = "credentials_file_path"
# One text for absent, forbidden and no credential, so that the field cannot probe the disk.
NO_CREDENTIAL_FILE = f"{FILE}: no credential of this mount can be read there"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A credential that passed the lint, with the lint's warnings."""

    credential: MintingCredential
    warnings: tuple[str, ...] = ()


def check_sources(values: Mapping[str, Any], settings: EngineSettings) -> None:
    """Refuse two sources at once, and a file where files are switched off.

    Raises:
        EngineError: 400.
    """
    if INLINE in values and FILE in values:
        raise EngineError(400, f"give one of {INLINE} and {FILE}, not both")
    if FILE in values and settings.credentials_directory is None:
        raise EngineError(400, f"{FILE}: not enabled in the plugin's arguments")


async def read_candidate(
    values: Mapping[str, Any], mount_point: str, settings: EngineSettings, now: datetime
) -> Candidate | None:
    """Return the request's credential, linted in full; None when it brings none.

    Raises:
        EngineError: 400; what the lint says repeats no value, and of a file it says
            nothing at all.
    """
    if INLINE in values:
        return _lint(values[INLINE], settings, now)
    if FILE not in values or settings.credentials_directory is None:
        return None
    try:
        text = await asyncio.to_thread(
            read_key_file, settings.credentials_directory, mount_point, values[FILE]
        )
    except UnreadableFileError:
        raise EngineError(400, NO_CREDENTIAL_FILE) from None
    try:
        return _lint(text, settings, now)
    except EngineError:
        raise EngineError(400, NO_CREDENTIAL_FILE) from None


def same_content(left: MintingCredential, right: MintingCredential) -> bool:
    """Return whether two credentials are equal in every stored field."""
    return left.account.to_json() == right.account.to_json()


def _finding_text(finding: LintFinding) -> str:
    """Return a finding as the engine says it: without the host, for no error of a request
    repeats what was in it, and with the place where an operator may allow one."""
    if HOST_NOT_ALLOWED not in finding.message:
        return finding.message
    fix = "to allow it, add --allow-host to the plugin's catalog arguments"
    return f"tokenURI {HOST_NOT_ALLOWED}; {fix}"


def _lint(text: Secret, settings: EngineSettings, now: datetime) -> Candidate:
    try:
        account, findings = parse_service_account(
            text.reveal(), allowed_hosts=settings.allowed_hosts, now=now
        )
    except InvalidCredentialError as error:
        found = "; ".join(_finding_text(finding) for finding in error.findings)
        raise EngineError(400, f"{INLINE}: {found}") from None
    # The lint has checked the key; once is enough.
    key = SigningKey.trusted(account.private_key)
    return Candidate(
        MintingCredential(account, key), tuple(finding.message for finding in findings)
    )
