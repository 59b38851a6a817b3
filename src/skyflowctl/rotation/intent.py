"""A rotation that has begun and is not yet live, and how it is undone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from skyflowctl.errors import RefusedError, SkyflowctlError
from skyflowctl.rotation import messages
from skyflowctl.rotation.model import StepName
from skyflowctl.rotation.ports import KeyService
from skyflowctl.rotation.session import RotationSession, on_failure
from skyflowctl.vault.errors import ConflictError, VaultError
from skyflowctl.vault.live import LiveConfig
from skyflowctl.vault.responses import whole


@dataclass(slots=True)
class PendingRotation:
    """A rotation of this run, before its credential is live.

    Args:
        id: the rotation's.
        version: the config's version as this run knows it, for the next write's check-and-set.
        from_key: the key that is live.
        client_id: the service account for which a key is created.
        keys: the service that creates it; None for a credential from a reference.
        key_id: the key that was created.
        opened: True once the engine may hold this rotation's intent.
    """

    id: str
    version: int
    from_key: str
    client_id: str
    keys: KeyService | None = None
    key_id: str = ""
    opened: bool = False


def new_attempt(
    session: RotationSession, config: LiveConfig, keys: KeyService | None = None
) -> PendingRotation:
    """Return an attempt of this run, based on the live config."""
    known = config.rotation.id if config.rotation else ""
    name = session.deps.run_id
    # A caller that rotates twice in one run needs two ids: a closed rotation stays closed.
    number = 2
    while name == known:
        name, number = f"{session.deps.run_id}.{number}", number + 1
    return PendingRotation(name, config.version, config.key_id, config.client_id, keys)


def record_intent(
    session: RotationSession, attempt: PendingRotation, fields: Mapping[str, Any]
) -> None:
    """Record the next change of the rotation in the engine before it is made."""
    attempt.opened = True
    body = {"rotation_id": attempt.id, **fields}
    answer = session.engine.write_config(body, cas=attempt.version)
    attempt.version = whole(answer.get("version"))
    session.heartbeat.keep(
        lambda: renew(
            session, attempt, attempt.from_key, lambda error, live: lost_race(session, error, live)
        )
    )


class OpenRotation(Protocol):
    """An open rotation of this run: its id, and the config's version as the run knows it."""

    id: str
    version: int


def renew(
    session: RotationSession,
    held: OpenRotation,
    key_id: str,
    taken: Callable[[ConflictError | None, LiveConfig], Exception],
) -> None:
    """Write the intent again, to show other runs that this run is alive.

    A changed version is no lost race as long as this rotation is open and the same key live: then
    another field was edited, or the answer to the last renewal was lost.

    Args:
        session: the mount's.
        held: its rotation; gets the new version.
        key_id: the key that is live as this run knows it.
        taken: the error to raise when the rotation no longer belongs to this run.

    Raises:
        VaultError: there is no answer.
    """
    cause = None
    try:
        answer = session.engine.write_config({"rotation_id": held.id}, cas=held.version)
        if answer.get("key_id") == key_id:
            held.version = whole(answer.get("version"))
            return
    except ConflictError as error:
        cause = error
    live = session.look()
    known = live.rotation
    mine = known is not None and (known.id, known.state) == (held.id, "open")
    if not mine or live.key_id != key_id:
        raise taken(cause, live) from cause
    held.version = live.version


def lost_race(
    session: RotationSession, error: ConflictError | None, live: LiveConfig | None
) -> RefusedError:
    """Return the error for a check-and-set that another writer won.

    Args:
        session: the mount's.
        error: the server's refusal; None: the config shows that another writer was first.
        live: the current config; None: unknown.
    """
    known = live.rotation if live else None
    if known is not None and known.state == "open" and not _is_mine(session, known.id):
        return messages.at_work(session.path, known)
    said = error.problems[0].why if error else ""
    return messages.config_changed_meanwhile(session.path, _writer(session, live) or said)


def _is_mine(session: RotationSession, rotation_id: str) -> bool:
    mine = session.deps.run_id
    return rotation_id == mine or rotation_id.startswith(f"{mine}.")


def _writer(session: RotationSession, live: LiveConfig | None) -> str:
    """Return what is known of the winning write; empty: nothing."""
    if live is None:
        return ""
    if live.key_id == session.from_key:
        return f"it is of version {live.version} now, with the same credential"
    try:
        entry = (session.engine.history() or {}).get(live.credential_version)
    except VaultError:
        entry = None
    by = f", written by {entry.written_by}," if entry and entry.written_by else ""
    return f"key {live.key_id}{by} is live now" if live.key_id else "it has no credential now"


@contextmanager
def conflicts_reported(session: RotationSession) -> Iterator[None]:
    """Report a lost check-and-set in the block as a lost race."""
    try:
        yield
    except ConflictError as error:
        try:
            live = session.look()
        except VaultError:
            live = None
        raise lost_race(session, error, live) from error


@contextmanager
def undone_on_failure(session: RotationSession, attempt: PendingRotation) -> Iterator[None]:
    """Undo the attempt if the block fails before the new credential is live."""
    with on_failure(lambda _: _take_back(session, attempt)):
        yield


def _take_back(session: RotationSession, attempt: PendingRotation) -> None:
    """Delete a created key and close the intent; a failure here is only a warning."""
    if not attempt.opened:
        return
    try:
        live = session.look()
        if attempt.key_id and live.key_id != attempt.key_id:
            delete_created(session, attempt)
        known = live.rotation
        # An attempt that was written after all is not closed: the next run continues it.
        if known is not None and known.id == attempt.id and known.to_key != live.key_id:
            close(session, live)
    except Exception as error:  # noqa: BLE001 - the first failure is the one to tell
        if attempt.key_id:
            reason = f"it could not be deleted: {reason_of(error)}"
            session.warn(
                messages.created_key_left(session.path, attempt.client_id, attempt.key_id, reason)
            )


def delete_created(session: RotationSession, attempt: PendingRotation) -> None:
    """Delete the key that this attempt created."""
    if attempt.keys is not None:
        with session.step(StepName.DISCARD_KEY) as found:
            found.detail = f"key {attempt.key_id}"
            attempt.keys.delete_key(attempt.client_id, attempt.key_id)


def close(session: RotationSession, live: LiveConfig) -> LiveConfig:
    """Close the rotation recorded in the config, and return the config after it."""
    session.heartbeat.stop()
    session.engine.write_config({"rotation_id": ""}, cas=live.version)
    return session.look()


def reason_of(error: Exception) -> str:
    """Return a short reason for an error, without secrets."""
    if isinstance(error, SkyflowctlError):
        return error.problems[0].summary
    return type(error).__name__
