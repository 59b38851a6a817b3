"""The dev stack's life: start, reuse, every kind of sudden death, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stack import BIN, EXAMPLE, Stack, clean_environ, running_stack

pytestmark = pytest.mark.real_server


@pytest.fixture
def fresh() -> Iterator[Stack]:
    with running_stack() as stack:
        yield stack


def pid_of(stack: Stack, part: str) -> int:
    return json.loads((stack.dev / "dev.json").read_text())[part]["process"]["pid"]


def ports(stack: Stack) -> tuple[int, int]:
    saved = json.loads((stack.dev / "dev.json").read_text())
    return saved["server"]["port"], saved["emulator"]["port"]


def test_up_again_reuses_everything_and_says_so(fresh: Stack) -> None:
    before = sorted(process.pid for process in fresh.processes())
    again = fresh.json("dev", "up")
    assert sorted(process.pid for process in fresh.processes()) == before
    assert again["data"]["started"] == []


@pytest.mark.slow
def test_down_leaves_no_process_and_no_socket(fresh: Stack) -> None:
    fresh.cli("apply", "-y", exported=True)
    assert len(fresh.processes()) >= 5
    fresh.cli("dev", "down")
    assert fresh.processes() == []
    assert not (fresh.dev / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["server", "emulator"])
def test_down_after_a_killed_part_leaves_nothing(fresh: Stack, part: str) -> None:
    fresh.cli("apply", "-y", exported=True)
    os.kill(pid_of(fresh, part), signal.SIGKILL)
    fresh.cli("dev", "down")
    assert fresh.processes() == []


@pytest.mark.slow
def test_up_after_a_killed_server_starts_it_on_the_same_ports(fresh: Stack) -> None:
    before = ports(fresh)
    os.kill(pid_of(fresh, "server"), signal.SIGKILL)
    assert fresh.cli("dev", "status", check=6).stdout
    fresh.cli("dev", "up")
    assert ports(fresh) == before
    fresh.load_exports()
    fresh.cli("apply", "-y", exported=True)
    fresh.cli("health", exported=True)


@pytest.mark.slow
def test_up_after_a_killed_emulator_knows_its_accounts(fresh: Stack) -> None:
    fresh.cli("apply", "-y", exported=True)
    os.kill(pid_of(fresh, "emulator"), signal.SIGKILL)
    fresh.cli("dev", "up")
    fresh.cli("creds", "order", "order-producer", "--ctx", "order:ORD-1", exported=True)


@pytest.mark.slow
def test_two_at_once_start_one_stack(tmp_path: Path) -> None:
    environ = {**clean_environ(), "HOME": str(tmp_path)}
    command = [str(BIN / "skyflowctl"), "dev", "up", "-f", str(EXAMPLE)]
    stack = Stack(tmp_path, environ)
    try:
        both = [
            subprocess.Popen(
                command,
                env=environ,
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in both:
            _, errors = process.communicate(timeout=90)
            assert process.returncode == 0, errors
        servers = [p for p in stack.processes() if "server" in (p.info["cmdline"] or ())]
        assert len(servers) == 1
    finally:
        stack.cli("dev", "down")


@pytest.mark.slow
def test_a_very_long_path_works(tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 20) / ("name-" * 10)
    folder.mkdir(parents=True)
    environ = {**clean_environ(), "HOME": str(tmp_path)}
    stack = Stack(folder, environ)
    try:
        stack.cli("dev", "up", "-f", str(EXAMPLE))
        stack.cli("apply", "--dev", "-f", str(EXAMPLE), "-y")
    finally:
        stack.cli("dev", "down")


def test_everything_generated_is_closed_to_others(fresh: Stack) -> None:
    for path in fresh.dev.rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_dir():
            assert mode == 0o700, path
    secrets = [
        *fresh.dev.glob("secrets/*"),
        *fresh.dev.glob("credentials/*"),
        fresh.dev / "tls" / "server.key",
        *fresh.dev.glob("emulator/*"),
    ]
    assert len(secrets) >= 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets if path.is_file()} == {0o600}


@pytest.mark.slow
def test_existing_credentials_are_neither_read_nor_written(fresh: Stack) -> None:
    folder = fresh.folder / "credentials"
    folder.mkdir()
    own = folder / "order.json"
    # A named pipe: whoever opened it would hang here for ever.
    os.mkfifo(own)
    fresh.cli("apply", "-y", exported=True, timeout=60)
    fresh.cli("plan", exported=True, timeout=60)
    assert stat.S_ISFIFO(own.stat().st_mode)
    assert [path.name for path in folder.iterdir()] == ["order.json"]


def test_a_vault_binary_is_refused_with_the_reason(tmp_path: Path) -> None:
    fake = tmp_path / "vault"
    fake.write_text("#!/bin/sh\necho 'Vault v1.20.0 (abc), built 2026-01-01'\n")
    fake.chmod(0o755)
    stack = Stack(tmp_path, {**clean_environ(), "HOME": str(tmp_path)})
    done = stack.cli("dev", "up", check=64, env={"SKYFLOWCTL_BAO": str(fake)})
    assert "HashiCorp Vault" in done.stderr
    assert stack.processes() == []


@pytest.mark.slow
def test_reset_deletes_what_was_generated(fresh: Stack) -> None:
    old = (fresh.dev / "secrets" / "operator.token").read_text()
    fresh.cli("dev", "reset", "-y")
    assert fresh.processes() == []
    assert not fresh.dev.exists()
    fresh.cli("dev", "up")
    assert (fresh.dev / "secrets" / "operator.token").read_text() != old


def foreign_folder(tmp_path: Path) -> tuple[Stack, Path]:
    """A folder with a file of somebody's, named as the dev folder."""
    folder = tmp_path / "project"
    folder.mkdir(mode=0o755)
    (folder / "precious.txt").write_text("mine")
    environ = {**clean_environ(), "HOME": str(tmp_path), "SKYFLOWCTL_DEV_DIR": str(folder)}
    return Stack(tmp_path, environ), folder


