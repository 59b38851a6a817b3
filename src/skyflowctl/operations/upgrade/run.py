"""Carries out an upgrade: one mount after the other, and on each one node after the other."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from skyflowctl.errors import Problem, SkyflowctlError
from skyflowctl.executor.stop import Stop
from skyflowctl.executor.verify import lost_roles, minting_roles
from skyflowctl.frozen import dataclass
from skyflowctl.operations.upgrade.model import (
    UPGRADE_OPEN,
    UPGRADED_EARLIER,
    UPGRADED_FROM,
    NodeRuns,
    PlannedUpgrade,
    UpgradedMount,
    UpgradePlan,
    UpgradeResult,
    UpgradeStatus,
    UpgradeStep,
    UpgradeStepName,
)
from skyflowctl.operations.upgrade.nodes import UpgradeNode, wait_at_most
from skyflowctl.retry import retry
from skyflowctl.rotation.serving import Serving, serving
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveMount
from skyflowctl.vault.node_plugins import PluginState
from skyflowctl.vault.parked import PendingError
from skyflowctl.vault.responses import CatalogEntry

_TOKEN_SERVICE_SECONDS = 10.0
"""How long a role may fail to mint for a reason that may pass, such as a busy token service."""
_WATCH_SECONDS = 5.0

OnUpgradeStep = Callable[[PlannedUpgrade, UpgradeStep], None]


class UpgradeFailedError(SkyflowctlError):
    """A mount did not come up with a version; its message says where and why."""


@dataclass(frozen=True, slots=True)
class UpgradeSession:
    """What every step needs.

    Args:
        gateway: the server.
        nodes: its nodes, in the order of their turn.
        stop: whether the user asked to stop; the mount that has begun is finished first.
        on_step: called after each step.
        rollback: whether this is a rollback; it leaves a mount's record of the version before.
    """

    gateway: Gateway
    nodes: Sequence[UpgradeNode]
    stop: Stop
    on_step: OnUpgradeStep
    rollback: bool = False


def run_upgrade(session: UpgradeSession, plan: UpgradePlan, soak: float) -> UpgradeResult:
    """Carry out a plan until a mount fails.

    Args:
        session: the server and its nodes.
        plan: the mounts in the order of their turn.
        soak: how long the first mount is watched, in seconds, if others are to follow it.
    """
    done: list[UpgradedMount] = []
    for planned in plan.mounts:
        failed = done and done[-1].problem is not None
        if failed or session.stop.asked:
            done.append(_row(planned, UpgradeStatus.NOT_STARTED, nodes=planned.nodes))
            continue
        others = [one for one in plan.to_do if one is not planned]
        done.append(_MountRun(session, planned).run(soak if not done and others else 0.0))
    return UpgradeResult(tuple(done), interrupted=session.stop.asked)


def _row(
    planned: PlannedUpgrade,
    result: UpgradeStatus,
    *,
    steps: Sequence[UpgradeStep] = (),
    nodes: Sequence[NodeRuns] = (),
    problem: Problem | None = None,
) -> UpgradedMount:
    return UpgradedMount(
        planned.mount,
        planned.before,
        planned.entry.version,
        result,
        tuple(steps),
        tuple(nodes),
        problem,
    )


def preview_upgrade(plan: UpgradePlan) -> UpgradeResult:
    """Return what a plan would do, without doing it."""
    return UpgradeResult(
        tuple(
            _row(
                one,
                UpgradeStatus.UNCHANGED if one.unchanged else UpgradeStatus.WOULD_CHANGE,
                nodes=one.nodes,
            )
            for one in plan.mounts
        )
    )


class _MountRun:
    """One mount's turn."""

    def __init__(self, session: UpgradeSession, planned: PlannedUpgrade) -> None:
        self._session = session
        self._planned = planned
        self._path = planned.mount.path
        self._steps: list[UpgradeStep] = []
        self._minted: Mapping[str, frozenset[str]] = {}
        self._found: LiveMount | None = None

    def run(self, soak: float) -> UpgradedMount:
        """Upgrade the mount, verify it, watch it, and roll it back if one of these fails."""
        self._minted = {
            node.name: minting_roles(node.gateway, self._path) for node in self._session.nodes
        }
        entry = self._planned.entry
        try:
            if not self._planned.tuned:
                self._step(UpgradeStepName.TUNE, "", partial(self._tune, entry.version))
            for node in self._session.nodes:
                self._bring(node, entry)
            if soak:
                self._step(UpgradeStepName.SOAK, "", partial(self._watch, soak))
            self._end_record()
        except PendingError:
            raise  # the same command goes on once the request is approved
        except SkyflowctlError as error:
            if self._is_untouched():
                row = self._row(UpgradeStatus.NOT_STARTED, error.problems[0])
                return replace(row, error=error)
            return self._roll_back(error.problems[0])
        if self._planned.unchanged:
            return self._row(UpgradeStatus.UNCHANGED)
        back = self._session.rollback
        return self._row(UpgradeStatus.ROLLED_BACK if back else UpgradeStatus.UPGRADED)

    def _row(self, result: UpgradeStatus, problem: Problem | None = None) -> UpgradedMount:
        nodes = []
        for node in self._session.nodes:
            try:
                nodes.append(node.now_runs(self._path))
            except SkyflowctlError as error:
                nodes.append(node.unknown(error.problems[0].summary))
        return _row(self._planned, result, steps=self._steps, nodes=nodes, problem=problem)

    def _step(self, name: UpgradeStepName, node: str, work: Callable[[], bool | None]) -> None:
        """Do and record a step; it failed if ``work`` raises an error or returns False."""
        started, ok = time.monotonic(), False
        try:
            ok = work() is not False
        finally:
            spent = round((time.monotonic() - started) * 1000, 1)
            step = UpgradeStep(name, node, spent, ok)
            self._steps.append(step)
            self._session.on_step(self._planned, step)

    def _tune(self, version: str) -> None:
        """Set the mount's version, and record what a later run needs to know.

        A changed option makes every standby restart the mount's plugin, in the version that is
        set by then. So with standbys the record is a write of its own, before the version, and
        the mark of an open upgrade is left out: the nodes that still mint tell as much.
        """
        sys, fields = self._session.gateway.sys, {"plugin_version": version}
        self._found = sys.mount(self._path)
        record = _record_of(self._found, version, rollback=self._session.rollback)
        if self._alone:
            sys.tune_mount(self._path, {**fields, "options": {**record, UPGRADE_OPEN: "true"}})
            return
        if record:
            sys.tune_mount(self._path, {"options": record})
            for node in self._session.nodes:
                node.wait_for_options(self._path, record)
        sys.tune_mount(self._path, fields)

    def _is_untouched(self) -> bool:
        """Whether the server shows that the first write of this turn was not carried out."""
        found = self._found
        if found is None:  # it was not read, so nothing was sent; or an earlier run has tuned it
            return not self._planned.tuned
        try:
            now = self._session.gateway.sys.mount(self._path)
        except SkyflowctlError:
            return False
        return now is not None and (now.plugin_version, now.options) == (
            found.plugin_version,
            found.options,
        )

    @property
    def _alone(self) -> bool:
        return len(self._session.nodes) == 1

    def _end_record(self) -> None:
        """Record that nothing is left to do."""
        if self._alone and not self._planned.unchanged:
            done = {UPGRADE_OPEN: "", UPGRADED_EARLIER: ""}
            self._session.gateway.sys.tune_mount(self._path, {"options": done})

    def _bring(self, node: UpgradeNode, entry: CatalogEntry) -> None:
        """Make one node run the entry, and verify it; a node that does is only verified."""
        now = node.wait_for_tune(self._path, entry.version)
        if now.wanted != entry.version:
            raise UpgradeFailedError(
                f"{_at(node)} does not know that {self._path} is tuned to {entry.version}",
                why=f"it says {now.wanted or 'nothing'}: it lags behind the leader, or another "
                "command tuned the mount meanwhile",
                fix=_SAME_COMMAND,
                code="upgrade-not-seen",
            )
        if not now.runs(entry):
            self._step(UpgradeStepName.RELOAD, node.name, partial(self._reload, node, entry))
        self._step(UpgradeStepName.VERIFY, node.name, partial(self._verify, node, entry))

    def _reload(self, node: UpgradeNode, entry: CatalogEntry) -> None:
        node.reload(self._path)
        now = node.now_runs(self._path)
        if not now.runs(entry):
            raise UpgradeFailedError(
                f"{_at(node)} does not run {entry.version} of {self._path} after its reload",
                why=f"it runs {now.version or 'nothing'} with digest {now.sha256[:12] or 'none'}, "
                f"wanted {entry.sha256[:12]}" + ("" if now.serves else f"; {_not_seen(now)}"),
                fix="see the server's log on that node",
                code="upgrade-not-running",
            )

    def _verify(self, node: UpgradeNode, entry: CatalogEntry) -> None:
        """Verify that a node runs the entry, and that each role mints that did before.

        Raises:
            UpgradeFailedError: it does not.
        """
        now = node.now_runs(self._path)
        if not now.runs(entry):
            raise UpgradeFailedError(
                f"{_at(node)} does not run {entry.version} of {self._path} any more",
                why=f"it runs {now.version}" if now.serves else _not_seen(now),
                fix="see the server's log on that node",
                code="upgrade-not-running",
            )
        before = self._minted[node.name] or frozenset().union(*self._minted.values())
        if not before and entry is self._planned.entry and self._is_unverified:
            self._refuse_not_serving(node, entry)
        lost = retry(
            lambda: lost_roles(node.gateway, self._path, before),
            lambda found: not found or any(not one.transient for one in found),
            wait_at_most(_TOKEN_SERVICE_SECONDS),
        )
        if lost:
            name, why = lost[0].name, lost[0].why
            raise UpgradeFailedError(
                f"{len(lost)} of {len(before)} roles of {self._path} that minted before do not "
                f"mint with {entry.version} on {_at(node)}",
                why=f"role {name}: {why}" if name else why,
                fix="see what the version was registered with: skyflowctl plugin list",
                code="upgrade-lost-roles",
            )

    @property
    def _is_unverified(self) -> bool:
        """Whether a killed run left the version running, and nothing tells which roles minted."""
        planned = self._planned
        return not planned.unchanged and any(one.runs(planned.entry) for one in planned.nodes)

    def _refuse_not_serving(self, node: UpgradeNode, entry: CatalogEntry) -> None:
        """Refuse a version that a killed run left on every node, where no role mints."""
        if serving(node.gateway, self._path) is Serving.NO:
            raise UpgradeFailedError(
                f"no role of {self._path} mints with {entry.version} on {_at(node)}",
                why="an earlier run began this upgrade and did not verify it",
                fix=f"'skyflowctl config verify {self._path}' says why",
                code="upgrade-lost-roles",
            )

    def _watch(self, seconds: float) -> bool:
        """Verify every node again and again; return whether the time passed before a stop."""
        end = time.monotonic() + seconds

        def look() -> bool:
            for node in self._session.nodes:
                self._verify(node, self._planned.entry)
            return self._session.stop.asked or time.monotonic() >= end

        def wait(_: bool, __: int) -> bool:
            self._session.stop.wait(max(0.0, min(_WATCH_SECONDS, end - time.monotonic())))
            return True

        retry(look, bool, wait)
        return time.monotonic() >= end

    def _roll_back(self, cause: Problem) -> UpgradedMount:
        """Make the mount run the version before again, and verify that it does."""
        entry = self._planned.rollback_target
        if entry is None:
            return self._row(UpgradeStatus.FAILED, _not_back(self._path, cause, _UNKNOWN))
        try:
            self._step(UpgradeStepName.ROLLBACK, "", partial(self._return_to, entry))
        except SkyflowctlError as error:
            problem = error.problems[0]
            said = f"{problem.summary}: {problem.why}".rstrip(": ")
            return self._row(UpgradeStatus.FAILED, _not_back(self._path, cause, said))
        return self._row(UpgradeStatus.ROLLED_BACK, _is_back(self._path, cause, entry.version))

    def _return_to(self, entry: CatalogEntry) -> None:
        fields: dict[str, Any] = {"plugin_version": entry.version}
        live = self._session.gateway.sys.mount(self._path)
        before = live.options.get(UPGRADED_EARLIER, "") if live else ""
        record = {}
        if before and not self._session.rollback:
            # Else the next rollback would find the version that runs.
            record = {UPGRADED_FROM: before, UPGRADED_EARLIER: ""}
            fields["options"] = record
        self._session.gateway.sys.tune_mount(self._path, fields)
        if record and not self._alone:
            for node in self._session.nodes:
                node.wait_for_options(self._path, record)
        for node in self._session.nodes:
            now = node.wait_for_tune(self._path, entry.version)
            if not now.runs(entry):
                self._reload(node, entry)
        for node in self._session.nodes:
            self._verify(node, entry)
        self._end_record()


