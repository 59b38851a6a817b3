"""One line to one entry: whatever it holds, it is an entry or a reason."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audit_logs import three_apps

from skyflowctl.audit.clipping import KEPT_BYTES, TEXT_MAX, clip_entry
from skyflowctl.audit.entries import (
    NOT_AN_ENTRY,
    NOT_JSON,
    TOO_DEEP,
    WRONG_TYPES,
    Entry,
    decode_line,
)

REASONS = {NOT_JSON, NOT_AN_ENTRY, WRONG_TYPES, TOO_DEEP}
LINES = three_apps().lines()
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def entry_of(**fields: object) -> Entry | str:
    base: dict[str, object] = {"type": "response", "request": {"id": "x"}}
    return decode_line(json.dumps({**base, **fields}).encode())


def test_every_real_line_is_an_entry() -> None:
    assert all(isinstance(decode_line(each), Entry) for each in LINES)


def test_fields_that_are_used_are_read() -> None:
    found = entry_of(
        time="t",
        auth={"display_name": "d", "policy_results": {"allowed": True}},
        request={
            "id": "x",
            "headers": {"application-source": ["a"], "x-skyflowctl-run": ["r"], "other": 5},
            "data": {"ctx": {"a": [1]}, "unknown": {}},
        },
        response={"wrap_info": {"token": "w"}, "data": {"key_id": "k"}},
        error="e",
    )
    assert isinstance(found, Entry)
    assert found.request.headers is not None
    assert (found.request.headers.claimed, found.request.headers.run) == (["a"], ["r"])
    assert found.request.data is not None
    assert found.request.data.ctx == {"a": [1]}
    assert found.response is not None
    assert found.response.wrap_info is not None
    assert (found.response.wrap_info.token, found.error) == ("w", "e")


@given(st.binary(max_size=200))
def test_garbage_is_a_reason(line: bytes) -> None:
    assert decode_line(line) in REASONS


@given(JSON, st.sampled_from(["time", "type", "auth", "request", "response", "error"]))
def test_any_value_in_any_place_is_an_entry_or_a_reason(value: object, name: str) -> None:
    found = entry_of(**{name: value})
    assert isinstance(found, Entry) or found in REASONS


@given(st.sampled_from(LINES), st.integers(0, 3000), st.binary(min_size=1, max_size=4))
def test_a_real_line_with_bytes_replaced(line: bytes, at: int, put: bytes) -> None:
    at %= len(line)
    found = decode_line(line[:at] + put + line[at + len(put) :])
    assert isinstance(found, Entry) or found in REASONS


@pytest.mark.parametrize("part", [b'{"a":', b"["])
@pytest.mark.parametrize("field", [b"ctx", b"unknown"])
def test_deep_nesting_does_not_break_the_stack(part: bytes, field: bytes) -> None:
    head = b'{"type":"response","request":{"id":"x","data":{"' + field + b'":'
    assert decode_line(head + part * 200_000) in {TOO_DEEP, NOT_JSON}


@given(JSON)
def test_clipping_bounds_whatever_stands_in_a_line(value: object) -> None:
    many = ["p" * 2000] * 99
    found = entry_of(
        time="t" * 30,
        auth={"policies": many, "metadata": {str(n): "m" * 5000 for n in range(50)}},
        request={"id": "i" * 5000, "path": "p" * 5000, "data": {"ctx": value, "token": many}},
        error="e" * 300,
    )
    assert isinstance(found, Entry)
    cut = clip_entry(found)
    assert (cut.time, cut.error) == ("t" * 30, "e" * 300)
    assert (len(cut.request.id), len(cut.request.path)) == (TEXT_MAX, TEXT_MAX)
    assert len(msgspec.json.encode(cut)) < 10 * KEPT_BYTES


def test_clipping_leaves_the_largest_real_ctx_alone() -> None:
    ctx = {f"key_{number:02d}": "x" * 240 for number in range(16)}
    found = entry_of(request={"id": "x", "data": {"ctx": ctx}})
    assert isinstance(found, Entry)
    cut = clip_entry(found)
    assert cut.request.data is not None
    assert cut.request.data.ctx == ctx
