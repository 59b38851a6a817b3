"""The plugin on a real server: built from a copy, registered, its processes watched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import skyflowctl
from skyflowctl.version import semver
from support.bao import BaoServer

_BUILD = """
import inspect
import sys
from pathlib import Path
from skyflowctl.plugin.build import build_launcher
more = {"own_environment": False}
if "own_environment" not in inspect.signature(build_launcher).parameters:
    more = {}  # the release before
built = build_launcher(Path(sys.argv[1]), sys.argv[2], **more)
built.path.replace(Path(sys.argv[1]) / sys.argv[2])
print(built.sha256)
"""
_PROBE = """\
#!{python} -B
import sys
sys.path[:0] = {paths!r}
from support.plugin_engine import main
sys.exit(main())
"""


def copy_source(folder: Path) -> Path:
    """A copy of the package that nobody edits while a test relies on its digest."""
    target = folder / "src"
    shutil.copytree(
        Path(skyflowctl.__file__).parent,
        target / "skyflowctl",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return target


def build_from(source: Path, plugin_dir: Path, name: str) -> str:
    """Build a launcher for the package below ``source``, under a plain name; its sha256."""
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(plugin_dir), name],
        env={"PYTHONPATH": str(source), "PATH": os.environ["PATH"]},
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write_probe(source: Path, plugin_dir: Path, name: str) -> str:
    """Write a plugin that runs the host with the tests' own tiny engine; its sha256."""
    tests = str(Path(__file__).parent.parent)
    path = plugin_dir / name
    path.write_text(_PROBE.format(python=sys.executable, paths=[str(source), tests]))
    path.chmod(0o755)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def register(
    server: BaoServer,
    name: str,
    sha256: str,
    *,
    args: Sequence[str] = (),
    env: Sequence[str] = (),
    version: str | None = None,
) -> tuple[int, dict]:
    """Put a plugin of the plugin directory into the server's catalog."""
    body = {"sha256": sha256, "command": name, "args": list(args), "env": list(env)}
    body["version"] = version or semver()
    return server.api("PUT", f"sys/plugins/catalog/secret/{name}", body)


def register_skyflow(
    server: BaoServer,
    name: str = "skyflow",
    *,
    args: Sequence[str] = (),
    env: Sequence[str] = (),
) -> Path:
    """Build the real plugin for this server and register it; its launcher's path."""
    sha256 = build_from(copy_source(server.folder / f"copy-{name}"), server.plugin_dir, name)
    status, body = register(server, name, sha256, args=args, env=env)
    assert status == 204, body
    return server.plugin_dir / name


@contextlib.contextmanager
def mounted(server: BaoServer, path: str, plugin: str) -> Iterator[str]:
    """Enable a plugin at a path; disable it again afterwards."""
    status, body = server.api("POST", f"sys/mounts/{path}", {"type": plugin})
    assert status == 204, (body, (server.folder / "server.log").read_text()[-2000:])
    try:
        yield path
    finally:
        server.api("DELETE", f"sys/mounts/{path}")


@dataclass(frozen=True)
class PluginProcess:
    """A running plugin process, found in /proc by the file that it was started from."""

    pid: int

    @property
    def environment(self) -> set[str]:
        """The names in the environment that it was started with."""
        raw = Path(f"/proc/{self.pid}/environ").read_bytes()
        return {item.partition(b"=")[0].decode() for item in raw.split(b"\0") if item}


def processes_of(server: BaoServer, name: str) -> list[PluginProcess]:
    """Every process that runs this plugin of this server, also orphans."""
    script = str(server.plugin_dir / name).encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if script in (folder / "cmdline").read_bytes().split(b"\0"):
                    found.append(PluginProcess(int(folder.name)))
    return found


def wait_for(what: Callable[[], object], seconds: float = 20) -> None:
    """Wait until ``what`` returns something true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def send_only(server: BaoServer, method: str, path: str, extra: str = "") -> ssl.SSLSocket:
    """Send a request and return the connection without waiting for the answer."""
    where = urlsplit(server.address)
    context = ssl.create_default_context(cafile=str(server.ca))
    plain = socket.create_connection((where.hostname, where.port), timeout=30)
    connection = context.wrap_socket(plain, server_hostname=where.hostname)
    head = f"{method} /v1/{path} HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {server.token}\r\n"
    connection.sendall(f"{head}Connection: close\r\n{extra}\r\n".encode())
    return connection
