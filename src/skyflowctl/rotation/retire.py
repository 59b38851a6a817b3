"""Retires old keys: at Skyflow, and the copies that the engine keeps for a rollback.

The kept copies are destroyed first. After that no rollback to the old key is possible, so the key
seen live stays live while Skyflow deletes the old one. In the other order a rollback could make a
key live while it is being deleted. If a run is killed in between, the next one finishes it: Skyflow
still lists the key.
"""

from collections.abc import Sequence
from datetime import timedelta

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.errors import ExitCode, NotPermittedError, Problem, RefusedError, SkyflowctlError
from skyflowctl.rotation.cluster import open_nodes
from skyflowctl.rotation.messages import internal_fault
from skyflowctl.rotation.model import MountOutcome, Result, RotationJob, StepName
from skyflowctl.rotation.ports import Dependencies, KeyService
from skyflowctl.rotation.retirement_plan import (
    OldKey,
    Remainder,
    Retirement,
    RetirementMeans,
    key_names,
    remainders,
    retirement,
    too_early,
    without_used,
)
from skyflowctl.rotation.serving import Serving, serving, serving_per_health
from skyflowctl.rotation.session import RotationAborted, RotationSession, conclude, on_failure
from skyflowctl.vault.parked import PendingError

_PAUSE = 1.0
_NOT_VERIFIED = "cut-over-not-proven"


def retire_mount(
    job: RotationJob,
    deps: Dependencies,
    *,
    now: bool = False,
    wait: bool = False,
    kept_copy_only: bool = False,
) -> MountOutcome:
    """Retire the keys that the mount's rotations replaced; raises no failure.

    These are the key that the last committed rotation replaced, and all keys that were live before
    it, whose tokens ended earlier. Times are compared with this machine's clock;
    ``Options.retire_margin`` covers its error. If the old keys are already gone, the result is a
    success without steps.

    Args:
        job: the mount.
        deps: its ``operator`` deletes the key at Skyflow.
        now: do not wait for the end of the old tokens. The caller has shown the user what stops
            working (:func:`skyflowctl.rotation.retirement_plan.killed_by_haste`).
        wait: wait for that time; otherwise refuse, naming it, if it has not come.
        kept_copy_only: destroy the copies in the engine, and leave the keys at Skyflow for another
            operator to delete.
    """
    session = RotationSession(job, deps)
    operator = None if kept_copy_only else deps.operator
    means = RetirementMeans(operator, kept_copy_only)

    def work() -> Result:
        with on_failure(lambda error: _abort(session, error)):
            return _retire(session, means, now=now, wait=wait)

    return conclude(session, work)


def _retire(session: RotationSession, means: RetirementMeans, *, now: bool, wait: bool) -> Result:
    found = _look(session)
    if found is None:
        session.tell("its rotation replaced no other key: there is none to retire")
        return Result.RETIRED
    left = remainders(session, means, found)
    if left:
        if not now and _waited(session, found, wait=wait):
            # The state may have changed during a long wait, so read all of it again.
            session.warnings.clear()
            return _retire(session, means, now=False, wait=False)
        _verify(session, found, deleting=means.operator is not None)
        left = without_used(session, found, left)
        _check_stop(session)
        _destroy_and_delete(session, means, found, left)
    if means.operator is None:
        for client_id in dict.fromkeys(key.client_id for key in found.keys):
            ids = [key.key_id for key in found.keys if key.client_id == client_id]
            session.warn(_left_at_skyflow(ids, client_id))
    return Result.RETIRED


