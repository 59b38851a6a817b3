"""skyflowctl as a process beside a server and an emulator: in a folder with a manifest."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.bao import BaoServer
from support.emulator import RunningEmulator
from support.plugin import register
from support.processes import with_tests_importable
from support.stack import BIN, clean_environ


@dataclass
class Site:
    """A server, an emulator whose host and CA the commands are told, and a folder."""

    server: BaoServer
    emulator: RunningEmulator
    folder: Path

    def run(
        self, *args: str, code: int | None = 0, server: bool = True, token: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run skyflowctl in the folder; ``server``: the environment names the server."""
        done = subprocess.run(
            [str(BIN / "skyflowctl"), *args],
            env=self._environ(server=server, token=token),
            cwd=self.folder,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
        assert code is None or done.returncode == code, (args, done.stdout, done.stderr)
        return done

    def started(self, *args: str) -> subprocess.Popen[str]:
        """Start skyflowctl in the folder, with pipes for what it writes."""
        return subprocess.Popen(
            [str(BIN / "skyflowctl"), *args],
            env=self._environ(),
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def _environ(self, *, server: bool = True, token: str = "") -> dict[str, str]:
        named = self.server.env()
        return {
            **clean_environ(),
            **({name: named[name] for name in _SERVER if name in named} if server else {}),
            **({"BAO_TOKEN": token} if token else {}),
            "HOME": str(self.folder),
            "SSL_CERT_FILE": str(self.emulator.ca),
            "SKYFLOWCTL_ALLOW_HOSTS": self.emulator.host,
        }

    def killed(self, writes: int, *args: str) -> int:
        """Run skyflowctl, which SIGKILLs itself after that many writes; its exit code."""
        named = self.server.env()
        environ = {
            **clean_environ(),
            **{name: named[name] for name in _SERVER if name in named},
            "HOME": str(self.folder),
            "PYTHONPATH": with_tests_importable()["PYTHONPATH"],
        }
        return subprocess.run(
            [sys.executable, "-m", "support.killed", str(writes), "--", *args],
            env=environ,
            cwd=self.folder,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        ).returncode

    def cli(
        self, *args: str, code: int | None = 0, server: bool = True, token: str = ""
    ) -> dict[str, Any]:
        """Run skyflowctl with ``-o json``; its envelope."""
        done = self.run(*args, "-o", "json", code=code, server=server, token=token)
        return json.loads(done.stdout)

    def register(self, name: str, sha256: str, *args: str) -> None:
        """Register a plugin of the plugin directory that trusts the emulator's certificate."""
        env = [f"SSL_CERT_FILE={self.emulator.ca}"]
        status, body = register(self.server, name, sha256, args=args, env=env)
        assert status == 204, body

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder, for its owner alone."""
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o600)


_SERVER = ("BAO_ADDR", "BAO_TOKEN", "BAO_CACERT")
