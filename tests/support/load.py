"""Load on a server from another process: kept connections, each with one request at a time.

Sockets and epoll without a library: a read costs this client under 0.1 ms of CPU, so that on a
small machine the server and the plugin are measured, not the client.
"""

from __future__ import annotations

import json
import re
import resource
import select
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from support.processes import with_tests_importable
from support.tied import die_with_parent

if TYPE_CHECKING:
    from support.bao import BaoServer

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_REUSED = b'"reused":true'
_GRACE_SECONDS = 60


@dataclass(frozen=True)
class LoadResult:
    """What one load was answered.

    Args:
        statuses: how many answers of each HTTP status; 0 counts broken connections.
        seconds: from the first request to the last answer.
        cpu: the client's own CPU seconds.
        p50: and p95, p99: milliseconds that so many answers stay below.
        reused: answers with a reused token.
        refusal: the first answer that was no 200.
    """

    statuses: dict[int, int]
    seconds: float
    cpu: float
    p50: float
    p95: float
    p99: float
    reused: int
    refusal: str

    @property
    def granted(self) -> int:
        return self.statuses.get(200, 0)

    @property
    def rate(self) -> float:
        return self.granted / self.seconds


class Load:
    """A load whose connections are open, and that waits for :meth:`run`.

    Args:
        server: with TLS.
        paths: read in turns, by all connections together.
        connections: how many.
        seconds: how long requests are sent; None: until ``requests``.
        requests: how many are sent at most.
        tokens: of the logins; each connection takes the next. The server's root token if empty.
    """

    def __init__(
        self,
        server: BaoServer,
        paths: Sequence[str],
        connections: int,
        *,
        seconds: float | None = None,
        requests: int | None = None,
        tokens: Sequence[str] = (),
    ) -> None:
        spec = {
            "address": server.address,
            "ca": str(server.ca),
            "paths": list(paths),
            "connections": connections,
            "seconds": seconds,
            "requests": requests,
            "tokens": list(tokens) or [server.token],
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=with_tests_importable(),
            preexec_fn=die_with_parent,
        )
        self._send(json.dumps(spec))
        self._read()

    def start(self) -> None:
        """Have it send."""
        self._send("go")

    def result(self) -> LoadResult:
        """Wait for its end."""
        told = self._read()
        self._process.communicate()
        told["statuses"] = {int(status): count for status, count in told["statuses"].items()}
        return LoadResult(**told)

    def run(self) -> LoadResult:
        """Send, and wait for the end."""
        self.start()
        return self.result()

    def _send(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the load client ended"
        return json.loads(line)


@dataclass
class _Line:
    connection: ssl.SSLSocket
    token: str
    buffer: bytes = b""
    begun: float = 0

    def send(self, path: str) -> None:
        head = f"GET /v1/{path} HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {self.token}\r\n\r\n"
        self.begun, self.buffer = time.monotonic(), b""
        self.connection.send(head.encode())

    def answer(self) -> bytes | None:
        """The whole answer, once it has arrived; empty when the connection broke."""
        try:
            while data := self.connection.recv(65536):
                self.buffer += data
                if _complete(self.buffer):
                    return self.buffer
        except (ssl.SSLWantReadError, BlockingIOError):
            return None
        except OSError:
            return b""
        return b""


def _complete(buffer: bytes) -> bool:
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = _LENGTH.search(buffer, 0, end)
    # Without a length it is chunked.
    return len(buffer) - end - 4 >= int(length[1]) if length else buffer.endswith(b"0\r\n\r\n")


@dataclass
class _Client:
    lines: dict[int, _Line]
    paths: list[str]
    requests: int | None
    until: float
    sent: int = 0
    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    reused: int = 0
    refusal: str = ""

    def run(self) -> None:
        poll, waiting = select.epoll(), 0
        for number, line in self.lines.items():
            poll.register(number, select.EPOLLIN)
            waiting += self._next(line)
        # No answer at all for a minute ends it.
        while waiting and (ready := poll.poll(_GRACE_SECONDS)):
            for number, _ in ready:
                waiting -= self._ended(number, poll)
        self.statuses[0] += waiting

    def _ended(self, number: int, poll: select.epoll) -> bool:
        """Take what a connection answered; whether it sends no further request."""
        line = self.lines[number]
        answer = line.answer()
        if answer is None:
            return False
        self._note(line, answer)
        if not answer:
            poll.unregister(number)
            return True
        return not self._next(line)

    def _next(self, line: _Line) -> bool:
        if time.monotonic() >= self.until or self.sent == self.requests:
            return False
        line.send(self.paths[self.sent % len(self.paths)])
        self.sent += 1
        return True

    def _note(self, line: _Line, answer: bytes) -> None:
        self.times.append(time.monotonic() - line.begun)
        status = int(answer[9:12] or 0)
        self.statuses[status] += 1
        self.reused += _REUSED in answer
        if status != 200 and not self.refusal:
            self.refusal = answer.decode(errors="replace")[-300:]


def _connect(spec: dict[str, Any]) -> dict[int, _Line]:
    place, context = urlsplit(spec["address"]), ssl.create_default_context(cafile=spec["ca"])
    lines = {}
    for number in range(spec["connections"]):
        plain = socket.create_connection((place.hostname, place.port), timeout=60)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = context.wrap_socket(plain, server_hostname=place.hostname)
        connection.setblocking(False)
        token = spec["tokens"][number % len(spec["tokens"])]
        lines[connection.fileno()] = _Line(connection, token)
    return lines


def _main() -> None:
    spec = json.loads(sys.stdin.readline())
    lines = _connect(spec)
    print("{}", flush=True)
    sys.stdin.readline()
    begun, cpu = time.monotonic(), _cpu()
    until = begun + spec["seconds"] if spec["seconds"] else float("inf")
    client = _Client(lines, spec["paths"], spec["requests"], until)
    client.run()
    spent, times = time.monotonic() - begun, sorted(client.times) or [0.0]
    shares = {f"p{share}": times[len(times) * share // 100] * 1000 for share in (50, 95, 99)}
    told = {"statuses": client.statuses, "seconds": spent, "cpu": _cpu() - cpu, **shares}
    print(json.dumps({**told, "reused": client.reused, "refusal": client.refusal}), flush=True)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    _main()
