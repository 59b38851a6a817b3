"""Roll back to an earlier credential at the user's request."""

from skyflowctl.errors import ExitCode, Problem, RefusedError
from skyflowctl.rotation import messages
from skyflowctl.rotation.cluster import Cluster
from skyflowctl.rotation.cutover import is_open
from skyflowctl.rotation.intent import close
from skyflowctl.rotation.model import MountOutcome, Result, RotationJob, StepName
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.rotation.recovery import LiveSnapshot, clean_up_reference, take_snapshot
from skyflowctl.rotation.restore import clean_up
from skyflowctl.rotation.session import RotationAborted, RotationSession, conclude, opened_nodes
from skyflowctl.rotation.verify import revoked_and_allowed
from skyflowctl.vault.errors import ConflictError, RevokedKeyError, TokenServiceFailedError
from skyflowctl.vault.live import CredentialVersion


def rollback_mount(job: RotationJob, wanted: int | None, deps: Dependencies) -> MountOutcome:
    """Make an earlier credential of a mount live again; no failure is raised.

    Without a wanted version it is the credential that was live before the current one. A mount that
    was rolled back already stays as it is, so that the same command can run again after a kill; to
    move forward again, name a version. If an operator is known, the key that an open rotation
    created is deleted at Skyflow.

    Args:
        job: the mount, and its options.
        wanted: the credential version; None: the previous one.
        deps: the services that the rollback uses.
    """
    session = RotationSession(job, deps)
    return conclude(session, lambda: _rollback(session, wanted))


def _rollback(session: RotationSession, wanted: int | None) -> Result:
    seen = take_snapshot(session)
    if seen.basic:
        raise RefusedError(
            f"this engine keeps no earlier credential: {session.path}",
            why="it has no history and no rollback",
            fix=f"write the one that you want with 'skyflowctl rotate {session.path} "
            "--credentials REF'",
            code="no-history",
        )
    target = _target(session, seen, wanted)
    session.to_key = target.key_id
    done = _is_live(seen, target)
    if done and seen.written is not None:
        raise RefusedError(
            f"this version is live, and its rotation is not committed: {session.path}",
            why=f"rotation {seen.written.id} made it live",
            fix=f"'skyflowctl rotate {session.job.name}' finishes it, 'skyflowctl rotate "
            f"--rollback {session.job.name}' rolls it back",
            code="open-rotation",
        )
    if not done and not target.kept:
        raise RefusedError(
            f"credential version {target.credential_version} is destroyed: {session.path}",
            why=f"its key {target.key_id} was retired or revoked, or newer ones took its place",
            fix=f"go back to a version that is kept, or rotate forward; {_history(session.path)}",
            code="destroyed-version",
        )
    with opened_nodes(session) as nodes:
        if done:
            session.warn(
                Problem(
                    "rolled-back-already",
                    f"key {target.key_id} is live already: {session.path}",
                    "it was live before too, so the mount has been rolled back to it, or never "
                    "left it",
                    "to make another version live name it: 'skyflowctl rotate --rollback "
                    f"{session.job.name} --to V'",
                )
            )
        else:
            _restore(session, seen, target)
        _finish(session, nodes, seen, target)
    return Result.ROLLED_BACK


def _target(session: RotationSession, seen: LiveSnapshot, wanted: int | None) -> CredentialVersion:
    """Return the entry to make live, which may already be live.

    Raises:
        RefusedError: there is no such entry.
    """
    history = dict(seen.history or {})
    if wanted is not None:
        if wanted not in history:
            raise RefusedError(
                f"there is no credential version {wanted}: {session.path}",
                why="the mount's history does not hold it",
                fix=_history(session.job.name),
                code="no-such-version",
            )
        return history[wanted]
    live = seen.config.credential_version if seen.config.configured else 0
    earlier = [history[number] for number in sorted(history) if number != live]
    if not earlier:
        raise RefusedError(
            f"there is no earlier credential to go back to: {session.path}",
            why="the mount's history holds none before the live one",
            fix=f"{_history(session.path)}; to replace the live one use 'skyflowctl rotate "
            f"{session.path}'",
            code="no-earlier-credential",
        )
    # An earlier credential is live by a rollback: this command has run before.
    rolled_back = any(_is_live(seen, entry) for entry in earlier)
    return history[live] if rolled_back and live in history else earlier[-1]


def _is_live(seen: LiveSnapshot, entry: CredentialVersion) -> bool:
    live = seen.config
    return live.configured and (live.client_id, live.key_id) == (entry.client_id, entry.key_id)


def _restore(session: RotationSession, seen: LiveSnapshot, target: CredentialVersion) -> None:
    session.check_stop()
    revoked_and_allowed(session, seen.config, target.key_id, seen.history)
    with session.step(StepName.ROLLBACK) as found:
        try:
            done = session.engine.rollback(
                cas_credential_version=seen.config.credential_version,
                credential_version=target.credential_version,
                allow_revoked_key=target.key_id
                if target.key_id in session.job.options.allow_revoked
                else "",
            )
        except RevokedKeyError as error:
            why = error.problems[0].why
            raise RevokedKeyError.of_key(session.path, target.key_id, why) from error
        except TokenServiceFailedError as error:
            what, fix = messages.tried(error, f"credential version {target.credential_version}")
            raise RefusedError(
                f"{what}: {session.path}",
                why=error.problems[0].why,
                fix=f"{fix}; the live credential is unchanged",
                code="does-not-mint",
            ) from error
        except ConflictError as error:
            raise RefusedError(
                f"the credential was replaced or destroyed meanwhile: {session.path}",
                why=error.problems[0].why,
                fix=f"check which key is live now, then decide; {_history(session.path)}",
                code="lost-check-and-set",
            ) from error
        found.detail = f"key {done.key_id} is live as credential version {done.credential_version}"
        session.old_tokens_valid_until = done.old_tokens_valid_until
        session.warn(*(messages.role_left(session.path, said) for said in done.warnings))
    session.live_key_id = done.key_id


def _finish(
    session: RotationSession, nodes: Cluster, seen: LiveSnapshot, target: CredentialVersion
) -> None:
    """Prove the nodes; then delete a left-over key, and close a rotation that is not needed.

    The live key decides what is deleted: a left-over key may be the one just rolled back to.

    Raises:
        RotationAborted: a node is not verified. The rollback remains in effect.
    """
    operator = session.deps.operator
    behind = clean_up(session, nodes, target.key_id, seen.written, operator)
    if behind is not None:
        raise RotationAborted(Result.FAILED, [behind], ExitCode.PARTIAL)
    live = session.look()
    if seen.written is None:
        now = LiveSnapshot(live, seen.history, account=seen.config.client_id)
        live = clean_up_reference(session, now, operator)
    known = live.rotation
    # A later run with an operator token needs the record of a key that is still at Skyflow.
    if known is not None and is_open(known) and not (known.to_key and known.keys):
        close(session, live)


def _history(path: str) -> str:
    return f"'skyflowctl config history {path}' lists the versions and which are kept"
