"""A real Secret Service: gnome-keyring on a session bus of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("dbus-daemon", "gnome-keyring-daemon")
"""What a test needs that uses it."""


@contextlib.contextmanager
def running_secret_service(folder: Path, *, unlocked: bool = True) -> Iterator[dict[str, str]]:
    """Run a keyring in a folder; yield the variables that lead to it.

    ``unlocked``: its password was given, so no window asks for one.
    """
    for name in ("data", "run"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environ = {
        **kept,
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
    }
    bus = subprocess.Popen(
        [shutil.which("dbus-daemon") or "dbus-daemon", "--session", "--nofork", "--print-address"],
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert bus.stdout
    address = bus.stdout.readline().strip()
    environ["DBUS_SESSION_BUS_ADDRESS"] = address
    mode = ["--unlock"] if unlocked else ["--start"]
    keyring = subprocess.Popen(
        ["gnome-keyring-daemon", "--foreground", "--components=secrets", *mode[: int(unlocked)]],
        env=environ, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert keyring.stdin
    try:
        with contextlib.suppress(BrokenPipeError):
            keyring.stdin.write(b"a password\n" if unlocked else b"")
            keyring.stdin.close()
        _wait_for_name(environ)
        yield {
            name: environ[name]
            for name in ("DBUS_SESSION_BUS_ADDRESS", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")
        }
    finally:
        for process in (keyring, bus):
            process.terminate()
        for process in (keyring, bus):
            process.wait(10)
        bus.stdout.close()


def _wait_for_name(environ: dict[str, str]) -> None:
    """Return once the service has its name on the bus."""
    asked = [
        "dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/",
        "org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets",
    ]  # fmt: skip
    for _ in range(100):
        done = subprocess.run(
            asked, env=environ, capture_output=True, text=True, check=False, timeout=10
        )
        if "boolean true" in done.stdout:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["sleep", "0.1"], check=True, timeout=5)
    raise AssertionError("gnome-keyring did not start")
