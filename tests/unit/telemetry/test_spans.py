"""Trace ids, sampling and the current span."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from skyflowctl.telemetry.spans import (
    NO_SPAN,
    Sampler,
    SpanKind,
    TraceContext,
    Tracer,
    TraceSpan,
    child_span,
    outgoing_traceparent,
    parse_traceparent,
)

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
IDS = st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())


def traced(sampler: Sampler | None = None) -> tuple[Tracer, list[TraceSpan]]:
    ended: list[TraceSpan] = []
    return Tracer(sampler or Sampler(), ended.append), ended


@given(IDS)
def test_a_context_is_read_as_it_was_written(ids: tuple[int, int, bool]):
    context = TraceContext(*ids)
    assert parse_traceparent(context.traceparent()) == context


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        PARENT[:-1],
        PARENT + "-x",
        "ff" + PARENT[2:],
        PARENT.upper(),
        PARENT.replace("-", "_"),
        "00-" + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + "-01",
        PARENT.replace("7", "g"),
        "01" + PARENT[2:] + "x",
    ],
)
def test_what_is_no_traceparent_is_ignored(text: str | None):
    assert parse_traceparent(text) is None


def test_a_later_version_may_have_more_fields():
    assert parse_traceparent("01" + PARENT[2:] + "-more") == parse_traceparent(PARENT)


@given(st.text(max_size=70))
def test_any_text_is_read_or_ignored(text: str):
    context = parse_traceparent(text)
    assert context is None or context.trace_id


@given(IDS, st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans(), st.booleans())
def test_sampling_decides_as_the_sdk_does(ids, ratio: float, based: bool, called: bool):
    parent = TraceContext(*ids) if called else None
    span = SpanContext(ids[0], ids[1], True, TraceFlags(int(ids[2])))
    context = trace.set_span_in_context(NonRecordingSpan(span)) if called else None
    sdk = ParentBased(TraceIdRatioBased(ratio)) if based else TraceIdRatioBased(ratio)
    decided = sdk.should_sample(context, ids[0], "a").decision.is_sampled()
    assert Sampler(ratio, based).samples(ids[0], parent) == decided


def test_a_span_continues_the_trace_of_its_caller():
    tracer, ended = traced()
    with tracer.span("a", SpanKind.SERVER, PARENT) as span:
        span.set("skyflow.role", "writer")
        with child_span("b", SpanKind.CLIENT) as child:
            passed_on = parse_traceparent(outgoing_traceparent())
    assert [one.name for one in ended] == ["b", "a"]
    assert span.parent == 0xB7AD6B7169203331
    assert span.context.trace_id == child.context.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert child.parent == span.context.span_id
    assert passed_on == child.context
    assert span.attributes == {"skyflow.role": "writer"}
    assert span.end >= child.end >= child.start >= span.start > 0


def test_what_is_not_sampled_is_passed_on_and_not_recorded():
    tracer, ended = traced(Sampler(0.0))
    with tracer.span("a") as span:
        assert child_span("b") is NO_SPAN
        passed_on = outgoing_traceparent()
    assert ended == []
    assert passed_on == span.context.traceparent()
    assert passed_on.endswith("-00")


def test_without_a_tracer_there_is_no_span_and_nothing_to_pass_on():
    with child_span("b") as span:
        span.set("name", "value")
        span.fail("refused")
    assert (span.attributes, span.error) == ({}, None)
    assert outgoing_traceparent() is None


def test_an_error_is_recorded_by_its_type_alone():
    tracer, ended = traced()
    with pytest.raises(ValueError, match="a secret"), tracer.span("a"):
        raise ValueError("a secret")
    assert ended[0].error == "ValueError"
    assert outgoing_traceparent() is None


def test_tasks_have_spans_of_their_own():
    tracer, ended = traced()

    async def work(name: str) -> None:
        with tracer.span(name):
            await asyncio.sleep(0)
            with child_span(f"{name}-child"):
                await asyncio.sleep(0)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(work(name))

    asyncio.run(run())
    by_name = {one.name: one for one in ended}
    for name in "abc":
        assert by_name[f"{name}-child"].parent == by_name[name].context.span_id
