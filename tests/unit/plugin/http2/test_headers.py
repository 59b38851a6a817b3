"""Header blocks: kept results are never stale, and messages against the rules are refused."""

from __future__ import annotations

import random

import pytest
from hpack import Decoder, Encoder

from skyflowctl.plugin.http2.frames import ErrorCode, Http2Error, MalformedError
from skyflowctl.plugin.http2.headers import (
    HeaderReader,
    HeaderWriter,
    check_reply,
    check_request,
)

GOOD = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":path", b"/x"),
    (b"te", b"trailers"),
]


def test_a_reader_agrees_with_the_library_on_any_sequence_of_blocks():
    """Blocks come again, and the table changes in between: both must see the same fields."""
    choice = random.Random(7)
    encoder, plain, reader = Encoder(), Decoder(), HeaderReader()
    for _ in range(3000):
        fields = [(b":method", b"POST"), (b"te", b"trailers")]
        if choice.random() < 0.3:
            fields.append((b"x", b"%d" % choice.randrange(200)))
        if choice.random() < 0.01:
            encoder.header_table_size = choice.choice([0, 100, 4096])
        block = encoder.encode(fields)
        expected = [tuple(one) for one in plain.decode(block, raw=True)]
        assert [tuple(one) for one in reader.decode(block)] == expected


def test_a_writer_is_understood_and_its_constant_blocks_get_short():
    writer, decoder = HeaderWriter(), Decoder()
    head = ((b":status", b"200"), (b"content-type", b"application/grpc"))
    tail = ((b"grpc-status", b"0"),)
    for _ in range(3):
        for fields in (head, tail):
            assert tuple(decoder.decode(writer.constant(fields), raw=True)) == fields
        error = [(b"grpc-status", b"5"), (b"grpc-message", b"no")]
        assert list(decoder.decode(writer.single(error), raw=True)) == error
    assert (len(writer.constant(head)), len(writer.constant(tail))) == (2, 1)


@pytest.mark.parametrize("size", [0, 40, 100, 4096, 2**20])
def test_a_writer_obeys_the_peers_table(size: int):
    writer, decoder = HeaderWriter(), Decoder()
    head = ((b":status", b"200"), (b"content-type", b"application/grpc"))
    writer.constant(head)
    decoder.decode(HeaderWriter().constant(head))
    writer, decoder = HeaderWriter(), Decoder()
    for limit in (4096, size, size):
        writer.limit_table(limit)
        for _ in range(3):
            assert tuple(decoder.decode(writer.constant(head), raw=True)) == head
        assert decoder.header_table_size <= max(limit, 0) or limit > 4096


@pytest.mark.parametrize(
    "block", [b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\xc0", b"\x40\x05ab", b"\x80"]
)
def test_a_block_that_is_none_ends_the_connection(block: bytes):
    with pytest.raises(Http2Error) as error:
        HeaderReader().decode(block)
    assert error.value.code is ErrorCode.COMPRESSION_ERROR


def test_headers_that_grow_when_decoded_are_refused():
    encoder, reader = Encoder(), HeaderReader()
    reader.decode(encoder.encode([(b"x", b"v" * 3000)]))
    with pytest.raises(Http2Error) as error:
        reader.decode(encoder.encode([(b"x", b"v" * 3000)] * 30))
    assert error.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_a_request_within_the_rules():
    assert check_request(GOOD)[b":path"] == b"/x"


@pytest.mark.parametrize(
    "fields",
    [
        GOOD[1:],
        [GOOD[0], *GOOD],
        [(b":other", b"x"), *GOOD],
        [(b":status", b"200"), *GOOD],
        [GOOD[3], *GOOD[:3]],
        [*GOOD[:2], (b":path", b""), GOOD[3]],
        [*GOOD, (b"Upper", b"x")],
        [*GOOD, (b"", b"x")],
        [*GOOD, (b"connection", b"close")],
        [*GOOD, (b"transfer-encoding", b"chunked")],
        [*GOOD[:3], (b"te", b"gzip")],
        [*GOOD, (b"x", b"a\r\nb")],
        [*GOOD, (b"x", b"a\0b")],
    ],
)
def test_a_request_against_the_rules(fields: list[tuple[bytes, bytes]]):
    with pytest.raises(MalformedError):
        check_request(fields)


def test_a_reply_and_its_trailers():
    assert check_reply([(b":status", b"200"), (b"a", b"b")], trailers=False)[b":status"] == b"200"
    assert check_reply([(b"grpc-status", b"0")], trailers=True) == {b"grpc-status": b"0"}
    for fields, trailers in (
        ([(b"a", b"b")], False),
        ([(b"a", b"b"), (b":status", b"200")], False),
        ([(b":path", b"/")], False),
        ([(b":status", b"200")], True),
        ([(b"A", b"b")], True),
    ):
        with pytest.raises(MalformedError):
            check_reply(fields, trailers=trailers)
