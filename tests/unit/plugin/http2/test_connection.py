"""What a connection answers to every frame, by the sections of RFC 9113 (no sockets)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from support.engine import scenario
from support.http2_wire import (
    CALL,
    EchoMethods,
    MemoryTransport,
    Wire,
    data,
    goaway_code,
    reset_code,
    server_wire,
    split,
    turns,
)

from skyflowctl.plugin.http2.connection import MAX_STREAMS
from skyflowctl.plugin.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    SettingId,
    frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from skyflowctl.plugin.http2.server import ServerConnection


@scenario
async def test_the_settings_come_first_and_are_acknowledged():
    wire = Wire(ServerConnection({}))
    wire.connection.connection_made(wire.transport)
    first, window = wire.sent()
    assert (first.kind, window.kind) == (SETTINGS, WINDOW_UPDATE)
    for part in (PREFACE[:5], PREFACE[5:] + settings_frame({})[:4], settings_frame({})[4:]):
        wire.receive(part)
    (ack,) = wire.sent()
    assert (ack.kind, ack.flags, ack.payload) == (SETTINGS, ACK, b"")


@pytest.mark.parametrize(
    "start",
    [b"GET / HTTP/1.1\r\n\r\n", PREFACE + frame(PING, 0, 0, bytes(8)), PREFACE + frame(4, 1, 0)],
)
@scenario
async def test_what_does_not_begin_as_it_must_is_refused(start: bytes):
    wire = Wire(ServerConnection({}))
    wire.connection.connection_made(wire.transport)
    wire.receive(start)
    assert goaway_code(wire.sent()) == ErrorCode.PROTOCOL_ERROR
    assert wire.transport.closed


ENDS_THE_CONNECTION = {
    "data on stream 0": (frame(DATA, 0, 0, b"x"), 1),
    "data on an idle stream": (frame(DATA, 0, 9, b"x"), 1),
    "headers on stream 0": (frame(HEADERS, END_HEADERS, 0, b"\x83"), 1),
    "headers on a stream of ours": (frame(HEADERS, END_HEADERS, 2, b"\x83"), 1),
    "padding too long": (frame(DATA, PADDED, 1, b"\x05abc"), 1),
    "a stream that depends on itself": (
        frame(HEADERS, END_HEADERS | PRIORITIZED, 9, b"\0\0\0\x09\0\x83"), 1,
    ),
    "priority bytes missing": (frame(HEADERS, END_HEADERS | PRIORITIZED, 9, b"\0\0"), 6),
    "a priority without stream": (frame(PRIORITY, 0, 0, bytes(5)), 1),
    "a priority of another size": (frame(PRIORITY, 0, 9, bytes(4)), 6),
    "reset on stream 0": (frame(RST_STREAM, 0, 0, bytes(4)), 1),
    "reset of an idle stream": (frame(RST_STREAM, 0, 9, bytes(4)), 1),
    "reset of another size": (frame(RST_STREAM, 0, 1, bytes(3)), 6),
    "settings of a stream": (frame(SETTINGS, 0, 1), 1),
    "settings of another size": (frame(SETTINGS, 0, 0, bytes(5)), 6),
    "an acknowledgement with content": (frame(SETTINGS, ACK, 0, bytes(6)), 6),
    "a promise": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), 1),
    "ping of a stream": (frame(PING, 0, 1, bytes(8)), 1),
    "ping of another size": (frame(PING, 0, 0, bytes(7)), 6),
    "goaway of a stream": (frame(GOAWAY, 0, 1, bytes(8)), 1),
    "goaway of another size": (frame(GOAWAY, 0, 0, bytes(7)), 6),
    "window of an idle stream": (window_frame(9, 1), 1),
    "window by nothing": (window_frame(0, 0), 1),
    "window of another size": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), 6),
    "window too large": (window_frame(0, 2**31 - 1), 3),
    "continuation of nothing": (frame(CONTINUATION, END_HEADERS, 1, b""), 1),
    "an interrupted block": (frame(HEADERS, 0, 9, b"\x83") + frame(PING, 0, 0, bytes(8)), 1),
    "a block continued elsewhere": (frame(HEADERS, 0, 9) + frame(CONTINUATION, 4, 11), 1),
    "an unknown frame inside a block": (frame(HEADERS, 0, 9) + frame(0xFA, 0, 9), 1),
    "a block too large": (
        frame(HEADERS, 0, 9) + b"".join(frame(CONTINUATION, 0, 9, bytes(16_000)) for _ in range(5)),
        11,
    ),
    "a frame too long": (frame(0xFA, 0, 0, bytes(16_385)), 6),
    "a block that is none": (frame(HEADERS, END_HEADERS, 9, b"\x80"), 9),
    "a number too low": (frame(HEADERS, END_HEADERS, 3, b"\x83"), 1),
    "a number that was used": (frame(HEADERS, END_HEADERS, 1, b"\x83"), 5),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS_THE_CONNECTION)
@scenario
async def test_an_error_of_the_connection(case: str):
    wire = server_wire(EchoMethods())
    wire.receive(wire.call(1), wire.call(5))
    await turns()
    wire.sent()
    frames, code = ENDS_THE_CONNECTION[case]
    wire.receive(frames, wire.headers(21, CALL))
    sent = wire.sent()
    assert goaway_code(sent) == code
    assert sent[-1].kind == GOAWAY
    assert int.from_bytes(sent[-1].payload[:4], "big") in (5, 9)
    assert wire.transport.closed


@scenario
async def test_an_error_of_a_stream_leaves_the_others_alone():
    methods = EchoMethods()
    wire = server_wire(methods)
    wire.receive(wire.call(1, path="/test.Test/Wait"))
    open_streams = (3, 5, 7, 9, 11)
    for number in open_streams:
        wire.receive(wire.headers(number, CALL))
    wire.receive(
        window_frame(3, 0),
        window_frame(5, 2**31 - 1),
        frame(PRIORITY, 0, 7, b"\0\0\0\x07\0"),
        wire.headers(9, [("a", "b")]),
        wire.headers(13, [*CALL, ("Upper", "x")]),
        wire.headers(11, [(":path", "/")], end=True),
        frame(PRIORITY, 0, 11, b"\0\0"),
    )  # fmt: skip
    sent = wire.sent()
    assert [reset_code(sent, number) for number in (3, 5, 7, 9, 13, 11)] == [1, 3, 1, 1, 1, 1]
    methods.gate.set()
    await turns()
    assert [one.stream for one in wire.sent() if one.ends] == [1]


@scenario
async def test_after_its_end_a_stream_takes_nothing():
    methods = EchoMethods()
    wire = server_wire(methods)
    wire.receive(wire.call(1, path="/test.Test/Wait"))
    wire.receive(frame(DATA, 0, 1, b"more"))
    assert reset_code(wire.sent(), 1) == ErrorCode.STREAM_CLOSED
    await turns()
    wire.receive(wire.call(3))
    await turns()
    wire.sent()
    wire.receive(frame(DATA, 0, 3, b"late"), window_frame(3, 1), reset_frame(3, 8))
    assert reset_code(wire.sent(), 3) == ErrorCode.STREAM_CLOSED
    wire.receive(frame(DATA, 0, 3, b"later"), wire.headers(3, [("a", "b")], end=True))
    assert wire.sent() == []
    assert not wire.transport.closed


@scenario
async def test_what_may_be_ignored_is():
    wire = server_wire(EchoMethods())
    wire.receive(
        frame(0xFA, 0xFF, 77, b"unknown"),
        frame(PRIORITY, 0, 99, b"\0\0\0\x01\0"),
        frame(SETTINGS, ACK, 0),
        frame(PING, ACK, 0, bytes(8)),
        settings_frame({SettingId.ENABLE_PUSH: 0}),
    )
    (ack,) = wire.sent()
    assert (ack.kind, ack.flags) == (SETTINGS, ACK)


@scenario
async def test_a_ping_is_answered_with_its_own_bytes():
    wire = server_wire(EchoMethods())
    wire.receive(frame(PING, 0, 0, b"12345678"))
    (answer,) = wire.sent()
    assert (answer.kind, answer.flags, answer.payload) == (PING, ACK, b"12345678")


@scenario
async def test_a_block_in_pieces_with_padding_and_priority_is_read():
    methods = EchoMethods()
    wire = server_wire(methods)
    block = wire.encoder.encode([*CALL, ("multiplex_id", "abc")])
    first = b"\x02" + b"\0\0\0\0\x10" + block[:10] + b"\0\0"
    wire.receive(
        frame(HEADERS, PADDED | PRIORITIZED, 1, first),
        frame(CONTINUATION, 0, 1, block[10:20]),
        frame(CONTINUATION, END_HEADERS, 1, block[20:]),
        frame(DATA, PADDED, 1, b"\x03" + data(1, b"hello")[9:12] + bytes(3)),
        frame(DATA, END_STREAM, 1, data(1, b"hello")[12:]),
    )
    await turns()
    assert [one.payload[5:] for one in wire.sent() if one.kind == DATA] == [b"hello"]
    assert methods.metadata == {"multiplex_id": "abc"}


@scenario
async def test_frames_cut_anywhere_are_the_same():
    wire = server_wire(EchoMethods())
    stream = wire.call(1, b"one") + frame(PING, 0, 0, bytes(8)) + wire.call(3, b"two")
    for position in range(len(stream)):
        wire.receive(stream[position : position + 1])
    await turns()
    assert [one.payload[5:] for one in wire.sent() if one.kind == DATA] == [b"one", b"two"]


@scenario
async def test_what_we_receive_is_acknowledged_so_that_the_peer_can_go_on():
    wire = server_wire(EchoMethods())
    wire.receive(wire.headers(1, CALL))
    part = frame(DATA, 0, 1, bytes(16_384))
    head = frame(DATA, 0, 1, b"\0" + (50_000_000).to_bytes(4, "big"))
    wire.receive(head, *[part] * 600)
    updates = [one for one in wire.sent() if one.kind == WINDOW_UPDATE]
    by_stream = dict.fromkeys((0, 1), 0)
    for one in updates:
        by_stream[one.stream] += int.from_bytes(one.payload, "big")
    received = 5 + 600 * 16_384
    assert received - 8 * 2**20 <= by_stream[0] <= received
    assert received - 2 * 2**20 <= by_stream[1] <= received
    assert len(updates) < 10


@scenario
async def test_more_than_we_allow_is_a_flow_control_error():
    wire = server_wire(EchoMethods())
    wire.connection._unacknowledged = 16 * 2**20
    wire.receive(wire.headers(1, CALL), frame(DATA, 0, 1, b"x"))
    assert goaway_code(wire.sent()) == ErrorCode.FLOW_CONTROL_ERROR
    wire = server_wire(EchoMethods())
    wire.receive(wire.headers(1, CALL))
    wire.connection.streams[1].unacknowledged = 4 * 2**20
    wire.receive(frame(DATA, 0, 1, b"x"))
    assert reset_code(wire.sent(), 1) == ErrorCode.FLOW_CONTROL_ERROR


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING, 0, 0, bytes(8)),
        settings_frame({}),
        frame(PRIORITY, 0, 99, bytes(5)),
        frame(DATA, 0, 1),
        frame(0xFA, 0, 0),
        window_frame(3, 1),
    ],
)
@scenario
async def test_a_flood_ends_the_connection(flood: bytes):
    wire = server_wire(EchoMethods())
    wire.receive(wire.headers(1, CALL), wire.call(3))
    await turns()
    loop = asyncio.get_running_loop()
    times = iter([100.0, 100.9])  # the time is looked at after 50,000 frames
    wire.connection.loop = SimpleNamespace(time=lambda: next(times), call_soon=loop.call_soon)
    for _ in range(99):
        wire.receive(flood * 1000)
    assert not wire.transport.closed
    wire.receive(flood * 1000)
    assert goaway_code(wire.sent()) == ErrorCode.ENHANCE_YOUR_CALM


@scenario
async def test_answers_that_nobody_reads_do_not_pile_up():
    wire = server_wire(EchoMethods())
    wire.connection.pause_writing()
    wire.receive(frame(PING, 0, 0, bytes(8)) * 1000)
    assert not wire.transport.closed
    wire.receive(frame(PING, 0, 0, bytes(8)))
    assert goaway_code(wire.sent()) == ErrorCode.ENHANCE_YOUR_CALM
    wire = server_wire(EchoMethods())
    for _ in range(3):
        wire.connection.pause_writing()
        wire.receive(frame(PING, 0, 0, bytes(8)) * 900)
        wire.connection.resume_writing()
    assert not wire.transport.closed


@scenario
async def test_opening_and_cancelling_is_refused_at_the_limit_not_piled_up():
    """A cancelled call counts until its work has ended: here its task has no turn to end."""
    methods = EchoMethods()
    wire = server_wire(methods)
    refused = 0
    for number in range(1, 2 * MAX_STREAMS + 2001, 2):
        wire.receive(wire.call(number, path="/test.Test/Wait"), reset_frame(number, 8))
    refused = sum(reset_code([one], one.stream) == ErrorCode.REFUSED_STREAM for one in wire.sent())
    assert refused == 1000
    assert len(wire.connection._tasks) == MAX_STREAMS
    await turns()
    assert len(wire.connection._tasks) == 0
    wire.receive(wire.call(2 * MAX_STREAMS + 2001))
    await turns()
    assert wire.sent()[-1].ends


@scenario
async def test_writes_of_one_turn_are_one_write():
    wire = server_wire(EchoMethods())
    wire.receive(*[wire.call(number) for number in range(1, 41, 2)])
    wire.transport.writes = 0
    await turns()
    assert wire.transport.writes == 1
    assert len(list(split(bytes(wire.transport.written)))) == 60


@scenario
async def test_a_closed_connection_hears_nothing():
    wire = server_wire(EchoMethods())
    wire.connection.close_with()
    assert goaway_code(wire.sent()) == ErrorCode.NO_ERROR
    wire.receive(wire.call(1))
    wire.connection.close_with()
    await turns()
    assert wire.sent() == []
    assert isinstance(wire.transport, MemoryTransport)
