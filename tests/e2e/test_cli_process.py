"""The command line as real processes, against a dev stack of its own."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import time

import pytest
from support.bao import free_port_pair
from support.cli import checked_data, checked_envelope
from support.stack import BIN, running_stack

pytestmark = pytest.mark.real_server
SKYFLOWCTL = str(BIN / "skyflowctl")
CREDS = ("creds", "order", "order-producer", "--ctx", "order:ORD-42")


@pytest.fixture(scope="module")
def stack():
    with running_stack(apply=True) as running:
        yield running


@pytest.mark.parametrize(
    "line",
    [
        "version", "schema", "completion bash", "validate", "plan", "apply -y", "apply --dry-run",
        "status", "status order", "health", "health order skyflow/payment", "mount list",
        "mount show order", "config show order", "config verify order", "config history order", "role list order",
        "role show order order-producer", "plugin list", "dev status", "dev env", "dev logs -n 1",
        " ".join(CREDS), " ".join((*CREDS, "--wrap-ttl", "5m")), " ".join((*CREDS, "--dry-run")),
        "creds order order-producer --ctx order:x --dev",
        "plan -f ./mounts.yaml --detailed-exitcode",
    ],
)  # fmt: skip
def test_every_commands_data_is_as_published(stack, line):
    done = stack.cli(*line.split(), "-o", "json", check=None, exported=True)
    if line == "validate":
        # No credential file is there, and the dev stack needs none.
        assert (done.returncode, checked_envelope(done.stdout)["status"]) == (65, "error")
    else:
        assert done.returncode == 0, done.stdout + done.stderr
        checked_data(done.stdout)


def test_a_launcher_is_built_and_registered(stack, tmp_path):
    built = checked_data(
        stack.cli(
            "plugin", "build", str(stack.dev / "plugins"), "--name", "sf2", "-o", "json"
        ).stdout
    )
    port = json.loads((stack.dev / "dev.json").read_text())["emulator"]["port"]
    register = (
        "plugin", "register", built["path"], "--name", "sf2", "--allow-host", f"127.0.0.1:{port}",
    )  # fmt: skip
    first = checked_data(stack.cli(*register, "-o", "json", exported=True).stdout)
    again = checked_data(stack.cli(*register, "-o", "json", exported=True).stdout)
    assert (first["changed"], again["changed"]) == (True, False)
    assert first["sha256"] == built["sha256"]
    listed = checked_data(
        stack.cli("plugin", "list", "--name", "sf2", "-o", "json", exported=True).stdout
    )
    assert [one["version"] for one in listed["catalog"]] == [built["version"]]
    shown = stack.cli("plugin", "list", "--name", "sf2", exported=True)
    assert "unchecked: on the server's host, --directory" in shown.stdout + shown.stderr
    none = stack.cli("plugin", "list", "--name", "nobody", exported=True)
    assert "skyflowctl plugin register FILE" in none.stdout + none.stderr


def test_c2_a_mount_that_would_not_start_again_is_never_fine_in_status(stack):
    (entry,) = stack.json("plugin", "list")["data"]["catalog"]
    where = "sys/plugins/catalog/secret/skyflow"
    kept = [f"{name}={entry[name]}" for name in ("command", "version")]
    kept += [f"args={one}" for one in entry["args"]]
    assert stack.cli("status", "-q", exported=True).returncode == 0
    stack.bao("write", where, *kept, f"sha256={'cd' * 32}")
    try:
        shown = stack.cli("status", exported=True, check=6)
        told = stack.cli("status", "-o", "json", exported=True, check=6).stdout
    finally:
        stack.bao("write", where, *kept, f"sha256={entry['sha256']}")
    assert f"{entry['version']}!" in shown.stdout
    assert "runs another file than the one that is registered" in shown.stderr
    assert {one["engine"]["catalog"] for one in checked_data(told)["mounts"]} == {"differs"}
    whole = checked_envelope(told)
    assert whole["status"] == "unhealthy"
    assert {one["code"] for one in whole["errors"]} == {"plugin-differs"}
    assert stack.cli("status", "-q", exported=True).returncode == 0


def test_a_dead_plugin_is_not_registered(stack):
    dead = stack.dev / "plugins" / "dead"
    dead.write_text("#!/bin/sh\nexit 1\n")
    dead.chmod(0o755)
    done = stack.cli("plugin", "register", str(dead), "--name", "dead", check=6, exported=True)
    assert "cannot start" in done.stderr
    assert "dead" not in stack.cli("plugin", "list", "--name", "dead", exported=True).stdout


def test_the_forms_of_a_token(stack):
    raw = stack.cli(*CREDS, "-o", "raw", exported=True).stdout
    assert raw.count(".") == 2
    assert raw.endswith("\n")
    assert len(raw.splitlines()) == 1
    env = stack.cli(*CREDS, "-o", "env", exported=True).stdout
    shown = subprocess.run(
        ["/bin/sh", "-c", env + 'echo "$SKYFLOW_BEARER_TOKEN|$SKYFLOW_BEARER_EXPIRES_AT"'],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    token, expires = shown.strip().split("|")
    assert token.count(".") == 2
    assert expires.endswith("Z")
    wrapped = stack.cli(*CREDS, "--wrap-ttl", "1m", "-o", "raw", exported=True).stdout.strip()
    opened = stack.bao("unwrap", "-field=access_token", wrapped).stdout
    assert opened.count(".") == 2


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("creds order nope", 64),
        ("creds nope nope", 64),
        ("creds order order-producer --ctx bad", 64),
        ("creds order order-producer", 64),
        ("creds order order-producer --wrap-ttl soon", 64),
        ("creds order order-producer --wrap-ttl 5m -o env", 64),
        ("creds order order-producer --dry-run --direct", 64),
        ("creds order order-producer --direct", 64),
        ("creds order nope --dry-run", 64),
        ("mount show nope", 64),
        ("role show order nope", 64),
        ("health nope", 64),
        ("plan -f nope.yaml", 65),
        ("mount list --token-file nope", 64),
        ("init", 5),
        ("plugin build nope", 64),
        ("plugin register nope", 64),
    ],
)
def test_failures_have_their_codes_and_the_envelope(stack, line, code):
    text = stack.cli(*line.split(), check=code, exported=True)
    assert all(line in text.stderr for line in ("error: ", "because: ", "fix: "))
    if "-o" not in line:
        done = stack.cli(*line.split(), "-o", "json", check=code, exported=True)
        whole = checked_envelope(done.stdout)
        assert whole["status"] != "ok"
        assert "Traceback" not in done.stderr


def test_a_wrong_token_is_4_and_an_empty_port_69_but_6_for_health(stack):
    wrong = {"BAO_TOKEN": "s.wrong"}
    environ = {**stack.exports, **wrong}
    assert stack.cli("mount", "list", check=4, env=environ).stdout == ""
    gone = {**stack.exports, "BAO_ADDR": f"https://127.0.0.1:{free_port_pair()}"}
    gone |= {"BAO_CLIENT_TIMEOUT": "2s"}
    stack.cli("mount", "list", check=69, env=gone)
    stack.cli("health", check=6, env=gone)


def test_changes_need_a_yes(stack):
    manifest = stack.folder / "changed.yaml"
    text = (stack.folder / "mounts.yaml").read_text()
    manifest.write_text(text.replace("Order orchestration", "Orders", 2))
    done = stack.cli("apply", "-f", str(manifest), check=5, exported=True)
    assert "--yes" in done.stderr
    assert "~ mount" in done.stderr
    pending = stack.cli("plan", "-f", str(manifest), "--detailed-exitcode", check=2, exported=True)
    assert "Order orchestration → Orders" in pending.stdout
    whole = stack.json("plan", "-f", str(manifest))
    assert whole["status"] == "changes"
    assert whole["data"]["summary"]["update"] == len(whole["data"]["actions"])


def test_the_run_id_is_in_the_audit_log(stack):
    whole = stack.json("mount", "list")
    assert whole["run_id"] in stack.audit_log.read_text()


def test_a_reader_that_leaves_is_no_error(stack):
    done = subprocess.run(
        ["/bin/sh", "-c", f"{SKYFLOWCTL} schema | head -c 10; {SKYFLOWCTL} --help | true"],
        env=stack.environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_that_waits(stack, number, code):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [SKYFLOWCTL, "mount", "list", "-o", "json", "--address", address],
            env=stack.environ, cwd=stack.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        silent.settimeout(30)
        connection, _ = silent.accept()
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
        connection.close()
    assert process.returncode == code
    assert checked_envelope(out.decode())["status"] == "error"


def test_on_a_terminal_it_asks_and_takes_no_for_an_answer(stack):
    manifest = stack.folder / "asked.yaml"
    text = (stack.folder / "mounts.yaml").read_text()
    manifest.write_text(text.replace("Payment services", "Payments", 2))
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [SKYFLOWCTL, "apply", "-f", str(manifest)],
        env={**stack.environ, **stack.exports, "TERM": "xterm", "NO_COLOR": ""},
        cwd=stack.folder, stdin=follower, stdout=follower, stderr=follower,
        start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    seen = _read_until(leader, b"[y/N]")
    os.write(leader, b"n\n")
    _read_until(leader, b"not confirmed")
    assert process.wait(30) == 5
    os.close(leader)
    assert b"\x1b[33m" in seen


def _read_until(descriptor: int, text: bytes, seconds: float = 30) -> bytes:
    seen, deadline = b"", time.monotonic() + seconds
    while text not in seen:
        ready, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(descriptor, 4096)
    return seen
