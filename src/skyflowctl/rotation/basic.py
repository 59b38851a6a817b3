"""Rotation on an engine with the basic API: no history, no check-and-set, no verification.

Nothing on such a server knows of a rotation, so the way back is a credential that the user
names, and a run that was killed is seen only by the key that is live.
"""

from skyflowctl.errors import ExitCode, Refused, SkyflowctlError
from skyflowctl.rotation import basic_proof, basic_words
from skyflowctl.rotation import rotate_words as words
from skyflowctl.rotation.model import NewCredential, StepName, Word
from skyflowctl.rotation.ports import Generated, Source
from skyflowctl.rotation.run import Ending, Run
from skyflowctl.vault.failures import BadRequest, Forbidden, TokenServiceFailed
from skyflowctl.vault.live import LiveConfig

# With these the engine says no to a write.
_NOES = (BadRequest, Forbidden, TokenServiceFailed, Refused)


def rotate(run: Run, config: LiveConfig, source: Source | None) -> Word:
    """Replace the credential; what fails afterwards is undone with the previous one.

    Raises:
        Refused: there is no way back, or the new credential is not to be taken.
        Ending: it was written back, or could not be.
    """
    new, previous = _prepared(run, config, source)
    basic_proof.prove(run, new)
    run.check_stop()
    with run.step(StepName.NOTE) as found:
        way = f"the way back is key {previous.key_id}" if previous else "there is no way back"
        found.detail = f"live is key {config.key_id or 'unknown'}; {way}"
    try:
        _write(run, new)
        _verify(run, new)
    except Exception as error:  # noqa: BLE001 - whatever failed, the old one goes back
        _go_back(run, new, previous, error)
    run.live_key_id = new.key_id
    return Word.ROTATED


def preview(run: Run, config: LiveConfig, source: Source | None) -> Word:
    """Make the checks of :func:`rotate` that write nothing."""
    new, _ = _prepared(run, config, source)
    basic_proof.prove(run, new)
    return Word.WOULD_ROTATE


def _prepared(
    run: Run, config: LiveConfig, source: Source | None
) -> tuple[NewCredential, NewCredential | None]:
    options = run.job.options
    if source is None:
        raise words.no_source(run.path)
    if isinstance(source, Generated):
        raise basic_words.cannot_generate(run.path)
    if run.job.previous is None and not options.no_rollback:
        raise basic_words.no_way_back(run.path)
    if options.canaries or options.watch:
        run.warn(basic_words.not_watched(run.path))
    with run.step(StepName.LINT) as found:
        new = source()
        previous = run.job.previous() if run.job.previous else None
        run.to_key = new.key_id
        run.from_key = config.key_id or (previous.key_id if previous else "")
        found.detail = f"key {new.key_id}"
        run.warn(*new.warnings)
        _check(run, config, new, previous)
    return new, previous


def _check(
    run: Run, config: LiveConfig, new: NewCredential, previous: NewCredential | None
) -> None:
    known = config.key_id or (previous.key_id if previous else "")
    account = config.client_id or (previous.client_id if previous else "")
    if new.key_id == known:
        raise words.unchanged(run.path, new.key_id)
    if previous and config.key_id and previous.key_id != config.key_id:
        raise basic_words.wrong_previous(run.path, config.key_id, previous.key_id)
    if account and account != new.client_id and not run.job.options.allow_different_account:
        raise words.other_account(run.path, account, new.client_id)


def _write(run: Run, new: NewCredential) -> None:
    with run.step(StepName.WRITE):
        fields = {"credentials_json": new.json, "validate_credentials": True}
        try:
            run.gateway.write_config(run.path, fields)
        except BadRequest as error:
            if not error.says("validate_credentials"):
                raise
            run.gateway.write_config(run.path, {"credentials_json": new.json})


def _verify(run: Run, credential: NewCredential) -> None:
    """Have the engine prove what it can: its health, and the key id where it tells one."""
    with run.step(StepName.VERIFY_NODES) as found:
        health = run.gateway.health(run.path, refresh=True)
        if not health.healthy:
            raise basic_words.unhealthy(run.path, health.error or health.configuration_status)
        live = run.look()
        told = live.key_id or health.key_id
        if told and told != credential.key_id:
            raise basic_words.other_key(run.path, told)
        found.detail = "healthy" + (f", key {told}" if told else ", and it tells no key id")


def _go_back(
    run: Run, new: NewCredential, previous: NewCredential | None, cause: Exception
) -> None:
    """Write the previous credential back, and end the run.

    Raises:
        Refused: the engine refused the new one, and the old one was never replaced.
        Ending: what is live now is told in it.
    """
    if isinstance(cause, _NOES) and _is_not_live(run, new):
        raise words.not_taken(run.path, cause) from cause
    problems = (
        cause.problems
        if isinstance(cause, SkyflowctlError)
        else (words.unexpected(run.path, cause),)
    )
    if previous is None:
        left = basic_words.left_live(run.path, new.key_id)
        raise Ending(Word.FAILED, [left, *problems], ExitCode.PARTIAL) from cause
    try:
        with run.step(StepName.ROLLBACK) as found:
            found.detail = f"key {previous.key_id}"
            run.gateway.write_config(run.path, {"credentials_json": previous.json})
        _verify(run, previous)
    except Exception as error:
        left = basic_words.not_written_back(run.path, previous.key_id)
        raise Ending(Word.FAILED, [left, *problems], ExitCode.PARTIAL) from error
    raise Ending(Word.ROLLED_BACK, problems, ExitCode.PARTIAL) from cause


def _is_not_live(run: Run, new: NewCredential) -> bool:
    """Whether the engine shows another key than the new one."""
    try:
        live = run.look()
    except SkyflowctlError:
        return False
    return bool(live.key_id) and live.key_id != new.key_id
