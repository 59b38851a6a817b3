"""The dev stack outlives its terminal, ends whole after kills, and serves the vendor's SDK."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import psutil
import pytest
from support.stack import BIN, EXAMPLE, Stack, clean_environ, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

# The unchanged SDK with nothing but what "dev env" exports.
SDK = """
import sys
from skyflow.service_account import generate_bearer_token
token, kind = generate_bearer_token(sys.argv[1], {"role_ids": [sys.argv[2]]})
print(kind, token.count("."))
"""


def plugins_of(stack: Stack) -> list[psutil.Process]:
    mark = f"{stack.dev}/plugins/"
    return [
        one
        for one in stack.processes()
        if any(word.startswith(mark) for word in one.info["cmdline"])
    ]


@pytest.mark.parametrize("how_many", ["one", "all"])
def test_down_after_killed_plugins_leaves_nothing(how_many: str) -> None:
    with running_stack(apply=True) as stack:
        plugins = plugins_of(stack)
        assert len(plugins) >= 3
        for process in plugins if how_many == "all" else plugins[:1]:
            process.send_signal(signal.SIGKILL)
        stack.cli("dev", "down")
        assert stack.processes() == []
        assert not (stack.dev / "run").exists()


def test_what_runs_of_a_stack_whose_folder_is_gone_is_said_and_ended() -> None:
    with running_stack(apply=True) as stack:
        shutil.rmtree(stack.dev)
        whole = json.loads(stack.cli("dev", "status", "-o", "json", check=6).stdout)
        parts = ["openbao", "emulator", "engine processes"]
        assert whole["data"]["unrecorded"] == parts
        assert "end them: skyflowctl dev down" in stack.cli("dev", "status", check=6).stderr
        done = json.loads(stack.cli("dev", "down", "-o", "json").stdout)
        assert done["data"]["stopped"] == parts
        assert stack.processes() == []
        assert json.loads(stack.cli("dev", "down", "-o", "json").stdout)["data"]["stopped"] == []


def test_the_stack_survives_the_end_of_its_terminal(tmp_path: Path) -> None:
    """A shell with a terminal of its own starts it; then the terminal is closed."""
    stack = Stack(tmp_path, {**clean_environ(), "HOME": str(tmp_path)})
    ours, theirs = pty.openpty()
    command = f"'{BIN / 'skyflowctl'}' dev up -f '{EXAMPLE}' && echo all-is-up && read -r line"
    try:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=dict(stack.environ),
            cwd=tmp_path,
            start_new_session=True,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        seen = b""
        while b"all-is-up" not in seen:
            seen += os.read(ours, 4096)
        before = sorted(process.pid for process in stack.processes())
        os.close(ours)
        # By the hang-up, or because its read met the end of its input before that.
        assert shell.wait(10) in (-signal.SIGHUP, 1)
        assert len(before) >= 2
        assert sorted(process.pid for process in stack.processes()) == before
        assert json.loads(stack.cli("dev", "status", "-o", "json").stdout)["status"] == "ok"
        stack.cli("apply", "--dev", "-f", str(EXAMPLE), "-y")
    finally:
        stack.cli("dev", "down")
    assert stack.processes() == []


def test_the_vendors_sdk_gets_a_token_with_what_dev_env_exports() -> None:
    with running_stack(apply=True) as stack:
        credential = str(stack.dev / "credentials" / "order.json")

        def generate(role: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-W", "ignore", "-c", SDK, credential, role],
                env={**stack.environ, **environ},
                cwd=stack.folder,
                text=True,
                capture_output=True,
                timeout=60,
                check=False,
            )

        done = generate("skyflow-role-order-prod", stack.exports)
        assert (done.returncode, done.stdout) == (0, "Bearer 2\n"), done.stderr
        assert generate("skyflow-role-payment", stack.exports).returncode != 0
        # Without the exports the emulator's certificate is not trusted.
        assert "CERTIFICATE_VERIFY_FAILED" in generate("skyflow-role-order-prod", {}).stderr
