"""What a rotation has begun and not yet made live, and how that is undone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from skyflowctl.errors import SkyflowctlError
from skyflowctl.rotation import wording
from skyflowctl.rotation.model import StepName
from skyflowctl.rotation.ports import KeyService
from skyflowctl.rotation.run import Ending, Run
from skyflowctl.vault.answers import whole
from skyflowctl.vault.live import LiveConfig


@dataclass(slots=True)
class Attempt:
    """A rotation of this run, before its credential is live.

    Args:
        id: the rotation's.
        version: of the config, as this run knows it: the next write's check-and-set.
        from_key: the key that is live.
        client_id: whose key is created.
        keys: where it is created; None for a credential from a reference.
        key_id: the key that was created.
        opened: the engine may hold this rotation's intent.
    """

    id: str
    version: int
    from_key: str
    client_id: str
    keys: KeyService | None = None
    key_id: str = ""
    opened: bool = False


def new_attempt(run: Run, config: LiveConfig, keys: KeyService | None = None) -> Attempt:
    """Return an attempt of this run, on what is live."""
    known = config.rotation.id if config.rotation else ""
    name = run.world.run_id
    # A caller that rotates twice in one run needs two ids: one that is over stays over.
    number = 2
    while name == known:
        name, number = f"{run.world.run_id}.{number}", number + 1
    return Attempt(name, config.version, config.key_id, config.client_id, keys)


def intend(run: Run, attempt: Attempt, fields: Mapping[str, Any]) -> None:
    """Record something of the rotation in the engine, before it is done."""
    attempt.opened = True
    body = {"rotation_id": attempt.id, **fields}
    answer = run.gateway.write_config(run.path, body, cas=attempt.version)
    attempt.version = whole(answer.get("version"))


@contextmanager
def undone_on_failure(run: Run, attempt: Attempt) -> Iterator[None]:
    """Undo what the attempt has begun when the block fails before its credential is live."""
    try:
        yield
    except Ending:
        raise
    except Exception:
        _undo(run, attempt)
        raise


def _undo(run: Run, attempt: Attempt) -> None:
    """Delete a created key and close the intent; what fails is a warning, not another error."""
    if not attempt.opened:
        return
    try:
        live = run.look()
        if attempt.key_id and live.key_id != attempt.key_id:
            delete_created(run, attempt)
        if live.rotation is not None and live.rotation.id == attempt.id:
            close(run, live)
    except Exception as error:  # noqa: BLE001 - the first failure is the one to tell
        if attempt.key_id:
            reason = f"it could not be deleted: {reason_of(error)}"
            run.warn(wording.key_left(run.path, attempt.client_id, attempt.key_id, reason))


def delete_created(run: Run, attempt: Attempt) -> None:
    """Delete the key that this attempt created."""
    if attempt.keys is not None:
        with run.step(StepName.DISCARD_KEY) as found:
            found.detail = f"key {attempt.key_id}"
            attempt.keys.delete_key(attempt.client_id, attempt.key_id)


def close(run: Run, live: LiveConfig) -> LiveConfig:
    """Close the rotation that stands in the config, and return the config after it."""
    run.gateway.write_config(run.path, {"rotation_id": ""}, cas=live.version)
    return run.look()


def reason_of(error: Exception) -> str:
    """Return an error in a few words that hold nothing secret."""
    if isinstance(error, SkyflowctlError):
        return error.problems[0].summary
    return type(error).__name__
