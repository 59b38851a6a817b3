"""What a collector answers is read in part only, and not for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from skyflowctl.telemetry.export import _session

LIMIT = 1 << 16


@contextmanager
def collector(pieces: Iterator[bytes] | list[bytes], promised: int) -> Iterator[tuple[str, list]]:
    """A collector that promises a length and sends these pieces; and the number that it sent."""
    sent: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(promised))
            self.end_headers()
            try:
                for piece in pieces:
                    self.wfile.write(piece)
                    sent.append(len(piece))
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", sent
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_giant_answer_is_read_up_to_the_limit() -> None:
    giant = 512 << 20
    with collector((b"x" * (1 << 20) for _ in range(giant >> 20)), giant) as (url, sent):
        answer = _session(10.0).post(url, data=b"")
        assert (answer.status_code, len(answer.content)) == (200, LIMIT)
    assert sum(sent) < giant // 2


def test_a_dripping_answer_ends_with_the_time() -> None:
    stopped = threading.Event()

    def drip() -> Iterator[bytes]:
        while not stopped.wait(0.02):
            yield b"x"

    with collector(drip(), 1 << 30) as (url, _):
        started = time.monotonic()
        answer = _session(0.3).post(url, data=b"")
        spent = time.monotonic() - started
        stopped.set()
    assert 0 < len(answer.content) < LIMIT
    assert spent < 5


@pytest.mark.parametrize("text", [b"", b"partial success"])
def test_a_usual_answer_is_read_whole_and_the_connection_is_kept(text: bytes) -> None:
    with collector([text], len(text)) as (url, _):
        session = _session(10.0)
        assert session.post(url, data=b"").content == text
        assert session.post(url, data=b"").content == text
