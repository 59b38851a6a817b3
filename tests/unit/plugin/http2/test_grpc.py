"""Messages, statuses and timeouts of gRPC."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyflowctl.plugin.http2.grpc import (
    MAX_MESSAGE,
    MESSAGE_PREFIX,
    GrpcError,
    GrpcStatus,
    MessageReader,
    decode_message_text,
    encode_message_text,
    read_timeout,
)


def framed(message: bytes) -> bytes:
    return MESSAGE_PREFIX.pack(0, len(message)) + message


@given(st.lists(st.binary(max_size=40), max_size=5), st.lists(st.integers(0, 60), max_size=6))
def test_messages_are_the_same_however_they_are_cut(messages: list[bytes], cuts: list[int]):
    content = b"".join(framed(one) for one in messages)
    reader, found = MessageReader(), []
    points = sorted({min(cut, len(content)) for cut in cuts} | {0, len(content)})
    for start, end in itertools.pairwise(points):
        found += reader.add(content[start:end])
    assert (found, reader.rest) == (messages, 0)


def test_half_a_message_is_told():
    reader = MessageReader()
    assert reader.add(framed(b"abc")[:-1]) == []
    assert reader.rest == 7


@pytest.mark.parametrize(
    ("prefix", "status"),
    [
        (MESSAGE_PREFIX.pack(1, 2), GrpcStatus.UNIMPLEMENTED),
        (MESSAGE_PREFIX.pack(0, MAX_MESSAGE + 1), GrpcStatus.RESOURCE_EXHAUSTED),
    ],
)
def test_a_message_that_is_not_taken(prefix: bytes, status: GrpcStatus):
    with pytest.raises(GrpcError) as error:
        MessageReader().add(prefix)
    assert error.value.status == status


@given(st.text())
def test_a_status_text_survives(text: str):
    encoded = encode_message_text(text)
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    if not any(0xD800 <= ord(char) < 0xE000 for char in text):
        assert decode_message_text(encoded) == text


def test_a_status_text_that_is_no_utf8_is_read():
    assert decode_message_text(b"a%ffb%zz") == "a\ufffdb%zz"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"90S", 90), (b"89999m", 89.999), (b"5u", 5e-6), (b"1n", 1e-9)],
)
def test_a_timeout(value: bytes, seconds: float):
    assert read_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"1", b"S", b"1s", b"-1S", b"123456789S", b"1.5S", b" 1S"])
def test_a_timeout_that_is_none(value: bytes):
    with pytest.raises(GrpcError):
        read_timeout(value)


def test_a_status_has_a_name():
    assert GrpcError(14, "").status_name == "UNAVAILABLE"
    assert GrpcError(99, "").status_name == "gRPC status 99"
