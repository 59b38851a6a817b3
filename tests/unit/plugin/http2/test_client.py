"""The calling side of gRPC: replies, failures, places, and servers that leave."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from support.http2_wire import Wire, data, goaway_code, reset_code, turns

from skyflowctl.plugin.http2.client import CallLostError, GrpcClient
from skyflowctl.plugin.http2.frames import (
    DATA,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    ErrorCode,
    SettingId,
    frame,
    goaway_frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from skyflowctl.plugin.http2.grpc import MESSAGE_PREFIX, GrpcError

HEAD = [(":status", "200"), ("content-type", "application/grpc+proto")]
OK = [("grpc-status", "0"), ("grpc-message", "")]


def client(settings: dict[SettingId, int] | None = None) -> Wire:
    return Wire(GrpcClient(b"localhost")).start(settings)


def call(wire: Wire, message: bytes = b"q", path: bytes = b"/s/M") -> asyncio.Task[bytes]:
    assert isinstance(wire.connection, GrpcClient)
    return asyncio.create_task(wire.connection.call(path, message))


def reply(wire: Wire, number: int, message: bytes) -> bytes:
    head, tail = wire.headers(number, HEAD), wire.headers(number, OK, end=True)
    return head + data(number, message) + tail


def test_a_call_is_one_write_and_its_reply_is_returned():
    async def story() -> None:
        wire = client()
        for number in (1, 3, 5):
            task = call(wire)
            wire.transport.writes = 0
            await turns()
            assert wire.transport.writes == 1
            head, content = wire.sent()
            assert head.fields == {
                ":method": "POST",
                ":scheme": "https",
                ":path": "/s/M",
                ":authority": "localhost",
                "content-type": "application/grpc",
                "te": "trailers",
            }
            assert (content.payload, content.ends) == (MESSAGE_PREFIX.pack(0, 1) + b"q", True)
            wire.receive(reply(wire, number, b"answer"))
            assert await task == b"answer"
        assert len(head.payload) == 6
        assert wire.connection.streams == {}

    asyncio.run(story())


def test_a_status_is_an_error_with_its_text():
    async def story() -> None:
        wire = client()
        task = call(wire)
        await turns()
        error = [*HEAD, ("grpc-status", "14"), ("grpc-message", "not %C3%A4 today")]
        wire.receive(wire.headers(1, error, end=True))
        with pytest.raises(GrpcError, match="not ä today") as raised:
            await task
        assert raised.value.status == 14

    asyncio.run(story())


@pytest.mark.parametrize(
    "answer",
    [
        lambda wire: wire.headers(1, [(":status", "503")], end=True),
        lambda wire: wire.headers(1, [(":status", "200"), ("content-type", "text/html")], end=True),
        lambda wire: wire.headers(1, HEAD, end=True),
        lambda wire: wire.headers(1, HEAD) + frame(DATA, END_STREAM, 1, data(1, b"x")[9:]),
        lambda wire: wire.headers(1, HEAD) + wire.headers(1, OK, end=True),
        lambda wire: wire.headers(1, HEAD) + data(1, b"a") * 2 + wire.headers(1, OK, end=True),
        lambda wire: (
            wire.headers(1, HEAD) + frame(DATA, 0, 1, b"\0\0\0") + wire.headers(1, OK, end=True)
        ),
        lambda wire: wire.headers(1, HEAD) + frame(DATA, 0, 1, MESSAGE_PREFIX.pack(1, 0)),
        lambda wire: wire.headers(1, HEAD) + wire.headers(1, [("grpc-status", "x")], end=True),
        lambda wire: wire.headers(1, [*HEAD, ("grpc-status", "1" * 5000)], end=True),
        lambda wire: (
            wire.headers(1, [(":status", "404")])
            + frame(DATA, 0, 1, b"<html>")
            + wire.headers(1, [("a", "b")], end=True)
        ),
    ],
)
def test_what_is_no_reply_is_an_error_of_the_call_only(answer):
    async def story() -> None:
        wire = client()
        task = call(wire)
        await turns()
        wire.receive(answer(wire))
        with pytest.raises(GrpcError):
            await task
        assert wire.connection.streams == {}
        after = call(wire)
        await turns()
        wire.receive(reply(wire, 3, b"fine"))
        assert await after == b"fine"

    asyncio.run(story())


@pytest.mark.parametrize(
    "answer",
    [
        lambda wire: frame(DATA, 0, 1, b"early"),
        lambda wire: wire.headers(1, [("a", "b")], end=True),
        lambda wire: wire.headers(1, HEAD) + wire.headers(1, OK),
    ],
)
def test_a_malformed_reply_resets_the_stream(answer):
    async def story() -> None:
        wire = client()
        task = call(wire)
        await turns()
        wire.sent()
        wire.receive(answer(wire))
        assert reset_code(wire.sent(), 1) == ErrorCode.PROTOCOL_ERROR
        with pytest.raises(CallLostError):
            await task

    asyncio.run(story())


def test_informational_headers_are_skipped():
    async def story() -> None:
        wire = client()
        task = call(wire)
        await turns()
        wire.receive(wire.headers(1, [(":status", "103")]), reply(wire, 1, b"x"))
        assert await task == b"x"

    asyncio.run(story())


def test_a_cancelled_call_resets_its_stream():
    async def story() -> None:
        wire = client()
        task = call(wire)
        await turns()
        wire.sent()
        task.cancel()
        await turns()
        assert reset_code(wire.sent(), 1) == ErrorCode.CANCEL
        wire.receive(reply(wire, 1, b"late"))
        assert wire.sent() == []
        assert wire.connection.streams == {}

    asyncio.run(story())


def test_a_reset_or_a_lost_connection_fails_the_call():
    async def story() -> None:
        wire = client()
        first, second = call(wire), call(wire)
        await turns()
        wire.receive(reset_frame(1, ErrorCode.REFUSED_STREAM))
        with pytest.raises(CallLostError, match="7"):
            await first
        wire.connection.connection_lost(None)
        with pytest.raises(CallLostError):
            await second
        with pytest.raises(CallLostError):
            await call(wire)

    asyncio.run(story())


def test_a_server_that_leaves_finishes_what_it_took():
    async def story() -> None:
        wire = client()
        first, second = call(wire), call(wire)
        await turns()
        wire.receive(goaway_frame(1, 0))
        with pytest.raises(CallLostError):
            await second
        assert not wire.connection.usable
        with pytest.raises(CallLostError):
            await call(wire)
        assert not wire.transport.closed
        wire.receive(reply(wire, 1, b"last"))
        assert await first == b"last"
        assert wire.transport.closed
        assert goaway_code(wire.sent()) == ErrorCode.NO_ERROR

    asyncio.run(story())


def test_no_more_calls_at_once_than_the_server_allows():
    async def story() -> None:
        wire = client({SettingId.MAX_CONCURRENT_STREAMS: 2})
        tasks = [call(wire, b"%d" % number) for number in range(5)]
        await turns()
        assert {one.stream for one in wire.sent()} == {1, 3}
        tasks[2].cancel()
        wire.receive(reply(wire, 1, b"0"))
        await turns()
        assert [one.payload[5:] for one in wire.sent() if one.kind == DATA] == [b"3"]
        wire.receive(settings_frame({SettingId.MAX_CONCURRENT_STREAMS: 9}))
        await turns()
        assert [one.stream for one in wire.sent() if one.kind == HEADERS] == [7]
        for number, index in ((3, 1), (5, 3), (7, 4)):
            wire.receive(reply(wire, number, b"r%d" % index))
        assert [await tasks[index] for index in (0, 1, 3, 4)] == [b"0", b"r1", b"r3", b"r4"]

    asyncio.run(story())


def test_a_call_cancelled_in_the_turn_that_gives_it_a_place_is_only_cancelled():
    async def story() -> None:
        wire = client({SettingId.MAX_CONCURRENT_STREAMS: 1})
        first, second = call(wire), call(wire)
        await turns()
        second.cancel()
        wire.receive(settings_frame({SettingId.MAX_CONCURRENT_STREAMS: 2}))
        with pytest.raises(asyncio.CancelledError):
            await second
        wire.receive(reply(wire, 1, b"first"))
        assert await first == b"first"

    asyncio.run(story())


def test_the_place_of_a_call_that_is_cancelled_goes_to_the_next():
    async def story() -> None:
        wire = client({SettingId.MAX_CONCURRENT_STREAMS: 1})
        first, second, third = call(wire), call(wire), call(wire, b"third")
        await turns()
        wire.sent()
        wire.receive(reply(wire, 1, b"first"))
        second.cancel()  # it has its place, and no turn yet
        await turns()
        assert [one.payload[5:] for one in wire.sent() if one.kind == DATA] == [b"third"]
        wire.receive(reply(wire, 3, b"last"))
        assert (await first, await third) == (b"first", b"last")
        assert second.cancelled()

    asyncio.run(story())


def test_any_number_of_calls_may_be_cancelled_while_the_server_does_not_read():
    async def story() -> None:
        wire = client()
        tasks = [call(wire) for _ in range(1100)]
        await turns()
        wire.sent()
        wire.connection.pause_writing()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in results} == {asyncio.CancelledError}
        assert [one.kind for one in wire.sent()] == [RST_STREAM] * 1100
        assert wire.connection.usable

    asyncio.run(story())


def test_late_replies_of_many_cancelled_calls_leave_the_others_alone():
    async def story() -> None:
        wire = client()
        tasks = [call(wire) for _ in range(1100)]
        kept = call(wire)
        await turns()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        wire.sent()
        wire.connection.pause_writing()
        for number in range(1, 2200, 2):
            wire.receive(reply(wire, number, b"late"))
        assert wire.sent() == []
        wire.receive(reply(wire, 2201, b"fine"))
        assert await kept == b"fine"

    asyncio.run(story())


def test_late_frames_are_bounded_and_those_of_no_stream_an_error():
    async def story() -> None:
        wire = client()
        task = call(wire)
        await turns()
        wire.receive(reply(wire, 1, b"fine"))
        assert await task == b"fine"
        late = wire.headers(1, HEAD)
        times = iter([100.0, 100.9])  # the time is looked at after 50,000 frames
        loop = asyncio.get_running_loop()
        wire.connection.loop = SimpleNamespace(time=lambda: next(times), call_soon=loop.call_soon)
        for _ in range(100):
            assert not wire.transport.closed
            wire.receive(late * 1000)
        assert goaway_code(wire.sent()) == ErrorCode.ENHANCE_YOUR_CALM
        wire = client()
        wire.receive(wire.headers(1, HEAD))
        assert goaway_code(wire.sent()) == ErrorCode.PROTOCOL_ERROR

    asyncio.run(story())


def test_a_server_may_not_allow_pushes():
    async def story() -> None:
        wire = client()
        wire.receive(settings_frame({SettingId.ENABLE_PUSH: 0}))
        assert not wire.transport.closed
        wire.receive(settings_frame({SettingId.ENABLE_PUSH: 1}))
        assert goaway_code(wire.sent()) == ErrorCode.PROTOCOL_ERROR

    asyncio.run(story())


def test_calls_that_wait_for_a_place_fail_with_the_connection():
    async def story() -> None:
        wire = client({SettingId.MAX_CONCURRENT_STREAMS: 1})
        tasks = [call(wire) for _ in range(3)]
        await turns()
        wire.connection.connection_lost(None)
        for task in tasks:
            with pytest.raises(CallLostError):
                await task

    asyncio.run(story())


def test_a_large_request_waits_for_the_windows_and_may_be_answered_early():
    async def story() -> None:
        wire = client()
        task = call(wire, b"x" * 100_000)
        await turns()
        assert sum(len(one.payload) for one in wire.sent() if one.kind == DATA) == 65_535
        wire.receive(window_frame(0, 10**6), window_frame(1, 10**6))
        assert wire.sent()[-1].ends
        wire.receive(reply(wire, 1, b"got it"))
        assert await task == b"got it"
        early = call(wire, b"x" * 10**6)
        wire.receive(window_frame(0, 10**6))
        await turns()
        wire.receive(reply(wire, 3, b"enough"))
        assert await early == b"enough"
        assert [one.kind for one in wire.sent() if one.stream == 3][-1] == RST_STREAM

    asyncio.run(story())


def test_a_server_opens_no_streams():
    async def story() -> None:
        wire = client()
        wire.receive(wire.headers(2, HEAD))
        assert goaway_code(wire.sent()) == ErrorCode.PROTOCOL_ERROR

    asyncio.run(story())