def _record_of(live: LiveMount | None, version: str, *, rollback: bool) -> dict[str, str]:
    """Return the options that record, for a later run, which version the mount runs now.

    A mount that was tuned already, by a run that was killed, keeps its record. A rollback keeps
    it too, and removes the one before it: that belongs to the upgrade that is undone, and the
    next one that fails would restore it.
    """
    if rollback:
        return {UPGRADED_EARLIER: ""} if live and UPGRADED_EARLIER in live.options else {}
    before = (live.plugin_version or live.running_plugin_version) if live else ""
    if before in ("", version):
        return {}
    options = {UPGRADED_FROM: before}
    recorded = live.options.get(UPGRADED_FROM, "") if live else ""
    if recorded not in ("", before):  # else this is the record of a killed run, or of none
        options[UPGRADED_EARLIER] = recorded
    return options


_SAME_COMMAND = "run the same command again"
_UNKNOWN = "the version before is not known, or not in the catalog any more"


def _not_seen(now: NodeRuns) -> str:
    missing = now.plugin.state is PluginState.DOES_NOT_RUN
    known = "the plugin does not run" if missing else "whether the plugin runs is not known"
    return f"{known}: {now.plugin.why}"


def _at(node: UpgradeNode) -> str:
    return node.name or "the server"


def _is_back(path: str, cause: Problem, version: str) -> Problem:
    return Problem(
        cause.code,
        f"{path} was not upgraded, and runs {version} again: {cause.summary}",
        cause.why,
        f"{cause.fix}; then {_SAME_COMMAND}".removeprefix("; "),
    )


def _not_back(path: str, cause: Problem, why: str) -> Problem:
    return Problem(
        "upgrade-not-undone",
        f"{path} was not upgraded, and it is not shown that it serves: {cause.summary}",
        f"{cause.why}; the rollback failed: {why}".removeprefix("; "),
        f"see the server's log, then 'skyflowctl health {path}' and 'skyflowctl plugin rollback "
        f"{path} --to VERSION'",
    )
