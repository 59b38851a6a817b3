"""Rotation on an engine with the basic API: no history, no check-and-set, no verification.

Nothing on such a server knows of a rotation, so the way back is a credential that the user
names, and a run that was killed is seen only by the key that is live.
"""

from skyflowctl.errors import ExitCode, Refused, SkyflowctlError
from skyflowctl.rotation import basic_proof, basic_words
from skyflowctl.rotation import rotate_words as words
from skyflowctl.rotation.basic_proof import LiveTokens
from skyflowctl.rotation.model import NewCredential, StepName, Word
from skyflowctl.rotation.ports import FromReference, Generated, ServerFile, Source
from skyflowctl.rotation.revoked_keys import revoked_and_allowed
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
    live, new, previous = _proved(run, config, source)
    run.check_stop()
    with run.step(StepName.NOTE) as found:
        way = f"the way back is key {previous.key_id}" if previous else "there is no way back"
        found.detail = f"live is {_named(config, live)}; {way}"
    try:
        _write(run, new)
        _verify(run, new, live)
    except Exception as error:  # noqa: BLE001 - whatever failed, the old one goes back
        _go_back(run, new, previous, live, error)
    run.live_key_id = new.key_id
    return Word.ROTATED


def preview(run: Run, config: LiveConfig, source: Source | None) -> Word:
    """Make the checks of :func:`rotate` that write nothing."""
    _proved(run, config, source)
    return Word.WOULD_ROTATE


def _named(config: LiveConfig, live: LiveTokens) -> str:
    if not config.configured:
        return "nothing"
    return f"key {live.key_id}" if live.key_id else "a key that neither engine nor tokens name"


def _proved(
    run: Run, config: LiveConfig, source: Source | None
) -> tuple[LiveTokens, NewCredential, NewCredential | None]:
    """Return what is live, the new credential and the way back; nothing is written.

    Raises:
        Refused: one of them is not what it must be, or does not mint.
    """
    source = _checked(run, config, source)
    with run.step(StepName.LINT) as found:
        new = source()
        previous = run.job.previous() if run.job.previous else None
        run.to_key = new.key_id
        found.detail = f"key {new.key_id}"
        run.warn(*new.warnings)
    with run.step(StepName.LOOK) as found:
        live = basic_proof.read_live(run, config)
        run.from_key = run.live_key_id = live.key_id
        found.detail = f"live is {_named(config, live)}; {len(live.minting)} of {len(live.roles)}"
        found.detail += " roles give tokens"
        _compare(run, config, live, new)
    if previous is not None:
        basic_proof.prove_previous(run, live, previous)
    basic_proof.prove_new(run, live, new)
    return live, new, previous


def _checked(run: Run, config: LiveConfig, source: Source | None) -> FromReference:
    options = run.job.options
    if source is None:
        raise words.no_source(run.path)
    if isinstance(source, Generated):
        raise basic_words.cannot_generate(run.path)
    if isinstance(source, ServerFile):
        raise basic_words.cannot_prove_file(run.path)
    # From no credential at all there is nothing to go back to.
    if config.configured and run.job.previous is None and not options.no_rollback:
        raise basic_words.no_way_back(run.path)
    if options.canaries or options.watch:
        run.warn(basic_words.not_watched(run.path))
    return source


def _compare(run: Run, config: LiveConfig, live: LiveTokens, new: NewCredential) -> None:
    """Refuse a key that is live or was revoked, and one of another account, where it is known."""
    revoked_and_allowed(run, config, new.key_id)
    if live.key_id and new.key_id == live.key_id:
        raise basic_words.unchanged(run.path, new.key_id)
    other = live.client_id and live.client_id != new.client_id
    if other and not run.job.options.allow_different_account:
        raise words.other_account(run.path, live.client_id, new.client_id)


def _write(run: Run, new: NewCredential) -> None:
    with run.step(StepName.WRITE):
        fields = {"credentials_json": new.json, "validate_credentials": True}
        try:
            run.gateway.write_config(run.path, fields)
        except BadRequest as error:
            if not error.says("validate_credentials"):
                raise
            run.gateway.write_config(run.path, {"credentials_json": new.json})


def _verify(run: Run, credential: NewCredential, live: LiveTokens) -> None:
    """Have the engine prove it: its health alone says only that there is a config."""
    with run.step(StepName.VERIFY_NODES) as found:
        health = run.gateway.health(run.path, refresh=True)
        if health.state == "unconfigured":
            raise basic_words.unhealthy(run.path, health.error or health.configuration_status)
        found.detail = basic_proof.verify_live(run, credential, live)


def _go_back(
    run: Run,
    new: NewCredential,
    previous: NewCredential | None,
    live: LiveTokens,
    cause: Exception,
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
        _verify(run, previous, live)
    except Exception as error:
        left = basic_words.not_written_back(run.path, previous.key_id)
        raise Ending(Word.FAILED, [left, *problems], ExitCode.PARTIAL) from error
    raise Ending(Word.ROLLED_BACK, problems, ExitCode.PARTIAL) from cause


def _is_not_live(run: Run, new: NewCredential) -> bool:
    """Whether the engine, or a token that it gives, shows another key than the new one."""
    try:
        live = basic_proof.read_live(run, run.look())
    except SkyflowctlError:
        return False
    return bool(live.key_id) and live.key_id != new.key_id
