"""One trace from the command line through the server and the engine to the token service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.otlp import OtlpReceiver, ReceivedSpan, otlp_receiver
from support.stack import EXAMPLE, Stack, running_stack
from support.traces import drawn, server_hop

pytestmark = pytest.mark.real_server
EXCHANGE = "POST /v1/auth/sa/oauth/token"
CTX = "order:ORD-4711"


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def stack(collector: OtlpReceiver) -> Iterator[Stack]:
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with running_stack(EXAMPLE, apply=True, environ=asked) as running:
        yield running


def trace_of(collector: OtlpReceiver, run: str, last: str) -> list[ReceivedSpan]:
    """The spans of one run of skyflowctl, as soon as ``last`` and all parents are there."""

    def found(receiver: OtlpReceiver) -> list[ReceivedSpan]:
        spans = list(receiver.spans)
        ids = {one.trace_id for one in spans if one.attributes.get("skyflow.run") == run}
        mine = [one for one in spans if one.trace_id in ids]
        known = {one.span_id for one in mine}
        # Each process sends its own spans, in its own time.
        whole = all(one.parent_id in known for one in mine if one.parent_id)
        return mine if whole and last in {one.name for one in mine} else []

    return collector.wait_for(found)


def test_four_hops_of_one_token(stack: Stack, collector: OtlpReceiver):
    done = stack.json("creds", "order", "order-producer", "--ctx", CTX)
    request_id = done["data"]["request_id"]
    spans = trace_of(collector, done["run_id"], EXCHANGE)
    by_id = {one.span_id: one for one in spans}
    (service,) = [one for one in spans if one.name == EXCHANGE]
    exchange = by_id[service.parent_id]
    engine = by_id[exchange.parent_id]
    client = by_id[engine.parent_id]
    root = by_id[client.parent_id]
    hop = server_hop(stack.audit_log, request_id)
    assert [one.resource["service.name"] for one in (root, client, engine, exchange, service)] == [
        "skyflowctl", "skyflowctl", "skyflow-plugin", "skyflow-plugin", "skyflow-emulator",
    ]  # fmt: skip
    assert (root.name, root.parent_id) == ("skyflowctl creds", "")
    assert client.attributes["url.path"] == "/v1/skyflow/order/creds/order-producer"
    assert client.attributes["http.response.status_code"] == 200
    # The request id joins the spans on both sides of the server with its audit log.
    assert client.attributes["skyflow.request_id"] == request_id
    assert engine.attributes["skyflow.request_id"] == request_id
    assert client.start <= hop.start <= engine.start <= engine.end <= hop.end <= client.end
    # So does the emulator's own id on both sides of the exchange.
    theirs = "skyflow.token_service.request_id"
    assert exchange.attributes[theirs] == service.attributes[theirs]
    lines = drawn(spans, stack.audit_log)
    hops = [line.split()[0] for line in lines]
    assert hops[-4:] == ["openbao", "skyflow-plugin", "skyflow-plugin", "skyflow-emulator"]
    sent = b"".join(collector.bodies)
    assert CTX.encode() not in sent
    assert done["data"]["access_token"].encode() not in sent


def test_an_apply_has_its_actions_and_a_rotation_its_steps(stack: Stack, collector: OtlpReceiver):
    stack.api("DELETE", "skyflow/order/roles/order-consumer-support")
    done = stack.json("apply", "-y")
    spans = trace_of(collector, done["run_id"], "skyflowctl apply")
    (action,) = [one for one in spans if one.name == "create role"]
    assert action.attributes["skyflow.result"] == "done"
    (write,) = [one for one in spans if one.parent_id == action.span_id]
    assert write.name in {"POST", "PUT"}
    done = stack.json("rotate", "payment", "--generate", "-y")
    spans = trace_of(collector, done["run_id"], "skyflowctl rotate")
    (rotation,) = [one for one in spans if one.name == "rotation"]
    assert rotation.attributes["skyflow.result"] == "rotated"
    steps = [one.name for one in spans if one.parent_id == rotation.span_id]
    told = [one["name"] for one in done["data"]["mounts"][0]["steps"]]
    assert [one for one in steps if one in told] == told
    (root,) = [one for one in spans if one.name == "skyflowctl rotate"]
    assert {one.trace_id for one in spans} == {root.trace_id}
    assert {one.parent_id for one in spans if one is not root} <= {one.span_id for one in spans}


def test_exec_sends_its_span_before_the_program_replaces_it(stack: Stack, collector: OtlpReceiver):
    seen = len(collector.spans)
    words = ("exec", "order", "order-consumer-analytics", "--", "echo", "ran")
    assert stack.cli(*words, exported=True).stdout == "ran\n"
    (root,) = [one for one in collector.spans[seen:] if one.name == "skyflowctl exec"]
    (client,) = [one for one in collector.spans[seen:] if one.parent_id == root.span_id]
    assert client.attributes["url.path"] == "/v1/skyflow/order/creds/order-consumer-analytics"
