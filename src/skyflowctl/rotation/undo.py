"""The way back from a written credential, and what is cleaned up after it."""

from typing import NoReturn

from skyflowctl.errors import ExitCode, Problem, SkyflowctlError
from skyflowctl.rotation import wording
from skyflowctl.rotation.attempt import close, reason_of
from skyflowctl.rotation.cutover import Written, is_open
from skyflowctl.rotation.model import StepName, Word
from skyflowctl.rotation.nodes import Nodes
from skyflowctl.rotation.patience import persist
from skyflowctl.rotation.ports import KeyService
from skyflowctl.rotation.run import Ending, Run
from skyflowctl.rotation.serving import broken_roles
from skyflowctl.vault.failures import Conflict
from skyflowctl.vault.live import LiveConfig


def roll_back(
    run: Run, nodes: Nodes, written: Written, keys: KeyService | None, cause: Exception
) -> NoReturn:
    """Make the credential live again that this rotation replaced, and end the run.

    Raises:
        Ending: always: rolled back; or left open, because nobody answers or nothing is
            kept; or refused, because somebody else's later write stands.
    """
    problems = _problems(run, cause)
    try:
        _restore(run, written)
    except Ending as ending:
        raise Ending(
            ending.word,
            (*ending.problems, *problems),
            ending.exit_code,
            settled=ending.settled,
        ) from cause
    # What comes after cannot change that the old credential is live.
    tidy(run, nodes, written.from_key, written, keys)
    raise Ending(Word.ROLLED_BACK, problems, ExitCode.PARTIAL) from cause


def _problems(run: Run, cause: Exception) -> tuple[Problem, ...]:
    if isinstance(cause, SkyflowctlError):
        return cause.problems
    return (wording.unexpected(run.path, cause),)


def _restore(run: Run, written: Written) -> None:
    with run.step(StepName.ROLLBACK) as found:
        try:
            done = persist(
                run,
                lambda: run.gateway.rollback_config(
                    run.path, cas_credential_version=written.credential_version
                ),
                "the rollback",
            )
        except SkyflowctlError as error:
            raise _not_restored(run, written, error) from error
        found.detail = f"key {done.key_id} is live again"
        run.old_tokens_valid_until = done.old_tokens_valid_until
    run.live_key_id = done.key_id


def _not_restored(run: Run, written: Written, error: SkyflowctlError) -> Ending:
    """Return the end of a run whose rollback did not happen."""
    try:
        live = run.look() if isinstance(error, Conflict) else None
    except SkyflowctlError:
        live = None
    if live is not None and live.credential_version != written.credential_version:
        problems = wording.overtaken(run.path, live.key_id).problems
        return Ending(Word.REFUSED, problems, ExitCode.REFUSED)
    if live is not None:
        problem = wording.no_way_back(run.path, error)
    else:
        problem = wording.still_open(run.path, error, f"the new key {written.to_key}")
    return Ending(Word.FAILED, [problem], ExitCode.PARTIAL, settled=False)


def tidy(
    run: Run, nodes: Nodes, live_key: str, written: Written | None, keys: KeyService | None
) -> bool:
    """After a rollback: prove the nodes, then delete a key that was created and close.

    A key is not deleted before every node was seen on the other one: a node that lags
    behind still mints with it.

    Returns:
        Whether every node was proved. What else fails is a warning.
    """
    proved = _proved(run, nodes, live_key)
    if written is not None and written.created:
        reason = "no operator token was named" if keys is None else "a node may still use it"
        if keys is None or not proved:
            run.warn(wording.key_left(run.path, written.client_id, written.to_key, reason))
        else:
            _discard(run, written, keys)
    return proved


def _proved(run: Run, nodes: Nodes, live_key: str) -> bool:
    try:
        with run.step(StepName.VERIFY_NODES) as found:
            broken = broken_roles(run.gateway, run.path)
            found.detail = str(nodes.prove(run.path, live_key, roles_may_fail=broken))
    except SkyflowctlError as error:
        run.warn(wording.nodes_behind(run.path, error))
        return False
    return True


def _discard(run: Run, written: Written, keys: KeyService) -> None:
    try:
        live = run.look()
        if live.key_id == written.to_key:
            return
        with run.step(StepName.DISCARD_KEY) as found:
            found.detail = f"key {written.to_key}"
            keys.delete_key(written.client_id, written.to_key)
        if _is_left_over(live, written.to_key):
            close(run, live)
    except Exception as error:  # noqa: BLE001 - the mount is well; this is only not tidy
        reason = f"it could not be deleted, or the record of it not closed: {reason_of(error)}"
        run.warn(wording.key_left(run.path, written.client_id, written.to_key, reason))


def _is_left_over(live: LiveConfig, key_id: str) -> bool:
    known = live.rotation
    return known is not None and is_open(known) and known.to_key == key_id
