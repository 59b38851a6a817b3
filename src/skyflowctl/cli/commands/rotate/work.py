"""The work of ``rotate``: look, choose, ask, carry out, and say what became of it."""

import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skyflowctl.cli.commands.rotate.progress import Steps, said
from skyflowctl.cli.commands.rotate.request import ParsedRotate
from skyflowctl.cli.commands.rotate.view import outcome_json
from skyflowctl.cli.context import credential_sources, gateways
from skyflowctl.cli.context.manifests import ChosenMounts
from skyflowctl.cli.context.rotation import RotationSetup, rotation_supply, rotation_world
from skyflowctl.cli.envelope import CommandResult, problem_json, status_of
from skyflowctl.cli.options import ApprovingTargetOptions
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import ExitCode, Problem, RefusedError, UsageError
from skyflowctl.executor.stop import Stop, stop_on_signals
from skyflowctl.operations import rotation as operation
from skyflowctl.operations.cli_references import as_word
from skyflowctl.operations.rotate_flags import Verb
from skyflowctl.operations.rotation import RotateRequest
from skyflowctl.operations.rotation_supply import RotationTarget
from skyflowctl.operations.successors import ReferencedCredential, resolve_successor
from skyflowctl.operations.targets import discover_mounts
from skyflowctl.rotation.batch import exit_code
from skyflowctl.rotation.model import MountOutcome, Result, StepName

if TYPE_CHECKING:
    from skyflowctl.vault.gateway import Gateway

_CHANGED = frozenset({Result.ROTATED, Result.ROLLED_BACK, Result.RETIRED})


