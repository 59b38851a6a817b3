"""Executes a plan: wave by wave, many mounts in parallel and independently.

If an action fails, the later ones of its mount are skipped, and the other mounts continue. A run
stores no state to resume from: the same command plans the remaining actions from the server.
"""

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType

from skyflowctl.concurrency import Workers
from skyflowctl.credentials.model import CredentialSource
from skyflowctl.errors import ExitCode, Problem, SkyflowctlError
from skyflowctl.executor.events import (
    ActionDone,
    ActionFailed,
    ActionPending,
    ActionSkipped,
    ActionStarted,
    ApplyEvent,
    ApplyListener,
)
from skyflowctl.executor.outcome import ActionResult, ApplyOutcome, unforeseen
from skyflowctl.executor.ports import Replacer, Upgrader
from skyflowctl.executor.read_back import overwritten_settings
from skyflowctl.executor.steps import StepContext, action_mount_path, run_step, server_warning
from skyflowctl.executor.stop import Stop
from skyflowctl.executor.waves import NumberedAction, waves
from skyflowctl.planner.plan import Action, ActionType, ObjectKind, Plan
from skyflowctl.telemetry.spans import TraceSpan, child_span
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.parked import PendingError
from skyflowctl.vault.transport import Reply, Request, Transport, TransportWrapper

_LOOK_UP_SECONDS = 0.1
_AFTER_MOUNTS = frozenset({ObjectKind.ROLE, ObjectKind.CONFIG})
_FAILED = frozenset({"failed", "skipped"})


def execute(
    plan: Plan,
    gateway: Gateway,
    credentials: CredentialSource,
    replacer: Replacer,
    *,
    parallelism: int = 10,
    on_event: ApplyListener | None = None,
    stop: Stop | None = None,
    refused: Mapping[str, SkyflowctlError] = MappingProxyType({}),
    upgrader: Upgrader | None = None,
) -> ApplyOutcome:
    """Execute a plan and return the result of each action; failures are returned, not raised.

    Args:
        plan: the plan.
        gateway: the server, real or in memory.
        credentials: the source of a config's credential, used only when it is written.
        replacer: replaces a live credential.
        parallelism: how many actions run at once.
        on_event: gets every event, from worker threads, one call at a time.
        stop: checked before every action; started actions are finished.
        refused: by mount, why no key may be sent to it; such a mount is not changed at all.
        upgrader: upgrades a mount; None: the server is one in this process.
    """
    tools = StepContext(gateway, credentials, replacer, upgrader)
    run = _Run(tools, on_event or _ignore, stop or Stop(), refused)
    numbered = list(enumerate(plan.actions))
    with Workers(parallelism, writes=True) as pool:
        compared = False
        for units in waves(numbered, parallelism):
            actions = [action for unit in units for _, action in unit]
            if not compared and any(action.kind in _AFTER_MOUNTS for action in actions):
                # Whoever creates a mount reads it back itself.
                created = {one.mount for one in actions if one.kind is ObjectKind.MOUNT}
                run.compare_settings(plan, besides=created)
                compared = True
            _wait_for([pool.submit(run.unit, unit) for unit in units])
    run.compare_settings(plan)
    results = tuple(run.results[index] for index, _ in numbered)
    overwritten = tuple(run.overwritten.values())
    return ApplyOutcome(results, interrupted=run.stop.asked, overwritten=overwritten)


def _record(span: TraceSpan, result: ActionResult) -> None:
    span.set("skyflow.path", result.action.path)
    span.set("skyflow.result", result.result)
    if result.result == "failed" and result.problem:
        span.fail(result.problem.code)


def _wait_for(futures: Sequence[Future[None]]) -> None:
    """Wait for all futures, with short waits, because Python may miss a signal just before a wait.

    One after the other: a wait for many at once costs time for each of them, every time.

    Raises:
        BaseException: the error of the first future that failed.
    """
    for future in futures:
        while not future.done():
            with suppress(TimeoutError):
                future.exception(_LOOK_UP_SECONDS)
    for future in futures:
        future.result()


