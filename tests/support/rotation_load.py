"""Clients that read tokens all the time while credentials are replaced, and what they saw.

A client is a thread with a connection of its own. It asks one node, sends nothing twice and
keeps nothing; what fails stays failed and is written down.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psutil

from skyflowctl.devstack.emulator_client import EmulatorControl
from skyflowctl.secret import Secret
from support.faulty_emulator import FaultyEmulatorControl
from support.processes import with_tests_importable
from support.stack import REPO, Stack
from support.tied import die_with_parent

CLIENTS = 8
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Door:
    """One node as clients see it: the address that they ask."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """One token: a mount's path, a role, and what goes into the query or the body."""

    mount: str
    role: str
    ctx: str | Mapping[str, Any] | None = None

    def request(self) -> tuple[str, str, bytes | None]:
        """The method, path and body that read it."""
        path = f"/v1/{self.mount}/creds/{self.role}"
        if self.ctx is None or isinstance(self.ctx, str):
            return "GET", path + (f"?ctx={self.ctx}" if self.ctx else ""), None
        return "POST", path, json.dumps({"ctx": self.ctx}).encode()


@dataclass(frozen=True, slots=True)
class Read:
    """One read and what came of it. Times are Unix seconds; status 0: no answer."""

    begun: float
    ended: float
    door: str
    mount: str
    status: int
    served_by: str = ""
    token_sha256: str = ""
    told: str = ""

    @property
    def good(self) -> bool:
        return self.status == 200 and bool(self.token_sha256)


@dataclass
class Readers:
    """Clients that read for as long as the block lasts, spread over doors and tokens.

    Args:
        doors: the nodes; client N asks door N modulo their number, always the same.
        wanted: the tokens; every client asks for all of them in turn.
        token: of the server.
        ca: its CA's file.
        clients: how many.
        pace: seconds between a client's reads, so that the commands under test get their
            share of a small machine: about 300 reads a second of eight clients.
    """

    doors: Sequence[Door]
    wanted: Sequence[Wanted]
    token: str = field(repr=False)
    ca: Path
    clients: int = CLIENTS
    pace: float = 0.015
    reads: list[Read] = field(default_factory=list, repr=False)
    _over: threading.Event = field(default_factory=threading.Event, repr=False)
    _threads: list[threading.Thread] = field(default_factory=list, repr=False)

    def __enter__(self) -> Self:
        context = ssl.create_default_context(cafile=str(self.ca))
        for number in range(self.clients):
            work = threading.Thread(target=self._read_on, args=(number, context), daemon=True)
            self._threads.append(work)
            work.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for work in self._threads:
            work.join(_TIMEOUT + 5)
        assert not any(work.is_alive() for work in self._threads), "a client hangs"

    def wait_for(self, number: int, seconds: float = 60) -> None:
        """Wait until so many reads were made."""
        deadline = time.monotonic() + seconds
        while len(self.reads) < number:
            assert time.monotonic() < deadline, f"{len(self.reads)} reads of {number}"
            time.sleep(0.05)

    def _read_on(self, number: int, context: ssl.SSLContext) -> None:
        door = self.doors[number % len(self.doors)]
        place = urlsplit(door.address)
        connection = http.client.HTTPSConnection(
            place.hostname or "", place.port, context=context, timeout=_TIMEOUT
        )
        turn = number
        while not self._over.is_set():
            read = self._one(connection, door, self.wanted[turn % len(self.wanted)])
            self.reads.append(read)
            turn += 1
            if not read.status:
                connection.close()
            self._over.wait(self.pace)
        connection.close()

    def _one(self, connection: http.client.HTTPSConnection, door: Door, wanted: Wanted) -> Read:
        method, path, body = wanted.request()
        begun = time.time()
        try:
            connection.request(method, path, body, {"X-Vault-Token": self.token})
            reply = connection.getresponse()
            raw, status = reply.read(), reply.status
        except (OSError, http.client.HTTPException) as error:
            return Read(begun, time.time(), door.name, wanted.mount, 0, told=repr(error))
        return Read(
            begun,
            time.time(),
            door.name,
            wanted.mount,
            status,
            served_by=reply.headers.get("X-Vault-Raft-Node-Id", ""),
            token_sha256=_token_of(raw) if status == 200 else "",
            told="" if status == 200 else raw.decode(errors="replace")[:300],
        )


def _token_of(raw: bytes) -> str:
    data = json.loads(raw).get("data") or {}
    token = str(data.get("access_token") or "")
    return hashlib.sha256(token.encode()).hexdigest() if token else ""


