"""What a plugin process imports before its first answer; the lists may only shrink."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from skyflowctl.plugin import build, launcher

# As the launcher starts it: without site-packages, only covered modules, the collector off.
_STARTED = """
import json, sys
from skyflowctl.plugin.launcher import CoveredOnly, digest
modules = json.loads(sys.argv[1])
for name in [name for name in sys.modules if name.startswith("skyflowctl")]:
    del sys.modules[name]
sys.path[:] = json.loads(sys.argv[2])
sys.meta_path.insert(0, CoveredOnly(modules))
from skyflowctl.plugin.__main__ import engine_factory
from skyflowctl.plugin.settings import PluginSettings
import asyncio
import {more}
async def start():
    engine_factory(PluginSettings())(None, {{}})
asyncio.run(start())
print(json.dumps(sorted(sys.modules)))
"""
# Imported by the first mint, or never.
_LATER = (
    "cryptography",
    "_cffi_backend",
    "google",
    "h11",
    "skyflowctl.skyflow.http.pool",
    "skyflowctl.skyflow.http.token_service",
    "skyflowctl.skyflow.emulator",
    "skyflowctl.skyflow.management",
    "skyflowctl.engine.observed",
    "skyflowctl.telemetry.settings",
    "skyflowctl.telemetry.spans",
    "argparse",
    "email",
    "http.client",
    "ipaddress",
    "pathlib",
    "random",
    "tempfile",
    "urllib",
)
# Everything else above the standard library.
_LIBRARIES = {"hpack"}


def modules_at_start(more: str = "sys") -> set[str]:
    """The modules of a process whose first mount is set up."""
    plain = [path for path in sys.path if "site-packages" not in path and "/src" not in path]
    source = str(Path(build.__file__).parents[2])
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-B",
            "-c",
            f"import sys; sys.path.insert(0, {source!r})\n" + _STARTED.format(more=more),
            json.dumps(build.find_modules()),
            json.dumps(plain),
        ],
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_start_imports_nothing_that_only_a_mint_needs():
    found = modules_at_start()
    assert [name for name in found if name.startswith(_LATER)] == []
    others = {name.partition(".")[0] for name in found} - sys.stdlib_module_names
    assert others - {"__main__", "skyflowctl"} <= _LIBRARIES


def test_a_module_that_only_a_mint_needs_would_be_seen():
    assert "h11" in modules_at_start("h11")


def test_the_shell_passes_only_allowed_variables_and_their_values_unchanged(tmp_path: Path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec /usr/bin/env -0\n")
    python.chmod(0o755)
    path = build.build_launcher(tmp_path, python=str(python), own_environment=False).path
    allowed = {"TMPDIR": "/a b/$HOME `id`", "no_proxy": "", "PLUGIN_CLIENT_CERT": "'1'\n\"2\"\\\n"}
    done = subprocess.run(
        [str(path), "--shared"],
        env={**allowed, "BAO_UNSEAL_KEY": "seal", "PATH": "/usr/bin", "IFS": "a", "ENVY": "x"},
        capture_output=True,
        check=True,
        timeout=20,
    )
    pairs = [pair.partition("=") for pair in done.stdout.decode().split("\0") if pair]
    found = {name: value for name, _, value in pairs}
    # A shell sets PWD for the program that it runs; the fake interpreter is one.
    assert {name: found[name] for name in found if name != "PWD"} == allowed
    assert set(allowed) <= launcher.ALLOWED


def test_the_end_of_a_start_turns_the_collector_on_again():
    script = (
        "import gc; gc.disable()\n"
        "from skyflowctl.plugin.life import end_start\n"
        "end_start(); print(gc.isenabled(), gc.get_freeze_count() > 1000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], text=True, capture_output=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True", "True"]
