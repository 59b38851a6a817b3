"""Frames and settings: bytes out, bytes in, and what is refused."""

from __future__ import annotations

import pytest
from support.http2_wire import split

from skyflowctl.plugin.http2.frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    ErrorCode,
    Http2Error,
    SettingId,
    frame,
    goaway_frame,
    header_frames,
    read_long,
    read_settings,
    reset_frame,
    settings_frame,
    window_frame,
    without_padding,
)


def test_a_frame_is_nine_bytes_and_its_payload():
    assert frame(0, 1, 3, b"abc") == b"\0\0\3\0\1\0\0\0\3abc"
    assert frame(0, 0, 1, b"x" * 70_000)[:3] == (70_000).to_bytes(3, "big")


def test_small_frames_hold_their_numbers():
    assert reset_frame(5, 8)[9:] == b"\0\0\0\x08"
    assert window_frame(0, 77)[9:] == b"\0\0\0M"
    assert goaway_frame(7, 1, "why")[9:] == b"\0\0\0\7\0\0\0\1why"


def test_a_long_block_is_continued():
    parts = list(split(header_frames(9, b"h" * 25, END_STREAM, 10)))
    assert [one.kind for one in parts] == [HEADERS, CONTINUATION, CONTINUATION]
    assert [one.flags for one in parts] == [END_STREAM, 0, END_HEADERS]
    assert b"".join(one.payload for one in parts) == b"h" * 25
    (single,) = split(header_frames(9, b"h" * 10, END_STREAM, 10))
    assert single.flags == END_STREAM | END_HEADERS


def test_settings_are_read_as_written_and_unknown_ones_too():
    sent = settings_frame({SettingId.INITIAL_WINDOW_SIZE: 5, SettingId.MAX_FRAME_SIZE: 16_384})
    assert list(read_settings(sent[9:], of_server=True)) == [(4, 5), (5, 16_384)]
    assert list(read_settings(b"\xff\xff\0\0\0\1", of_server=True)) == [(0xFFFF, 1)]


@pytest.mark.parametrize(
    ("setting", "value", "code"),
    [
        (2, 2, ErrorCode.PROTOCOL_ERROR),
        (4, 2**31, ErrorCode.FLOW_CONTROL_ERROR),
        (5, 16_383, ErrorCode.PROTOCOL_ERROR),
        (5, 2**24, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_a_value_out_of_range_is_refused(setting: int, value: int, code: ErrorCode):
    payload = setting.to_bytes(2, "big") + value.to_bytes(4, "big")
    with pytest.raises(Http2Error) as error:
        list(read_settings(payload, of_server=False))
    assert error.value.code is code


def test_only_a_client_may_allow_pushes():
    payload = settings_frame({SettingId.ENABLE_PUSH: 1})[9:]
    assert list(read_settings(payload, of_server=False)) == [(SettingId.ENABLE_PUSH, 1)]
    with pytest.raises(Http2Error) as error:
        list(read_settings(payload, of_server=True))
    assert error.value.code is ErrorCode.PROTOCOL_ERROR


def test_a_size_that_is_wrong_is_refused():
    for read in (
        lambda: read_long(b"abc"),
        lambda: list(read_settings(b"12345", of_server=True)),
    ):
        with pytest.raises(Http2Error) as error:
            read()
        assert error.value.code is ErrorCode.FRAME_SIZE_ERROR


def test_padding_is_removed():
    assert without_padding(PADDED, b"\2ab\0\0") == b"ab"
    assert without_padding(PADDED, b"\0ab") == b"ab"
    assert without_padding(0, b"\2ab") == b"\2ab"


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", ErrorCode.FRAME_SIZE_ERROR), (b"\3ab", ErrorCode.PROTOCOL_ERROR)],
)
def test_padding_longer_than_the_frame_is_refused(payload: bytes, code: ErrorCode):
    with pytest.raises(Http2Error) as error:
        without_padding(PADDED, payload)
    assert error.value.code is code
