"""No command shows a secret: every output, log and file is searched for every known one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.leaks import Needle, find_leaks, needle
from support.stack import EXAMPLE, Stack, running_stack

from skyflowctl.cli.table import COMMANDS

pytestmark = [pytest.mark.real_server, pytest.mark.xdist_group("leaks")]

# Every command, and how it is called here. A new command without a row fails the test.
CALLS: dict[str, list[list[str]]] = {
    "init": [["init", "new.yaml"]],
    "validate": [["validate", "-f", "own/mounts.yaml"], ["validate", "-f", "own/bad.yaml"]],
    "schema": [["schema"]],
    "plan": [["plan"], ["plan", "-o", "json"], ["plan", "-v", "-v", "-f", "own/bad.yaml"]],
    "apply": [
        ["apply", "-y"],
        ["apply", "--dry-run", "-o", "json"],
        ["apply", "--dry-run", "-f", "own/mounts.yaml", "-v", "-v"],
    ],
    "status": [["status"], ["status", "-o", "json"]],
    "health": [["health"], ["health", "-o", "json"]],
    "creds": [
        ["creds", "order", "order-producer", "--ctx", "ctx-SECRET-wrong-7731", "-v", "-v"],
        ["creds", "order", "nobody"],
        ["creds", "order", "order-producer", "--ctx", "order:1", "--wrap-ttl", "60s"],
    ],
    "mount list": [["mount", "list"]],
    "mount show": [["mount", "show", "order", "-o", "json"]],
    "config show": [["config", "show", "order"], ["config", "show", "order", "-o", "json"]],
    "config verify": [["config", "verify", "order"], ["config", "verify", "order", "-o", "json"]],
    "role list": [["role", "list", "order"]],
    "role show": [["role", "show", "order", "order-producer", "-o", "json"]],
    "plugin build": [["plugin", "build", "--help"]],
    "plugin register": [["plugin", "register", "--help"]],
    "plugin list": [["plugin", "list", "-o", "json"]],
    "dev up": [["dev", "up"], ["dev", "up", "-o", "json"]],
    "dev down": [["dev", "down", "--help"]],
    "dev status": [["dev", "status"], ["dev", "status", "-o", "json"]],
    "dev env": [],  # prints the operator's token: that is its job
    "dev logs": [["dev", "logs", "openbao"], ["dev", "logs", "emulator"], ["dev", "logs", "audit"]],
    "dev reset": [["dev", "reset", "--help"]],
    "completion": [["completion", "bash"]],
    "help": [["help", "exit-codes"]],
    "version": [["version"]],
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(EXAMPLE) as running:
        yield running


def own_manifest(stack: Stack, key: str) -> None:
    """A manifest with a credential of its own, and a broken one beside it."""
    folder = stack.folder / "own"
    folder.mkdir()
    credential = json.loads(key)
    (folder / "order.json").write_text(key)
    (folder / "order.json").chmod(0o600)
    (folder / "mounts.yaml").write_text(
        "version: 1\nmanifest: own\nmounts:\n  order:\n"
        "    credentials: {file: order.json}\n"
        "    roles: {reader: {role_ids: [role-1]}}\n"
    )
    inline = json.dumps(credential["privateKey"])
    (folder / "bad.yaml").write_text(
        f"version: 1\nmanifest: own\nmounts:\n  order:\n    credentials: {inline}\n"
    )


def secrets_of(stack: Stack, own: str) -> list[Needle]:
    needles = [needle("own credential", json.loads(own)["privateKey"])]
    for path in sorted((stack.dev / "credentials").glob("*.json")):
        needles.append(needle(path.name, json.loads(path.read_text())["privateKey"]))
    for name in ("secrets/operator.token", "secrets/unseal.key"):
        needles.append(needle(name, (stack.dev / name).read_text().strip()))
    needles.append(needle("server.key", (stack.dev / "tls" / "server.key").read_text()))
    return needles


def listed_secret(stack: Stack, path: Path) -> bool:
    """SECURITY.md lists these as the dev stack's own secret files."""
    parts = path.relative_to(stack.dev).parts
    return parts[0] in {"secrets", "credentials", "emulator"} or parts == ("tls", "server.key")


def run_everything(stack: Stack) -> dict[str, bytes]:
    outputs = {}
    for calls in CALLS.values():
        for call in calls:
            done = stack.cli(*call, check=None, exported=True)
            assert "Traceback (most recent" not in done.stderr, call
            outputs[" ".join(call)] = (done.stdout + done.stderr).encode()
    return outputs


def tokens(stack: Stack) -> list[str]:
    """Tokens as callers got them: they may be in no log, audit log or file."""
    got = []
    for output in ("raw", "json", "env", "table"):
        done = stack.cli(
            "creds", "order", "order-producer", "--ctx", "order:1", "-o", output, exported=True
        )
        got += [word.strip("\"',;") for word in done.stdout.replace("=", " ").split()]
    return [word for word in got if word.count(".") == 2 and len(word) > 200]


def test_every_command_is_called_here() -> None:
    assert set(CALLS) == {row.name for row in COMMANDS}


@pytest.mark.timeout(240)
def test_no_secret_is_anywhere(stack: Stack, service_account_text: str) -> None:
    own = service_account_text
    own_manifest(stack, own)
    stack.cli("apply", "-y", exported=True)
    needles = secrets_of(stack, own)
    outputs = run_everything(stack)
    minted = [needle(f"token {n}", text) for n, text in enumerate(tokens(stack))]
    assert len(minted) >= 4
    files = {
        str(path.relative_to(stack.dev)): path.read_bytes()
        for path in stack.dev.rglob("*")
        if path.is_file() and not listed_secret(stack, path)
    }
    assert any("audit" in name for name in files)
    assert any("openbao" in name for name in files)
    hidden_ctx = Needle("ctx", frozenset({b"ctx-SECRET-wrong-7731"}), frozenset())
    logs = {name: text for name, text in files.items() if name.startswith("logs/")}
    assert find_leaks(outputs | files, needles + minted) == []
    assert find_leaks(logs, [hidden_ctx]) == []


def test_argv_of_running_processes_holds_no_secret(stack: Stack, service_account_text: str) -> None:
    import psutil

    lines = {
        str(process.pid): "\0".join(process.info["cmdline"] or ()).encode()
        for process in psutil.process_iter(["cmdline"])
    }
    assert find_leaks(lines, secrets_of(stack, service_account_text)) == []


@pytest.mark.parametrize(
    "disguise",
    [
        lambda key: key,
        lambda key: json.dumps({"k": key}),
        lambda key: base64.b64encode(b"x" + key.encode()).decode(),
        lambda key: key.splitlines()[5][7:40],
        lambda key: key.replace("\n", " \n      "),
        lambda key: json.dumps(json.dumps(key)),
    ],
)
def test_a_planted_leak_is_found(service_account_text: str, disguise) -> None:
    key = json.loads(service_account_text)["privateKey"]
    planted = {"log": f"time=1 msg={disguise(key)} end".encode()}
    assert find_leaks(planted, [needle("key", key)]) == ["log: key"]


def test_a_planted_leak_in_a_dev_log_is_found(stack: Stack, service_account_text: str) -> None:
    token = (stack.dev / "secrets" / "operator.token").read_text().strip()
    planted = {"logs/openbao.log": b"[INFO] token=" + token.encode()}
    assert find_leaks(planted, secrets_of(stack, service_account_text)) == [
        "logs/openbao.log: secrets/operator.token"
    ]
