"""A server whose clock is wrong, as every command that asks its nodes tells it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.bao import BaoServer, running_bao
from support.stack import Stack, clean_environ

pytestmark = [pytest.mark.real_server, pytest.mark.slow]


@pytest.fixture(scope="module")
def server() -> Iterator[BaoServer]:
    with running_bao(tls=False) as made:
        yield made


class Ahead:
    """A proxy before a real server: in ``sys/health`` the clock is ahead by so many seconds."""

    def __init__(self, server: BaoServer, seconds: int) -> None:
        real = urlsplit(server.address)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                line = http.client.HTTPConnection(real.hostname or "", real.port, timeout=30)
                line.request(self.command, self.path, body, dict(self.headers))
                reply = line.getresponse()
                answer = reply.read()
                if self.path.startswith("/v1/sys/health"):
                    told = json.loads(answer)
                    told["server_time_utc"] += seconds
                    answer = json.dumps(told).encode()
                line.close()
                self.send_response(reply.status)
                for name, value in reply.getheaders():
                    if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_LIST = forward  # noqa: N815 - the library's names

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal."""

        self.proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.proxy.server_port}"

    def __enter__(self) -> str:
        threading.Thread(target=self.proxy.serve_forever, daemon=True).start()
        return self.address

    def __exit__(self, *_: object) -> None:
        self.proxy.shutdown()
        self.proxy.server_close()


@pytest.mark.parametrize(
    ("seconds", "said", "grade"),
    [(300, " ahead of", "bad"), (-30, " behind", "warning"), (0, "", "ok")],
)
def test_a_clock_that_differs_is_told_and_nothing_else(
    server: BaoServer, tmp_path: Path, seconds: int, said: str, grade: str
):
    with Ahead(server, seconds) as address:
        environ = {**clean_environ(), **server.env(), "HOME": str(tmp_path), "BAO_ADDR": address}
        stack = Stack(tmp_path, environ, {})
        for words in (("health",), ("status",), ("plugin", "list")):
            done = stack.cli(*words, "-o", "json")
            (node,) = json.loads(done.stdout)["data"]["nodes"]
            assert (node["node"], node["state"]) == (address, "active"), words
            assert abs(node["clock_skew_seconds"] - seconds) <= 2, words
            assert ("the clock of" in done.stderr) == bool(said), words
            assert said in done.stderr, words
        found = stack.json("doctor", check=None)["data"]["findings"]
        clocks = [one for one in found if "clock" in one["summary"] + one["detail"]]
        (clock,) = [one for one in clocks if one["check"] == "nodes"]
        assert clock["grade"] == grade
