"""A server's mounts and logins for a load, and what its processes hold meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Self

from support.bao import BaoServer
from support.fixed_tokens import FixedTokens
from support.plugin import register_skyflow

_READS_ALL = 'path "*" { capabilities = ["read"] }'


def write(server: BaoServer, path: str, body: Mapping[str, object]) -> None:
    """Make a write that must be granted."""
    status, answer = server.api("POST", path, body)
    assert status in {200, 204}, (path, status, answer)


def register_ours(server: BaoServer, tokens: FixedTokens, *args: str) -> None:
    """Put our plugin into the catalog; it may ask this token service."""
    hosts = [word for host in tokens.hosts for word in ("--allow-host", host)]
    register_skyflow(server, args=[*args, *hosts], env=[f"SSL_CERT_FILE={tokens.ca}"])


def mount(server: BaoServer, path: str, credentials: str, plugin: str = "skyflow") -> None:
    """Enable and configure a mount with the role ``reader``."""
    write(server, f"sys/mounts/{path}", {"type": plugin})
    write(server, f"{path}/config", {"credentials_json": credentials})
    write(server, f"{path}/roles/reader", {"role_ids": ["r"]})


def log_in(server: BaoServer, name: str = "app") -> str:
    """The token of a new AppRole login, an entity of its own that may read everything."""
    role = f"auth/approle/role/{name}"
    if "approle/" not in server.api("GET", "sys/auth")[1]["data"]:
        write(server, "sys/auth/approle", {"type": "approle"})
        write(server, "sys/policies/acl/reads-all", {"policy": _READS_ALL})
    write(server, role, {"token_policies": ["reads-all"], "token_ttl": "1h"})
    login = {
        "role_id": server.api("GET", f"{role}/role-id")[1]["data"]["role_id"],
        "secret_id": server.api("POST", f"{role}/secret-id", {})[1]["data"]["secret_id"],
    }
    return str(server.api("POST", "auth/approle/login", login)[1]["auth"]["client_token"])


@dataclass(frozen=True)
class Held:
    """What a process holds at one moment."""

    memory: float  # MB, resident
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Self:
        status = Path(f"/proc/{pid}/status").read_text()
        values = dict(line.split(":", 1) for line in status.splitlines())
        files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return cls(int(values["VmRSS"].split()[0]) / 1024, files, int(values["Threads"]))


def private_mb(pid: int) -> float:
    """Megabytes (10^6 bytes) that no other process shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    found = next(line for line in lines if line.startswith("Private_Dirty:"))
    return int(found.split()[1]) * 1024 / 1e6


class Watch:
    """Looks at a process again and again while a block runs."""

    def __init__(self, pid: int, seconds: float) -> None:
        self.seen: list[Held] = []
        self._pid, self._seconds = pid, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def quarters(self) -> tuple[Sequence[Held], Sequence[Held]]:
        """What was seen in the second and in the last quarter; the first one warms up."""
        size = len(self.seen) // 4
        assert size, "it was hardly seen"
        return self.seen[size : 2 * size], self.seen[-size:]

    def _look(self) -> None:
        while not self._stop.wait(self._seconds):
            self.seen.append(Held.of(self._pid))


def memory(seen: Sequence[Held]) -> float:
    """The mean of the resident memory in MB."""
    return mean(one.memory for one in seen)