@contextlib.contextmanager
def with_faults(stack: Stack) -> Iterator[None]:
    """Put an emulator that takes faults in the place of a dev stack's: same port and folder."""
    found = json.loads((stack.dev / "dev.json").read_text())["emulator"]["process"]["pid"]
    honest = psutil.Process(found)
    name = "skyflowctl.skyflow.emulator"
    command = ["support.faulty_emulator" if word == name else word for word in honest.cmdline()]
    honest.terminate()
    honest.wait(20)
    faulty = subprocess.Popen(
        command, stdout=subprocess.PIPE, env=with_tests_importable(), preexec_fn=die_with_parent
    )
    assert faulty.stdout
    try:
        assert json.loads(faulty.stdout.readline())["ready"]
        yield
    finally:
        faulty.terminate()
        faulty.wait(20)
        faulty.stdout.close()


def emulator_of(stack: Stack) -> FaultyEmulatorControl:
    """The control of a dev stack's token service; faults need :func:`with_faults`."""
    port = json.loads((stack.dev / "dev.json").read_text())["emulator"]["port"]
    token = Secret((stack.dev / "emulator" / "control-token").read_text())
    ca = Path(stack.exports["BAO_CACERT"])
    return FaultyEmulatorControl(f"https://127.0.0.1:{port}", token, ca)


@dataclass(frozen=True, slots=True)
class Mint:
    """One token as the emulator issued it."""

    time: float
    client_id: str
    key_id: str
    token_sha256: str


class Minted:
    """The emulator's own log of issued tokens; it forgets the oldest of many, this does not."""

    def __init__(self, control: EmulatorControl) -> None:
        self._control = control
        self.by_token: dict[str, Mint] = {}

    def collect(self) -> Self:
        """Take over what is in the log now."""
        for one in self._control.log():
            if one["status"] == 200 and one["token_sha256"]:
                at = datetime.fromisoformat(one["time"]).timestamp()
                mint = Mint(at, one["client_id"], one["key_id"], one["token_sha256"])
                self.by_token[mint.token_sha256] = mint
        return self

    def keys_of(self, reads: Iterable[Read]) -> Counter[str]:
        """Which keys minted what these reads got, by the emulator's word; all must be known."""
        return Counter(self.by_token[read.token_sha256].key_id for read in reads if read.good)

    def after(self, client_id: str, moment: float) -> Counter[str]:
        """Which keys of an account minted since a moment, for readers and anybody else."""
        return Counter(
            mint.key_id
            for mint in self.by_token.values()
            if mint.client_id == client_id and mint.time > moment
        )


@dataclass(frozen=True, slots=True)
class CutOver:
    """From the answer to the write of a credential to the request of its commit."""

    mount: str
    written: float
    commit: float

    def reads(self, reads: Iterable[Read]) -> list[Read]:
        """Those that began and ended in between."""
        return [one for one in reads if one.begun >= self.written and one.ended <= self.commit]


def held_rotation(
    words: Sequence[str],
    reads: int,
    audit_logs: Sequence[Path],
    environ: Mapping[str, str],
    folder: Path,
) -> subprocess.CompletedProcess[str]:
    """Run skyflowctl, each commit held back until so many reads have begun and ended."""
    # Some are under way already when the write is answered, or when the commit is sent.
    count = reads + 4 * CLIENTS
    module = [sys.executable, "-m", "support.rotation_held", str(count)]
    return subprocess.run(
        [*module, *map(str, audit_logs), "--", *words],
        env={**environ, "PYTHONPATH": str(REPO / "tests")},
        cwd=folder,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


def cut_overs(audit_logs: Iterable[Path], mount: str, since: float = 0) -> list[CutOver]:
    """The commits of a mount since a moment, and the write before each, by the audit logs."""
    found: list[CutOver] = []
    written = 0.0
    for moment, kind, path in sorted(_audited_writes(audit_logs, mount)):
        if moment < since:
            continue
        if (path, kind) == (f"{mount}/config", "response"):
            written = moment
        elif (path, kind) == (f"{mount}/config/commit", "request"):
            found.append(CutOver(mount, written, moment))
    return found


def _audited_writes(audit_logs: Iterable[Path], mount: str) -> Iterable[tuple[float, str, str]]:
    for log in audit_logs:
        for line in log.read_text().splitlines():
            # Most lines are reads of tokens: parsing them all would take seconds.
            if f'"{mount}/config' not in line:
                continue
            entry = json.loads(line)
            request = entry["request"]
            if request.get("operation") in {"create", "update"} and not entry.get("error"):
                moment = datetime.fromisoformat(entry["time"]).timestamp()
                yield moment, entry["type"], request["path"]


def failures(reads: Iterable[Read]) -> list[Read]:
    """Those that got no token, each with its time, its node and what it was told."""
    return [one for one in reads if not one.good]
