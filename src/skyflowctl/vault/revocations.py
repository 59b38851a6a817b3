"""Finds the keys that cut-offs of a mount revoked, in all places where they are recorded."""

from collections.abc import Mapping
from dataclasses import replace

from skyflowctl.clock import rfc3339
from skyflowctl.vault import decode
from skyflowctl.vault.live import CredentialVersion, LiveConfig, LiveRevocation


def revoked_keys(
    config: LiveConfig,
    history: Mapping[int, CredentialVersion] | None,
    options: Mapping[str, str],
) -> dict[str, LiveRevocation]:
    """Return each revoked key with its cut-off; every command uses this.

    Cut-offs are recorded in the engine's history and config. If a basic engine served the mount
    at that time, they are recorded in the mount's options, and our engine has no record of them
    after it took the mount over. A live key does not count, because a caller allowed it again.
    """
    found = marked_keys(config, history, options)
    if config.configured:
        found.pop(config.key_id, None)
    return found


def marked_keys(
    config: LiveConfig,
    history: Mapping[int, CredentialVersion] | None,
    options: Mapping[str, str],
) -> dict[str, LiveRevocation]:
    """Return the same, including a live key that a caller allowed again."""
    history = history or {}
    found = {one.key_id: one.revoked for one in history.values() if one.revoked}
    for mark in (config.revoked, decode.marked_revocation(options), _from_history(config, history)):
        if mark is not None and mark.key_id:
            found.setdefault(mark.key_id, mark)
    return found


def _from_history(
    config: LiveConfig, history: Mapping[int, CredentialVersion]
) -> LiveRevocation | None:
    """Return the cut-off that an earlier release of our engine recorded only in its history."""
    if config.configured or config.revoked is not None or not history:
        return None
    last = history[max(history)]
    written = config.credential_updated
    since = rfc3339(written) if written else last.written_at
    return LiveRevocation(since, key_id=last.key_id)


def with_mark(found: LiveConfig, options: Mapping[str, str]) -> LiveConfig:
    """Return a config with the cut-off that is recorded only in the mount's options.

    A basic engine records none; ours has no record of one from before it took the mount over.
    """
    if found.configured or found.revoked is not None:
        return found
    return replace(found, revoked=decode.marked_revocation(options))
