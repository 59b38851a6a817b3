"""When a mount's credential is due for rotation."""

from contextlib import suppress
from datetime import datetime, timedelta

from skyflowctl.clock import rfc3339
from skyflowctl.manifest.model import RotationRule
from skyflowctl.vault.live import LiveConfig


def due_reason(rule: RotationRule, config: LiveConfig, now: datetime) -> str:
    """Return in a few words why the live credential is due for rotation; "" if it is not.

    A key's age counts from the time at which Skyflow made it valid. If the key does not say, it
    counts from the time at which it was made live, which may be later but is always recorded. A
    mount without a credential is never due.
    """
    if not config.configured:
        return ""
    since = config.key_valid_after or config.credential_updated
    until = config.key_valid_before
    if rule.renew_before is not None and until is not None and until - now <= rule.renew_before:
        word = "expired" if until <= now else "expires"
        return f"the key {word} {rfc3339(until)}, renew_before is {_days(rule.renew_before)}"
    if rule.max_age is not None and since is not None and now - since >= rule.max_age:
        return f"the key is of {rfc3339(since)}, max_age is {_days(rule.max_age)}"
    return ""


def due_at(rule: RotationRule, config: LiveConfig) -> datetime | None:
    """Return when the live credential is, or was, first due; None: by this rule it never is."""
    since = config.key_valid_after or config.credential_updated
    until = config.key_valid_before
    dates = []
    with suppress(OverflowError):  # a rule of thousands of years
        if rule.renew_before is not None and until is not None:
            dates.append(until - rule.renew_before)
        if rule.max_age is not None and since is not None:
            dates.append(since + rule.max_age)
    return min(dates) if config.configured and dates else None


def _days(span: timedelta) -> str:
    """Return a span as in the manifest, in its largest whole unit."""
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0 and seconds:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
