"""A token service that answers every exchange with the same token, as cheaply as Python can.

It checks nothing: for measuring an engine, whose own figures must not depend on a slow token
service beside it. The emulator takes ten times as much CPU for an exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.emulator import write_certificate
from support.keys import credential_text, unsigned_token
from support.processes import with_tests_importable
from support.tied import die_with_parent

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_COUNT = b"GET /count "


@dataclass
class FixedTokens:
    """A running service, with a port for each delay."""

    process: subprocess.Popen[bytes]
    folder: Path
    ports: tuple[int, ...]

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def hosts(self) -> list[str]:
        """Host and port of each delay, as an allow-list names them."""
        return [f"127.0.0.1:{port}" for port in self.ports]

    def credentials(self, number: int = 0) -> str:
        """A credentials.json of the service with this delay."""
        return credential_text(token_uri=f"https://{self.hosts[number]}/v1/auth/sa/oauth/token")

    def exchanges(self) -> int:
        """How many tokens were answered so far."""
        context = ssl.create_default_context(cafile=str(self.ca))
        url = f"https://{self.hosts[0]}/count"
        with urllib.request.urlopen(url, context=context, timeout=30) as reply:
            return int(json.loads(reply.read())["exchanges"])

    def stop(self) -> None:
        """End it; a repetition does nothing."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        assert self.process.stdout
        self.process.stdout.close()


@contextlib.contextmanager
def fixed_tokens(delays: Sequence[float] = (0,)) -> Iterator[FixedTokens]:
    """Run a service that answers after so many seconds, on a port for each delay."""
    folder = Path(tempfile.mkdtemp(prefix="sft"))
    write_certificate(folder)
    command = [sys.executable, "-m", "support.fixed_tokens", str(folder), *map(str, delays)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=with_tests_importable(),
        preexec_fn=die_with_parent,
    )
    assert process.stdout
    ports = tuple(json.loads(process.stdout.readline()))
    running = FixedTokens(process, folder, ports)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)


class _Exchange(asyncio.Protocol):
    """One kept-alive connection; a client sends its next request after the answer."""

    granted = 0

    def __init__(self, answer: bytes, delay: float) -> None:
        self._answer, self._delay = answer, delay
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        if head.startswith(_COUNT):
            self._reply(_http(json.dumps({"exchanges": _Exchange.granted}).encode()))
        elif (length := _LENGTH.search(head)) and len(body) >= int(length[1]):
            _Exchange.granted += 1
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._reply, self._answer)
            else:
                self._reply(self._answer)

    def _reply(self, answer: bytes) -> None:
        self._buffer = b""
        self._transport.write(answer)  # type: ignore[attr-defined]


def _http(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def _token_answer() -> bytes:
    # As long as one of Skyflow's: the signature of a 2048-bit key is 342 characters.
    token = unsigned_token(key=secrets.token_hex(16), sub=secrets.token_hex(16))
    token = token.rpartition(".")[0] + "." + secrets.token_urlsafe(256)
    return _http(json.dumps({"accessToken": token, "tokenType": "Bearer"}).encode())


async def _serve(folder: Path, delays: Sequence[float]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    answer, loop = _token_answer(), asyncio.get_running_loop()
    servers = [
        await loop.create_server(
            lambda delay=delay: _Exchange(answer, delay),
            "127.0.0.1",
            0,
            ssl=context,
            backlog=1024,
        )
        for delay in delays
    ]
    os.write(1, json.dumps([one.sockets[0].getsockname()[1] for one in servers]).encode() + b"\n")
    await asyncio.gather(*(one.serve_forever() for one in servers))


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), [float(one) for one in sys.argv[2:]]))
