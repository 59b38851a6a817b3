"""After the write: prove the new credential on every node, watch it, commit it."""

from skyflowctl.errors import ExitCode
from skyflowctl.rotation import wording
from skyflowctl.rotation.cutover import Written, is_open
from skyflowctl.rotation.model import StepName, Word
from skyflowctl.rotation.nodes import Nodes
from skyflowctl.rotation.patience import passing, persist
from skyflowctl.rotation.ports import KeyService
from skyflowctl.rotation.run import Ending, Run
from skyflowctl.rotation.undo import roll_back
from skyflowctl.vault.failures import Conflict, VaultError
from skyflowctl.vault.live import LiveRotation

_WATCH_EVERY = 5.0


def settle(run: Run, nodes: Nodes, written: Written, keys: KeyService | None) -> Word:
    """Prove, watch and commit a written rotation; what fails is rolled back.

    Raises:
        Ending: it was rolled back, or could not be; everything is told in it.
    """
    try:
        _prove_nodes(run, nodes, written)
        _try_canaries(run, written)
        _watch(run, nodes, written)
        _commit(run, written)
    except Ending:
        raise
    except Exception as error:  # noqa: BLE001 - whatever failed, the old one serves
        roll_back(run, nodes, written, keys, error)
    return Word.ROTATED


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
                raise wording.canary_failed(run.path, name, creds.key_id, written.to_key)
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
                raise wording.stopped_watching(run.path)
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
        except Conflict as error:
            done = _committed_already(run, written, error)
        except VaultError as error:
            if not passing(error):
                raise
            problem = wording.still_open(run.path, error, f"the new key {written.to_key}")
            raise Ending(Word.FAILED, [problem], ExitCode.PARTIAL, settled=False) from error
        run.old_tokens_valid_until = done.old_tokens_valid_until or ""
        if done.old_tokens_valid_until:
            found.detail = f"old tokens live until {done.old_tokens_valid_until}"
    run.live_key_id = written.to_key


def _committed_already(run: Run, written: Written, error: Conflict) -> LiveRotation:
    """Return the rotation as it is if it is committed after all.

    Raises:
        Ending: somebody else's write or rollback stands, and is not touched.
        Conflict: the engine does not commit what is written still.
    """
    live = run.look()
    known = live.rotation
    if known is not None and known.id == written.id and live.key_id == written.to_key:
        if is_open(known):
            raise error
        return known
    problems = wording.overtaken(run.path, live.key_id).problems
    raise Ending(Word.REFUSED, problems, ExitCode.REFUSED) from error
