"""What a node's answers prove about the plugins of its mounts."""

from __future__ import annotations

import pytest
from support.fake_server import FakeServer

from skyflowctl.vault.errors import OutcomeUnknownError, VaultError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.node_plugins import (
    PluginOnNode,
    PluginState,
    merge_plugin_states,
    plugins_on_node,
    unknown_plugin,
)
from skyflowctl.vault.transport import Reply, Request, make_reply

PATH = "skyflow/order"
RUNS = PluginOnNode(PluginState.RUNS)
GONE = PluginOnNode(PluginState.DOES_NOT_RUN, "no such file")
FORBIDDEN = PluginOnNode(PluginState.NOT_KNOWN, "403", "allow it")


class Node(FakeServer):
    """A node that gives one answer for a config."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def send(self, request: Request) -> Reply:
        assert request.path == f"{PATH}/config"
        if isinstance(self.answer, VaultError):
            raise self.answer
        return make_reply(200, {"data": self.answer}, {})


def fail(status: int, *texts: str) -> VaultError:
    return error_for(status, texts, method="GET", path=f"{PATH}/config")


@pytest.mark.parametrize(
    ("answer", "state", "why"),
    [
        ({"credentials_configured": False}, "runs", ""),
        (fail(404), "runs", ""),
        (fail(400, "mount not configured"), "runs", ""),
        (fail(404, 'route entry found, but backend is nil: "x/"'), "does_not_run", "nil"),
        (fail(500, "checksums did not match"), "does_not_run", "checksums did not match"),
        (fail(403, "permission denied"), "not_known", "permission denied"),
        (fail(404, 'no handler for route "x"'), "not_known", "no handler"),
        (fail(500, "internal error"), "not_known", "internal error"),
        (fail(503, "Vault is sealed"), "not_known", "sealed"),
        (OutcomeUnknownError("no answer", why="it hangs", fix="f"), "not_known", "it hangs"),
    ],
)
def test_an_answer_proves_one_of_three_states(answer, state, why):
    seen = plugins_on_node(Gateway(Node(answer)), [PATH])[PATH]
    assert seen.state == state
    assert why in seen.why
    assert (seen.config is not None) == (state == "runs")
    assert (f'path "{PATH}/config"' in seen.fix) == (why == "permission denied")


@pytest.mark.parametrize(
    ("nodes", "state", "why"),
    [
        ({"n0": RUNS, "n1": RUNS}, "runs", ""),
        ({"n0": RUNS, "n1": GONE}, "does_not_run", "n1: no such file"),
        ({"n0": FORBIDDEN, "n1": RUNS}, "not_known", "n0: 403"),
        ({"n0": FORBIDDEN, "n1": GONE}, "does_not_run", "n1: no such file"),
        ({}, "not_known", "no node"),
    ],
)
def test_the_worst_node_decides_and_no_answer_is_no_proof(nodes, state, why):
    merged = merge_plugin_states(PATH, [(node, {PATH: one}) for node, one in nodes.items()])
    assert (merged.state, merged.why[: len(why)]) == (state, why)
    if merged.state is PluginState.NOT_KNOWN:
        problem = unknown_plugin(PATH, merged)
        assert problem.code == "plugin-not-known"
        assert problem.why == merged.why
        assert problem.fix
