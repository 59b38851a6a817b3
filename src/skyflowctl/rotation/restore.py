"""The rollback of a written credential, and the clean-up after it."""

from typing import NoReturn

from skyflowctl.errors import ExitCode, Problem, SkyflowctlError
from skyflowctl.rotation import messages
from skyflowctl.rotation.cluster import Cluster
from skyflowctl.rotation.cutover import CutOver, is_open
from skyflowctl.rotation.intent import close, reason_of
from skyflowctl.rotation.model import Result, StepName
from skyflowctl.rotation.ports import KeyService
from skyflowctl.rotation.serving import broken_roles
from skyflowctl.rotation.session import RotationAborted, RotationSession
from skyflowctl.vault.errors import ConflictError
from skyflowctl.vault.live import LiveConfig


def restore_previous(
    session: RotationSession,
    nodes: Cluster,
    written: CutOver,
    keys: KeyService | None,
    cause: Exception,
) -> NoReturn:
    """Make the replaced credential live again, and end the run.

    Raises:
        RotationAborted: always. The rotation is rolled back; or left open, because there is no
            answer or no kept credential; or left alone, because another writer's credential is
            live.
    """
    problems = messages.problems_of(session.path, cause)
    _roll_back(session, written, problems)
    session.heartbeat.stop()
    # No later failure changes that the old credential is live.
    behind = clean_up(session, nodes, written.from_key, written, keys)
    session.warn(*([behind] if behind else []))
    raise RotationAborted(
        Result.ROLLED_BACK, (*problems, _what_now(session, written)), ExitCode.PARTIAL
    ) from cause


def _what_now(session: RotationSession, written: CutOver) -> Problem:
    """Return the problem that says how to make the rolled-back credential live after all."""
    if written.created:
        return Problem(
            "rolled-back",
            f"the credential of before is live again: {session.path}",
            f"key {written.to_key} was created for this rotation, was live and did not hold",
            f"fix the cause, then 'skyflowctl rotate {session.path} --generate' makes another one",
        )
    version = written.credential_version
    return Problem(
        "rolled-back",
        f"the credential of before is live again: {session.path}",
        f"key {written.to_key}, credential version {version}, was live and did not hold",
        f"fix the cause, then {messages.live_again(session.job.name, version)} (it is verified "
        "first), or rotate to a new key",
    )


def _roll_back(session: RotationSession, written: CutOver, problems: tuple[Problem, ...]) -> None:
    """Make the credential live again; an abort includes ``problems``, the reasons."""
    with session.step(StepName.ROLLBACK) as found:
        try:
            done = session.retry(
                lambda: session.engine.rollback(
                    cas_credential_version=written.credential_version,
                    # It was live a moment ago, so if it was ever revoked, it has been allowed
                    # since.
                    allow_revoked_key=written.from_key,
                ),
                "the rollback",
            )
        except Exception as error:
            raise _not_restored(session, written, error, problems) from error
        found.detail = f"key {done.key_id} is live again"
        session.old_tokens_valid_until = done.old_tokens_valid_until
        session.warn(*(messages.role_left(session.path, said) for said in done.warnings))
    session.live_key_id = done.key_id


def _not_restored(
    session: RotationSession,
    written: CutOver,
    error: Exception,
    problems: tuple[Problem, ...],
) -> RotationAborted:
    """Return the abort for a run whose rollback failed."""
    try:
        live = session.look() if isinstance(error, ConflictError) else None
    except Exception:  # noqa: BLE001 - then what is live is unknown
        live = None
    if live is not None and live.credential_version != written.credential_version:
        return end_superseded(session, written, live, ExitCode.REFUSED, problems)
    if live is not None:
        problem = Problem(
            "cannot-roll-back",
            f"the new credential stays live: there is nothing to roll back to: {session.path}",
            _words_of(error),
            "fix the cause, then run the same command again: it verifies the nodes and commits",
        )
    else:
        new = f"the new key {written.to_key}"
        problem = messages.rotation_unfinished(session.path, reason_of(error), new)
    return RotationAborted(Result.FAILED, [problem, *problems], ExitCode.PARTIAL, closed=False)


def end_superseded(
    session: RotationSession,
    written: CutOver,
    live: LiveConfig,
    code: ExitCode,
    problems: tuple[Problem, ...] = (),
) -> RotationAborted:
    """Return the abort for a run whose credential another writer has replaced."""
    problem = Problem(
        "lost-check-and-set",
        f"this run's credential was written and then replaced by another client: {session.path}",
        f"key {written.to_key} was live as credential version {written.credential_version}, and "
        f"now {f'key {live.key_id}' if live.key_id else 'none'} is; this run touches it no more",
        f"find out who wrote it with 'skyflowctl config history {session.path}', then decide",
    )
    return RotationAborted(Result.FAILED, [problem, *problems], code)


def _words_of(error: Exception) -> str:
    """Return the engine's reason why there is no rollback."""
    return (isinstance(error, SkyflowctlError) and error.problems[0].why) or reason_of(error)


def clean_up(
    session: RotationSession,
    nodes: Cluster,
    live_key: str,
    written: CutOver | None,
    keys: KeyService | None,
) -> Problem | None:
    """After a rollback: verify the nodes, then delete a created key and close the rotation.

    The key is deleted only after every node is verified on the other one: a node that lags still
    mints with it.

    Returns:
        The problem of a node that is not verified; None: all are. Other failures are warnings.
    """
    behind = _behind(session, nodes, live_key)
    if written is not None and written.created:
        reason = "this run had no operator token to delete it with"
        reason = "a node may still use it" if keys else reason
        if keys is None or behind:
            session.warn(
                messages.created_key_left(session.path, written.client_id, written.to_key, reason)
            )
        else:
            _discard(session, written, keys)
    return behind


def _behind(session: RotationSession, nodes: Cluster, live_key: str) -> Problem | None:
    try:
        with session.step(StepName.VERIFY_NODES) as found:
            broken = broken_roles(session.gateway, session.path)
            found.detail = str(nodes.verify(session.path, live_key, roles_may_fail=broken))
    except SkyflowctlError as error:
        return _nodes_lagging(session.path, error)
    return None


def _discard(session: RotationSession, written: CutOver, keys: KeyService) -> None:
    try:
        live = session.look()
        if live.key_id == written.to_key:
            return
        with session.step(StepName.DISCARD_KEY) as found:
            found.detail = f"key {written.to_key}"
            keys.delete_key(written.client_id, written.to_key)
        if _is_left_over(live, written.to_key):
            close(session, live)
    except Exception as error:  # noqa: BLE001 - the mount is well; this is only not tidy
        reason = f"it could not be deleted, or the record of it not closed: {reason_of(error)}"
        session.warn(
            messages.created_key_left(session.path, written.client_id, written.to_key, reason)
        )


def _is_left_over(live: LiveConfig, key_id: str) -> bool:
    known = live.rotation
    return known is not None and is_open(known) and known.to_key == key_id


def _nodes_lagging(path: str, error: SkyflowctlError) -> Problem:
    """Return the problem of a node that was not seen on the old key after a rollback."""
    first = error.problems[0]
    return Problem(
        "node-not-proved",
        f"not every node was seen on the credential that was rolled back to: {path}",
        first.why or first.summary,
        f"'skyflowctl config verify {path}' against that node shows what it serves",
    )
