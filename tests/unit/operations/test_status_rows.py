"""The row of each mount in a status, from what the nodes answered."""

from __future__ import annotations

from skyflowctl.operations import status as tested
from skyflowctl.operations.health import HealthResult, MountHealth
from skyflowctl.operations.mount_refs import MountRef


def test_a_mount_that_the_first_look_did_not_see_is_unreachable() -> None:
    """The server is silent in the look, and answers the next request."""
    order = MountRef("order", "skyflow/order")
    looked = HealthResult((MountHealth("", "", "unreachable", None, "refused"),))
    rows = tested._worst_of_nodes(looked, [order])
    assert [(one.path, one.state) for one in rows] == [("skyflow/order", "unreachable")]
    assert rows[0].detail
