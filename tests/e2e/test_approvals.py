"""Control groups on a real server: no command takes a parked request for a done one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.approvals import ALL, Approvals, guarded
from support.stack import running_stack

pytestmark = pytest.mark.real_server


@pytest.fixture(scope="module")
def place() -> Iterator[Approvals]:
    with running_stack(apply=True) as stack:
        yield Approvals(stack).set_up()


def codes(envelope) -> list[str]:
    return [one["code"] for one in envelope["errors"]]


def description(place: Approvals, path: str = "skyflow/order") -> str:
    return place.api("GET", f"{path}/config")[1]["data"]["description"]


def test_a_write_without_a_way_to_wait_is_withdrawn_and_refused(place):
    token = place.operator(guarded("skyflow/order/config"))
    before, known = description(place), place.parked_ever()
    envelope = place.run(token, "config", "write", "order", "--description", "x", check=5)
    assert envelope["status"] == "refused"
    assert description(place) == before
    assert place.parked_ever() > known
    assert place.waiting() == {}


def test_a_control_group_without_a_ttl_is_refused(place):
    token = place.operator(guarded("skyflow/order/config", ttl=""))
    before = description(place)
    envelope = place.run(token, "config", "write", "order", "--description", "x", check=5)
    assert (envelope["status"], codes(envelope)) == ("refused", ["control_group_without_ttl"])
    assert description(place) == before


@pytest.mark.parametrize("command", ["config show", "config history", "plan", "health", "status"])
def test_a_parked_read_is_withdrawn_and_named(place, command):
    token = place.operator(guarded("skyflow/order/*", controlled=ALL))
    known = place.parked_ever()
    words = command.split()
    mount = ["order"] if words[0] == "config" else []
    envelope = place.run(token, *words, *mount, check=None)
    assert "skyflow/order" in str(envelope)
    if words[0] == "config":
        assert envelope["errors"][0]["code"] == "read-needs-approval"
    assert place.parked_ever() > known
    assert place.waiting() == {}


@pytest.mark.parametrize("command", ["config show", "config history"])
def test_a_read_that_a_control_group_without_a_ttl_swallows_is_refused(place, command):
    token = place.operator(guarded("skyflow/order/*", ttl="", controlled=ALL))
    envelope = place.run(token, *command.split(), "order", check=5)
    assert codes(envelope) == ["control_group_without_ttl"]
