"""D on a real server: what its log has of parked, approved and repeated creds requests."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.approvals import ALL, Approvals, guarded, running_approvals

pytestmark = [pytest.mark.real_server, pytest.mark.slow]
ROLE = "order-consumer-analytics"


@pytest.fixture(scope="module")
def place() -> Iterator[Approvals]:
    with running_approvals() as running:
        yield running


def test_d_one_parked_one_approved_and_one_thrice_run_request(place: Approvals, tmp_path) -> None:
    token = place.operator(guarded("skyflow/order/creds/*", controlled=ALL))

    def ask() -> dict[str, str]:
        return place.api("GET", f"skyflow/order/creds/{ROLE}", token=token)[1]["wrap_info"]

    def unwrap(parked: dict[str, str]) -> None:
        body = {"token": parked["token"]}
        status, answer = place.api("POST", "sys/wrapping/unwrap", body, token=token)
        assert (status, bool(answer["data"]["access_token"])) == (200, True)

    ask()
    once, thrice = ask(), ask()
    for parked, runs in ((once, 1), (thrice, 3)):
        place.approve(parked["accessor"])
        for _ in range(runs):
            unwrap(parked)
    log = tmp_path / "audit.log"
    log.write_bytes(place.stack.audit_log.read_bytes())

    def answer(*args: str) -> dict:
        done = place.stack.cli("audit", *args, "-o", "json", exported=True)
        return json.loads(done.stdout)["data"]

    found = answer("who", str(log), "--role", ROLE, "--app", "ana")
    rows = [(one["outcome"], one["approved_by"]) for one in found["requests"]]
    assert rows == [("pending", [])] * 3 + [("granted", ["otto"])] * 4
    assert found["summary"]["read"]["damaged"] == {}
    totals = answer("report", str(log), "--app", "ana")["totals"]
    assert (totals["requests"], totals["granted"], totals["pending"]) == (7, 4, 3)
    unused = answer("unused", str(log), "--days", "1s")["unused"]
    assert f"skyflow/order/creds/{ROLE}" not in [one["name"] for one in unused]
