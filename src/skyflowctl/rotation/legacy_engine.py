"""Rotation on an engine with the basic API: no history, no check-and-set, no verification.

Nothing on such a server knows of a rotation, so the way back is a credential that the user
names, and a run that was killed is seen only by the key that is live.
"""

from skyflowctl.errors import ExitCode, RefusedError, SkyflowctlError
from skyflowctl.rotation import legacy_engine_messages, legacy_engine_proof
from skyflowctl.rotation import messages as words
from skyflowctl.rotation.legacy_engine_proof import LiveTokens
from skyflowctl.rotation.model import NewCredential, Result, StepName
from skyflowctl.rotation.ports import FromReference, Generated, KeySource, ServerFile
from skyflowctl.rotation.session import RotationAborted, RotationSession
from skyflowctl.rotation.verify import revoked_and_allowed
from skyflowctl.vault.errors import BadRequestError, ForbiddenError, TokenServiceFailedError
from skyflowctl.vault.live import LiveConfig

# With these the engine says no to a write.
_NOES = (BadRequestError, ForbiddenError, TokenServiceFailedError, RefusedError)


def rotate(session: RotationSession, config: LiveConfig, source: KeySource | None) -> Result:
    """Replace the credential; what fails afterwards is undone with the previous one.

    Raises:
        RefusedError: there is no way back, or the new credential is not to be taken.
        RotationAborted: it was written back, or could not be.
    """
    live, new, previous = _proved(session, config, source)
    session.check_stop()
    with session.step(StepName.NOTE) as found:
        way = f"the way back is key {previous.key_id}" if previous else "there is no way back"
        found.detail = f"live is {_named(config, live)}; {way}"
    try:
        _write(session, new)
        _verify(session, new, live)
    except Exception as error:  # noqa: BLE001 - whatever failed, the old one goes back
        _go_back(session, new, previous, live, error)
    session.live_key_id = new.key_id
    return Result.ROTATED


def preview(session: RotationSession, config: LiveConfig, source: KeySource | None) -> Result:
    """Make the checks of :func:`rotate` that write nothing."""
    _proved(session, config, source)
    return Result.WOULD_ROTATE


def _named(config: LiveConfig, live: LiveTokens) -> str:
    if not config.configured:
        return "nothing"
    return f"key {live.key_id}" if live.key_id else "a key that neither engine nor tokens name"


def _proved(
    session: RotationSession, config: LiveConfig, source: KeySource | None
) -> tuple[LiveTokens, NewCredential, NewCredential | None]:
    """Return what is live, the new credential and the way back; nothing is written.

    Raises:
        RefusedError: one of them is not what it must be, or does not mint.
    """
    source = _checked(session, config, source)
    with session.step(StepName.LINT) as found:
        new = source()
        previous = session.job.previous() if session.job.previous else None
        session.to_key = new.key_id
        found.detail = f"key {new.key_id}"
        session.warn(*new.warnings)
    with session.step(StepName.LOOK) as found:
        live = legacy_engine_proof.read_live(session, config)
        session.from_key = session.live_key_id = live.key_id
        found.detail = f"live is {_named(config, live)}; {len(live.minting)} of {len(live.roles)}"
        found.detail += " roles give tokens"
        _compare(session, config, live, new)
    if previous is not None:
        legacy_engine_proof.prove_previous(session, live, previous)
    legacy_engine_proof.prove_new(session, live, new)
    return live, new, previous


def _checked(
    session: RotationSession, config: LiveConfig, source: KeySource | None
) -> FromReference:
    options = session.job.options
    if source is None:
        raise words.no_source(session.path)
    if isinstance(source, Generated):
        raise legacy_engine_messages.cannot_generate(session.path)
    if isinstance(source, ServerFile):
        raise legacy_engine_messages.cannot_prove_file(session.path)
    # From no credential at all there is nothing to go back to.
    if config.configured and session.job.previous is None and not options.no_rollback:
        raise legacy_engine_messages.no_way_back(session.path)
    if options.canaries or options.watch:
        session.warn(legacy_engine_messages.not_watched(session.path))
    return source


def _compare(
    session: RotationSession, config: LiveConfig, live: LiveTokens, new: NewCredential
) -> None:
    """Refuse a key that is live or was revoked, and one of another account, where it is known."""
    revoked_and_allowed(session, config, new.key_id)
    if live.key_id and new.key_id == live.key_id:
        raise legacy_engine_messages.already_live_by_reference(session.path, new.key_id)
    other = live.client_id and live.client_id != new.client_id
    if other and not session.job.options.allow_different_account:
        raise words.other_account(session.path, live.client_id, new.client_id)


def _write(session: RotationSession, new: NewCredential) -> None:
    with session.step(StepName.WRITE):
        fields = {"credentials_json": new.json, "validate_credentials": True}
        try:
            session.gateway.write_config(session.path, fields)
        except BadRequestError as error:
            if not error.says("validate_credentials"):
                raise
            session.gateway.write_config(session.path, {"credentials_json": new.json})


def _verify(session: RotationSession, credential: NewCredential, live: LiveTokens) -> None:
    """Have the engine prove it: its health alone says only that there is a config."""
    with session.step(StepName.VERIFY_NODES) as found:
        health = session.gateway.health(session.path, refresh=True)
        if health.state == "unconfigured":
            raise legacy_engine_messages.unhealthy(
                session.path, health.error or health.configuration_status
            )
        found.detail = legacy_engine_proof.verify_live(session, credential, live)


def _go_back(
    session: RotationSession,
    new: NewCredential,
    previous: NewCredential | None,
    live: LiveTokens,
    cause: Exception,
) -> None:
    """Write the previous credential back, and end the run.

    Raises:
        RefusedError: the engine refused the new one, and the old one was never replaced.
        RotationAborted: what is live now is told in it.
    """
    if isinstance(cause, _NOES) and _is_not_live(session, new):
        raise words.not_taken(session.path, cause) from cause
    problems = (
        cause.problems
        if isinstance(cause, SkyflowctlError)
        else (words.internal_fault(session.path, cause),)
    )
    if previous is None:
        left = legacy_engine_messages.left_live(session.path, new.key_id)
        raise RotationAborted(Result.FAILED, [left, *problems], ExitCode.PARTIAL) from cause
    try:
        with session.step(StepName.ROLLBACK) as found:
            found.detail = f"key {previous.key_id}"
            session.gateway.write_config(session.path, {"credentials_json": previous.json})
        _verify(session, previous, live)
    except Exception as error:
        left = legacy_engine_messages.not_written_back(session.path, previous.key_id)
        raise RotationAborted(Result.FAILED, [left, *problems], ExitCode.PARTIAL) from error
    raise RotationAborted(Result.ROLLED_BACK, problems, ExitCode.PARTIAL) from cause


def _is_not_live(session: RotationSession, new: NewCredential) -> bool:
    """Whether the engine, or a token that it gives, shows another key than the new one."""
    try:
        live = legacy_engine_proof.read_live(session, session.look())
    except SkyflowctlError:
        return False
    return bool(live.key_id) and live.key_id != new.key_id