@dataclass(frozen=True, slots=True)
class RotateCommand:
    """One command's work.

    Args:
        request: what the command line asks for.
        chosen: the mounts that it means, and the manifest.
        target: the server.
        parallelism: how many mounts at once.
        allow_hosts: further token services that credentials may name.
    """

    run: CommandRun
    request: ParsedRotate
    chosen: ChosenMounts
    target: ApprovingTargetOptions
    parallelism: int
    allow_hosts: tuple[str, ...]

    def work(self, *, yes: bool = False, no_input: bool = False) -> CommandResult:
        """Do it, and return the result.

        Raises:
            SkyflowctlError: nothing was begun.
        """
        self._need_a_rule()
        previous = self._previous()
        self._follow_given(previous)
        with gateways.open_gateway(self.target, self.run) as gateway:
            subjects = self._subjects(gateway)
            supplied = rotation_supply(
                gateway, self.chosen.manifest, self.request.wishes, self.run, self.allow_hosts
            )
            self._lint_given(supplied)
            errand = self._errand(supplied, previous)
            if errand.verb is Verb.RETIRE:
                subjects = self._with_old_keys(subjects, errand, gateway)
            # A mount that was named twice is one mount.
            once = {one.named.path: one for one in subjects}.values()
            at_hand = [one for one in once if not self._left_out(one)]
            if at_hand:
                self._confirm(at_hand, supplied, gateway, yes=yes, no_input=no_input)
            outcomes, stop = self._carry_out(at_hand, errand, supplied, gateway)
        return self._result(subjects, outcomes, stop, errand)

    def _follow_given(self, previous: "ReferencedCredential | None") -> None:
        """Follow what the command line names, before a server or a person is asked.

        Raises:
            UnresolvedReferenceError: it leads to nothing.
        """
        wishes = self.request.wishes
        for reference, subject in (
            (wishes.credentials, "the new credential"),
            (previous.reference if previous else None, "the credential of --previous"),
            (wishes.operator_token, "the operator token"),
        ):
            if reference is not None:
                resolve_successor(reference, subject)

    def _lint_given(self, supplied: RotationSetup) -> None:
        """Check the new credential that the command line names, before a person is asked.

        Raises:
            InvalidInputError: it is none that a mount may take.
        """
        reference = self.request.wishes.credentials
        if reference is not None:
            ReferencedCredential(reference, "the new credential", supplied.supply.linting)()

    def _errand(
        self, supplied: RotationSetup, previous: "ReferencedCredential | None"
    ) -> RotateRequest:
        flags = self.request.flags
        return RotateRequest(
            verb=self.request.verb,
            options=self.request.options,
            margin=supplied.retire_margin,
            own_margins=not supplied.dev,
            to=flags.to,
            now=flags.now,
            wait=flags.wait,
            kept_copy_only=flags.kept_copy_only,
            previous=previous,
        )

    def _left_out(self, subject: RotationTarget) -> bool:
        return subject.known is not None or (self.request.only_due and not subject.due)

    def _with_old_keys(
        self, subjects: Sequence[RotationTarget], errand: RotateRequest, gateway: "Gateway"
    ) -> tuple[RotationTarget, ...]:
        from skyflowctl.operations.retirement import with_old_keys

        return with_old_keys(
            gateway,
            subjects,
            errand,
            self.run.clock.now(),
            every=self.request.flags.everything,
            parallelism=self.parallelism,
        )

    def _need_a_rule(self) -> None:
        if self.request.only_due and self.chosen.manifest is None:
            raise UsageError(
                "--due needs a manifest",
                why="the manifest's `rotation` says when a credential is due",
                fix="give it with -f, or name the mounts that you want to rotate",
                code="no-manifest",
            )

    def _subjects(self, gateway: "Gateway") -> tuple[RotationTarget, ...]:
        chosen = self.chosen
        named = chosen.mounts
        if named is None:
            named = discover_mounts(gateway, plugin_name=chosen.plugin_name, prefix=chosen.prefix)
        subjects = operation.read_live_mounts(gateway, named, self.parallelism)
        if self.request.names:
            operation.refuse_wrong_names(subjects)
        if self.request.only_due:
            subjects = operation.with_due(subjects, self.run.clock.now())
            # One that cannot be read may be due: it is tried, and its failure told.
            return tuple(replace(one, due="?") if one.problem else one for one in subjects)
        return subjects

    def _previous(self) -> "ReferencedCredential | None":
        given = self.request.flags.previous
        if given is None:
            return None
        subject = "the credential that is live now"
        return credential_sources.referenced_credential(
            given, "--previous", self.run, self.allow_hosts, subject
        )

    def _confirm(
        self,
        subjects: Sequence[RotationTarget],
        supplied: RotationSetup,
        gateway: "Gateway",
        *,
        yes: bool,
        no_input: bool,
    ) -> None:
        """Have it confirmed, where it is something to confirm.

        Raises:
            RefusedError: it was not.
        """
        verb = self.request.verb
        if verb is Verb.RETIRE and self.request.flags.now:
            self._allowed_to_destroy(subjects)
            return
        if verb in (Verb.PREVIEW, Verb.ROLLBACK) or yes:
            return
        server = gateway.transport.server.name
        names = ", ".join(one.named.name for one in subjects)
        if verb is Verb.RETIRE:
            keys = ", ".join(
                f"{one.old_key or 'the old key'} of {one.named.name}" for one in subjects
            )
            question = f"Delete {keys} for good ({server})?"
        else:
            self._say_what_comes(subjects, supplied, server)
            question = f"Rotate {names}?"
        self.run.confirm(question, yes=yes, no_input=no_input)

    def _say_what_comes(
        self, subjects: Sequence[RotationTarget], supplied: RotationSetup, server: str
    ) -> None:
        self.run.notice(f"server: {server}")
        for one in subjects:
            configured = one.config and one.config.configured
            live = one.config.key_id if one.config and configured else "no live key"
            live = live or "a key that its engine does not tell"
            due = f"  ({one.due})" if one.due else ""
            coming = supplied.supply.coming(one)
            self.run.notice(f"  {one.named.name}: {live} -> {coming}{due}")

    def _allowed_to_destroy(self, subjects: Sequence[RotationTarget]) -> None:
        allowed = {path.strip("/") for path in self.request.flags.allow_destroy or ()}
        for one in subjects:
            killed = one.kills
            if killed and one.named.path not in allowed:
                raise RefusedError(
                    f"retiring the old key of {one.named.name} now needs a word more",
                    why=f"it kills {killed}",
                    fix=f"add --allow-destroy={one.named.path}, or leave out --now to wait",
                    code="needs-allow-destroy",
                )
            if killed:
                self.run.notice(f"{one.named.name}: this kills {killed}")

    def _carry_out(
        self,
        subjects: Sequence[RotationTarget],
        errand: RotateRequest,
        supplied: RotationSetup,
        gateway: "Gateway",
    ) -> tuple[tuple[MountOutcome, ...], Stop]:
        steps = Steps(self.run.terminal, [one.named.name for one in subjects])
        with stop_on_signals(steps.stopping) as stop:
            gateway.transport.stop_waiting_when(lambda: stop.asked)
            world = rotation_world(gateway, self.run, stop, steps, supplied.token_hosts)
            outcomes = operation.run_rotations(
                subjects,
                errand,
                supplied.supply,
                world,
                parallelism=self.parallelism,
                on_done=steps.finished,
            )
            self.run.done = _done(outcomes)
        return outcomes, stop

    def _back(self, outcome: MountOutcome) -> str:
        """Return the way back on an engine that keeps none: both references, changed over."""
        flags = self.request.flags
        if not _basic(outcome) or not flags.previous:
            return ""
        mounts = self.chosen.manifest.mounts if self.chosen.manifest else ()
        declared = next((one.credentials for one in mounts if one.path == outcome.path), None)
        new = flags.credentials or as_word(declared)
        words = ["skyflowctl", "rotate", outcome.name, "--credentials", flags.previous]
        return shlex.join([*words, "--previous", new]) if new else ""

    def _result(
        self,
        subjects: Sequence[RotationTarget],
        done: Sequence[MountOutcome],
        stop: Stop,
        errand: RotateRequest,
    ) -> CommandResult:
        by_path = {one.path: one for one in done}
        mounts, outcomes = [], []
        for path, one in {one.named.path: one for one in subjects}.items():
            outcome = by_path.get(path) or one.known or operation.not_due(one)
            outcomes.append(outcome)
            margin = errand.margin_of(one.named)
            due = "" if one.problem else one.due
            mounts.append(outcome_json(outcome, due, margin, self._back(outcome)))
        if done:
            self.run.notice(f"run {self.run.id}: the server's audit log shows this id")
        warnings: list[Problem] = [warning for one in outcomes for warning in one.warnings]
        data = {"mounts": mounts, "warnings": [problem_json(one) for one in warnings]}
        problems = [problem for one in outcomes for problem in one.problems]
        code = _code(outcomes, stop)
        return CommandResult(data, status_of(code) if code else "ok", code, problems, warnings)


def _basic(outcome: MountOutcome) -> bool:
    """Tell whether the engine has the basic API: it was written, and nothing committed."""
    made = {step.name for step in outcome.steps}
    written = StepName.WRITE in made and StepName.COMMIT not in made
    return outcome.result is Result.ROTATED and written


def _done(outcomes: Sequence[MountOutcome]) -> str:
    """Return how to see what was changed, for whom the output does not reach; or nothing."""
    changed = [one for one in outcomes if one.result in _CHANGED]
    if not changed:
        return ""
    names = ", ".join(f"{one.name} {said(one.result)}" for one in changed)
    look = f"'skyflowctl config history {changed[0].name}'"
    if _basic(changed[0]):
        look = f"'skyflowctl health {changed[0].name} --mint'"
    return f"it was done ({names}): do not run it again, look with {look}"


def _code(outcomes: Sequence[MountOutcome], stop: Stop) -> ExitCode:
    """Return the exit code; a signal that kept mounts from their end has its own."""
    code = exit_code(outcomes)
    if not stop.asked or code in (ExitCode.OK, ExitCode.UNHEALTHY):
        return code
    return ExitCode.TERMINATED if stop.signal == signal.SIGTERM else ExitCode.INTERRUPTED
