"""``rotate`` killed by SIGKILL between any two of its steps, on this machine or on another."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.rotation_kills import boundaries, settles
from support.rotation_load import emulator_of
from support.stack import REPO, Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow, pytest.mark.timeout(240)]

READS = {
    "order": ("order-consumer-analytics", "order-producer?ctx=order:1"),
    "purchase": ("purchase-producer?ctx=cart:1", "purchase-consumer-portal?ctx=portal:1"),
    "payment": ("payment-producer?ctx=txn:1", "payment-risk-engine?ctx=txn:1"),
}
STEPS = (
    "resume", "intent", "create-key", "lint", "prove", "note", "write", "verify-nodes", "commit",
)  # fmt: skip


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(apply=True) as running:
        yield running


class Mount:
    """One mount of the dev stack, the keys of its account, and how it is rotated."""

    def __init__(self, stack: Stack, name: str, scratch: Path) -> None:
        self.stack = stack
        self.name = name
        self.path = f"skyflow/{name}"
        self.emulator = emulator_of(stack)
        self.account = self.config()["client_id"]
        self._scratch = scratch
        self._runs = 0

    def config(self) -> dict[str, Any]:
        return self.stack.api("GET", f"{self.path}/config")["data"]

    def history(self) -> dict[str, dict[str, Any]]:
        return self.stack.api("LIST", f"{self.path}/config/history")["data"]["key_info"]

    def known_keys(self) -> set[str]:
        """The keys that Skyflow knows for the account."""
        return set(self.emulator.account(self.account)["keys"])

    def killed(self, moment: int, *words: str) -> tuple[int, list[str]]:
        """``rotate`` up to a moment: its exit code, and the moments that it reached."""
        self._runs += 1
        trace = self._scratch / f"{self.name}-{self._runs}"
        module = [sys.executable, "-m", "support.rotation_kills", str(moment), str(trace), "--"]
        done = subprocess.run(
            [*module, "rotate", *words],
            env={**self.stack.environ, **self.stack.exports, "PYTHONPATH": str(REPO / "tests")},
            cwd=self.stack.folder,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode in {0, -signal.SIGKILL}, done.stderr
        return done.returncode, trace.read_text().splitlines()

    def check_serves(self) -> None:
        """Every role gives a token of a key that Skyflow knows."""
        for read in READS[self.name]:
            data = self.stack.api("GET", f"{self.path}/creds/{read}")["data"]
            assert data["access_token"]
            assert data["key_id"] in self.known_keys()

    def check_settled(self, told: str) -> None:
        """One credential is live, nothing is open, and no key is there that nobody was told of."""
        config, history = self.config(), self.history()
        rotation = config["rotation"]
        assert rotation is None or rotation["state"] != "open", rotation
        live = [one for one in history.values() if one["key_id"] == config["key_id"]]
        assert config["key_id"] in self.known_keys()
        assert live
        unknown = self.known_keys() - {one["key_id"] for one in history.values()}
        assert {key for key in unknown if key not in told} == set()
        for key in unknown:
            self.emulator.delete_key(self.account, key)


def rehearsed(mount: Mount, *words: str) -> list[str]:
    """The moments of a run that nobody kills."""
    code, lines = mount.killed(0, *words)
    assert code == 0
    return lines


def finish(mount: Mount, *words: str, elsewhere: Path | None) -> str:
    """The command run again: it ends well; what it said."""
    extra = {"env": {"XDG_STATE_HOME": str(elsewhere)}} if elsewhere else {}
    more = ("--stale-after", "1s") if elsewhere else ()
    done = mount.stack.cli("rotate", *words, *more, "-o", "json", exported=True, **extra)
    (row,) = json.loads(done.stdout)["data"]["mounts"]
    assert row["result"] == "rotated", row
    assert row["live_key_id"] == mount.config()["key_id"]
    return done.stdout + done.stderr


@pytest.mark.parametrize("machine", ["this", "another"])
def test_every_kill_leaves_a_mount_that_serves_and_is_finished_by_the_next_run(
    stack: Stack, tmp_path: Path, machine: str
) -> None:
    mount = Mount(stack, {"this": "payment", "another": "order"}[machine], tmp_path)
    elsewhere = tmp_path / "state" if machine == "another" else None
    words = (mount.name, "--generate", "-y")
    lines = rehearsed(mount, *words)
    assert [line.removeprefix("step ") for line in lines if line.startswith("step ")] == [*STEPS]
    for moment in boundaries(lines):
        before = mount.config()["key_id"]
        code, reached = mount.killed(moment, *words)
        assert (code, len(reached)) == (-signal.SIGKILL, moment - 1), lines[moment - 1]
        mount.check_serves()
        assert mount.config()["key_id"] in {before, *mount.known_keys()}
        mount.check_settled(finish(mount, *words, elsewhere=elsewhere))
        mount.check_serves()


def test_a_killed_retirement_is_finished_by_the_next_run(stack: Stack, tmp_path: Path) -> None:
    mount = Mount(stack, "purchase", tmp_path)
    retire = ("--retire", mount.name, "--now", f"--allow-destroy={mount.path}", "-y")
    # A retirement covers every replaced key of the mount: earlier tests may have left some.
    for _ in range(2):
        rehearsed(mount, mount.name, "--generate", "-y")
        lines = rehearsed(mount, *retire)
    assert sum(settles(line) for line in lines) == 2, lines
    for moment in boundaries(lines):
        rehearsed(mount, mount.name, "--generate", "-y")
        old = mount.config()["rotation"]["from"]
        code, _ = mount.killed(moment, *retire)
        assert code == -signal.SIGKILL, lines[moment - 1]
        mount.check_serves()
        stack.cli("rotate", *retire, exported=True)
        assert mount.config()["rotation"]["state"] == "retired"
        assert old not in mount.known_keys()
        assert [one["kept"] for one in mount.history().values() if one["key_id"] == old] == [False]
        mount.check_serves()


def test_the_moments_are_all_that_changes_something(stack: Stack, tmp_path: Path) -> None:
    """The server's own count of writes: no change has slipped past the moments."""
    mount = Mount(stack, "purchase", tmp_path)
    before = len(audited_writes(stack, mount.path))
    lines = rehearsed(mount, mount.name, "--generate", "-y")
    written = audited_writes(stack, mount.path)[before:]
    sent = [line.split(" ")[1] for line in lines if settles(line) and " " in line]
    assert sorted(written) == sorted(sent)
    assert sum(line == "create_key" for line in lines) == 1


def audited_writes(stack: Stack, mount: str) -> list[str]:
    entries = [json.loads(line) for line in stack.audit_log.read_text().splitlines()]
    requests = [one["request"] for one in entries if one["type"] == "response"]
    return [
        request["path"]
        for request in requests
        if request["operation"] in {"create", "update", "delete"}
        and request["path"].startswith(f"{mount}/")
        and not request["path"].endswith("/verify")
    ]
