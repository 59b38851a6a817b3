"""One server with our engine and, where its binary is given, the public Go plugin.

Both have a mount whose token service answers at once, and one whose service takes 100 ms. The
service answers a fixed token (``support/fixed_tokens.py``, Python: about 0.1 ms of CPU an exchange,
in a process of its own that no figure counts). The reading login is an AppRole's, because a
login without an entity gets no reused tokens.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from _compare import cpu_seconds
from support.bao import BaoServer, running_bao
from support.fixed_tokens import fixed_tokens
from support.load import Load, LoadResult
from support.loaded import log_in, mount, register_ours, write
from support.plugin import processes_of, register, wait_for

PEER = os.environ.get("SKYFLOWCTL_PEER_PLUGIN", "")
"""The Go plugin's binary; it is no part of this project."""
OURS, GO = "skyflow", "peer"
FAST, SLOW = "fast", "slow"
SLOW_SECONDS = 0.1
KV = "kv"


@dataclass(frozen=True)
class Measured:
    """One load on one path: CPU in milliseconds an answer, of the plugin and of the server."""

    load: LoadResult
    plugin_ms: float
    server_ms: float

    @property
    def per_cpu_second(self) -> float:
        """Answers for one CPU second of plugin and server together."""
        return 1000 / (self.plugin_ms + self.server_ms)

    @property
    def client_ms(self) -> float:
        return self.load.cpu * 1000 / self.load.granted

    @property
    def times(self) -> tuple[float, float, float]:
        """Milliseconds that 50, 95 and 99 of 100 answers stay below."""
        return self.load.p50, self.load.p95, self.load.p99


@dataclass(frozen=True)
class EngineSite:
    """The running server, and the token of the login that reads."""

    server: BaoServer
    reader: str

    def measure(self, path: str, clients: int, seconds: float) -> Measured:
        """Read a path from so many connections; every read must be granted."""
        load = Load(self.server, [path], clients, seconds=seconds, tokens=[self.reader])
        # A mount's plugin is told by its name, the first part of the path.
        plugins = [one.pid for one in processes_of(self.server, path.partition("/")[0])]
        servers = [self.server.process.pid]
        before = cpu_seconds(plugins), cpu_seconds(servers)
        result = load.run()
        spent = cpu_seconds(plugins) - before[0], cpu_seconds(servers) - before[1]
        if set(result.statuses) - {200, 0} or result.statuses.get(0):
            raise SystemExit(f"{path}, {clients} clients: {result.statuses} {result.refusal}")
        return Measured(result, *(one * 1000 / result.granted for one in spent))


@contextlib.contextmanager
def engine_site() -> Iterator[EngineSite]:
    """Run it all, mounts and roles included; it is gone afterwards."""
    with fixed_tokens((0, SLOW_SECONDS)) as tokens, running_bao() as server:
        register_ours(server, tokens)
        register_peer(server, tokens.ca)
        for plugin in plugins():
            for number, speed in enumerate((FAST, SLOW)):
                mount(server, f"{plugin}/{speed}", tokens.credentials(number), plugin)
        write(server, f"{OURS}/{FAST}/roles/reused", {"role_ids": ["r"], "reuse_min_ttl": "30m"})
        write(server, f"sys/mounts/{KV}", {"type": "kv", "options": {"version": "2"}})
        # A new KV v2 mount answers 400 until it has written its own metadata.
        body = {"data": {"value": "x" * 64}}
        wait_for(lambda: server.api("POST", f"{KV}/data/x", body)[0] == 200)
        yield EngineSite(server, log_in(server))


def plugins() -> list[str]:
    """Ours, and the peer if its binary is given."""
    return [OURS, GO] if PEER else [OURS]


def register_peer(server: BaoServer, ca: Path) -> None:
    """Put the Go plugin into the catalog if its binary is given; it trusts this CA."""
    if not PEER:
        return
    binary = shutil.copy(PEER, server.plugin_dir / GO)
    sha256 = hashlib.sha256(Path(binary).read_bytes()).hexdigest()
    quiet = [f"SSL_CERT_FILE={ca}", "TELEMETRY_ENABLED=false"]
    register(server, GO, sha256, env=quiet, version="v1.0.0")