def _abort(session: RotationSession, error: Exception) -> None:
    """Abort the run on a failure before anything was destroyed.

    Raises:
        RotationAborted: always.
    """
    if not isinstance(error, SkyflowctlError):
        fault = internal_fault(session.path, error)
        raise RotationAborted(Result.FAILED, [fault], ExitCode.UNEXPECTED, judged=True) from error
    problems, code = error.problems, ExitCode(error.exit_code)
    if isinstance(error, PendingError):
        raise RotationAborted(Result.PENDING, problems, ExitCode.PENDING, judged=True) from error
    result = Result.REFUSED if code is ExitCode.REFUSED else Result.FAILED
    if code is not ExitCode.UNREACHABLE and session.live_key_id:
        check = serving if problems[0].code == _NOT_VERIFIED else serving_per_health
        serves = check(session.gateway, session.path) is Serving.YES
        code = code if serves else ExitCode.UNHEALTHY
    raise RotationAborted(result, problems, code, judged=True) from error


def _look(session: RotationSession) -> Retirement | None:
    config = session.engine.checked_config()
    session.live_key_id = config.key_id
    found = retirement(session.job, config, session.engine.history())
    session.from_key = found.keys[0].key_id if found else ""
    session.to_key = found.successor if found else ""
    session.old_tokens_valid_until = found.tokens_until if found else ""
    return found


def _waited(session: RotationSession, found: Retirement, *, wait: bool) -> bool:
    """Wait until the old tokens have ended; return False if they already had.

    Raises:
        RefusedError: they have not ended and ``wait`` is False, or the run was interrupted.
    """
    if not found.tokens_until:
        return False
    ends = parse_rfc3339(found.tokens_until) + session.job.options.retire_margin
    clock, replaced = session.deps.clock, found.keys[0].key_id
    if clock.now() >= ends:
        return False
    if not wait:
        raise too_early(replaced, session.job.name, found.tokens_until, ends)
    with session.step(StepName.WAIT_FOR_OLD_TOKENS) as step:
        step.detail = f"until {rfc3339(ends)}"
        session.tell(f"waiting until {rfc3339(ends)} for the tokens of {replaced}")
        while (left := ends - clock.now()) > timedelta():
            _check_stop(session)
            session.deps.sleep(min(_PAUSE, left.total_seconds()))
    return True


def _check_stop(session: RotationSession) -> None:
    if session.deps.stopping():
        name = session.job.name
        raise RefusedError(
            f"the old key of {name} was not retired",
            why="a signal asked this run to stop",
            fix=f"run 'skyflowctl rotate --retire {name}' when it suits",
            code="interrupted",
        )


def _verify(session: RotationSession, found: Retirement, *, deleting: bool) -> None:
    """Verify on every node, now, that tokens are minted with the new key.

    Raises:
        RefusedError: a node does not show it, or cannot be asked.
        NotPermittedError: this login may not list the nodes, or verify.
    """
    name = session.job.name
    with session.step(StepName.VERIFY_NODES) as step:
        try:
            weak = _weak_roles(session, found)
            with open_nodes(session.deps, session.job) as nodes:
                if nodes.gaps and deleting:
                    raise _not_every_node(name, nodes.gaps[0])
                proof = nodes.verify(session.path, found.successor, roles_may_fail=weak)
                session.warn(*nodes.warnings)
        except (NotPermittedError, RefusedError):
            raise
        except SkyflowctlError as error:
            first = error.problems[0]
            raise RefusedError(
                f"the old key of {name} stays: the new one is not verified on every node",
                why=f"{first.summary}: {first.why}" if first.why else first.summary,
                fix=f"run 'skyflowctl rotate --retire {name}' again once every node answers; "
                f"'skyflowctl health {name} --refresh' asks them",
                code=_NOT_VERIFIED,
            ) from None
        step.detail = f"the new key is live on all nodes that were asked, and mints there ({proof})"


def _not_every_node(name: str, gap: Problem) -> RefusedError:
    return RefusedError(
        f"the old key of {name} stays: not every node can be asked",
        why=f"{gap.summary}: {gap.why}",
        fix=f"'skyflowctl rotate --retire {name}' without --allow-unverified-nodes says how each "
        "can; or give --kept-copy-only, and delete the key by hand",
        code=_NOT_VERIFIED,
    )


