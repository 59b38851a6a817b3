"""A service account's credential: read it, say everything that is wrong, normalise it.

What is stored or sent afterwards is always :meth:`ServiceAccount.to_json`: camelCase
names, canonical PKCS#8, nothing else. Every client that reads such files takes that
form; each takes different other ones.
"""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.skyflow.credential_fields import read_fields
from skyflowctl.skyflow.lint import Findings, InvalidCredentialError, LintFinding
from skyflowctl.skyflow.pem import normalise
from skyflowctl.skyflow.signing_key import InvalidKeyError
from skyflowctl.skyflow.strict_json import read_object
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS, HostNotAllowedError, check_token_uri

__all__ = [
    "InvalidCredentialError",
    "LintFinding",
    "ServiceAccount",
    "load_trusted",
    "parse_service_account",
]

_NEW_KEY = "create a new key for the service account in Skyflow Studio"
EXPIRES_SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """One credential in normal form.

    Args:
        client_id: the service account's id.
        client_name: its name; empty when the file has none.
        key_id: the id of this key.
        token_uri: where assertions are exchanged.
        private_key: PKCS#8 PEM with lines of 64 characters.
        key_valid_after: start of the key's validity, if the file says so.
        key_valid_before: its end, if the file says so.
    """

    client_id: str
    client_name: str
    key_id: str
    token_uri: str
    private_key: Secret
    key_valid_after: datetime | None = None
    key_valid_before: datetime | None = None

    def to_json(self) -> Secret:
        """Return the credential as one line of JSON with Skyflow's own field names."""
        fields = {
            "clientID": self.client_id,
            "clientName": self.client_name,
            "tokenURI": self.token_uri,
            "keyID": self.key_id,
            "privateKey": self.private_key.reveal(),
        }
        if self.key_valid_after:
            fields["keyValidAfterTime"] = rfc3339(self.key_valid_after)
        if self.key_valid_before:
            fields["keyValidBeforeTime"] = rfc3339(self.key_valid_before)
        return Secret(json.dumps(fields, separators=(",", ":")))


def parse_service_account(
    text: str, *, allowed_hosts: AbstractSet[str] = SKYFLOW_HOSTS, now: datetime
) -> tuple[ServiceAccount, tuple[LintFinding, ...]]:
    """Check a credential in full and return it in normal form, with warnings.

    Args:
        text: the credential file's content.
        allowed_hosts: ``host:port`` of the token services that may be named.
        now: the time against which the key's validity is judged.

    Raises:
        InvalidCredentialError: with every error that could be found; no finding holds a
            part of the credential.
    """
    findings = Findings()
    fields = read_fields(read_object(text, findings), findings)
    _check_host(fields.get("tokenURI"), allowed_hosts, findings)
    pem = _check_key(fields.get("privateKey"), findings)
    after, before = check_validity(fields, findings, now)
    findings.raise_errors()
    account = ServiceAccount(
        client_id=fields["clientID"],
        client_name=fields.get("clientName", ""),
        key_id=fields["keyID"],
        token_uri=fields["tokenURI"],
        private_key=pem,
        key_valid_after=after,
        key_valid_before=before,
    )
    return account, findings.warnings()


def load_trusted(text: str) -> ServiceAccount:
    """Return a credential that :meth:`ServiceAccount.to_json` wrote, without a new lint.

    Raises:
        InvalidCredentialError: it is not in that form (a damaged store).
    """
    try:
        stored = json.loads(text)
        return ServiceAccount(
            client_id=_stored_text(stored, "clientID"),
            client_name=_stored_text(stored, "clientName"),
            key_id=_stored_text(stored, "keyID"),
            token_uri=_stored_text(stored, "tokenURI"),
            private_key=Secret(_stored_text(stored, "privateKey")),
            key_valid_after=_moment(stored, "keyValidAfterTime"),
            key_valid_before=_moment(stored, "keyValidBeforeTime"),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        # "from None": the cause's text can quote what was stored.
        message = "the stored credential is damaged"
        damaged = LintFinding("stored-credential", "error", message, "write the credential again")
        raise InvalidCredentialError((damaged,)) from None


def _stored_text(stored: Mapping[str, Any], name: str) -> str:
    text = stored[name]
    if not isinstance(text, str):
        raise TypeError
    return text


def _moment(stored: Mapping[str, Any], name: str) -> datetime | None:
    return parse_rfc3339(stored[name]) if name in stored else None


def _check_host(uri: str | None, allowed_hosts: AbstractSet[str], findings: Findings) -> None:
    if uri is None:
        return
    try:
        check_token_uri(uri, allowed_hosts)
    except HostNotAllowedError as error:
        fix = f"use the downloaded file as it is, or allow this host: --allow-host {error.host}"
        findings.error("token-uri", f"tokenURI {error}", fix)
    except ValueError as error:
        findings.error("token-uri", f"tokenURI {error}", "use the downloaded file as it is")


def _check_key(text: str | None, findings: Findings) -> Secret:
    if text is None:
        return Secret("")
    try:
        key = normalise(Secret(text))
    except InvalidKeyError as error:
        fix = f"copy the file again without editing it, or {_NEW_KEY}"
        findings.error(error.code, error.reason, fix)
        return Secret("")
    if key.was_pkcs1:
        message = "privateKey is PKCS#1 (RSA PRIVATE KEY); it was converted to PKCS#8"
        findings.warning("key-pkcs1", message, "nothing to do here; other clients refuse PKCS#1")
    if key.was_reflowed:
        message = "privateKey had other line ends or line lengths than PEM; they were restored"
        findings.warning("key-layout", message, "use the downloaded file as it is")
    return key.pem


def check_validity(
    fields: Mapping[str, str], findings: Findings, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Return the start and end of the key's validity; a part that is unknown is None.

    Args:
        fields: the credential's fields by their camelCase names.
        findings: takes an error for a key that is past, and warnings.
        now: the time to judge by.
    """
    after = _checked_moment(fields, "keyValidAfterTime", findings)
    before = _checked_moment(fields, "keyValidBeforeTime", findings)
    if after and before and before <= after:
        message = "keyValidBeforeTime is not after keyValidAfterTime"
        findings.error("dates-order", message, "use the downloaded file as it is")
    elif before and before <= now:
        findings.error("key-expired", f"the key expired at {rfc3339(before)}", _NEW_KEY)
    elif before and before - now < EXPIRES_SOON:
        message = (
            f"the key expires in less than {(before - now).days + 1} days, at {rfc3339(before)}"
        )
        findings.warning("key-expires-soon", message, _NEW_KEY)
    if after and after > now:
        message = f"the key is not valid before {rfc3339(after)}"
        findings.warning("key-not-yet-valid", message, "check this machine's clock")
    return after, before


def _checked_moment(fields: Mapping[str, str], name: str, findings: Findings) -> datetime | None:
    text = fields.get(name)
    fix = "use the downloaded file: it has both times, like 2026-10-21T18:06:26.000Z"
    if not text:
        message = f"{name} is missing: no warning is possible before the key expires"
        findings.warning("dates-missing", message, fix)
        return None
    try:
        return parse_rfc3339(text)
    except (ValueError, OverflowError):
        findings.error("dates-form", f"{name} is not an RFC 3339 time", fix)
        return None
