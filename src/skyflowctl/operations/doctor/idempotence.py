"""``doctor --idempotence``: applies twice on a scratch mount, and removes it in every case."""

import secrets
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import replace

from skyflowctl.credentials.model import Credential
from skyflowctl.doctor.model import Diagnosis, Grade, of_problem, ok_finding
from skyflowctl.errors import ExitCode, Problem, SkyflowctlError, Where
from skyflowctl.executor.deletes import readable_mount_deletion
from skyflowctl.executor.outcome import ActionResult
from skyflowctl.executor.run import execute
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import (
    DeclaredCtx,
    Manifest,
    Mount,
    Plugin,
    Reference,
    Role,
    RotationRule,
)
from skyflowctl.operations.apply import refuse_plan
from skyflowctl.operations.delete import carry_out_deletion
from skyflowctl.operations.doctor.refusals import with_command
from skyflowctl.operations.doctor.server import IDEMPOTENCE, SCRATCH_MANIFEST, removal_command
from skyflowctl.operations.dry_run.run import engine_hosts
from skyflowctl.operations.dry_run.sandbox import SandboxCredentials, ephemeral_credential
from skyflowctl.operations.plan import PlanResult, plan
from skyflowctl.planner.plan import Action, Plan
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS, TOKEN_PATH
from skyflowctl.text import counted
from skyflowctl.vault.errors import GuardedError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.permissions import ANY_WRITE, permission_problems
from skyflowctl.vault.waits import within

_REMOVAL_SECONDS = 10.0
_SECOND_PLAN = "'skyflowctl plan' shows whether it is so for your mounts; report it with both"


def scratch_manifest(plugin: Plugin, prefix: str) -> Manifest:
    """Return the manifest of one mount, whose random name no other mount can have."""
    name, nowhere = f"doctor-{secrets.token_hex(8)}", Where()
    ctx = DeclaredCtx(required=True, pattern="doctor:*", probe="doctor:probe")
    rules = {"plain": DeclaredCtx(), "bound": ctx}
    mount = Mount(
        name=name,
        path=f"{prefix}/{name}",
        description="scratch mount of skyflowctl doctor --idempotence",
        tags=("doctor:scratch",),
        protect=False,
        plain_ctx=False,
        credentials=Reference("env", ("NONE",), "a throw-away key", nowhere),
        rotation=RotationRule(),
        roles=tuple(
            Role(one, f"scratch-{one}", f"the role {one}", ("doctor:scratch",), rule, nowhere)
            for one, rule in rules.items()
        ),
        where=nowhere,
    )
    return Manifest(SCRATCH_MANIFEST, plugin, prefix, (mount,))