def _weak_roles(session: RotationSession, found: Retirement) -> frozenset[str]:
    """Return the roles that Skyflow refuses to this service account with any key.

    They would block the retirement forever. Roles belong to the account, so if the old key is of
    another account, it might be the only one that can mint for them.
    """
    report = session.engine.verify()
    weak = frozenset(name for name, proof in report.roles.items() if 400 <= proof.status < 500)
    if found.moved_account or not weak or len(weak) == len(report.roles):
        return frozenset()
    name = session.job.name
    session.warn(
        Problem(
            "roles-refused",
            f"{name} gives no token for {', '.join(sorted(weak))}",
            "Skyflow refuses these roles to the service account, whichever of its keys is live",
            f"assign the roles in Skyflow; 'skyflowctl config verify {name}' shows its answers",
        )
    )
    return weak


def _destroy_and_delete(
    session: RotationSession, means: RetirementMeans, found: Retirement, left: list[Remainder]
) -> None:
    """Destroy the kept copies, then delete the keys at Skyflow.

    Raises:
        RotationAborted: a copy is destroyed, and its key is not deleted.
    """
    destroyed: list[str] = []

    def abort(error: Exception) -> None:
        if not destroyed or isinstance(error, PendingError):
            return
        if not isinstance(error, SkyflowctlError):
            return
        problems = (*error.problems, _half_done(destroyed, session.job.name))
        raise RotationAborted(Result.FAILED, problems, ExitCode.PARTIAL, judged=True) from error

    with on_failure(abort):
        _destroy(session, left, destroyed)
        for one in left:
            if one.at_skyflow and means.operator is not None:
                _delete(session, means.operator, found, one.key)
                if one.key.key_id in destroyed:
                    destroyed.remove(one.key.key_id)


def _destroy(session: RotationSession, left: list[Remainder], destroyed: list[str]) -> None:
    """Destroy the kept copies; ``destroyed`` gets the keys that Skyflow still has."""
    kept = [one for one in left if one.key.kept]
    if not kept:
        return
    with session.step(StepName.DESTROY_KEPT) as step:
        for one in kept:
            for version in one.key.kept:
                session.engine.delete_kept_credential(version)
                if one.at_skyflow and one.key.key_id not in destroyed:
                    destroyed.append(one.key.key_id)
        ids = ", ".join(one.key.key_id for one in kept)
        step.detail = f"no rollback to {ids} is possible now"


def _delete(session: RotationSession, operator: KeyService, found: Retirement, key: OldKey) -> None:
    """Delete a key at Skyflow, unless another writer has made one live again.

    Raises:
        RefusedError: the rotation or the live key has changed.
    """
    with session.step(StepName.DELETE_OLD_KEY) as step:
        config = session.engine.checked_config()
        session.live_key_id = config.key_id
        if config.key_id != found.successor:
            name = session.job.name
            raise RefusedError(
                f"the live key of {name} was changed by another client meanwhile",
                why="a key is deleted at Skyflow only while the rotation that replaced it is live",
                fix=f"see 'skyflowctl config history {name}' for what is live now",
                code="changed-meanwhile",
            )
        operator.delete_key(key.client_id, key.key_id)
        step.detail = f"Skyflow has deleted {key.key_id}"


def _half_done(keys: Sequence[str], name: str) -> Problem:
    return Problem(
        "key-left",
        f"the kept copies are destroyed, and not deleted at Skyflow: {key_names(keys)}",
        "the step before this message failed in between; the mount itself is not touched by it",
        f"run 'skyflowctl rotate --retire {name}' again, or delete what is left in Skyflow Studio",
    )


def _left_at_skyflow(keys: Sequence[str], client_id: str) -> Problem:
    return Problem(
        "key-left",
        f"Skyflow was not asked to delete {key_names(keys)} of {client_id}",
        "this run had no operator token; what is not deleted there mints with each copy of it",
        "delete it in Skyflow Studio, or run the command again with --operator-token",
    )
