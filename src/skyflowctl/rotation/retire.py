"""The end of old keys: at Skyflow, and of the copies that the engine keeps as the way back.

The kept copies go first. From then on nobody can roll back to the old key, so that what is
seen live afterwards stays live while Skyflow deletes the key; the other order would leave a
moment in which a rollback makes a dying key live. A run that was killed in between is
finished by the next one: Skyflow still lists the key.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.errors import ExitCode, Problem, RefusedError, SkyflowctlError
from skyflowctl.rotation import retire_messages as words
from skyflowctl.rotation.cluster import open_nodes
from skyflowctl.rotation.model import MountOutcome, Result, RotationJob, StepName
from skyflowctl.rotation.ports import Dependencies, KeyService
from skyflowctl.rotation.retirable import OldKey, Retirement, retirement
from skyflowctl.rotation.serving import Serving, serving, serving_per_health
from skyflowctl.rotation.sibling_mounts import sibling_mounts
from skyflowctl.rotation.write_recorder import Recorder
from skyflowctl.vault.parked import PendingError

_PAUSE = 1.0
_NOT_SAID = "the new key is live on all nodes that were asked, and mints there"


def retire_mount(
    job: RotationJob,
    world: Dependencies,
    *,
    now: bool = False,
    wait: bool = False,
    kept_copy_only: bool = False,
) -> MountOutcome:
    """Retire the keys that the mount's rotations replaced; no failure is raised.

    Those are the one that the last committed rotation replaced, and every one that was
    live before it: their tokens ended earlier. Times are compared by this machine's clock;
    ``Options.retire_margin`` is there for what it is wrong by. Old keys that are gone
    already are a success without steps.

    Args:
        job: the mount.
        world: its ``operator`` deletes the key at Skyflow.
        now: do not wait for the end of the old tokens. The caller has told the person
            what that kills (:func:`skyflowctl.rotation.retirable.killed_by_haste`).
        wait: wait for it, else a time that has not come is a refusal that tells it.
        kept_copy_only: destroy the copies in the engine, and leave the keys at Skyflow
            to whoever may delete them there.
    """
    work = _Retirement(job, world, kept_copy_only=kept_copy_only)
    try:
        return work.run(now=now, wait=wait)
    except SkyflowctlError as error:
        return work.ended_by(error)


@dataclass(frozen=True, slots=True)
class _Left:
    """An old key of which something is still there.

    Args:
        key: the key, with its kept copies.
        at_skyflow: Skyflow lists it, and is to delete it.
    """

    key: OldKey
    at_skyflow: bool


class _Retirement:
    """One mount's retirement. What it has seen and done stands in its fields."""

    def __init__(self, job: RotationJob, world: Dependencies, *, kept_copy_only: bool) -> None:
        self._job = job
        self._world = world
        self._operator = None if kept_copy_only else world.operator
        self._kept_copy_only = kept_copy_only
        self._recorder = Recorder(world, job.name)
        self._found: Retirement | None = None
        self._live = ""
        self._warnings: list[Problem] = []
        self._destroyed: list[str] = []

    def run(self, *, now: bool, wait: bool) -> MountOutcome:
        """Retire the keys, or raise why not."""
        found = self._look()
        if found is None:
            self._recorder.tell("its rotation replaced no other key: there is none to retire")
            return self._outcome(Result.RETIRED, ExitCode.OK)
        left = self._left(found)
        if left:
            if not now and self._waited(found, wait=wait):
                # What was seen before a long wait may be true no more: all of it again.
                self._warnings.clear()
                return self.run(now=False, wait=False)
            self._retire(found, left)
        if self._operator is None:
            for client_id in dict.fromkeys(key.client_id for key in found.keys):
                ids = [key.key_id for key in found.keys if key.client_id == client_id]
                self._warnings.append(words.left_at_skyflow(ids, client_id))
        return self._outcome(Result.RETIRED, ExitCode.OK)

    def _retire(self, found: Retirement, left: list[_Left]) -> None:
        self._prove(found)
        left = self._without_used(found, left)
        self._check_stop()
        self._destroy(left)
        for one in left:
            if one.at_skyflow:
                self._delete(found, one.key)

    def ended_by(self, error: SkyflowctlError) -> MountOutcome:
        """Return the outcome of a retirement that was refused or failed."""
        problems = error.problems
        if isinstance(error, PendingError):
            return self._outcome(Result.PENDING, ExitCode.PENDING, problems)
        if self._destroyed:
            problems = (*problems, words.half_done(self._destroyed, self._job.name))
            return self._outcome(Result.FAILED, ExitCode.PARTIAL, problems)
        code = ExitCode(error.exit_code)
        word = Result.REFUSED if code is ExitCode.REFUSED else Result.FAILED
        if code is not ExitCode.UNREACHABLE and self._live:
            check = serving if problems[0].code == words.NOT_PROVEN else serving_per_health
            how = check(self._world.gateway, self._job.path)
            code = code if how is Serving.YES else ExitCode.UNHEALTHY
        return self._outcome(word, code, problems)

    def _look(self) -> Retirement | None:
        gateway, path = self._world.gateway, self._job.path
        config = gateway.engine_config(path)
        self._live = config.key_id
        self._found = retirement(self._job, config, gateway.read_history(path))
        return self._found

    def _left(self, found: Retirement) -> list[_Left]:
        """Return what is left of the old keys, as Skyflow and the engine tell it.

        Raises:
            RefusedError: nobody named an operator token, and there is a copy to destroy.
        """
        if self._operator is None:
            kept = [key for key in found.keys if key.kept]
            if kept and not self._kept_copy_only:
                raise words.no_operator([key.key_id for key in kept], self._job.name)
            return [_Left(key, at_skyflow=False) for key in kept]
        listed = self._listed(self._operator, found)
        known = [key for key in found.keys if key.client_id in listed]
        left = [_Left(key, key.key_id in listed[key.client_id]) for key in known]
        return [one for one in left if one.at_skyflow or one.key.kept]

    def _listed(self, operator: KeyService, found: Retirement) -> dict[str, set[str]]:
        """Return the keys at Skyflow by account, which also proves the operator token.

        An account that the mount has left long ago, and that this operator may not see,
        keeps the others from nothing.
        """
        listed: dict[str, set[str]] = {}
        for client_id in dict.fromkeys(key.client_id for key in found.keys):
            try:
                listed[client_id] = {key.key_id for key in operator.list_keys(client_id)}
            except SkyflowctlError as error:
                if client_id == found.keys[0].client_id:
                    raise
                ids = [key.key_id for key in found.keys if key.client_id == client_id]
                self._warnings.append(words.account_unasked(client_id, ids, error))
        return listed

    def _waited(self, found: Retirement, *, wait: bool) -> bool:
        """Wait until the old tokens are over; False: they were.

        Raises:
            RefusedError: they are not and nobody wants to wait, or the run was interrupted.
        """
        ends = self._ends(found)
        if ends is None or self._world.clock.now() >= ends:
            return False
        replaced = found.keys[0].key_id
        if not wait:
            raise words.too_early(replaced, self._job.name, found.tokens_until, ends)
        with self._recorder.step(StepName.WAIT_FOR_OLD_TOKENS) as step:
            step.detail = f"until {rfc3339(ends)}"
            self._recorder.tell(f"waiting until {rfc3339(ends)} for the tokens of {replaced}")
            while (left := ends - self._world.clock.now()) > timedelta():
                self._check_stop()
                self._world.sleep(min(_PAUSE, left.total_seconds()))
        return True

    def _ends(self, found: Retirement) -> datetime | None:
        if not found.tokens_until:
            return None
        return parse_rfc3339(found.tokens_until) + self._job.options.retire_margin

    def _check_stop(self) -> None:
        if self._world.stopping():
            raise words.interrupted(self._job.name)

    def _prove(self, found: Retirement) -> None:
        """Prove on every node, now, that tokens are minted with the new key.

        Raises:
            RefusedError: a node does not say so, or cannot be asked.
        """
        with self._recorder.step(StepName.VERIFY_NODES) as step:
            try:
                weak = self._weak_roles(found)
                with open_nodes(self._world, self._job) as nodes:
                    if nodes.gaps and self._operator is not None:
                        raise words.not_every_node(self._job.name, nodes.gaps[0])
                    proof = nodes.prove(self._job.path, found.successor, roles_may_fail=weak)
                    self._warnings += nodes.warnings
            except RefusedError:
                raise
            except SkyflowctlError as error:
                raise words.not_proven(self._job.name, error) from None
            step.detail = f"{_NOT_SAID} ({proof})"

    def _weak_roles(self, found: Retirement) -> frozenset[str]:
        """Return roles that Skyflow refuses to this service account, whatever the key.

        They would hold back the retirement for ever. Roles belong to the account, so the
        old key of another account might still be the one that can mint for them.
        """
        report = self._world.gateway.verify_config(self._job.path)
        weak = frozenset(name for name, proof in report.roles.items() if 400 <= proof.status < 500)
        if found.moved_account or not weak or len(weak) == len(report.roles):
            return frozenset()
        self._warnings.append(words.weak_roles(self._job.name, sorted(weak)))
        return weak

    def _without_used(self, found: Retirement, left: list[_Left]) -> list[_Left]:
        """Leave out keys of long ago by which another mount lives.

        Raises:
            RefusedError: one lives by the key that was replaced last.
        """
        if not any(one.at_skyflow for one in left):
            return left
        beside = sibling_mounts(self._world.gateway, self._job.path)
        free = []
        for one in left:
            users = beside.using(one.key.client_id, one.key.key_id) if one.at_skyflow else ()
            if users and one.key == found.keys[0]:
                raise words.used_elsewhere(one.key.key_id, self._job.name, users)
            if users:
                said = words.earlier_used(one.key.key_id, self._job.name, users)
                self._warnings.append(said)
            else:
                free.append(one)
        if beside.unread:
            ids = ", ".join(one.key.key_id for one in free if one.at_skyflow)
            self._warnings.append(words.unread_mounts(ids, beside.unread))
        return free

    def _destroy(self, left: list[_Left]) -> None:
        kept = [one for one in left if one.key.kept]
        if not kept:
            return
        with self._recorder.step(StepName.DESTROY_KEPT) as step:
            for one in kept:
                for version in one.key.kept:
                    self._world.gateway.delete_kept_credential(self._job.path, version)
                    if one.at_skyflow and one.key.key_id not in self._destroyed:
                        self._destroyed.append(one.key.key_id)
            ids = ", ".join(one.key.key_id for one in kept)
            step.detail = f"the way back to {ids} is gone: it cannot be rolled back to"

    def _delete(self, found: Retirement, key: OldKey) -> None:
        """Have Skyflow delete a key, unless somebody has made one live again.

        Raises:
            RefusedError: the rotation or the live key is another one than before.
        """
        if self._operator is None:
            return
        with self._recorder.step(StepName.DELETE_OLD_KEY) as step:
            config = self._world.gateway.engine_config(self._job.path)
            self._live = config.key_id
            if config.key_id != found.successor:
                raise words.kept_copy_changed(self._job.name)
            self._operator.delete_key(key.client_id, key.key_id)
            if key.key_id in self._destroyed:
                self._destroyed.remove(key.key_id)
            step.detail = f"Skyflow has deleted {key.key_id}"

    def _outcome(
        self, word: Result, code: ExitCode, problems: tuple[Problem, ...] = ()
    ) -> MountOutcome:
        found = self._found
        return MountOutcome(
            self._job.name,
            self._job.path,
            word,
            from_key=found.keys[0].key_id if found else "",
            to_key=found.successor if found else "",
            live_key_id=self._live,
            steps=self._recorder.steps,
            old_tokens_valid_until=found.tokens_until if found else "",
            problems=problems,
            warnings=tuple(self._warnings),
            serves=code is not ExitCode.UNHEALTHY,
            exit_code=code,
        )
