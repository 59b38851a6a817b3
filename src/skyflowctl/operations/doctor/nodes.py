"""What ``doctor`` says of each node: its state, its clock, and the file that it runs."""

from collections.abc import Iterator, Sequence

from skyflowctl.doctor.model import Diagnosis, Grade, of_problem, ok_finding
from skyflowctl.operations.node_states import (
    SKEW_SECONDS,
    NodeStatus,
    node_problems,
    skew_warnings,
    unlisted_warnings,
)
from skyflowctl.vault.catalog import RunningMount

NODES, PLUGIN = "nodes", "plugin"
_BAD_SKEW_SECONDS = 60
_OF_A_NODE = {
    "sealed": "bao operator unseal -address={node}",
    "uninitialized": "bao operator init -address={node}",
    "audit_blocked": "on that node: kill -HUP $(pidof bao)",
    "standby_without_leader": "bao operator raft list-peers -address={node}",
    "not_asked": "skyflowctl doctor --node {node}",
    "plugin_missing": "",
}
"""By a node's state: the command that mends it; empty: its fix has it."""


def node_findings(one: NodeStatus) -> Iterator[Diagnosis]:
    """Yield the state and the clock of one node."""
    fix = "\n".join(filter(None, (one.fix, _node_command(one))))
    if one.state == "not_asked":
        yield Diagnosis(NODES, Grade.UNKNOWN, f"{one.node} was not asked", one.detail, fix)
        return
    for problem in node_problems([one]):
        yield Diagnosis(NODES, Grade.BAD, problem.summary, problem.why, fix)
    if one.state == "standby_forwards":
        summary = f"{one.node} serves no reads itself"
        yield Diagnosis(NODES, Grade.WARNING, summary, one.detail, fix)
    for problem in unlisted_warnings([one]):
        yield of_problem(NODES, Grade.UNKNOWN, problem)
    for problem in skew_warnings([one]):
        far = abs(one.clock_skew_seconds or 0) >= _BAD_SKEW_SECONDS
        yield of_problem(NODES, Grade.BAD if far else Grade.WARNING, problem)
    if one.well and one.state != "standby_forwards":
        skew = one.clock_skew_seconds
        clock = f"its clock is within {SKEW_SECONDS} s of this machine's"
        told = clock if skew is not None and abs(skew) < SKEW_SECONDS else ""
        yield ok_finding(NODES, f"{one.node} is {one.state}", told)


def _node_command(one: NodeStatus) -> str:
    """Return the command that mends a node, or shows its own answer."""
    command = _OF_A_NODE.get(one.state, "bao status -address={node}")
    return command.format(node=one.node)


def other_files(
    nodes: Sequence[NodeStatus], running: Sequence[RunningMount]
) -> Iterator[Diagnosis]:
    """Yield the mounts that run another file on one node than on the one at the address."""
    for one in running:
        for node in nodes:
            there = node.digests.get(one.path, "")
            if there and one.sha256 and there != one.sha256:
                summary = f"{one.path} runs another file on {node.node}"
                why = f"{there[:12]} there, {one.sha256[:12]} at the address"
                # It reloads only the nodes that do not run what is registered.
                fix = f"skyflowctl plugin upgrade {one.path} --to {one.version}"
                yield Diagnosis(PLUGIN, Grade.BAD, summary, why, fix)