class _Run:
    """One run's state; every method may be called from any worker thread."""

    def __init__(
        self,
        tools: StepContext,
        listener: ApplyListener,
        stop: Stop,
        refused: Mapping[str, SkyflowctlError],
    ) -> None:
        self._tools = tools
        self._listener = listener
        self._refused = refused
        self._lock = threading.Lock()
        self._failed: dict[str, ObjectKind] = {}
        self._pending: dict[str, ObjectKind] = {}
        self._undone: dict[str, str] = {}
        self._bad_upgrade = ""
        self.stop = stop
        self.results: dict[int, ActionResult] = {}
        self.overwritten: dict[str, Problem] = {}

    def compare_settings(self, plan: Plan, besides: Collection[str] = ()) -> None:
        """Compare the settings of every mount of this run, except some, with its plan.

        A mount that another client changed is skipped from then on.
        """
        names = {action.mount for action in plan.actions}.difference(besides)
        unsettled = {*self._failed, *self._pending, *self._refused, *self.overwritten}
        found = overwritten_settings(plan, self._tools.gateway, names - unsettled)
        self.overwritten |= found
        self._failed |= dict.fromkeys(found, ObjectKind.MOUNT)

    def unit(self, actions: Sequence[NumberedAction]) -> None:
        """Execute the actions of one unit in order."""
        for index, action in actions:
            with child_span(f"{action.action} {action.kind}") as span:
                result = self._one(action)
                _record(span, result)
            with self._lock:
                self.results[index] = result
                if result.result != "done":
                    self._undone[_awaited_path(action)] = result.result
                if result.result in {"pending", "waiting"} and action.mount:
                    self._pending.setdefault(action.mount, action.kind)
                elif result.result != "done" and action.mount:
                    self._failed.setdefault(action.mount, action.kind)
                    if result.result == "failed" and _upgrades(action):
                        self._bad_upgrade = self._bad_upgrade or action_mount_path(action)

    def _one(self, action: Action) -> ActionResult:
        reason = self._reason_to_skip(action) or self._failed_dependency(action)
        if reason:
            self._tell(ActionSkipped(action, reason))
            return ActionResult(action, "skipped", problem=reason)
        if waits := self._reason_to_wait(action):
            self._tell(ActionSkipped(action, waits))
            return ActionResult(action, "waiting", problem=waits)
        self._tell(ActionStarted(action))
        started = time.monotonic()
        recorder = WriteRecorder(self._tools.gateway.transport)
        try:
            self._check_refused(action)
            said = run_step(action, replace(self._tools, gateway=Gateway(recorder)))
        except PendingError as error:
            self._tell(ActionPending(action, error.problems[0]))
            spent, (problem, *_) = _since(started), error.problems
            return ActionResult(action, "pending", "", spent, problem, pending=error)
        except SkyflowctlError as error:
            return self._failure(action, error, _since(started))
        except Exception as error:  # noqa: BLE001 - the other mounts must be reported as well
            return self._failure(action, unforeseen(action.path, error), _since(started))
        spent = _since(started)
        self._tell(ActionDone(action, spent))
        # The server warns that a move is queued; the step has waited for it.
        texts = () if action.action is ActionType.MOVE else recorder.warnings
        warnings = (*said, *(server_warning(action, text) for text in texts))
        return ActionResult(
            action,
            "done",
            recorder.request_id,
            spent,
            warnings=warnings,
            sent_by_run=recorder.sent_by_run,
            verified=_is_verified(action, recorder),
        )

    def _check_refused(self, action: Action) -> None:
        """Raise an error if the key of an action must not be sent."""
        if error := self._refused.get(action.mount):
            raise error

    def _reason_to_wait(self, action: Action) -> Problem | None:
        with self._lock:
            kind = self._pending.get(action.mount)
            held = [path for path in action.after if path in self._undone]
        if held:
            return Problem(
                "approval-pending",
                f"skipped: {held[0]} awaits approval",
                "this change depends on that one",
                "have that one approved, then run the same command again",
            )
        if kind is None or (kind is action.kind and kind is not ObjectKind.MOUNT):
            return None
        return Problem(
            "approval-pending",
            f"skipped: an earlier change to {action.mount} awaits approval",
            "this change depends on that one",
            "have that one approved, then run the same command again",
        )

    def _reason_to_skip(self, action: Action) -> Problem | None:
        if self.stop.asked:
            return Problem(
                "interrupted",
                "skipped: the run was interrupted",
                "a signal asked it to stop, and what was under way was finished first",
                "run the same command again: it resumes where this run stopped",
            )
        with self._lock:
            failed = self._failed.get(action.mount)
            refused = self._refused.get(action.mount)
            bad_upgrade = self._bad_upgrade
        if bad_upgrade and _upgrades(action):
            return Problem(
                "upgrade-stopped",
                f"not begun: the upgrade of {bad_upgrade} failed, and no other mount follows it",
                "the same may happen to this mount, which serves as before",
                "mend what the other error names, then run the same command again",
            )
        if refused:
            if action.needs_credential:
                return None  # this one has the reason
            why, *_ = refused.problems
            return Problem(
                "mount-failed",
                f"skipped: the key of {action.mount} cannot be sent, so nothing is changed there",
                why.why or why.summary,
                why.fix,
            )
        # Roles do not depend on each other; an upgrade depends on the mount's other fields.
        if failed and (failed is not action.kind or failed is ObjectKind.MOUNT):
            return Problem(
                "mount-failed",
                f"skipped: an earlier change to {action.mount} failed",
                "this change depends on that one",
                "fix what the other error names, then run the same command again",
            )
        return None

    def _failed_dependency(self, action: Action) -> Problem | None:
        with self._lock:
            undone = [one for one in action.after if self._undone.get(one) in _FAILED]
        if not undone:
            return None
        return Problem(
            "dependency-failed",
            f"skipped: {undone[0]} was not written",
            "this change depends on that one",
            "fix what the other error names, then run the same command again",
        )

    def _failure(self, action: Action, error: SkyflowctlError, spent: float) -> ActionResult:
        problem, *besides = error.problems
        self._tell(ActionFailed(action, spent, problem))
        request_id = error.request_id if isinstance(error, VaultError) else ""
        code = ExitCode(error.exit_code)
        return ActionResult(
            action, "failed", request_id, spent, problem, code, besides=tuple(besides)
        )

    def _tell(self, event: ApplyEvent) -> None:
        with self._lock:
            self._listener(event)


