"""Decides when a plan replaces a mount's key, and when it must not.

Three comparable tools share one bug: they write the declared credential back over a rotated
one. This planner never writes a key that was live before.
"""

from dataclasses import replace

from skyflowctl.credentials.model import CredentialId
from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Mount
from skyflowctl.planner import drift, messages
from skyflowctl.planner.plan import Change, Drift
from skyflowctl.vault.live import LiveConfig, LiveEngine


@dataclass(frozen=True, slots=True)
class CredentialDecision:
    """What a plan does about one mount's credential.

    Args:
        replace: the manifest's credential, if it replaces the live one; else None.
        allow_revoked: whether a cut-off revoked it and the caller allows it anyway.
        finish: the manifest's credential, if it is live by a rotation that is not committed.
        changes: the credential's identity before and after a replacement.
        warnings: why it is not replaced although it differs or is unknown.
        drift: an open rotation.
    """

    replace: CredentialId | None = None
    allow_revoked: bool = False
    finish: CredentialId | None = None
    changes: tuple[Change, ...] = ()
    warnings: tuple[Problem, ...] = ()
    drift: tuple[Drift, ...] = ()


def is_live(live: LiveConfig, wanted: CredentialId) -> bool:
    """Return whether this credential is live on the mount.

    An engine with the basic API may not return the client id; then the key id decides.
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
        engine: the live engine, with its history if it has one.
        wanted: the identity of the manifest's credential.
        insisted: whether the caller named this mount in ``--replace-credential``.
        allow_revoked: whether the caller named exactly this key in ``--allow-revoked-key``.
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
    """Decide about a key that a cut-off revoked, if another key is live by now."""
    if insisted and allowed:
        changes = identity_changes(live, wanted)
        return CredentialDecision(replace=wanted, allow_revoked=True, changes=changes)
    note = messages.revoked_key_forced if insisted else messages.revoked_past
    return CredentialDecision(warnings=(note(mount, live, wanted),))


def with_open_rotation(
    mount: Mount, live: LiveConfig, wanted: CredentialId | None, verdict: CredentialDecision
) -> CredentialDecision:
    """Return the decision, adapted to an open rotation.

    If the rotation has made the manifest's own credential live, it is finished: a killed apply
    may have begun it. Any other open rotation belongs to another run, and is reported as drift.
    """
    rotation = live.rotation
    if rotation is None or rotation.state != "open" or verdict.replace is not None:
        return verdict
    written = live.key_id == rotation.to_key != rotation.from_key
    if written and wanted is not None and is_live(live, wanted):
        return replace(verdict, finish=wanted, changes=(Change("rotation", "open", "committed"),))
    return replace(verdict, drift=(drift.open_rotation_drift(mount, rotation, written=written),))


def was_cut_off(live: LiveEngine) -> bool:
    """Return whether a mount without a credential had one that was destroyed.

    Only an explicit decision ends a cut-off. A reference that now leads to another key is
    not such a decision.
    """
    if live.config.configured:
        return False
    return bool(live.history) or live.config.revoked is not None


def is_revoked(live: LiveEngine, key_id: str) -> bool:
    """Return whether a cut-off of the mount destroyed this key, and it has not been live since."""
    return key_id in live.revoked


def identity_changes(live: LiveConfig | None, wanted: CredentialId) -> tuple[Change, ...]:
    """Return a credential's change as identities, the only part of it that a plan shows."""
    before = {"client_id": live.client_id, "key_id": live.key_id} if live else {}
    after = {"client_id": wanted.client_id, "key_id": wanted.key_id}
    return tuple(
        Change(name, before.get(name) or None, value)
        for name, value in after.items()
        if before.get(name) != value
    )
