"""Back to an earlier credential, because a person says so."""

from skyflowctl.errors import ExitCode
from skyflowctl.rotation import legacy_engine_messages, rollback_messages
from skyflowctl.rotation.cluster import Cluster
from skyflowctl.rotation.cutover import is_open
from skyflowctl.rotation.intent import close
from skyflowctl.rotation.model import MountOutcome, Result, RotationJob, StepName
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.rotation.restore import clean_up
from skyflowctl.rotation.resume import LiveSnapshot, clean_up_reference, take_snapshot
from skyflowctl.rotation.revoked_keys import revoked_and_allowed
from skyflowctl.rotation.session import RotationAborted, RotationSession, finished, opened_nodes
from skyflowctl.vault.errors import ConflictError, RevokedKeyError, TokenServiceFailedError
from skyflowctl.vault.live import CredentialVersion


def rollback_mount(job: RotationJob, wanted: int | None, world: Dependencies) -> MountOutcome:
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
    run = RotationSession(job, world)
    return finished(run, lambda: _rollback(run, wanted))


def _rollback(run: RotationSession, wanted: int | None) -> Result:
    seen = take_snapshot(run)
    if seen.basic:
        raise legacy_engine_messages.no_history(run.path)
    target = _target(run, seen, wanted)
    run.to_key = target.key_id
    done = _is_live(seen, target)
    if done and seen.written is not None:
        raise rollback_messages.uncommitted_version(run.path, run.job.name, seen.written.id)
    if not done and not target.kept:
        raise rollback_messages.destroyed_version(run.path, target)
    with opened_nodes(run) as nodes:
        if done:
            run.warn(rollback_messages.live_already(run.path, run.job.name, target))
        else:
            _restore(run, seen, target)
        _finish(run, nodes, seen, target)
    return Result.ROLLED_BACK


def _target(run: RotationSession, seen: LiveSnapshot, wanted: int | None) -> CredentialVersion:
    """Return the entry to make live, which may be live already.

    Raises:
        RefusedError: there is none.
    """
    history = dict(seen.history or {})
    if wanted is not None:
        if wanted not in history:
            raise rollback_messages.unknown_version(run.path, run.job.name, wanted)
        return history[wanted]
    live = seen.config.credential_version if seen.config.configured else 0
    earlier = [history[number] for number in sorted(history) if number != live]
    if not earlier:
        raise rollback_messages.none_before(run.path)
    # A credential that was live before is live by a rollback: this command has been run.
    rolled_back = any(_is_live(seen, entry) for entry in earlier)
    return history[live] if rolled_back and live in history else earlier[-1]


def _is_live(seen: LiveSnapshot, entry: CredentialVersion) -> bool:
    live = seen.config
    return live.configured and (live.client_id, live.key_id) == (entry.client_id, entry.key_id)


def _restore(run: RotationSession, seen: LiveSnapshot, target: CredentialVersion) -> None:
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
        except TokenServiceFailedError as error:
            raise rollback_messages.does_not_mint(run.path, target, error) from error
        except ConflictError as error:
            raise rollback_messages.changed(run.path, error) from error
        found.detail = f"key {done.key_id} is live as credential version {done.credential_version}"
        run.old_tokens_valid_until = done.old_tokens_valid_until
        run.warn(*(rollback_messages.role_left(run.path, said) for said in done.warnings))
    run.live_key_id = done.key_id


def _finish(
    run: RotationSession, nodes: Cluster, seen: LiveSnapshot, target: CredentialVersion
) -> None:
    """Prove the nodes; then delete a left-over key, and leave no needless rotation open.

    What is to be deleted is judged by what is live now: it may be just the key that was
    gone back to.

    Raises:
        RotationAborted: a node is not proved. The rollback stands.
    """
    operator = run.world.operator
    behind = clean_up(run, nodes, target.key_id, seen.written, operator)
    if behind is not None:
        raise RotationAborted(Result.FAILED, [behind], ExitCode.PARTIAL)
    live = run.look()
    if seen.written is None:
        now = LiveSnapshot(live, seen.history, account=seen.config.client_id)
        live = clean_up_reference(run, now, operator)
    known = live.rotation
    # The record of a key that is still at Skyflow is for whoever has an operator token.
    if known is not None and is_open(known) and not (known.to_key and known.keys):
        close(run, live)
