"""The serving side of gRPC: methods, statuses, deadlines, cancellation, the last reply."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from support.http2_wire import (
    CALL,
    EchoMethods,
    Sent,
    Wire,
    data,
    goaway_code,
    reset_code,
    server_wire,
    turns,
)

from skyflowctl.plugin.http2.frames import (
    DATA,
    END_STREAM,
    HEADERS,
    ErrorCode,
    frame,
    reset_frame,
)
from skyflowctl.plugin.http2.grpc import MAX_MESSAGE, MESSAGE_PREFIX
from skyflowctl.plugin.http2.server import Metadata, UnaryMethod


def status_of(sent: list[Sent]) -> dict[str, str]:
    """The fields of all header frames of one call, in order, joined."""
    fields: dict[str, str] = {}
    for one in sent:
        if one.kind == HEADERS:
            fields |= one.fields
    return fields


async def answer(wire: Wire, *frames: bytes) -> tuple[bytes | None, dict[str, str]]:
    wire.receive(*frames)
    await turns()
    sent = wire.sent()
    content = b"".join(one.payload for one in sent if one.kind == DATA)
    return content[5:] if content else None, status_of(sent)


class Unencodable:
    """A reply that its encoder refuses."""

    def SerializeToString(self) -> bytes:
        raise ValueError("private")


def test_a_call_is_answered_with_headers_message_and_trailers():
    async def story() -> None:
        methods = EchoMethods()
        wire = server_wire(methods)
        for number in (1, 3, 5):
            message, fields = await answer(wire, wire.call(number, b"m", multiplex_id="ab"))
            assert message == b"m"
            assert fields == {
                ":status": "200",
                "content-type": "application/grpc",
                "grpc-status": "0",
            }
        assert methods.metadata == {"multiplex-id": "ab"}
        assert wire.connection.streams == {}

    asyncio.run(story())


def test_an_answer_that_needs_no_waiting_makes_no_task():
    async def story() -> None:
        wire = server_wire(EchoMethods())
        wire.receive(wire.call(1, b"now", "/test.Test/Quick"))
        assert len(asyncio.all_tasks()) == 1
        assert [one.payload[5:] for one in wire.sent() if one.kind == DATA] == [b"now"]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        (":method", "GET", "405"),
        ("content-type", "text/plain", "415"),
        ("content-type", None, "415"),
        ("te", None, "400"),
    ],
)
def test_what_is_no_grpc_is_refused(field: str, value: str | None, status: str):
    async def story() -> None:
        wire = server_wire(EchoMethods())
        fields = [(n, value if n == field else v) for n, v in CALL if n != field or value]
        _, answered = await answer(wire, wire.headers(1, fields), data(1, b"x", end=True))
        assert answered[":status"] == status
        assert wire.connection.streams == {}
        assert (await answer(wire, wire.call(3)))[0] == b"hello"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        (lambda wire: wire.call(1, path="/test.Test/Absent"), "12", "Method not found"),
        (lambda wire: wire.call(1, grpc_timeout="soon"), "2", "Invalid grpc-timeout header"),
        (lambda wire: wire.call(1, path="/test.Test/Crash"), "2", "Internal Server Error"),
        (lambda wire: wire.headers(1, CALL, end=True), "13", "one message was expected"),
        (
            lambda wire: wire.headers(1, CALL) + data(1, b"a") + data(1, b"b", end=True),
            "13",
            "one message was expected",
        ),
        (
            lambda wire: wire.headers(1, CALL) + frame(DATA, END_STREAM, 1, b"\0\0\0\0\5ab"),
            "13",
            "one message was expected",
        ),
        (
            lambda wire: (
                wire.headers(1, CALL) + frame(DATA, END_STREAM, 1, MESSAGE_PREFIX.pack(1, 0))
            ),
            "12",
            "compressed messages are not understood",
        ),
        (
            lambda wire: (
                wire.headers(1, CALL) + frame(DATA, 0, 1, MESSAGE_PREFIX.pack(0, MAX_MESSAGE + 1))
            ),
            "8",
            "the message is too long",
        ),
    ],
)
def test_a_call_that_fails_has_a_status(call, status: str, text: str, caplog):
    async def story() -> None:
        wire = server_wire(EchoMethods())
        _, fields = await answer(wire, call(wire))
        assert fields[":status"] == "200"
        assert (fields["grpc-status"], fields["grpc-message"]) == (status, text)
        assert wire.connection.streams == {}
        assert (await answer(wire, wire.call(3)))[0] == b"hello"

    asyncio.run(story())


def test_an_answer_before_the_last_word_ends_the_stream():
    async def story() -> None:
        wire = server_wire(EchoMethods())
        fields = [*CALL[:2], (":path", "/absent"), *CALL[3:]]
        wire.receive(wire.headers(1, fields))
        sent = wire.sent()
        assert sent[0].ends
        assert reset_code(sent, 1) == ErrorCode.NO_ERROR
        wire.receive(data(1, b"still", end=True))
        assert wire.sent() == []

    asyncio.run(story())


@pytest.mark.parametrize(
    ("length", "taken"), [("10", True), ("9", False), ("x", False), ("1" * 5000, False)]
)
def test_a_content_length_is_held_to(length: str, taken: bool):
    async def story() -> None:
        wire = server_wire(EchoMethods())
        wire.receive(wire.call(1, b"hello", content_length=length))
        await turns()
        sent = wire.sent()
        assert any(one.ends for one in sent) is taken
        assert reset_code(sent, 1) == (None if taken else ErrorCode.PROTOCOL_ERROR)

    asyncio.run(story())


def test_trailers_end_a_call():
    async def story() -> None:
        wire = server_wire(EchoMethods())
        end = wire.headers(1, [("x", "y")], end=True)
        assert (await answer(wire, wire.headers(1, CALL), data(1, b"m"), end))[0] == b"m"

    asyncio.run(story())


def test_a_reset_cancels_the_method():
    async def story() -> None:
        methods = EchoMethods()
        wire = server_wire(methods)
        wire.receive(wire.call(1, path="/test.Test/Wait"), wire.call(3, path="/test.Test/Wait"))
        await turns()
        wire.receive(reset_frame(1, ErrorCode.CANCEL))
        await turns()
        assert methods.cancelled == 1
        methods.gate.set()
        await turns()
        assert {one.stream for one in wire.sent()} == {3}
        assert wire.connection._tasks == set()

    asyncio.run(story())


def test_a_lost_connection_cancels_everything_once():
    async def story() -> None:
        methods = EchoMethods()
        lost: list[int] = []
        wire = server_wire(methods)
        wire.connection._on_lost = lambda: lost.append(len(wire.connection.streams))
        for number in (1, 3, 5):
            wire.receive(wire.call(number, path="/test.Test/Wait", grpc_timeout="9S"))
        await turns()
        wire.connection.connection_lost(None)
        await turns()
        assert (methods.cancelled, lost) == (3, [3])

    asyncio.run(story())


def test_a_deadline_ends_the_call_and_only_that():
    async def story() -> None:
        methods = EchoMethods()
        wire = server_wire(methods)
        path = "/test.Test/Wait"
        wire.receive(
            wire.call(1, path=path, grpc_timeout="90S"),
            wire.call(3, path=path, grpc_timeout="50m"),
            wire.call(5, path=path, grpc_timeout="120m"),
            wire.call(7, path=path),
        )
        started, ended = time.monotonic(), {}
        while len(ended) < 2:
            await asyncio.sleep(0.005)
            for one in wire.sent():
                ended[one.stream] = (time.monotonic() - started, one.fields["grpc-status"])
        assert {number: status for number, (_, status) in ended.items()} == {3: "4", 5: "4"}
        assert ended[3][0] >= 0.045
        assert ended[5][0] >= 0.115
        await turns()
        assert methods.cancelled == 2
        assert sorted(wire.connection.streams) == [1, 7]
        wire.connection.connection_lost(None)

    asyncio.run(story())


def test_deadlines_of_a_caller_that_does_not_read_end_the_connection():
    async def story() -> None:
        failed: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
        wire = server_wire(EchoMethods())
        wire.connection.pause_writing()
        fields = [*CALL, ("grpc-timeout", "0S")]
        for number in range(1, 2203, 2):  # none of them is said to its end
            wire.receive(wire.headers(number, fields))
        async with asyncio.timeout(5):
            while not wire.transport.closed:
                await asyncio.sleep(0.005)
        assert goaway_code(wire.sent()) == ErrorCode.ENHANCE_YOUR_CALM
        assert failed == []

    asyncio.run(story())


def test_a_deadline_that_is_over_before_the_answer():
    async def story() -> None:
        wire = server_wire(EchoMethods())
        wire.receive(wire.call(1, path="/test.Test/Wait", grpc_timeout="0S"))
        await asyncio.sleep(0.03)
        assert status_of(wire.sent())["grpc-status"] == "4"

    asyncio.run(story())


def test_a_listener_hears_and_the_call_ends_or_stays():
    async def story() -> None:
        methods = EchoMethods()
        wire = server_wire(methods)
        wire.receive(wire.headers(1, [*CALL[:2], (":path", "/test.Test/Listen"), *CALL[3:]]))
        assert wire.sent()[0].kind == HEADERS
        wire.receive(data(1, b"a") + data(1, b"b")[:12])
        wire.receive(data(1, b"b")[12:] + data(1, b"c"))
        assert methods.heard == [b"a", b"b", b"c"]
        wire.receive(frame(DATA, END_STREAM, 1))
        assert wire.sent()[-1].fields == {"grpc-status": "0"}
        _, fields = await answer(wire, wire.call(3, b"d", "/test.Test/Stay"))
        assert fields == {":status": "200", "content-type": "application/grpc"}
        assert methods.heard[-1] == b"d"
        assert list(wire.connection.streams) == [3]

    asyncio.run(story())


def test_what_comes_after_the_last_reply_waits_until_it_is_written():
    async def story() -> None:
        methods = EchoMethods()
        wire = server_wire(methods)
        wire.transport.unread = 1
        wire.receive(wire.call(1, b"bye", "/test.Test/Last"))
        await asyncio.sleep(0.05)
        assert wire.sent()[-1].ends
        assert methods.after == []
        wire.transport.unread = 0
        async with asyncio.timeout(2):
            while not methods.after:
                await asyncio.sleep(0.005)

    asyncio.run(story())


def test_the_last_reply_is_written_before_what_comes_after_it():
    async def story() -> None:
        methods = EchoMethods()
        wire = server_wire(methods)
        seen: list[bool] = []
        served = dict(methods.served())
        last = served[b"/test.Test/Last"]
        written = wire.transport.written
        wire.connection._methods = served | {
            b"/test.Test/Last": replace(last, afterwards=lambda: seen.append(b"bye" in written))
        }
        wire.receive(wire.call(1, b"bye", "/test.Test/Last"))
        await turns()
        assert seen == [True]

    asyncio.run(story())


@pytest.mark.parametrize("quick", [False, True])
def test_a_reply_that_cannot_be_encoded_is_an_error_of_the_call_only(quick: bool):
    async def unencodable(_message: bytes, _metadata: Metadata) -> Unencodable:
        return Unencodable()

    async def story() -> None:
        wire = server_wire(EchoMethods())
        method = UnaryMethod(bytes, unencodable, (lambda _: Unencodable()) if quick else None)
        wire.connection._methods = {**wire.connection._methods, b"/test.Test/Bad": method}
        content, fields = await answer(wire, wire.call(1, path="/test.Test/Bad"))
        assert content is None
        assert (fields["grpc-status"], fields["grpc-message"]) == (
            "13",
            "the reply cannot be encoded",
        )
        assert wire.connection.streams == {}
        assert (await answer(wire, wire.call(3, b"fine")))[0] == b"fine"

    asyncio.run(story())
