"""Finds what an earlier run left, waits for it, finishes it, or cleans it up."""

from collections.abc import Mapping
from dataclasses import replace

from skyflowctl.errors import Problem, SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.rotation import messages
from skyflowctl.rotation.commit import verify_and_commit
from skyflowctl.rotation.cutover import CutOver, is_open, written_in
from skyflowctl.rotation.intent import PendingRotation, close, new_attempt, record_intent
from skyflowctl.rotation.model import Result, StepName
from skyflowctl.rotation.ports import KeyService
from skyflowctl.rotation.serving import broken_roles
from skyflowctl.rotation.session import RotationSession, opened_nodes
from skyflowctl.vault.live import CredentialVersion, LiveConfig, LiveRotation

_LOOK_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class LiveSnapshot:
    """The state of the engine when a run begins.

    Args:
        config: the current config.
        history: the mount's history; None: the engine keeps none.
        account: the service account of keys without history; empty: the live one.
    """

    config: LiveConfig
    history: Mapping[int, CredentialVersion] | None
    account: str = ""

    @property
    def basic(self) -> bool:
        """Whether the engine has the basic API only."""
        return bool(self.config.api.missing) or self.history is None

    @property
    def written(self) -> CutOver | None:
        """The open rotation whose credential is written."""
        return written_in(self.config)

    @property
    def last(self) -> CredentialVersion | None:
        """The live credential; after a cut-off the one that was live last."""
        return self.history[max(self.history)] if self.history else None

    def client_of(self, key_id: str) -> str:
        """Return the service account of a key, from the history if the key is there.

        Otherwise ``account``, or the last credential's; empty: there has been none.
        """
        for entry in (self.history or {}).values():
            if entry.key_id == key_id:
                return entry.client_id
        return self.account or self.config.client_id or (self.last.client_id if self.last else "")


def take_snapshot(session: RotationSession, *, claim: bool = True) -> LiveSnapshot:
    """Read the engine's state, and check that no other run is rotating the mount.

    Args:
        session: the mount's.
        claim: False: only read; an open rotation may belong to another run.

    Raises:
        RefusedError: another run is rotating it.
        VaultError: it cannot be read, or it is not this engine's mount.
    """
    with session.step(StepName.RESUME) as found:
        config = session.engine.checked_config()
        session.live_key_id = session.from_key = config.key_id
        has_history = config.api.has("history")
        seen = LiveSnapshot(config, session.engine.history() if has_history else None)
        if not seen.basic and is_open(config.rotation) and claim:
            seen = replace(seen, config=_take_over(session, config))
        found.detail = _summary(seen)
    return seen


def _summary(seen: LiveSnapshot) -> str:
    known = seen.config.rotation
    if known is None or not is_open(known):
        return ""
    if seen.written:
        return f"rotation {known.id} has made key {known.to_key} live and is not committed"
    return f"rotation {known.id} was begun and has written nothing"


def _take_over(session: RotationSession, config: LiveConfig) -> LiveConfig:
    """Return the config once the owner of its rotation is dead, or has not renewed for long."""
    rotation, owners = config.rotation, session.deps.owners
    alive = owners.owner_alive(session.path, rotation.id) if owners and rotation else None
    if alive and rotation:
        raise messages.at_work(session.path, rotation)
    if alive is None:
        _wait_for_silence(session, config)
    return config


def _wait_for_silence(session: RotationSession, config: LiveConfig) -> None:
    clock, longest = session.deps.clock, session.job.options.stale_after.total_seconds()
    left = longest - _age(session, config, longest)
    if left <= 0:
        return
    known = config.rotation
    session.tell(
        f"rotation {known.id if known else ''} is open; "
        f"waiting {left:.0f} s to see whether another run is in progress"
    )
    until = clock.monotonic() + left
    while (rest := until - clock.monotonic()) > 0:
        session.check_stop()
        session.deps.sleep(min(_LOOK_EVERY, rest))
        now = session.look()
        if (now.version, now.rotation) != (config.version, config.rotation):
            if now.rotation is not None and is_open(now.rotation):
                raise messages.at_work(session.path, now.rotation)
            raise messages.config_changed_meanwhile(
                session.path, "the rotation that was open is over by now"
            )


