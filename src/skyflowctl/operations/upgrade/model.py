"""What is asked of an upgrade, what it will do, and what it did."""

from enum import StrEnum

from skyflowctl.errors import ExitCode, Problem, SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.operations.mount_refs import MountRef
from skyflowctl.vault.node_plugins import PluginOnNode, PluginState
from skyflowctl.vault.responses import CatalogEntry

UPGRADED_FROM = "upgraded_from"
"""The option of a mount that names the version before its last upgrade."""

UPGRADED_EARLIER = "upgraded_from_earlier"
"""The option of a mount that keeps the record before, which a failed upgrade restores."""

UPGRADE_OPEN = "upgrade_open"
"""The option of a mount whose upgrade or rollback is not verified yet, on a single node."""


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """One command.

    Args:
        plugin: the plugin's name, which is the mounts' type.
        mounts: the mounts; None: all of this type.
        version: the version to run; empty: each mount's version before its last upgrade.
        rollback: whether the version before is made live again.
        absent_allowed: whether a mount that is not on the server is left out, not refused.
        canary: the path of the mount that is upgraded first; empty: none.
        soak: how long the canary is watched before the next mount, in seconds.
        no_rollback: whether a mount is upgraded although there is no version to roll back to.
        prefix: removed from the paths of mounts that only the server knows.
    """

    plugin: str
    mounts: tuple[MountRef, ...] | None
    version: str = ""
    rollback: bool = False
    absent_allowed: bool = False
    canary: str = ""
    soak: float = 0.0
    no_rollback: bool = False
    prefix: str = "skyflow"


class UpgradeStepName(StrEnum):
    """What is done with one mount, in this order; ``rollback`` only after a failure."""

    TUNE = "tune"
    RELOAD = "reload"
    VERIFY = "verify"
    SOAK = "soak"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class UpgradeStep:
    """One finished step; ``node`` is empty for a step of the whole server."""

    name: UpgradeStepName
    node: str
    ms: float
    ok: bool


class UpgradeStatus(StrEnum):
    """What became of one mount."""

    UPGRADED = "upgraded"
    ROLLED_BACK = "rolled_back"
    """It runs the version before again: a rollback was asked for, or the upgrade failed and has a
    problem."""
    UNCHANGED = "unchanged"
    """It already ran the version on every node; it was only verified."""
    WOULD_CHANGE = "would_change"
    FAILED = "failed"
    """It failed, and it could not be shown that it serves again."""
    NOT_STARTED = "not_started"
    """Nothing of it was changed: the first write failed, or an earlier mount did."""


@dataclass(frozen=True, slots=True)
class NodeRuns:
    """What one node runs for a mount, by its own answer.

    Args:
        node: its name; empty: the server has one node.
        wanted: the version that the mount is tuned to, as this node has it.
        version: the version that it last started.
        sha256: the digest of that file.
        plugin: what the answer of the plugin's process proves. A node keeps the version and digest
            of a process that did not start again (measured on OpenBao 2.7.2), so they prove
            nothing without it.
    """

    node: str
    wanted: str
    version: str
    sha256: str
    plugin: PluginOnNode

    @property
    def serves(self) -> bool:
        """Whether the plugin was seen to run."""
        return self.plugin.state is PluginState.RUNS

    def runs(self, entry: CatalogEntry) -> bool:
        """Whether this node serves the mount with this entry's file."""
        return self.serves and (self.version, self.sha256) == (entry.version, entry.sha256)


@dataclass(frozen=True, slots=True)
class PlannedUpgrade:
    """What will be done with one mount.

    Args:
        mount: the mount.
        before: the version that it runs until then; empty: not known.
        rollback_target: the entry to roll back to; None: the version before is not known, or not
            registered any more.
        entry: the entry to run.
        tuned: whether the server already has the version as the mount's.
        open: whether an earlier run began this and did not finish it, as far as it is recorded.
        nodes: what each node runs now.
    """

    mount: MountRef
    before: str
    rollback_target: CatalogEntry | None
    entry: CatalogEntry
    tuned: bool
    open: bool
    nodes: tuple[NodeRuns, ...]

    @property
    def unchanged(self) -> bool:
        """Whether every node runs the version already, and no earlier run is unfinished."""
        return self.running and not self.open

    @property
    def running(self) -> bool:
        """Whether every node runs the version already, verified or not."""
        return self.tuned and all(one.runs(self.entry) for one in self.nodes)


@dataclass(frozen=True, slots=True)
class UpgradePlan:
    """The mounts in the order of their turn, and what is to be said before the first write.

    ``at_risk`` are mounts that share the process of a mount that is reloaded, so that they may
    lose requests.
    """

    mounts: tuple[PlannedUpgrade, ...]
    nodes: tuple[str, ...]
    warnings: tuple[Problem, ...] = ()
    at_risk: tuple[str, ...] = ()

    @property
    def to_do(self) -> tuple[PlannedUpgrade, ...]:
        """The mounts that change."""
        return tuple(one for one in self.mounts if not one.unchanged)


@dataclass(frozen=True, slots=True)
class UpgradedMount:
    """What became of one mount.

    Args:
        mount: the mount.
        before: the version that it had; empty: unknown.
        after: the version that was asked for.
        result: what became of it.
        steps: what was done, in order.
        nodes: what each node runs in the end.
        problem: why it failed; None: it did not.
        error: the failure of the first write, if nothing of the mount was changed.
    """

    mount: MountRef
    before: str
    after: str
    result: UpgradeStatus
    steps: tuple[UpgradeStep, ...] = ()
    nodes: tuple[NodeRuns, ...] = ()
    problem: Problem | None = None
    error: SkyflowctlError | None = None


@dataclass(frozen=True, slots=True)
class UpgradeResult:
    """All mounts, those without a turn too."""

    mounts: tuple[UpgradedMount, ...]
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """6: a mount does not serve; 3: a mount failed and serves; 0: none failed; else that of a
        failure before anything was changed."""
        if any(one.result is UpgradeStatus.FAILED for one in self.mounts):
            return ExitCode.UNHEALTHY
        failed = [one for one in self.mounts if one.problem]
        if not failed:
            return ExitCode.OK
        changed = any(one.result in _CHANGED for one in self.mounts)
        error = failed[0].error
        return error.exit_code if error and not changed else ExitCode.PARTIAL


_CHANGED = frozenset({UpgradeStatus.UPGRADED, UpgradeStatus.ROLLED_BACK})