@dataclass(frozen=True, slots=True)
class IdempotenceCheck:
    """Applies a scratch mount twice; nothing else on the server is written.

    Its key is made here and unknown to Skyflow, so the engine takes it without minting.

    Args:
        gateway: the server.
        manifest: of :func:`scratch_manifest`.
        warn: called with what could not be removed, also if a signal ends the run.
    """

    gateway: Gateway
    manifest: Manifest
    warn: Callable[[Problem], None]

    def findings(self) -> list[Diagnosis]:
        """Apply twice and remove the mount; call it in the main thread, which signals end."""
        try:
            first = self._plan(self._credentials(SKYFLOW_HOSTS))
            credentials = self._credentials(engine_hosts(first, self.gateway) or SKYFLOW_HOSTS)
            refuse_plan(first)
            if refused := self._not_possible(first):
                return [refused]
        except SkyflowctlError as error:
            return [_failed(error.problems[0], error.exit_code)]
        left = None
        try:
            found = [self._apply_twice(first.plan, credentials)]
        except SkyflowctlError as error:
            found = [_failed(error.problems[0], error.exit_code)]
        finally:
            left = self._remove()
        return [*found, *([of_problem(IDEMPOTENCE, Grade.BAD, left)] if left else [])]

    @property
    def _mount(self) -> Mount:
        return self.manifest.mounts[0]

    def _apply_twice(self, first: Plan, credentials: SandboxCredentials) -> Diagnosis:
        if failures := self._apply(first, credentials):
            return _failed(failures[0].problems[0], failures[0].exit_code)
        version = self.gateway.engine(self._mount.path).config().version
        second = self._plan(credentials).plan
        if second.not_compared or second.unreadable:
            why = next((one.summary for one in second.unreadable), "it was not compared")
            what = "whether a second plan is empty is not known"
            return Diagnosis(IDEMPOTENCE, Grade.UNKNOWN, what, why, "skyflowctl doctor")
        self._apply(second, credentials)
        same = self.gateway.engine(self._mount.path).config().version == version
        return _compared(first, second, self._mount.path, rewritten=not same)

    def _credentials(self, hosts: AbstractSet[str]) -> SandboxCredentials:
        """Return a key that Skyflow does not know, at a token service that the engine allows."""
        uri = f"https://{min(hosts).removesuffix(':443')}{TOKEN_PATH}"
        name = self._mount.name
        return SandboxCredentials({name: ephemeral_credential(name, name, uri)}, {}, {}, ())

    def _plan(self, credentials: SandboxCredentials) -> PlanResult:
        """Plan the scratch mount alone: audited headers are the server's, and left as they are."""
        made = plan(self.manifest, self.gateway, credentials)
        own = tuple(map(_unvalidated, (one for one in made.plan.actions if one.mount)))
        return replace(made, plan=replace(made.plan, actions=own))

    def _not_possible(self, planned: PlanResult) -> Diagnosis | None:
        """Return why this login cannot make, or not delete, the mount without anyone else."""
        path = self._mount.path
        needs = [(f"sys/mounts/{path}", word) for word in ("read", "update", "delete")]
        needs += [(f"{path}/config", "read"), (f"{path}/roles/", "list")]
        needs += [(one.path, ANY_WRITE) for one in planned.plan.actions]
        for problem in permission_problems(self.gateway, {"--idempotence": needs}).values():
            return _failed(problem, ExitCode.NOT_PERMITTED)
        try:
            for one in planned.plan.actions:
                self.gateway.transport.refuse_guarded("POST", one.path)
        except GuardedError as error:
            return _failed(error.problems[0], ExitCode.NOT_PERMITTED)
        return None

    def _apply(self, made: Plan, credentials: SandboxCredentials) -> list[ActionResult]:
        """Carry out a plan and return what was not done."""
        outcome = execute(made, self.gateway, credentials, _NoReplacer())
        return [one for one in outcome.results if one.result != "done"]

    def _remove(self) -> Problem | None:
        """Remove the mount if it exists; return what is left, after a warning about it.

        The warning is also given if a signal ends this.
        """
        path = self._mount.path
        left: Problem | None = _left(path, "the run was stopped before it was removed")
        try:
            with within(_REMOVAL_SECONDS):
                live = self.gateway.sys.mount(path)
                if live is not None and live.options.get("manifest") == SCRATCH_MANIFEST:
                    carry_out_deletion(readable_mount_deletion(live, self.gateway), self.gateway)
            left = None
        except SkyflowctlError as error:
            left = _left(path, error.problems[0].summary)
        finally:
            if left is not None:
                self.warn(left)
        return left


class _NoReplacer:
    """The ``Replacer`` of a mount that has no credential before, and is not planned to."""

    def replace(
        self,
        mount: str,
        path: str,
        credential: Credential,
        gateway: Gateway,
        *,
        allow_revoked: bool = False,
    ) -> tuple[Problem, ...]:
        """Raise an error: a second plan that replaces the key is not carried out."""
        del mount, credential, gateway, allow_revoked
        raise _would_replace(path)

    def finish(self, mount: str, path: str, gateway: Gateway) -> tuple[Problem, ...]:
        """Raise the same error."""
        del mount, gateway
        raise _would_replace(path)


def _would_replace(path: str) -> SkyflowctlError:
    return SkyflowctlError(
        f"the key of {path} would be replaced",
        why="the second plan takes the key that the first apply wrote for another one",
        fix=_SECOND_PLAN,
    )


def _unvalidated(action: Action) -> Action:
    """Return an action whose credential the engine takes without minting with it."""
    if not action.needs_credential:
        return action
    return replace(action, body={**action.body, "validate_credentials": False})


def _compared(first: Plan, second: Plan, path: str, *, rewritten: bool) -> Diagnosis:
    done = counted(len(first.actions), "action")
    if second.empty and not rewritten:
        text = f"applied twice: {done}, then none"
        return ok_finding(IDEMPOTENCE, text, f"{path} was made, compared field by field, removed")
    changes = [f"{one.path}: {change.field}" for one in second.actions for change in one.changes]
    what = (
        "a second apply wrote the config again" if second.empty else "the second plan is not empty"
    )
    why = ", ".join(changes) or "the version of its config rose, although nothing was planned"
    return Diagnosis(IDEMPOTENCE, Grade.BAD, what, why, _SECOND_PLAN)


def _failed(problem: Problem, code: ExitCode) -> Diagnosis:
    """Return a failure: what this login may not do says nothing about the server."""
    grade = Grade.UNKNOWN if code is ExitCode.NOT_PERMITTED else Grade.BAD
    summary = f"not applied twice: {problem.summary}"
    return with_command(Diagnosis(IDEMPOTENCE, grade, summary, problem.why, problem.fix))


def _left(path: str, why: str) -> Problem:
    return Problem(
        "scratch-mount-left", f"the scratch mount {path} may be left", why, removal_command(path)
    )