def _age(session: RotationSession, config: LiveConfig, most: float) -> float:
    """Return the seconds since the config's last write; 0 if unknown.

    A server clock that is ahead of this machine's must not make the wait longer.
    """
    if config.last_updated is None:
        return 0.0
    return min(max((session.deps.clock.now() - config.last_updated).total_seconds(), 0.0), most)


def resume(session: RotationSession, written: CutOver, keys: KeyService | None) -> Result:
    """Finish a rotation whose credential is written, as after this run's own write."""
    session.from_key, session.to_key = written.from_key, written.to_key
    session.begin(written.id)
    begun = f"by {written.by} at {written.started}"
    session.tell(
        f"going on with rotation {written.id}, begun {begun}; key {written.to_key} is live"
    )
    with opened_nodes(session) as nodes:
        written = replace(written, broken=broken_roles(session.gateway, session.path))
        word = verify_and_commit(session, nodes, written, keys)
    session.warn(
        Problem(
            "resumed-rotation",
            f"this run finished rotation {written.id}: {session.path}",
            f"it was begun {begun}, and had made key {written.to_key} live",
            "to rotate once more, run the command again",
        )
    )
    return word


def delete_orphaned_key(
    session: RotationSession, seen: LiveSnapshot, keys: KeyService | None
) -> LiveConfig:
    """Clean up after a rotation that created a key and has not made it live.

    Only the recorded key is deleted. Other keys that appeared at Skyflow since the rotation began
    are named.

    Returns:
        The config after it.
    """
    known = seen.config.rotation
    if known is None or not is_open(known) or not known.keys:
        return seen.config
    client_id = seen.client_of(known.to_key)
    if keys is None:
        if known.to_key:
            reason = f"rotation {known.id} created it, and this run had no operator token for it"
            session.warn(messages.created_key_left(session.path, client_id, known.to_key, reason))
        return seen.config
    listed = [key.key_id for key in keys.list_keys(client_id)]
    expected = {*known.keys, known.to_key, seen.config.key_id}
    strangers = [key for key in listed if key not in expected]
    if strangers:
        session.warn(messages.unrecorded(session.path, client_id, strangers))
    if known.to_key in listed and known.to_key != seen.config.key_id:
        return _discard(session, seen.config, known, PendingRotation("", 0, "", client_id, keys))
    if known.to_key and known.to_key not in listed:
        return close(session, seen.config)
    return seen.config


def _discard(
    session: RotationSession, config: LiveConfig, known: LiveRotation, attempt: PendingRotation
) -> LiveConfig:
    """Take the rotation over, so that no run can make its key live; then delete the key."""
    mine = new_attempt(session, config, attempt.keys)
    with session.step(StepName.DISCARD_KEY) as found:
        found.detail = f"key {known.to_key}, created by rotation {known.id}"
        session.begin(mine.id)
        record_intent(
            session, mine, {"rotation_to": known.to_key, "rotation_keys": list(known.keys)}
        )
        if attempt.keys is not None:
            attempt.keys.delete_key(attempt.client_id, known.to_key)
    return close(session, session.look())


def clean_up_reference(
    session: RotationSession, seen: LiveSnapshot, keys: KeyService | None
) -> LiveConfig:
    """The same before a rotation without an operator, where a failure is a warning."""
    try:
        return delete_orphaned_key(session, seen, keys)
    except SkyflowctlError as error:
        known = seen.config.rotation
        key_id = known.to_key if known else ""
        reason = f"it could not be deleted: {error.problems[0].summary}"
        session.warn(
            messages.created_key_left(session.path, seen.client_of(key_id), key_id, reason)
        )
        return session.look()
