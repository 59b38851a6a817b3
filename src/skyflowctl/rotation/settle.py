"""After the write: prove the new credential on every node, watch it, commit it."""

from dataclasses import dataclass

from skyflowctl.errors import ExitCode
from skyflowctl.rotation import rotate_words as words
from skyflowctl.rotation.attempt import reason_of, renew
from skyflowctl.rotation.cutover import Written, is_open
from skyflowctl.rotation.model import StepName, Word
from skyflowctl.rotation.nodes import Nodes
from skyflowctl.rotation.patience import passing, persist
from skyflowctl.rotation.ports import KeyService
from skyflowctl.rotation.run import Ending, Run
from skyflowctl.rotation.undo import overtaken, roll_back
from skyflowctl.vault.failures import Conflict, GuardedError, VaultError
from skyflowctl.vault.live import LiveConfig, LiveRotation
from skyflowctl.vault.parked import PendingError

_WATCH_EVERY = 5.0


@dataclass(slots=True)
class _Held:
    """The written rotation, as its renewal knows it."""

    id: str
    version: int


def settle(run: Run, nodes: Nodes, written: Written, keys: KeyService | None) -> Word:
    """Prove, watch and commit a written rotation; what fails is rolled back.

    Raises:
        Ending: it was rolled back, or could not be; everything is told in it.
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
    except Ending:
        raise
    except PendingError as error:
        raise Ending(Word.PENDING, error.problems, ExitCode.PENDING, settled=False) from error
    except Exception as error:  # noqa: BLE001 - whatever failed, the old one serves
        roll_back(run, nodes, written, keys, error)
    return Word.ROTATED


def _taken(run: Run, written: Written, live: LiveConfig) -> Ending:
    """Return the end of a run that waited, and whose rotation another run has ended."""
    known = live.rotation
    if known is None or known.id != written.id or live.key_id != written.to_key:
        return overtaken(run, written, live, ExitCode.REFUSED)
    problem = words.finished_elsewhere(run.path, written.id, written.to_key)
    return Ending(Word.REFUSED, [problem], ExitCode.REFUSED)


def _prove_nodes(run: Run, nodes: Nodes, written: Written) -> None:
    with run.step(StepName.VERIFY_NODES) as found:
        found.detail = str(nodes.prove(run.path, written.to_key, roles_may_fail=written.broken))


def _try_canaries(run: Run, written: Written) -> None:
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


def _watch(run: Run, nodes: Nodes, written: Written) -> None:
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


def _commit(run: Run, written: Written) -> None:
    """Commit; a commit that nobody answers leaves the proved credential live, and open."""
    with run.step(StepName.COMMIT) as found:
        try:
            done = persist(
                run, lambda: run.gateway.commit_rotation(run.path, written.id), "the commit"
            )
        except (Conflict, GuardedError) as error:
            done = _committed_already(run, written, error)
        except VaultError as error:
            if not passing(error):
                raise
            live = f"the new key {written.to_key}"
            problem = words.still_open(run.path, reason_of(error), live)
            raise Ending(Word.FAILED, [problem], ExitCode.PARTIAL, settled=False) from error
        run.old_tokens_valid_until = done.old_tokens_valid_until or ""
        if done.old_tokens_valid_until:
            found.detail = f"old tokens live until {done.old_tokens_valid_until}"
    run.heartbeat.stop()
    run.live_key_id = written.to_key


def _committed_already(run: Run, written: Written, error: VaultError) -> LiveRotation:
    """Return the rotation as it is if it is committed after all.

    Raises:
        Ending: somebody else's write or rollback stands, and is not touched.
        VaultError: ``error``: what is written still is not committed.
    """
    live = run.look()
    known = live.rotation
    if known is not None and known.id == written.id and live.key_id == written.to_key:
        if is_open(known):
            raise error
        return known
    raise overtaken(run, written, live, ExitCode.PARTIAL) from error
