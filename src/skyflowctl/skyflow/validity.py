"""The span in which a key is valid. No vendor SDK reads it; an expired key only fails."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.skyflow.lint import Findings

EXPIRES_SOON = timedelta(days=30)

_NEW_KEY = "create a new key for the service account in Skyflow Studio"


def check_validity(
    fields: Mapping[str, str], findings: Findings, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Return the start and end of the key's validity; a part that is unknown is None.

    Args:
        fields: the credential's fields by their camelCase names.
        findings: takes an error for a key that is past, and warnings.
        now: the time to judge by.
    """
    after = _moment(fields, "keyValidAfterTime", findings)
    before = _moment(fields, "keyValidBeforeTime", findings)
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


def _moment(fields: Mapping[str, str], name: str, findings: Findings) -> datetime | None:
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
