"""The row of each mount in a status, from what the nodes answered."""

from __future__ import annotations

import pytest
from support.fake_server import FakeServer

from skyflowctl.clock import SystemClock
from skyflowctl.operations import status as tested
from skyflowctl.operations.health import HealthResult, MountHealth
from skyflowctl.operations.mount_refs import MountRef
from skyflowctl.operations.node_states import deaf_node
from skyflowctl.vault.errors import OutcomeUnknownError, ServerUnreachableError
from skyflowctl.vault.gateway import Gateway


def test_a_mount_that_the_first_look_did_not_see_is_unreachable() -> None:
    """The server is silent in the look, and answers the next request."""
    order = MountRef("order", "skyflow/order")
    looked = HealthResult((MountHealth("", "", "unreachable", None, "refused"),))
    rows = tested._worst_of_nodes(looked, [order])
    assert [(one.path, one.state) for one in rows] == [("skyflow/order", "unreachable")]
    assert rows[0].detail


@pytest.mark.parametrize("names", [("n0",), ("n0", "n1")])
def test_a_server_of_which_no_node_serves_is_not_asked_further(names: tuple[str, ...]) -> None:
    silent = OutcomeUnknownError("no answer in 10 s: GET v1/sys/health", why="timed out")
    looked = HealthResult((), nodes=tuple(deaf_node(name, silent) for name in names))
    server = FakeServer()
    with pytest.raises(ServerUnreachableError) as raised:
        tested.status(Gateway(server), None, clock=SystemClock(), look=lambda: looked)
    assert "timed out" in raised.value.problems[0].why
    assert server.requests_made == 0
