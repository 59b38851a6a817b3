"""The write that makes the new credential live, and how to settle a lost answer to it."""

from dataclasses import dataclass

from skyflowctl.credentials.model import Credential
from skyflowctl.errors import (
    ExitCode,
    InvalidInputError,
    NotPermittedError,
    RefusedError,
    SkyflowctlError,
)
from skyflowctl.rotation import messages
from skyflowctl.rotation.intent import PendingRotation, lost_race, reason_of, record_intent
from skyflowctl.rotation.model import Result, StepName
from skyflowctl.rotation.session import RotationAborted, RotationSession
from skyflowctl.vault.errors import (
    ConflictError,
    NotFoundError,
    RevokedKeyError,
    TokenServiceFailedError,
    VaultError,
)
from skyflowctl.vault.live import LiveConfig, LiveRotation
from skyflowctl.vault.parked import PendingError
from skyflowctl.vault.responses import whole

# After these errors the engine certainly has not written and will not.
_DEFINITE = (ConflictError, InvalidInputError, NotPermittedError, NotFoundError, RefusedError)


@dataclass(slots=True)
class CutOver:
    """A rotation whose new credential is live and not committed.

    Args:
        id: the rotation's.
        from_key: the key that was live before; empty for none.
        to_key: the one that is live.
        client_id: the service account of that key.
        credential_version: the version that this rotation wrote.
        created: the key was created for this rotation, so it is deleted if it fails.
        version: of the config, as this run knows it; each renewal changes it.
        broken: roles that no credential could mint before.
        by: who began it; empty: this run.
        started: when it began, RFC 3339.
    """

    id: str
    from_key: str
    to_key: str
    client_id: str
    credential_version: int
    created: bool
    version: int = 0
    broken: frozenset[str] = frozenset()
    by: str = ""
    started: str = ""


def is_open(rotation: LiveRotation | None) -> bool:
    """Whether the rotation is neither committed nor retired."""
    return rotation is not None and rotation.state == "open"


def written_in(config: LiveConfig) -> CutOver | None:
    """Return the open rotation whose new credential is live; None for any other state."""
    known = config.rotation
    if known is None or not is_open(known) or not known.to_key:
        return None
    if not config.configured or config.key_id != known.to_key or known.to_key == known.from_key:
        return None
    return CutOver(
        known.id,
        known.from_key,
        known.to_key,
        config.client_id,
        config.credential_version,
        created=bool(known.keys),
        version=config.version,
        by=known.by,
        started=known.started,
    )


def cut_over(
    session: RotationSession, attempt: PendingRotation, new: Credential, broken: frozenset[str]
) -> CutOver:
    """Make the new credential live; ``broken`` are the roles that none can mint.

    Raises:
        RefusedError: the engine refused it, or another writer was first.
        RotationAborted: it is unknown whether it was written; the rotation stays open.
        SkyflowctlError: it is certainly not written.
    """
    session.check_stop()
    session.begin(attempt.id)
    session.heartbeat.stop()
    with session.step(StepName.WRITE) as found:
        body = {**new.field, "rotation_id": attempt.id}
        if new.key_id in session.job.options.allow_revoked:
            body["allow_revoked_key"] = new.key_id
        try:
            answer = session.engine.write_config(body, cas=attempt.version)
        except PendingError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be looked at
            live = _after_lost_reply(session, attempt, new, error)
            version, credential_version = live.version, live.credential_version
            found.detail = f"the answer was lost; credential version {credential_version} is live"
        else:
            version = whole(answer.get("version"))
            credential_version = whole(answer.get("credential_version"))
            found.detail = f"credential version {credential_version}"
    if new.server_file:
        _take_over_approved(session, attempt, version)
    session.live_key_id = new.key_id
    return CutOver(
        attempt.id,
        attempt.from_key,
        new.key_id,
        new.client_id,
        credential_version,
        created=attempt.keys is not None,
        version=version,
        broken=broken,
    )


def _take_over_approved(session: RotationSession, attempt: PendingRotation, version: int) -> None:
    """Take the id from the live write, if an earlier run sent that write for approval.

    Only a write without a secret can wait for an approval; it carries its sender's rotation id.
    """
    try:
        live = session.retry(session.look, "which rotation wrote it")
    except SkyflowctlError as blind:
        raise _unknown(session, blind) from blind
    known = live.rotation
    if live.version == version and is_open(known) and known is not None:
        attempt.id = known.id
        session.begin(attempt.id)


def _after_lost_reply(
    session: RotationSession, attempt: PendingRotation, new: Credential, error: Exception
) -> LiveConfig:
    """Return the config if the credential was written after all, or raise the reason."""
    sure = isinstance(error, _DEFINITE)
    try:
        live = session.retry(lambda: _looked(session, attempt, sure), "whether it was written")
    except SkyflowctlError as blind:
        # A clear refusal, such as of an expired login, also leaves the lost write under way.
        if sure:
            raise _why_not(session, new, error, None) from error
        raise _unknown(session, blind) from error
    if live.key_id == new.key_id and live.rotation is not None and live.rotation.id == attempt.id:
        return live
    raise _why_not(session, new, error, live) from error


def _looked(session: RotationSession, attempt: PendingRotation, sure: bool) -> LiveConfig:
    """Return the live config once no pending request can change it.

    A write without an answer may be pending. The intent is written with the same check-and-set, so
    that write then fails; if the intent fails, that write or another writer's came first.
    """
    if not sure:
        try:
            record_intent(
                session, attempt, {"rotation_to": attempt.key_id} if attempt.key_id else {}
            )
        except ConflictError:
            return session.look()
    return session.look()


def _why_not(
    session: RotationSession, new: Credential, error: Exception, live: LiveConfig | None
) -> Exception:
    if isinstance(error, RevokedKeyError):
        return RevokedKeyError.of_key(session.path, new.key_id, error.problems[0].why)
    if isinstance(error, TokenServiceFailedError):
        return messages.not_taken(session.path, error)
    if isinstance(error, ConflictError):
        return lost_race(session, error, live)
    return error


def _unknown(session: RotationSession, error: SkyflowctlError) -> RotationAborted:
    problem = messages.rotation_unfinished(
        session.path, reason_of(error), "the old credential or the new one"
    )
    code = ExitCode.UNREACHABLE if isinstance(error, VaultError) else ExitCode.PARTIAL
    code = ExitCode.NOT_PERMITTED if isinstance(error, NotPermittedError) else code
    return RotationAborted(Result.FAILED, [problem, *error.problems], code, closed=False)
