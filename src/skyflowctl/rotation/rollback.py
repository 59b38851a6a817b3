"""Back to an earlier credential, because a person says so."""

from skyflowctl.errors import ExitCode
from skyflowctl.rotation import basic_words, rollback_words
from skyflowctl.rotation.attempt import close
from skyflowctl.rotation.cutover import is_open
from skyflowctl.rotation.model import Job, MountOutcome, StepName, Word
from skyflowctl.rotation.nodes import Nodes
from skyflowctl.rotation.ports import World
from skyflowctl.rotation.resume import Look, clean_up_reference, look
from skyflowctl.rotation.revoked_keys import revoked_and_allowed
from skyflowctl.rotation.run import Ending, Run, finished, opened_nodes
from skyflowctl.rotation.undo import tidy
from skyflowctl.vault.failures import Conflict, RevokedKeyError, TokenServiceFailed
from skyflowctl.vault.live import HistoryEntry


def rollback_mount(job: Job, wanted: int | None, world: World) -> MountOutcome:
    """Make an earlier credential of a mount live again; no failure is raised.

    Without a wanted version it is the one that was live before the current. A mount that
    was rolled back already stays as it is, so that the same command can be run again after
    a kill; to go forward again a version must be named. The key that an open rotation
    created is deleted at Skyflow where an operator is known.

    Args:
        job: which mount, and how.
        wanted: the credential version; None: the one before.
        world: everything outside.
    """
    run = Run(job, world)
    return finished(run, lambda: _rollback(run, wanted))


def _rollback(run: Run, wanted: int | None) -> Word:
    seen = look(run)
    if seen.basic:
        raise basic_words.no_history(run.path)
    target = _target(run, seen, wanted)
    run.to_key = target.key_id
    done = _is_live(seen, target)
    if done and seen.written is not None:
        raise rollback_words.open_rotation(run.path, run.job.name, seen.written.id)
    if not done and not target.kept:
        raise rollback_words.destroyed(run.path, target)
    with opened_nodes(run) as nodes:
        if done:
            run.warn(rollback_words.live_already(run.path, run.job.name, target))
        else:
            _restore(run, seen, target)
        _finish(run, nodes, seen, target)
    return Word.ROLLED_BACK


def _target(run: Run, seen: Look, wanted: int | None) -> HistoryEntry:
    """Return the entry to make live, which may be live already.

    Raises:
        Refused: there is none.
    """
    history = dict(seen.history or {})
    if wanted is not None:
        if wanted not in history:
            raise rollback_words.unknown(run.path, run.job.name, wanted)
        return history[wanted]
    live = seen.config.credential_version if seen.config.configured else 0
    earlier = [history[number] for number in sorted(history) if number != live]
    if not earlier:
        raise rollback_words.none_before(run.path)
    # A credential that was live before is live by a rollback: this command has been run.
    rolled_back = any(_is_live(seen, entry) for entry in earlier)
    return history[live] if rolled_back and live in history else earlier[-1]


def _is_live(seen: Look, entry: HistoryEntry) -> bool:
    live = seen.config
    return live.configured and (live.client_id, live.key_id) == (entry.client_id, entry.key_id)


def _restore(run: Run, seen: Look, target: HistoryEntry) -> None:
    run.check_stop()
    revoked_and_allowed(run, seen.config, target.key_id, seen.history)
    with run.step(StepName.ROLLBACK) as found:
        try:
            done = run.gateway.rollback_config(
                run.path,
                cas_credential_version=seen.config.credential_version,
                credential_version=target.credential_version,
                allow_revoked_key=target.key_id
                if target.key_id in run.job.options.allow_revoked
                else "",
            )
        except RevokedKeyError as error:
            why = error.problems[0].why
            raise RevokedKeyError.of_key(run.path, target.key_id, why) from error
        except TokenServiceFailed as error:
            raise rollback_words.does_not_mint(run.path, target, error) from error
        except Conflict as error:
            raise rollback_words.changed(run.path, error) from error
        found.detail = f"key {done.key_id} is live as credential version {done.credential_version}"
        run.old_tokens_valid_until = done.old_tokens_valid_until
        run.warn(*(rollback_words.role_left(run.path, said) for said in done.warnings))
    run.live_key_id = done.key_id


def _finish(run: Run, nodes: Nodes, seen: Look, target: HistoryEntry) -> None:
    """Prove the nodes; then delete a left-over key, and leave no needless rotation open.

    What is to be deleted is judged by what is live now: it may be just the key that was
    gone back to.

    Raises:
        Ending: a node is not proved. The rollback stands.
    """
    operator = run.world.operator
    behind = tidy(run, nodes, target.key_id, seen.written, operator)
    if behind is not None:
        raise Ending(Word.FAILED, [behind], ExitCode.PARTIAL)
    live = run.look()
    if seen.written is None:
        now = Look(live, seen.history, account=seen.config.client_id)
        live = clean_up_reference(run, now, operator)
    known = live.rotation
    # The record of a key that is still at Skyflow is for whoever has an operator token.
    if known is not None and is_open(known) and not (known.to_key and known.keys):
        close(run, live)
