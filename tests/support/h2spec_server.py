"""Our HTTP/2 connection as a plain web server, which is what h2spec talks to."""

from __future__ import annotations

from skyflowctl.plugin.http2.frames import header_frames
from skyflowctl.plugin.http2.sending import Http2Stream
from skyflowctl.plugin.http2.server import ServerConnection

_HEAD = ((b":status", b"200"), (b"content-type", b"text/plain"))
BODY = b"hello h2spec\n" * 8


class PlainServer(ServerConnection):
    """Answers every request with a short text when the request is complete."""

    def __init__(self) -> None:
        super().__init__({})

    def start_call(self, stream: Http2Stream, fields: dict[bytes, bytes]) -> None:
        """Wait for the end: the answer comes then."""

    def content_ended(self, stream: Http2Stream) -> None:
        block = self.writer.constant(_HEAD)
        self.send(stream, header_frames(stream.number, block, 0, self.max_frame), BODY, ())
