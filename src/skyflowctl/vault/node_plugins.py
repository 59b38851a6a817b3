"""Which mounts' plugins run on a node. No answer of the engine itself is no proof."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from skyflowctl.concurrency import Workers
from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.hcl import policy_rule, rules_to_add
from skyflowctl.vault.errors import ForbiddenError, PluginMissingError, VaultError
from skyflowctl.vault.gateway import Gateway, in_time
from skyflowctl.vault.health_states import health_state
from skyflowctl.vault.live import LiveConfig

_ENGINE_ANSWERED = frozenset(
    {"ok", "unproven", "unconfigured", "refused", "token_service_unreachable"}
)


class PluginState(StrEnum):
    """What a node's answers prove about one mount's plugin."""

    RUNS = "runs"
    DOES_NOT_RUN = "does_not_run"
    NOT_KNOWN = "not_known"


@dataclass(frozen=True, slots=True)
class PluginOnNode:
    """One mount's plugin on one node.

    Args:
        state: what is known.
        why: why it does not run, or is not known; empty: it runs.
        fix: what would make it known; empty: nothing to do, or the error gives none.
        config: the mount's config, if it was read from this node.
    """

    state: PluginState
    why: str = ""
    fix: str = ""
    config: LiveConfig | None = None


def plugins_on_node(
    client: Gateway, paths: Sequence[str], parallelism: int = 8
) -> Mapping[str, PluginOnNode]:
    """Ask a node for each mount's config, which needs the plugin but no token service."""
    with Workers(parallelism) as pool:
        found = pool.map(lambda path: plugin_on_node(client, path), paths)
        return dict(zip(paths, found, strict=True))


def plugin_on_node(client: Gateway, path: str) -> PluginOnNode:
    """Ask a node for one mount's config, within the time of one mount."""
    try:
        return PluginOnNode(PluginState.RUNS, config=in_time(client.engine(path).config))
    except PluginMissingError as error:
        return PluginOnNode(PluginState.DOES_NOT_RUN, "; ".join(error.messages))
    except VaultError as error:
        found = plugin_by_health(health_state(error), error.problems[0].why)
        if found.state is PluginState.NOT_KNOWN and isinstance(error, ForbiddenError):
            rule = policy_rule(f"{path}/config", ("read",))
            return PluginOnNode(found.state, found.why, rules_to_add(rule))
        return found


def plugin_by_health(state: str, why: str) -> PluginOnNode:
    """Return what a health state proves about the plugin of the mount that has it."""
    if state in _ENGINE_ANSWERED:
        return PluginOnNode(PluginState.RUNS)
    missing = state == "plugin_missing"
    return PluginOnNode(PluginState.DOES_NOT_RUN if missing else PluginState.NOT_KNOWN, why)


def merge_plugin_states(
    path: str, nodes: Iterable[tuple[str, Mapping[str, PluginOnNode]]]
) -> PluginOnNode:
    """Return what is known of a mount's plugin on all nodes together: the worst, with its nodes.

    Args:
        path: of the mount.
        nodes: the address of each node that was asked, and its answers.
    """
    seen = [(node, plugins[path]) for node, plugins in nodes if path in plugins]
    for state in (PluginState.DOES_NOT_RUN, PluginState.NOT_KNOWN):
        found = [(node, one) for node, one in seen if one.state is state]
        if found:
            why = "; ".join(f"{node}: {one.why}" for node, one in found)
            return PluginOnNode(state, why, found[0][1].fix)
    if seen:
        return PluginOnNode(PluginState.RUNS)
    return PluginOnNode(PluginState.NOT_KNOWN, "no node could be asked for it", "name the nodes")


def unknown_plugin(path: str, plugin: PluginOnNode) -> Problem:
    """Return the problem that it is not known whether a mount's plugin runs."""
    summary = f"whether the plugin of {path} runs is not known"
    return Problem("plugin-not-known", summary, plugin.why, plugin.fix or _SEE_HEALTH)


_SEE_HEALTH = "'skyflowctl health' says what helps"
