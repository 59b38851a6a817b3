"""After the write: verify the new credential on every node, watch it, commit it."""

from typing import NoReturn

from skyflowctl.errors import ExitCode, Problem, SkyflowctlError
from skyflowctl.rotation import messages
from skyflowctl.rotation.cluster import Cluster
from skyflowctl.rotation.cutover import CutOver, is_open
from skyflowctl.rotation.intent import reason_of, renew
from skyflowctl.rotation.model import Result, StepName
from skyflowctl.rotation.ports import KeyService
from skyflowctl.rotation.restore import end_superseded, restore_previous
from skyflowctl.rotation.session import RotationAborted, RotationSession, on_failure
from skyflowctl.vault.errors import ConflictError, GuardedError, VaultError
from skyflowctl.vault.live import LiveConfig, LiveRotation
from skyflowctl.vault.parked import PendingError

_WATCH_EVERY = 5.0


def verify_and_commit(
    session: RotationSession, nodes: Cluster, written: CutOver, keys: KeyService | None
) -> Result:
    """Prove, watch and commit a written rotation; roll back on a failure.

    Raises:
        RotationAborted: it was rolled back, or could not be; holds every problem.
    """
    session.heartbeat.keep(
        lambda: renew(
            session, written, written.to_key, lambda _, live: _taken(session, written, live)
        )
    )
    with on_failure(lambda error: _restored(session, nodes, written, keys, error)):
        _verify_nodes(session, nodes, written)
        _try_canaries(session, written)
        _watch(session, nodes, written)
        _commit(session, written)
    return Result.ROTATED


def _restored(
    session: RotationSession,
    nodes: Cluster,
    written: CutOver,
    keys: KeyService | None,
    error: Exception,
) -> NoReturn:
    """Roll back after any failure; a commit that waits for an approval stays open.

    Raises:
        RotationAborted: always.
    """
    if isinstance(error, PendingError):
        raise RotationAborted(
            Result.PENDING, error.problems, ExitCode.PENDING, closed=False
        ) from error
    restore_previous(session, nodes, written, keys, error)


def _taken(session: RotationSession, written: CutOver, live: LiveConfig) -> RotationAborted:
    """Return the abort for a run whose rotation another run ended while it waited."""
    known = live.rotation
    if known is None or known.id != written.id or live.key_id != written.to_key:
        return end_superseded(session, written, live, ExitCode.REFUSED)
    problem = Problem(
        "another-rotation",
        f"another run has finished this rotation: {session.path}",
        f"rotation {written.id} is committed while this run was watching it; key {written.to_key} "
        "is live",
        f"nothing; 'skyflowctl config history {session.path}' shows what is live",
    )
    return RotationAborted(Result.REFUSED, [problem], ExitCode.REFUSED)


def _verify_nodes(session: RotationSession, nodes: Cluster, written: CutOver) -> None:
    with session.step(StepName.VERIFY_NODES) as found:
        found.detail = str(
            nodes.verify(session.path, written.to_key, roles_may_fail=written.broken)
        )


def _try_canaries(session: RotationSession, written: CutOver) -> None:
    """Read tokens as an application does, and discard them."""
    if not session.job.options.canaries:
        return
    with session.step(StepName.CANARY) as found:
        for name in session.job.options.canaries:
            role = session.engine.role(name)
            creds = session.engine.creds(name, (role.ctx_probe if role else "") or None)
            if creds.key_id != written.to_key:
                raise SkyflowctlError(
                    f"the canary {name} got a token of another key: {session.path}",
                    why=f"it was minted with {creds.key_id}, and {written.to_key} is the new one",
                    fix="see which node answered it; the rotation is rolled back",
                    code="canary",
                )
        found.detail = ", ".join(session.job.options.canaries)


def _watch(session: RotationSession, nodes: Cluster, written: CutOver) -> None:
    """Prove the nodes repeatedly for the requested time."""
    seconds, clock = session.job.options.watch.total_seconds(), session.deps.clock
    if seconds <= 0:
        return
    with session.step(StepName.WATCH) as found:
        until, times = clock.monotonic() + seconds, 0
        while (left := until - clock.monotonic()) > 0:
            if session.deps.stopping():
                raise SkyflowctlError(
                    f"stopped while the new credential was watched: {session.path}",
                    why="the run was interrupted before the commit, so it is rolled back",
                    fix="the old credential is restored; the rollback names the next command",
                    code="stopped",
                )
            session.deps.sleep(min(_WATCH_EVERY, left))
            nodes.verify(session.path, written.to_key, roles_may_fail=written.broken)
            times += 1
        found.detail = f"proved {times} times in {seconds:g} s"


def _commit(session: RotationSession, written: CutOver) -> None:
    """Commit; without an answer the verified credential stays live and the rotation open."""
    with session.step(StepName.COMMIT) as found:
        try:
            done = session.retry(
                lambda: session.engine.commit(written.id),
                "the commit",
            )
        except (ConflictError, GuardedError) as error:
            done = _committed_already(session, written, error)
        except VaultError as error:
            if not error.transient:
                raise
            live = f"the new key {written.to_key}"
            problem = messages.rotation_unfinished(session.path, reason_of(error), live)
            raise RotationAborted(
                Result.FAILED, [problem], ExitCode.PARTIAL, closed=False
            ) from error
        session.old_tokens_valid_until = done.old_tokens_valid_until or ""
        if done.old_tokens_valid_until:
            found.detail = f"old tokens live until {done.old_tokens_valid_until}"
    session.heartbeat.stop()
    session.live_key_id = written.to_key


def _committed_already(
    session: RotationSession, written: CutOver, error: VaultError
) -> LiveRotation:
    """Return the rotation if it is committed after all.

    Raises:
        RotationAborted: another writer's credential is live, and is left alone.
        VaultError: ``error``, because the written credential is still not committed.
    """
    live = session.look()
    known = live.rotation
    if known is not None and known.id == written.id and live.key_id == written.to_key:
        if is_open(known):
            raise error
        return known
    raise end_superseded(session, written, live, ExitCode.PARTIAL) from error
