"""The credential rule: when a plan replaces a mount's key, and when it must not.

Three tools of this field share one bug: they write the declared credential back over
a rotated one. Here a key that was live before is never written again.
"""

from dataclasses import dataclass, replace

from skyflowctl.credentials.model import CredentialId
from skyflowctl.errors import Problem
from skyflowctl.manifest.model import Mount
from skyflowctl.planner import drift, messages
from skyflowctl.planner.plan import Change, Drift
from skyflowctl.vault.live import LiveConfig, LiveEngine


@dataclass(frozen=True, slots=True)
class CredentialDecision:
    """What to do about one mount's credential.

    Args:
        replace: the manifest's credential, to be written over the live one; or None.
        allow_revoked: a cut-off revoked it, and the caller allows it all the same.
        finish: the manifest's credential, live by a rotation that nobody has committed.
        changes: its identity before and after, when it is replaced.
        warnings: why it is not replaced although it is another one, or unknown.
        drift: a rotation that somebody left open.
    """

    replace: CredentialId | None = None
    allow_revoked: bool = False
    finish: CredentialId | None = None
    changes: tuple[Change, ...] = ()
    warnings: tuple[Problem, ...] = ()
    drift: tuple[Drift, ...] = ()


def is_live(live: LiveConfig, wanted: CredentialId) -> bool:
    """Tell whether the mount runs on this credential.

    An engine with the basic API may keep the client to itself; the key decides then.
    """
    return live.key_id == wanted.key_id and live.client_id in ("", wanted.client_id)


def decide(
    mount: Mount,
    engine: LiveEngine,
    wanted: CredentialId,
    *,
    insisted: bool,
    allow_revoked: bool,
) -> CredentialDecision:
    """Decide about a configured mount.

    Args:
        mount: the manifest's mount.
        engine: what it holds, with the history that its engine keeps.
        wanted: the identity of the manifest's credential.
        insisted: the caller named this mount in ``--replace-credential``.
        allow_revoked: the caller named this very key in ``--allow-revoked-key``.
    """
    live, history = engine.config, engine.history
    if is_live(live, wanted):
        return CredentialDecision()
    if is_revoked(engine, wanted.key_id):
        return _judge_revoked(mount, live, wanted, insisted=insisted, allowed=allow_revoked)
    if not live.key_id and not insisted:
        warning = messages.live_key_unknown(mount, wanted)
    elif history is not None and wanted.key_id in history.values():
        kept = [number for number in engine.kept if history.get(number) == wanted.key_id]
        warning = messages.rotated_past(mount, live, wanted, max(kept, default=0))
    elif history is None and not insisted:
        warning = messages.replacement_withheld(mount, live, wanted)
    else:
        return CredentialDecision(replace=wanted, changes=identity_changes(live, wanted))
    return CredentialDecision(warnings=(warning,))


def _judge_revoked(
    mount: Mount, live: LiveConfig, wanted: CredentialId, *, insisted: bool, allowed: bool
) -> CredentialDecision:
    """Decide about a key that a cut-off revoked, where another one is live by now."""
    if insisted and allowed:
        changes = identity_changes(live, wanted)
        return CredentialDecision(replace=wanted, allow_revoked=True, changes=changes)
    note = messages.revoked_key_forced if insisted else messages.revoked_past
    return CredentialDecision(warnings=(note(mount, live, wanted),))


def with_open_rotation(
    mount: Mount, live: LiveConfig, wanted: CredentialId | None, verdict: CredentialDecision
) -> CredentialDecision:
    """Return the verdict with what an open rotation adds to it.

    One that has made the manifest's own credential live is finished: an apply that was
    killed may have begun it. Any other belongs to somebody who rotates, and is named.
    """
    rotation = live.rotation
    if rotation is None or rotation.state != "open" or verdict.replace is not None:
        return verdict
    written = live.key_id == rotation.to_key != rotation.from_key
    if written and wanted is not None and is_live(live, wanted):
        return replace(verdict, finish=wanted, changes=(Change("rotation", "open", "committed"),))
    return replace(verdict, drift=(drift.open_rotation_drift(mount, rotation, written=written),))


def was_cut_off(live: LiveEngine) -> bool:
    """Tell whether a mount without a credential had one, until it was destroyed.

    Whoever cut it off decides when it may mint again: a reference that leads to another
    key by now is no such decision.
    """
    if live.config.configured:
        return False
    return bool(live.history) or live.config.revoked is not None


def is_revoked(live: LiveEngine, key_id: str) -> bool:
    """Tell whether a cut-off of the mount destroyed this key, and it is not live since."""
    return key_id in live.revoked


def identity_changes(live: LiveConfig | None, wanted: CredentialId) -> tuple[Change, ...]:
    """Return a credential's change as its identity, which is all a plan ever shows."""
    before = {"client_id": live.client_id, "key_id": live.key_id} if live else {}
    after = {"client_id": wanted.client_id, "key_id": wanted.key_id}
    return tuple(
        Change(name, before.get(name) or None, value)
        for name, value in after.items()
        if before.get(name) != value
    )