@pytest.mark.parametrize("command", [["reset", "-y"], ["up"]])
def test_a_folder_of_somebody_elses_is_refused_and_left_alone(
    tmp_path: Path, command: list[str]
) -> None:
    stack, folder = foreign_folder(tmp_path)
    done = stack.cli("dev", *command, check=5)
    assert "is not a folder of the dev stack" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["precious.txt"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    stack.cli("dev", "down")
    assert [path.name for path in folder.iterdir()] == ["precious.txt"]


def test_reset_of_nothing_says_so(tmp_path: Path) -> None:
    stack = Stack(tmp_path, {**clean_environ(), "HOME": str(tmp_path)})
    assert "there was no dev stack" in stack.cli("dev", "reset", "-y").stdout
    assert list(tmp_path.iterdir()) == []


def test_a_dev_folder_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    stack = Stack(tmp_path, {**clean_environ(), "SKYFLOWCTL_DEV_DIR": "/dev/null/x"})
    assert "cannot be made" in stack.cli("dev", "up", check=64).stderr


@pytest.mark.slow
def test_a_sealed_server_is_said_to_be_sealed(fresh: Stack) -> None:
    fresh.bao("operator", "seal")
    shown = fresh.cli("dev", "status", check=6)
    assert "sealed" in shown.stdout
    told = " ".join((shown.stdout + shown.stderr).split())
    assert "only a new start unseals it" in told
    assert "'skyflowctl dev up' starts an empty one" in told
    key = (fresh.dev / "secrets" / "unseal.key").read_text().strip()
    assert fresh.bao("operator", "unseal", key, check=False).returncode != 0  # it is so
    assert "sealed" in fresh.cli("plan", check=69, exported=True).stderr
    again = fresh.cli("dev", "up")
    assert "starts empty" in again.stderr


@pytest.mark.slow
def test_a_damaged_certificate_is_said_with_the_way_out(fresh: Stack) -> None:
    fresh.cli("dev", "down")
    (fresh.dev / "tls" / "server.pem").write_text("damaged")
    done = fresh.cli("dev", "up", check=1)
    assert "dev reset" in done.stderr
    assert "ready" not in done.stderr.partition("because:")[2].partition("fix:")[0]


def test_logs_show_each_part(fresh: Stack) -> None:
    assert "core: vault is unsealed" in fresh.cli("dev", "logs", "openbao", "-n", "400").stdout
    assert fresh.cli("dev", "logs", "audit", "-n", "1").stdout.startswith("{")


def test_down_without_a_stack_is_done_at_once(tmp_path: Path) -> None:
    stack = Stack(tmp_path, {**clean_environ(), "HOME": str(tmp_path)})
    stack.cli("dev", "down")
    assert list(tmp_path.iterdir()) == []
