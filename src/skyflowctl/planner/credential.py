"""The credential rule: when a plan replaces a mount's key, and when it must not.

Three tools of this field share one bug: they write the declared credential back over
a rotated one. Here a key that was live before is never written again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import Mount
from skyflowctl.planner import drift, notes
from skyflowctl.planner.identity import CredentialIdentity
from skyflowctl.planner.plan import Change, Drift
from skyflowctl.vault.live import LiveConfig, LiveEngine


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about one mount's credential.

    Args:
        replace: the manifest's credential, to be written over the live one; or None.
        finish: the manifest's credential, live by a rotation that nobody has committed.
        changes: its identity before and after, when it is replaced.
        warnings: why it is not replaced although it is another one, or unknown.
        drift: a rotation that somebody left open.
    """

    replace: CredentialIdentity | None = None
    finish: CredentialIdentity | None = None
    changes: tuple[Change, ...] = ()
    warnings: tuple[Problem, ...] = ()
    drift: tuple[Drift, ...] = ()


def is_live(live: LiveConfig, wanted: CredentialIdentity) -> bool:
    """Tell whether the mount runs on this credential.

    An engine with the basic API may keep the client to itself; the key decides then.
    """
    return live.key_id == wanted.key_id and live.client_id in ("", wanted.client_id)


def judge(
    mount: Mount,
    live: LiveConfig,
    wanted: CredentialIdentity,
    history: Mapping[int, str] | None,
    *,
    insisted: bool,
) -> Verdict:
    """Decide about a configured mount.

    Args:
        mount: the manifest's mount.
        live: its config as it is.
        wanted: the identity of the manifest's credential.
        history: key ids by credential version; None when the engine keeps none.
        insisted: the caller named this mount in ``--replace-credential``.
    """
    if is_live(live, wanted):
        return Verdict()
    if not live.key_id and not insisted:
        return Verdict(warnings=(notes.live_key_unknown(mount, wanted),))
    if history is not None and wanted.key_id in history.values():
        version = max(number for number, key in history.items() if key == wanted.key_id)
        return Verdict(warnings=(notes.rotated_past(mount, live, wanted, version),))
    if history is None and not insisted:
        return Verdict(warnings=(notes.replacement_withheld(mount, live, wanted),))
    return Verdict(replace=wanted, changes=identity_changes(live, wanted))


def mind_rotation(
    mount: Mount, live: LiveConfig, wanted: CredentialIdentity | None, verdict: Verdict
) -> Verdict:
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
    return replace(verdict, drift=(drift.open_rotation(mount, rotation, written=written),))


def was_cut_off(live: LiveEngine) -> bool:
    """Tell whether a mount without a credential had one, until it was destroyed.

    Whoever cut it off decides when it may mint again: a reference that leads to another
    key by now is no such decision.
    """
    if live.config.configured:
        return False
    return bool(live.history) or live.config.revoked is not None


def is_revoked(live: LiveEngine, key_id: str) -> bool:
    """Tell whether a cut-off destroyed this key: it destroys the live one and every kept one."""
    mark = live.config.revoked
    marked = mark is not None and mark.key_id == key_id
    return was_cut_off(live) and (marked or key_id in (live.history or {}).values())


def identity_changes(live: LiveConfig | None, wanted: CredentialIdentity) -> tuple[Change, ...]:
    """Return a credential's change as its identity, which is all a plan ever shows."""
    before = {"client_id": live.client_id, "key_id": live.key_id} if live else {}
    after = {"client_id": wanted.client_id, "key_id": wanted.key_id}
    return tuple(
        Change(name, before.get(name) or None, value)
        for name, value in after.items()
        if before.get(name) != value
    )
