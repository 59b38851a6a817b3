"""After the write: prove the new credential on every node, watch it, commit it."""

from dataclasses import dataclass

from skyflowctl.errors import ExitCode
from skyflowctl.rotation import rotate_messages as words
from skyflowctl.rotation.cluster import Cluster
from skyflowctl.rotation.cutover import CutOver, is_open
from skyflowctl.rotation.intent import reason_of, renew
from skyflowctl.rotation.model import Result, StepName
from skyflowctl.rotation.ports import KeyService
from skyflowctl.rotation.restore import end_superseded, roll_back
from skyflowctl.rotation.retry import is_transient, retry
from skyflowctl.rotation.session import RotationAborted, RotationSession
from skyflowctl.vault.errors import ConflictError, GuardedError, VaultError
from skyflowctl.vault.live import LiveConfig, LiveRotation
from skyflowctl.vault.parked import PendingError

_WATCH_EVERY = 5.0


@dataclass(slots=True)
class _Held:
    """The written rotation, as its renewal knows it."""

    id: str
    version: int


def verify_and_commit(
    run: RotationSession, nodes: Cluster, written: CutOver, keys: KeyService | None
) -> Result:
    """Prove, watch and commit a written rotation; what fails is rolled back.

    Raises:
        RotationAborted: it was rolled back, or could not be; everything is told in it.
    """
    held = _Held(written.id, written.version)
    run.heartbeat.keep(
        lambda: renew(run, held, written.to_key, lambda _, live: _taken(run, written, live))
    )
    try:
        _prove_nodes(run, nodes, written)
        _try_canaries(run, written)
        _watch(run, nodes, written)
        _commit(run, written)
    except RotationAborted:
        raise
    except PendingError as error:
        raise RotationAborted(
            Result.PENDING, error.problems, ExitCode.PENDING, settled=False
        ) from error
    except Exception as error:  # noqa: BLE001 - whatever failed, the old one serves
        roll_back(run, nodes, written, keys, error)
    return Result.ROTATED


def _taken(run: RotationSession, written: CutOver, live: LiveConfig) -> RotationAborted:
    """Return the end of a run that waited, and whose rotation another run has ended."""
    known = live.rotation
    if known is None or known.id != written.id or live.key_id != written.to_key:
        return end_superseded(run, written, live, ExitCode.REFUSED)
    problem = words.finished_elsewhere(run.path, written.id, written.to_key)
    return RotationAborted(Result.REFUSED, [problem], ExitCode.REFUSED)


def _prove_nodes(run: RotationSession, nodes: Cluster, written: CutOver) -> None:
    with run.step(StepName.VERIFY_NODES) as found:
        found.detail = str(nodes.prove(run.path, written.to_key, roles_may_fail=written.broken))


def _try_canaries(run: RotationSession, written: CutOver) -> None:
    """Read tokens as an application does; they are thrown away."""
    if not run.job.options.canaries:
        return
    with run.step(StepName.CANARY) as found:
        for name in run.job.options.canaries:
            role = run.gateway.read_role(run.path, name)
            creds = run.gateway.creds(run.path, name, (role.ctx_probe if role else "") or None)
            if creds.key_id != written.to_key:
                raise words.canary_failed(run.path, name, creds.key_id, written.to_key)
        found.detail = ", ".join(run.job.options.canaries)


def _watch(run: RotationSession, nodes: Cluster, written: CutOver) -> None:
    """Prove the nodes again and again, for as long as was asked for."""
    seconds, clock = run.job.options.watch.total_seconds(), run.world.clock
    if seconds <= 0:
        return
    with run.step(StepName.WATCH) as found:
        until, times = clock.monotonic() + seconds, 0
        while (left := until - clock.monotonic()) > 0:
            if run.world.stopping():
                raise words.stopped_watching(run.path)
            run.world.sleep(min(_WATCH_EVERY, left))
            nodes.prove(run.path, written.to_key, roles_may_fail=written.broken)
            times += 1
        found.detail = f"proved {times} times in {seconds:g} s"


def _commit(run: RotationSession, written: CutOver) -> None:
    """Commit; a commit that nobody answers leaves the proved credential live, and open."""
    with run.step(StepName.COMMIT) as found:
        try:
            done = retry(
                run, lambda: run.gateway.commit_rotation(run.path, written.id), "the commit"
            )
        except (ConflictError, GuardedError) as error:
            done = _committed_already(run, written, error)
        except VaultError as error:
            if not is_transient(error):
                raise
            live = f"the new key {written.to_key}"
            problem = words.rotation_unfinished(run.path, reason_of(error), live)
            raise RotationAborted(
                Result.FAILED, [problem], ExitCode.PARTIAL, settled=False
            ) from error
        run.old_tokens_valid_until = done.old_tokens_valid_until or ""
        if done.old_tokens_valid_until:
            found.detail = f"old tokens live until {done.old_tokens_valid_until}"
    run.heartbeat.stop()
    run.live_key_id = written.to_key


def _committed_already(run: RotationSession, written: CutOver, error: VaultError) -> LiveRotation:
    """Return the rotation as it is if it is committed after all.

    Raises:
        RotationAborted: somebody else's write or rollback stands, and is not touched.
        VaultError: ``error``: what is written still is not committed.
    """
    live = run.look()
    known = live.rotation
    if known is not None and known.id == written.id and live.key_id == written.to_key:
        if is_open(known):
            raise error
        return known
    raise end_superseded(run, written, live, ExitCode.PARTIAL) from error
