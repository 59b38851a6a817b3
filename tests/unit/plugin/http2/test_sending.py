"""Content within the peer's windows: every byte arrives, in turn, whatever the windows do."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

from support.http2_wire import EchoMethods, Sent, Wire, goaway_code, server_wire, turns

from skyflowctl.plugin.http2.frames import (
    DATA,
    HEADERS,
    ErrorCode,
    SettingId,
    reset_frame,
    settings_frame,
    window_frame,
)

WINDOW = SettingId.INITIAL_WINDOW_SIZE


def sizes(frames: list[Sent]) -> dict[int, int]:
    found: dict[int, int] = defaultdict(int)
    for one in frames:
        if one.kind == DATA:
            found[one.stream] += len(one.payload)
    return dict(found)


def ask(wire: Wire, number: int, size: int) -> None:
    wire.receive(wire.call(number, b"%d" % size, path="/test.Test/Size"))


def test_a_large_reply_stays_within_stream_connection_and_frame():
    async def story() -> None:
        wire = server_wire(EchoMethods(), {WINDOW: 100_000})
        ask(wire, 1, 299_995)
        await turns()
        sent = wire.sent()
        assert sizes(sent) == {1: 65_535}
        assert max(len(one.payload) for one in sent) == 16_384
        wire.receive(window_frame(0, 1_000_000))
        assert sizes(wire.sent()) == {1: 34_465}
        wire.receive(window_frame(1, 1))
        assert sizes(wire.sent()) == {1: 1}
        wire.receive(window_frame(1, 500_000))
        sent = wire.sent()
        assert sizes(sent) == {1: 199_999}
        assert (sent[-1].kind, sent[-1].ends) == (HEADERS, True)
        assert wire.connection.streams == {}

    asyncio.run(story())


def test_a_stream_lives_until_its_last_byte_is_sent():
    async def story() -> None:
        wire = server_wire(EchoMethods())
        ask(wire, 1, 65_530)
        await turns()
        assert sizes(wire.sent()) == {1: 65_535}
        ask(wire, 3, 5)
        await turns()
        assert sizes(wire.sent()) == {}
        assert list(wire.connection.streams) == [3]
        wire.receive(window_frame(0, 10))
        assert wire.sent()[-1].ends

    asyncio.run(story())


def test_the_first_window_changes_open_streams_too_and_may_be_below_zero():
    async def story() -> None:
        wire = server_wire(EchoMethods(), {WINDOW: 1000})
        wire.receive(window_frame(0, 1_000_000))
        ask(wire, 1, 4995)
        await turns()
        assert sizes(wire.sent()) == {1: 1000}
        wire.receive(settings_frame({WINDOW: 0}))
        wire.receive(window_frame(1, 600))
        assert sizes(wire.sent()) == {}
        wire.receive(window_frame(1, 500))
        assert sizes(wire.sent()) == {1: 100}
        wire.receive(settings_frame({WINDOW: 2000}))
        assert sizes(wire.sent()) == {1: 2000}
        wire.receive(settings_frame({WINDOW: 2**31 - 1}))
        assert sizes(wire.sent()) == {1: 1900}
        ask(wire, 3, 5)
        wire.receive(window_frame(3, 1))
        wire.receive(settings_frame({WINDOW: 5}))
        assert not wire.transport.closed

    asyncio.run(story())


def test_a_first_window_that_is_too_large_for_an_open_stream_ends_the_connection():
    async def story() -> None:
        methods = EchoMethods()
        wire = server_wire(methods)
        wire.receive(wire.call(1, path="/test.Test/Wait"), window_frame(1, 100))
        wire.receive(settings_frame({WINDOW: 2**31 - 1}))
        assert goaway_code(wire.sent()) == ErrorCode.FLOW_CONTROL_ERROR

    asyncio.run(story())


def test_larger_frames_are_used_when_the_peer_takes_them():
    async def story() -> None:
        wire = server_wire(EchoMethods(), {SettingId.MAX_FRAME_SIZE: 40_000, WINDOW: 10**6})
        ask(wire, 1, 39_995)
        await turns()
        assert [len(one.payload) for one in wire.sent() if one.kind == DATA] == [40_000]

    asyncio.run(story())


def test_a_peer_that_does_not_read_is_waited_for():
    async def story() -> None:
        wire = server_wire(EchoMethods(), {WINDOW: 10**7})
        wire.receive(window_frame(0, 10**7))
        wire.connection.pause_writing()
        ask(wire, 1, 10**6)
        await turns()
        assert sizes(wire.sent()) == {}
        wire.connection.resume_writing()
        assert sizes(wire.sent()) == {1: 10**6 + 5}

    asyncio.run(story())


def test_replies_share_the_connection_in_turn():
    async def story() -> None:
        wire = server_wire(EchoMethods(), {WINDOW: 10**7})
        for number in (1, 3, 5):
            ask(wire, number, 200_000)
        await turns()
        wire.sent()
        wire.receive(window_frame(0, 6 * 16_384))
        assert set(sizes(wire.sent()).values()) == {2 * 16_384}

    asyncio.run(story())


def test_a_cancelled_reply_gives_its_turn_away():
    async def story() -> None:
        wire = server_wire(EchoMethods(), {WINDOW: 10**7})
        ask(wire, 1, 200_000)
        ask(wire, 3, 1000)
        await turns()
        wire.sent()
        wire.receive(reset_frame(1, 8), window_frame(0, 10_000))
        assert sizes(wire.sent()) == {3: 1005}
        assert wire.connection.streams == {}

    asyncio.run(story())


def test_every_byte_arrives_whatever_the_windows_do():
    """A model of the windows: never more than allowed, and nothing is left at the end."""

    async def story(seed: int) -> None:
        choice = random.Random(seed)
        wire = server_wire(EchoMethods(), {WINDOW: 2000})
        first, connection = 2000, 65_535
        windows: dict[int, int] = {}
        wanted: dict[int, int] = {}
        got: dict[int, int] = defaultdict(int)
        ended: set[int] = set()

        def look() -> None:
            nonlocal connection
            for one in wire.sent():
                if one.kind == DATA:
                    got[one.stream] += len(one.payload)
                    windows[one.stream] -= len(one.payload)
                    connection -= len(one.payload)
                    assert connection >= 0
                    assert windows[one.stream] >= 0 or not one.payload
                if one.ends:
                    ended.add(one.stream)

        for _ in range(400):
            number = choice.choice([2 * len(wanted) + 1, *wanted])
            if number not in wanted and len(wanted) < 60:
                wanted[number] = choice.choice([5, 100, 3000, 40_000])
                windows[number] = first
                ask(wire, number, wanted[number] - 5)
                await turns()
            elif choice.random() < 0.3:
                connection += 5000
                wire.receive(window_frame(0, 5000))
            elif choice.random() < 0.1:
                change = choice.choice([0, 1000, 4000]) - first
                first += change
                for one in windows:
                    windows[one] += change
                wire.receive(settings_frame({WINDOW: first}))
            elif number not in ended and number in wanted:
                windows[number] += 700
                wire.receive(window_frame(number, 700))
            look()
        connection += 10**7
        wire.receive(window_frame(0, 10**7))
        for number in wanted:
            if number not in ended:
                windows[number] += 10**6
                wire.receive(window_frame(number, 10**6))
            look()
        assert dict(got) == wanted
        assert ended == set(wanted)
        assert wire.connection.streams == {}
        assert goaway_code(wire.sent()) is None

    for seed in range(20):
        asyncio.run(story(seed))
