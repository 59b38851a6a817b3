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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import _compare  # noqa: F401 - makes the tests' helpers importable
from support.bao import BaoServer, running_bao
from support.fixed_tokens import FixedTokens, fixed_tokens
from support.load import Load, LoadResult
from support.plugin import processes_of, register, register_skyflow, wait_for

PEER = os.environ.get("SKYFLOWCTL_PEER_PLUGIN", "")
"""The Go plugin's binary; it is no part of this project."""
OURS, GO = "skyflow", "peer"
FAST, SLOW = "fast", "slow"
SLOW_SECONDS = 0.1
KV = "kv"
_TICKS = os.sysconf("SC_CLK_TCK")
_POLICY = 'path "*" { capabilities = ["read"] }'


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
    tokens: FixedTokens
    reader: str

    def measure(self, path: str, clients: int, seconds: float) -> Measured:
        """Read a path from so many connections; every read must be granted."""
        load = Load(self.server, [path], clients, seconds=seconds, tokens=[self.reader])
        # A mount's plugin is told by its name, the first part of the path.
        plugins = [one.pid for one in processes_of(self.server, path.partition("/")[0])]
        servers = [self.server.process.pid]
        before = _cpu(plugins), _cpu(servers)
        result = load.run()
        spent = _cpu(plugins) - before[0], _cpu(servers) - before[1]
        if set(result.statuses) - {200, 0} or result.statuses.get(0):
            raise SystemExit(f"{path}, {clients} clients: {result.statuses} {result.refusal}")
        return Measured(result, *(one * 1000 / result.granted for one in spent))


def _cpu(pids: list[int]) -> float:
    """CPU seconds of processes, user and system, without their children."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


@contextlib.contextmanager
def engine_site() -> Iterator[EngineSite]:
    """Run it all, mounts and roles included; it is gone afterwards."""
    with fixed_tokens((0, SLOW_SECONDS)) as tokens, running_bao() as server:
        _register(server, tokens)
        for plugin in plugins():
            for number, speed in enumerate((FAST, SLOW)):
                _mount(server, f"{plugin}/{speed}", plugin, tokens.credentials(number))
        _write(server, f"{OURS}/{FAST}/roles/reused", {"role_ids": ["r"], "reuse_min_ttl": "30m"})
        _write(server, f"sys/mounts/{KV}", {"type": "kv", "options": {"version": "2"}})
        # A new KV v2 mount answers 400 until it has written its own metadata.
        wait_for(_accepts(server, f"{KV}/data/x", {"data": {"value": "x" * 64}}))
        yield EngineSite(server, tokens, _log_in(server))


def plugins() -> list[str]:
    """Ours, and the peer if its binary is given."""
    return [OURS, GO] if PEER else [OURS]


def _register(server: BaoServer, tokens: FixedTokens) -> None:
    trust = [f"SSL_CERT_FILE={tokens.ca}"]
    hosts = [word for host in tokens.hosts for word in ("--allow-host", host)]
    register_skyflow(server, OURS, args=hosts, env=trust)
    if PEER:
        binary = shutil.copy(PEER, server.plugin_dir / GO)
        sha256 = hashlib.sha256(Path(binary).read_bytes()).hexdigest()
        quiet = [*trust, "TELEMETRY_ENABLED=false"]
        register(server, GO, sha256, env=quiet, version="v1.0.0")


def _mount(server: BaoServer, path: str, plugin: str, credentials: str) -> None:
    _write(server, f"sys/mounts/{path}", {"type": plugin})
    _write(server, f"{path}/config", {"credentials_json": credentials})
    _write(server, f"{path}/roles/reader", {"role_ids": ["r"]})


def _log_in(server: BaoServer) -> str:
    role = "auth/approle/role/reader"
    _write(server, "sys/auth/approle", {"type": "approle"})
    _write(server, "sys/policies/acl/reader", {"policy": _POLICY})
    _write(server, role, {"token_policies": ["reader"], "token_ttl": "1h"})
    _, answer = server.api("GET", f"{role}/role-id")
    login = {"role_id": answer["data"]["role_id"]}
    _, answer = server.api("POST", f"{role}/secret-id", {})
    login["secret_id"] = answer["data"]["secret_id"]
    _, answer = server.api("POST", "auth/approle/login", login)
    return str(answer["auth"]["client_token"])


def _accepts(server: BaoServer, path: str, body: object) -> Callable[[], bool]:
    return lambda: server.api("POST", path, body)[0] == 200


def _write(server: BaoServer, path: str, body: object) -> None:
    status, answer = server.api("POST", path, body)
    if status not in {200, 204}:
        raise SystemExit(f"{path}: {status} {answer}")
