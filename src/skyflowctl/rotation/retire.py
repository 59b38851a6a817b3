"""The end of an old key: at Skyflow, and of the copy that the engine keeps as the way back.

The kept copy goes first. From then on nobody can roll back to the old key, so that what is
seen live afterwards stays live while Skyflow deletes the key; the other order would leave a
moment in which a rollback makes a dying key live. A run that was killed in between is
finished by the next one: Skyflow still lists the key.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.errors import ExitCode, Problem, Refused, SkyflowctlError
from skyflowctl.rotation import retirable
from skyflowctl.rotation.model import Job, MountOutcome, StepName, Word
from skyflowctl.rotation.neighbours import neighbours
from skyflowctl.rotation.nodes import open_nodes
from skyflowctl.rotation.ports import World
from skyflowctl.rotation.recording import Recorder
from skyflowctl.rotation.retirable import OldKey

_PAUSE = 1.0
_NOT_SAID = "the new key is live on all nodes that were asked, and mints there"


def retire_mount(
    job: Job,
    world: World,
    *,
    now: bool = False,
    wait: bool = False,
    kept_copy_only: bool = False,
) -> MountOutcome:
    """Retire the key that the mount's committed rotation replaced; no failure is raised.

    Times are compared by this machine's clock; ``Options.retire_margin`` is there for what
    it is wrong by. An old key that is gone already is a success without steps.

    Args:
        job: the mount.
        world: its ``operator`` deletes the key at Skyflow.
        now: do not wait for the end of the old tokens. The caller has told the person
            what that kills (:func:`skyflowctl.rotation.retirable.killed_by_haste`).
        wait: wait for it, else a time that has not come is a refusal that tells it.
        kept_copy_only: destroy the copy in the engine, and leave the key at Skyflow to
            whoever may delete it there.
    """
    work = _Retirement(job, world, kept_copy_only=kept_copy_only)
    try:
        return work.run(now=now, wait=wait)
    except SkyflowctlError as error:
        return work.ended_by(error)


@dataclass(frozen=True, slots=True)
class _Left:
    """What of the old key is still there: kept copies, and whether Skyflow is to delete it."""

    kept: tuple[int, ...]
    at_skyflow: bool

    @property
    def nothing(self) -> bool:
        return not self.kept and not self.at_skyflow


class _Retirement:
    """One mount's retirement. What it has seen and done stands in its fields."""

    def __init__(self, job: Job, world: World, *, kept_copy_only: bool) -> None:
        self._job = job
        self._world = world
        self._operator = None if kept_copy_only else world.operator
        self._kept_copy_only = kept_copy_only
        self._recorder = Recorder(world, job.name)
        self._old: OldKey | None = None
        self._live = ""
        self._warnings: list[Problem] = []
        self._destroyed = False

    def run(self, *, now: bool, wait: bool) -> MountOutcome:
        """Retire the key, or raise why not."""
        old = self._look()
        if old is None:
            self._recorder.tell("its rotation replaced no other key: there is none to retire")
            return self._outcome(Word.RETIRED, ExitCode.OK)
        left = self._left(old)
        if not left.nothing:
            if not now and self._waited(old, wait=wait):
                # What was seen before a long wait may be true no more: all of it again.
                return self.run(now=False, wait=False)
            self._retire(old, left)
        if self._operator is None:
            self._warnings.append(retirable.left_at_skyflow(old))
        return self._outcome(Word.RETIRED, ExitCode.OK)

    def _retire(self, old: OldKey, left: _Left) -> None:
        self._prove(old)
        if left.at_skyflow:
            self._spare_others(old)
        self._check_stop()
        self._destroy(old, left.kept)
        if left.at_skyflow:
            self._delete(old)

    def ended_by(self, error: SkyflowctlError) -> MountOutcome:
        """Return the outcome of a retirement that was refused or failed."""
        problems = error.problems
        if self._destroyed and self._old:
            problems = (*problems, retirable.half_done(self._old, self._job.name))
            return self._outcome(Word.FAILED, ExitCode.PARTIAL, problems)
        code = ExitCode(error.exit_code)
        word = Word.REFUSED if code is ExitCode.REFUSED else Word.FAILED
        return self._outcome(word, code, problems)

    def _look(self) -> OldKey | None:
        gateway, path = self._world.gateway, self._job.path
        config = gateway.engine_config(path)
        self._live = config.key_id
        self._old = retirable.old_key(self._job, config, gateway.read_history(path))
        return self._old

    def _left(self, old: OldKey) -> _Left:
        """Ask Skyflow whether the key is still there, which also proves the operator token.

        Raises:
            Refused: nobody named an operator token, and there is a copy to destroy.
        """
        if self._operator is not None:
            listed = {key.key_id for key in self._operator.list_keys(old.client_id)}
            return _Left(old.kept, old.key_id in listed)
        if old.kept and not self._kept_copy_only:
            raise retirable.no_operator(old, self._job.name)
        return _Left(old.kept, at_skyflow=False)

    def _waited(self, old: OldKey, *, wait: bool) -> bool:
        """Wait until the old tokens are over; False: they were.

        Raises:
            Refused: they are not and nobody wants to wait, or the run was interrupted.
        """
        ends = self._ends(old)
        if ends is None or self._world.clock.now() >= ends:
            return False
        if not wait:
            raise retirable.too_early(old, self._job.name, ends)
        with self._recorder.step(StepName.WAIT_FOR_OLD_TOKENS) as found:
            found.detail = f"until {rfc3339(ends)}"
            self._recorder.tell(f"waiting until {rfc3339(ends)} for the tokens of {old.key_id}")
            while (left := ends - self._world.clock.now()) > timedelta():
                self._check_stop()
                self._world.sleep(min(_PAUSE, left.total_seconds()))
        return True

    def _ends(self, old: OldKey) -> datetime | None:
        if not old.tokens_until:
            return None
        return parse_rfc3339(old.tokens_until) + self._job.options.retire_margin

    def _check_stop(self) -> None:
        if self._world.stopping():
            raise retirable.interrupted(self._job.name)

    def _prove(self, old: OldKey) -> None:
        """Prove on every node, now, that tokens are minted with the new key.

        Raises:
            Refused: a node does not say so, or cannot be asked.
        """
        with self._recorder.step(StepName.VERIFY_NODES) as found:
            try:
                weak = self._weak_roles(old)
                with open_nodes(self._world, self._job) as nodes:
                    nodes.prove(self._job.path, old.successor, roles_may_fail=weak)
            except Refused:
                raise
            except SkyflowctlError as error:
                raise retirable.not_proven(self._job.name, error) from None
            found.detail = _NOT_SAID

    def _weak_roles(self, old: OldKey) -> frozenset[str]:
        """Return roles that Skyflow refuses to this service account, whatever the key.

        They would hold back the retirement for ever. Roles belong to the account, so the
        old key of another account might still be the one that can mint for them.
        """
        report = self._world.gateway.verify_config(self._job.path)
        weak = frozenset(name for name, proof in report.roles.items() if 400 <= proof.status < 500)
        if old.moved_account or not weak or len(weak) == len(report.roles):
            return frozenset()
        self._warnings.append(retirable.weak_roles(self._job.name, sorted(weak)))
        return weak

    def _spare_others(self, old: OldKey) -> None:
        """Let no key be deleted by which another mount lives.

        Raises:
            Refused: it is live there.
        """
        beside = neighbours(self._world.gateway, self._job.path)
        users = beside.using(old.client_id, old.key_id)
        if users:
            raise retirable.used_elsewhere(old, self._job.name, users)
        if beside.unread:
            self._warnings.append(retirable.others_unread(old, beside.unread))

    def _destroy(self, old: OldKey, kept: tuple[int, ...]) -> None:
        if not kept:
            return
        with self._recorder.step(StepName.DESTROY_KEPT) as found:
            for version in kept:
                self._world.gateway.delete_kept_credential(self._job.path, version)
                self._destroyed = True
            found.detail = f"the way back to {old.key_id} is gone: it cannot be rolled back to"

    def _delete(self, old: OldKey) -> None:
        """Have Skyflow delete the key, unless somebody has made it live again.

        Raises:
            Refused: the rotation or the live key is another one than before.
        """
        if self._operator is None:
            return
        with self._recorder.step(StepName.DELETE_OLD_KEY) as found:
            config = self._world.gateway.engine_config(self._job.path)
            self._live = config.key_id
            if config.key_id != old.successor:
                raise retirable.changed_meanwhile(self._job.name)
            self._operator.delete_key(old.client_id, old.key_id)
            found.detail = f"Skyflow has deleted {old.key_id}"

    def _outcome(
        self, word: Word, code: ExitCode, problems: tuple[Problem, ...] = ()
    ) -> MountOutcome:
        old = self._old
        return MountOutcome(
            self._job.name,
            self._job.path,
            word,
            from_key=old.key_id if old else "",
            to_key=old.successor if old else "",
            live_key_id=self._live,
            steps=self._recorder.steps,
            old_tokens_valid_until=old.tokens_until if old else "",
            problems=problems,
            warnings=tuple(self._warnings),
            exit_code=code,
        )
