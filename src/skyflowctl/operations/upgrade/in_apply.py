"""Upgrades the mounts of an apply as ``plugin upgrade`` does: node by node, with a rollback."""

from collections.abc import Sequence

from skyflowctl.errors import ExitCode, PartlyDoneError, Problem, UnhealthyError
from skyflowctl.executor.steps import action_mount_path
from skyflowctl.executor.stop import Stop
from skyflowctl.frozen import dataclass
from skyflowctl.operations.mount_refs import MountRef
from skyflowctl.operations.upgrade.model import UpgradeRequest
from skyflowctl.operations.upgrade.nodes import open_upgrade_nodes
from skyflowctl.operations.upgrade.plan import plan_upgrade
from skyflowctl.operations.upgrade.run import OnUpgradeStep, UpgradeSession, run_upgrade
from skyflowctl.planner.plan import Action, ActionType
from skyflowctl.vault.gateway import Gateway, GatewayForNode


@dataclass(frozen=True, slots=True)
class ApplyUpgrader:
    """The upgrades of one apply; a :class:`skyflowctl.executor.ports.Upgrader`.

    Args:
        plugin: the plugin's name, which is the mounts' type.
        connect: connects to one node.
        on_step: called after each step.
    """

    plugin: str
    connect: GatewayForNode
    on_step: OnUpgradeStep

    def prove(self, actions: Sequence[Action], gateway: Gateway) -> tuple[Problem, ...]:
        """Prove what ``plugin upgrade`` proves; see ``Upgrader``.

        A mount that this apply moves is left to its turn.
        """
        wanted: dict[str, list[MountRef]] = {}
        live = gateway.sys.mounts()
        for one in actions:
            path = action_mount_path(one)
            if one.action is ActionType.PLUGIN_UPGRADE and path in live:
                mounts = wanted.setdefault(str(one.body["plugin_version"]), [])
                mounts.append(MountRef(one.mount, path))
        if not wanted:
            return ()
        with open_upgrade_nodes(gateway, self.connect) as nodes:
            plans = [
                plan_upgrade(gateway, nodes, UpgradeRequest(self.plugin, tuple(mounts), version))
                for version, mounts in wanted.items()
            ]
        return tuple(problem for plan in plans for problem in plan.warnings)

    def upgrade(self, action: Action, gateway: Gateway) -> None:
        """Upgrade one mount, or make it run the version before again; see ``Upgrader``."""
        mount = MountRef(action.mount, action_mount_path(action))
        request = UpgradeRequest(self.plugin, (mount,), str(action.body["plugin_version"]))
        with open_upgrade_nodes(gateway, self.connect) as nodes:
            plan = plan_upgrade(gateway, nodes, request, probe=False)
            # No stop: what has begun is finished, and the executor begins nothing after one.
            session = UpgradeSession(gateway, nodes, Stop(), self.on_step)
            result = run_upgrade(session, plan, 0.0)
        (done,) = result.mounts
        if done.error:
            raise done.error
        if done.problem:
            serves = result.exit_code is not ExitCode.UNHEALTHY
            raise (PartlyDoneError if serves else UnhealthyError).of([done.problem])
