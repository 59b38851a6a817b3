"""Parked requests within a namespace, and of what belongs to the server alone, asked from one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.approvals import ALL, Approvals, free, guarded
from support.plugin import wait_for

pytestmark = [pytest.mark.real_server, pytest.mark.slow]
NAMESPACE = "team-red"


HEADERS = "sys/config/auditing/request-headers"
HEADER = f"{HEADERS}/X-Skyflowctl-Run"


@pytest.fixture
def place(approvals: Approvals) -> Iterator[Approvals]:
    """The root namespace; nothing that a test leaves waiting meets the next one."""
    yield approvals
    approvals.withdraw_all()


@pytest.fixture
def pending_file(tmp_path: Path) -> Path:
    return tmp_path / "pending.json"


@pytest.fixture
def team(place: Approvals) -> Iterator[Approvals]:
    """A namespace with mounts, an operator's policy and an approver of its own."""
    place.api("POST", f"sys/namespaces/{NAMESPACE}")
    made = Approvals(place.stack, NAMESPACE).set_up()
    place.stack.cli("apply", "order", "-y", "-n", NAMESPACE, exported=True)
    try:
        yield made
    finally:
        made.withdraw_all()
        for path in made.api("GET", "sys/mounts")[1]["data"]:
            if path.startswith("skyflow/"):
                made.api("DELETE", f"sys/mounts/{path}")
        place.api("DELETE", f"sys/namespaces/{NAMESPACE}")
        wait_for(lambda: place.api("GET", f"sys/namespaces/{NAMESPACE}")[0] == 404)


def test_a_request_of_a_namespace_is_asked_for_and_run_in_that_namespace(place, team, pending_file):
    token, keep = team.operator(guarded("skyflow/order/config")), ("--pending", str(pending_file))
    outside = place.description()
    first = team.write(token, "of the team", *keep, check=7)
    assert team.write(token, "of the team", *keep, check=7)["data"] == first["data"]
    (kept,) = json.loads(pending_file.read_text())["requests"]
    assert kept["namespace"] == NAMESPACE
    accessor = first["data"]["pending"]["accessor"]
    assert (list(team.waiting()), place.waiting()) == ([accessor], {})
    # The same command for the root's mount is another request, and leaves this one alone.
    root = place.operator(guarded("skyflow/order/config"))
    other = place.write(root, "of the team", *keep, check=7)["data"]["pending"]["accessor"]
    assert (list(place.waiting()), list(team.waiting())) == ([other], [accessor])
    team.approve(accessor)
    team.write(token, "of the team", *keep, check=0)
    assert (team.description(), place.description()) == ("of the team", outside)
    assert (team.waiting(), list(place.waiting())) == ({}, [other])
    withdrawn = team.write(token, "again", *keep, check=7)["data"]["pending"]["accessor"]
    newer = team.write(token, "once more", *keep, check=7)["data"]["pending"]["accessor"]
    assert list(team.waiting()) == [newer] != [withdrawn]


def test_a_header_of_the_server_is_asked_for_in_the_root_from_within_a_namespace(
    place, team, pending_file
):
    """Audited headers exist in the root alone, whatever namespace the command names."""
    may = (free(f"{NAMESPACE}/*", *ALL, "sudo"), free(HEADERS, "read", "sudo"))
    token = place.operator(*may, guarded(HEADER, sudo=True))
    words = ("apply", "order", "-y", "-n", NAMESPACE, "--pending", str(pending_file))
    assert place.api("DELETE", HEADER)[0] == 204
    try:
        first, second = (place.run(token, *words, check=7) for _ in range(2))
        (action,) = first["data"]["actions"]
        assert (action["path"], action["result"]) == (HEADER, "pending")
        assert second["data"]["actions"][0]["pending"] == action["pending"]
        assert list(place.waiting()) == [action["pending"]["accessor"]]
        place.approve(action["pending"]["accessor"])
        (done,) = place.run(token, *words)["data"]["actions"]
        assert (done["result"], done["sent_by_run"]) == ("done", first["run_id"])
        assert place.api("GET", HEADER)[0] == 200
        assert place.waiting() == {}
        assert not pending_file.exists()
    finally:
        place.api("PUT", HEADER, {"hmac": False})