def _awaited_path(action: Action) -> str:
    """Return the path by which other actions wait for this one; for a move, that of the mount."""
    moves = action.action is ActionType.MOVE
    return f"sys/mounts/{action.body['to']}" if moves else action.path


def _upgrades(action: Action) -> bool:
    return action.action is ActionType.PLUGIN_UPGRADE


def _since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)


def _ignore(_event: ApplyEvent) -> None:
    """Do nothing."""


class WriteRecorder(TransportWrapper):
    """Records the answers to writes. Each action has its own recorder, so it needs no lock.

    ``request_id`` is that of the last write, ``warnings`` are those of all writes, ``mints``
    whether the last answer says that no role was refused, and ``sent_by_run`` is the earlier run
    whose approved request was executed.
    """

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.request_id = ""
        self.warnings: tuple[str, ...] = ()
        self.sent_by_run = ""
        self.mints = False

    def send(self, request: Request) -> Reply:
        """Send one request, and record the answer to a write."""
        reply = super().send(request)
        if not request.reads and not request.path.endswith("/config/verify"):
            self.request_id = reply.request_id
            self.sent_by_run = reply.sent_by_run or self.sent_by_run
            self.warnings = tuple(dict.fromkeys((*self.warnings, *_warnings(reply))))
            self.mints = (reply.data or {}).get("warnings") == []
        return reply


def _is_verified(action: Action, recorder: WriteRecorder) -> bool:
    """Whether the engine minted for every role, so that it needs not be asked to do it again.

    Our engine does that before it accepts a first credential, and its answer lists the roles that
    were refused. Roles are written before the config, so it tried those of the plan. An engine
    with the basic API answers nothing. Without check-and-set, the credential may have been live.
    """
    first = action.kind is ObjectKind.CONFIG and action.action is ActionType.CREATE
    checked = first and action.brings_credential and action.cas is not None
    return checked and recorder.mints and not (recorder.warnings or recorder.sent_by_run)


def _warnings(reply: Reply) -> tuple[str, ...]:
    """Return the warnings of the server, and those in the data of the engine's answer.

    Each is one line. Only a real server returns both, and then most occur twice.
    """
    listed = (reply.data or {}).get("warnings")
    texts = (*reply.warnings, *(listed if isinstance(listed, list | tuple) else ()))
    return tuple(" ".join(str(text).split()) for text in texts)
