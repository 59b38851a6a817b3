"""The work of ``rotate``: read the mounts, select, confirm, carry out, report."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from skyflowctl.cli.commands.rotate.next_commands import NextCommands, is_basic
from skyflowctl.cli.commands.rotate.progress import Steps, said
from skyflowctl.cli.commands.rotate.view import outcome_json
from skyflowctl.cli.context import gateways
from skyflowctl.cli.context.manifests import ChosenMounts
from skyflowctl.cli.context.rotation import open_key_provider, rotation_dependencies
from skyflowctl.cli.envelope import CommandResult, problem_json, status_of
from skyflowctl.cli.options import ApprovingTargetOptions
from skyflowctl.cli.runner import CommandRun
from skyflowctl.credentials.resolve import ReferenceResolver
from skyflowctl.credentials.token_hosts import token_hosts
from skyflowctl.errors import ExitCode, Problem, RefusedError, UsageError
from skyflowctl.executor.stop import Stop, stop_on_signals
from skyflowctl.frozen import dataclass
from skyflowctl.operations.mount_refs import discover_mounts
from skyflowctl.operations.rotate import run as operation
from skyflowctl.operations.rotate.key_provider import KeyProvider, RotationTarget
from skyflowctl.operations.rotate.request import RotateRequest, Verb
from skyflowctl.planner.plan import is_named
from skyflowctl.rotation.batch import exit_code
from skyflowctl.rotation.model import MountOutcome, Result

if TYPE_CHECKING:
    from skyflowctl.vault.gateway import Gateway

_CHANGED = frozenset({Result.ROTATED, Result.ROLLED_BACK, Result.RETIRED})


@dataclass(frozen=True, slots=True)
class RotateCommand:
    """One command's work.

    Args:
        request: the command line's request.
        chosen: its mounts, and the manifest.
        target: the server.
        parallelism: how many mounts at once.
        allow_hosts: further token services that credentials may name.
        resolver: resolves the references.
    """

    run: CommandRun
    request: RotateRequest
    chosen: ChosenMounts
    target: ApprovingTargetOptions
    parallelism: int
    allow_hosts: tuple[str, ...]
    resolver: ReferenceResolver

    def work(self, *, yes: bool = False, no_input: bool = False) -> CommandResult:
        """Do the work, and return the result.

        Raises:
            SkyflowctlError: nothing was begun.
        """
        self._need_a_rule()
        self._resolve_given()
        with gateways.open_gateway(self.target, self.run) as gateway:
            targets = self._targets(gateway)
            provider = open_key_provider(
                gateway,
                self.chosen.manifest,
                self.request,
                self.run,
                self.allow_hosts,
                resolver=self.resolver,
            )
            if given := provider.given():
                given()  # refuse a bad credential before asking for confirmation
            if self.request.verb is Verb.RETIRE:
                targets = self._with_old_keys(targets, provider, gateway)
            # A mount that was named twice counts once.
            once = {one.named.path: one for one in targets}.values()
            at_hand = [one for one in once if not self._left_out(one)]
            if self.request.verb in (Verb.ROTATE, Verb.PREVIEW):
                at_hand = self._with_permissions(at_hand, gateway)
            if any(one.problem is None for one in at_hand):
                self._confirm(at_hand, provider, gateway, yes=yes, no_input=no_input)
            outcomes, stop = self._carry_out(at_hand, provider, gateway)
        return self._result(targets, outcomes, stop, provider)

    def _resolve_given(self) -> None:
        """Resolve the command line's references, before any request or question.

        Raises:
            UsageError: a token service is not named as ``HOST:PORT``.
            UnresolvedReferenceError: a reference cannot be resolved.
        """
        request = self.request
        if request.previous is not None:
            token_hosts(self.allow_hosts, os.environ)
        for reference, name in (
            (request.credentials, "the new credential"),
            (request.previous, "the credential of --previous"),
            (request.operator_token, "the operator token"),
        ):
            # A vault reference needs the server, which is not open yet.
            if reference is not None and reference.scheme != "vault":
                self.resolver.resolve(reference, name)

    def _left_out(self, target: RotationTarget) -> bool:
        return target.known is not None or (self.request.only_due and not target.due)

    def _with_old_keys(
        self, targets: Sequence[RotationTarget], provider: KeyProvider, gateway: "Gateway"
    ) -> tuple[RotationTarget, ...]:
        from skyflowctl.operations.rotate.retire import with_old_keys

        return with_old_keys(
            gateway,
            targets,
            provider,
            self.run.clock.now(),
            parallelism=self.parallelism,
        )

    def _with_permissions(
        self, targets: Sequence[RotationTarget], gateway: "Gateway"
    ) -> list[RotationTarget]:
        checked, warnings = operation.with_permissions(gateway, targets, self.request.options)
        for one in warnings:
            self.run.warn(one)
        return list(checked)

    def _need_a_rule(self) -> None:
        if self.request.only_due and self.chosen.manifest is None:
            raise UsageError(
                "--due needs a manifest",
                why="the manifest's `rotation` says when a credential is due",
                fix="give it with -f, or name the mounts that you want to rotate",
                code="no-manifest",
            )

    def _targets(self, gateway: "Gateway") -> tuple[RotationTarget, ...]:
        chosen = self.chosen
        named = chosen.mounts
        if named is None:
            named = discover_mounts(gateway, plugin_name=chosen.plugin_name, prefix=chosen.prefix)
        targets = operation.read_live_mounts(gateway, named, self.parallelism)
        if self.request.names:
            operation.refuse_wrong_names(targets)
        if self.request.only_due:
            targets = operation.with_due(targets, self.run.clock.now())
            # A mount that cannot be read may be due: try it, and report its failure.
            return tuple(replace(one, due="?") if one.problem else one for one in targets)
        return targets

    def _confirm(
        self,
        targets: Sequence[RotationTarget],
        provider: KeyProvider,
        gateway: "Gateway",
        *,
        yes: bool,
        no_input: bool,
    ) -> None:
        """Ask for confirmation, if the work needs it.

        Raises:
            RefusedError: it was not confirmed.
        """
        verb = self.request.verb
        if verb is Verb.RETIRE and self.request.now:
            self._allowed_to_destroy(targets)
            return
        if verb in (Verb.PREVIEW, Verb.ROLLBACK) or yes:
            return
        server = gateway.transport.server.name
        names = ", ".join(one.named.name for one in targets)
        if verb is Verb.RETIRE:
            keys = ", ".join(
                f"{one.old_key or 'the old key'} of {one.named.name}" for one in targets
            )
            question = f"Delete {keys} for good ({server})?"
        else:
            self._say_what_comes(targets, provider, server)
            question = f"Rotate {names}?"
        self.run.confirm(question, yes=yes, no_input=no_input)

    def _say_what_comes(
        self, targets: Sequence[RotationTarget], provider: KeyProvider, server: str
    ) -> None:
        self.run.notice(f"server: {server}")
        for one in targets:
            configured = one.config and one.config.configured
            live = one.config.key_id if one.config and configured else "no live key"
            live = live or "an unknown key"
            due = f"  ({one.due})" if one.due else ""
            coming = provider.coming(one)
            self.run.notice(f"  {one.named.name}: {live} -> {coming}{due}")

    def _allowed_to_destroy(self, targets: Sequence[RotationTarget]) -> None:
        allowed = self.request.allow_destroy
        for one in targets:
            killed = one.kills
            if killed and not is_named(one.named.path, allowed):
                raise RefusedError(
                    f"retiring the old key of {one.named.name} now needs --allow-destroy",
                    why=f"it kills {killed}",
                    fix=f"add --allow-destroy={one.named.path}, or leave out --now to wait",
                    code="needs-allow-destroy",
                )
            if killed:
                self.run.notice(f"{one.named.name}: this kills {killed}")

    def _carry_out(
        self,
        targets: Sequence[RotationTarget],
        provider: KeyProvider,
        gateway: "Gateway",
    ) -> tuple[tuple[MountOutcome, ...], Stop]:
        steps = Steps(self.run.terminal, [one.named.name for one in targets])
        with stop_on_signals(steps.stopping) as stop:
            gateway.transport.stop_waiting_when(lambda: stop.asked)
            deps = rotation_dependencies(gateway, self.run, stop, steps, provider.token_hosts)
            outcomes = operation.run_rotations(
                targets,
                provider,
                deps,
                parallelism=self.parallelism,
                on_done=steps.finished,
            )
            self.run.done = _done(outcomes)
        return outcomes, stop

    def _result(
        self,
        targets: Sequence[RotationTarget],
        done: Sequence[MountOutcome],
        stop: Stop,
        provider: KeyProvider,
    ) -> CommandResult:
        by_path = {one.path: one for one in done}
        commands = NextCommands(self.request, self.chosen, dev=provider.dev)
        mounts, outcomes = [], []
        for path, one in {one.named.path: one for one in targets}.items():
            outcome = by_path.get(path) or one.known or operation.not_due(one)
            outcomes.append(outcome)
            margin = provider.margin_of(one.named)
            due = "" if one.problem else one.due
            retire, back = commands.retire(outcome), commands.back(outcome)
            mounts.append({**outcome_json(outcome, due, margin), "next": retire, "back": back})
        if done:
            self.run.notice(f"run {self.run.id}: the server's audit log shows this id")
        warnings: list[Problem] = [warning for one in outcomes for warning in one.warnings]
        data = {"mounts": mounts, "warnings": [problem_json(one) for one in warnings]}
        problems = [problem for one in outcomes for problem in one.problems]
        code = _code(outcomes, stop)
        return CommandResult(data, status_of(code) if code else "ok", code, problems, warnings)


def _done(outcomes: Sequence[MountOutcome]) -> str:
    """Return how to see the changes, for a user who does not get the output; or ""."""
    changed = [one for one in outcomes if one.result in _CHANGED]
    if not changed:
        return ""
    names = ", ".join(f"{one.name} {said(one.result)}" for one in changed)
    look = f"'skyflowctl config history {changed[0].name}'"
    if is_basic(changed[0]):
        look = f"'skyflowctl health {changed[0].name} --mint'"
    return f"it was done ({names}): do not run it again, look with {look}"


def _code(outcomes: Sequence[MountOutcome], stop: Stop) -> ExitCode:
    """Return the exit code; a signal that stopped mounts has its own."""
    code = exit_code(outcomes)
    if not stop.asked or code in (ExitCode.OK, ExitCode.UNHEALTHY):
        return code
    return ExitCode.TERMINATED if stop.signal == signal.SIGTERM else ExitCode.INTERRUPTED
