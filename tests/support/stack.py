"""A dev stack of its own for tests that use skyflowctl as a person would: as processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from support.tied import ended_with_us

REPO = Path(__file__).resolve().parents[2]
EXAMPLE = REPO / "examples" / "mounts.yaml"
BIN = Path(sys.executable).parent


def clean_environ() -> dict[str, str]:
    """This process's environment without anything that names a server, a proxy or a CA."""
    dropped = ("BAO_", "VAULT_", "SKYFLOWCTL_", "XDG_", "SSL_CERT", "REQUESTS_CA", "CURL_CA")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PATH": f"{BIN}:{os.environ.get('PATH', '')}", "NO_COLOR": "1"}


@dataclass
class Stack:
    """A dev stack in a folder of its own, and ways to run commands against it."""

    folder: Path
    environ: Mapping[str, str] = field(repr=False)
    exports: dict[str, str] = field(default_factory=dict, repr=False)

    def cli(
        self, *args: str, check: int | None = 0, exported: bool = False, **extra: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run skyflowctl; ``exported``: with what ``dev env`` prints; ``check``: its code."""
        environ = {**self.environ, **(self.exports if exported else {}), **extra.pop("env", {})}
        done = subprocess.run(
            [str(BIN / "skyflowctl"), *args],
            env=environ,
            cwd=self.folder,
            text=True,
            capture_output=True,
            timeout=extra.pop("timeout", 90),
            stdin=subprocess.DEVNULL,
            check=False,
            **extra,
        )
        if check is not None:
            assert done.returncode == check, (
                f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def json(self, *args: str, check: int | None = 0, exported: bool = True) -> dict[str, Any]:
        """Run skyflowctl with ``-o json`` and return the whole envelope."""
        return json.loads(self.cli(*args, "-o", "json", check=check, exported=exported).stdout)

    def killed(self, writes: int, *args: str) -> int:
        """Run skyflowctl, which SIGKILLs itself after that many writes; its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "support.killed", str(writes), "--", *args],
            env={**self.environ, **self.exports, "PYTHONPATH": str(REPO / "tests")},
            cwd=self.folder,
            capture_output=True,
            timeout=60,
            check=False,
        ).returncode

    def bao(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the stock client with what ``dev env`` exports."""
        return subprocess.run(
            [str(BIN / "bao"), *args],
            env={**self.environ, **self.exports, "HOME": str(self.folder)},
            cwd=self.folder,
            text=True,
            capture_output=True,
            timeout=60,
            check=check,
        )

    def api(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One plain API call with what ``dev env`` exports; its parsed answer."""
        request = urllib.request.Request(
            f"{self.exports['BAO_ADDR']}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": self.exports["BAO_TOKEN"]},
        )
        context = ssl.create_default_context(cafile=self.exports["BAO_CACERT"])
        with urllib.request.urlopen(request, context=context, timeout=30) as reply:
            raw = reply.read()
        return json.loads(raw) if raw else {}

    def processes(self) -> list[psutil.Process]:
        """Every process whose command line names this stack's folder."""
        mark = f"{self.dev}/"
        found = psutil.process_iter(["cmdline"])
        return [one for one in found if any(mark in word for word in one.info["cmdline"] or ())]

    @property
    def dev(self) -> Path:
        return self.folder / ".skyflowctl" / "dev"

    @property
    def audit_log(self) -> Path:
        return self.dev / "logs" / "audit.log"

    def load_exports(self) -> None:
        """Take over what ``eval "$(skyflowctl dev env)"`` would set."""
        text = self.cli("dev", "env").stdout
        script = f"{text}\nenv -0"
        plain = subprocess.run(
            ["/bin/sh", "-c", script], env=dict(self.environ), capture_output=True, check=True
        )
        pairs = (item.split("=", 1) for item in plain.stdout.decode().split("\0") if "=" in item)
        self.exports = {k: v for k, v in pairs if self.environ.get(k) != v}


def example_with_consumer(name: str) -> str:
    """The example's text with an AppRole consumer of one of its roles."""
    text = EXAMPLE.read_text()
    role = re.search(r"^ +order-producer:\n( +)", text, re.MULTILINE)
    assert role is not None
    login = f"consumers: {{approle: {{{name}: {{}}}}}}\n{role[1]}"
    return f"{text[: role.end()]}{login}{text[role.end() :]}\nauth: {{approle: {{}}}}\n"


@contextlib.contextmanager
def running_stack(
    manifest: Path | None = EXAMPLE,
    *,
    apply: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Run a dev stack in a short temporary folder; everything is gone afterwards.

    ``environ``: further variables of the stack and of every command.
    """
    folder = Path(tempfile.mkdtemp(prefix="sfs"))
    stack = Stack(folder, {**clean_environ(), "HOME": str(folder), **(environ or {})})
    down = [str(BIN / "skyflowctl"), "dev", "down"]
    with ended_with_us(down, environ=stack.environ, cwd=folder):
        try:
            if manifest is not None:
                shutil.copy(manifest, folder / "mounts.yaml")
            stack.cli("dev", "up")
            stack.load_exports()
            if apply:
                stack.cli("apply", "-y", exported=True)
            yield stack
        finally:
            stack.cli("dev", "down", check=None)
            shutil.rmtree(folder, ignore_errors=True)
