"""apply killed by SIGKILL after each of its writes in turn: the next run finishes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest
from support.stack import Stack, running_stack

from skyflowctl.devstack.emulator_client import control
from skyflowctl.devstack.layout import DevLayout
from skyflowctl.devstack.state import load_state

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

MANIFEST = """\
version: 1
manifest: kill-test
mounts:
  order:
    description: Order orchestration
    credentials: {file: credentials/order.json}
    roles:
      order-producer:
        role_ids: [skyflow-role-order-prod]
        ctx: {required: true, pattern: "order:*", probe: "order:probe"}
        consumers: {approle: {order-service: {token_ttl: 20m}}}
      order-reader: {role_ids: [skyflow-role-order-read]}
  payment:
    credentials: {file: credentials/payment.json}
    roles:
      payment-engine: {role_ids: [skyflow-role-payment]}
auth:
  approle: {}
policies:
  backend-policy: {rules: {secret/data/backend: [read]}}
"""
POLICIES = ("backend-policy", "skyflow.skyflow.order.order-producer")
# 2 audited headers, then a mount, its roles and its config, twice; the policies, the login
# method and the login. The engine tried each role before it accepted the credential.
WRITES = 2 + (1 + 2 + 1) + (1 + 1 + 1) + len(POLICIES) + 1 + 1
MOUNTS = {"skyflow/order": 2, "skyflow/payment": 1}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    manifest = tmp_path_factory.mktemp("killed") / "mounts.yaml"
    manifest.write_text(MANIFEST)
    with running_stack(manifest) as running:
        yield running


def start_over(stack: Stack) -> None:
    for path in MOUNTS:
        stack.bao("secrets", "disable", path)
    stack.bao("auth", "disable", "approle")
    for policy in POLICIES:
        stack.bao("policy", "delete", policy)
    for header in ("X-Skyflowctl-Run", "Application-Source"):
        stack.bao("delete", f"sys/config/auditing/request-headers/{header}")


def read(stack: Stack, *words: str) -> dict:
    return json.loads(stack.bao(words[0], "-format=json", *words[1:]).stdout)


@pytest.mark.timeout(600)
def test_every_kill_is_finished_by_the_next_run(stack: Stack) -> None:
    for writes in range(1, WRITES + 1):
        start_over(stack)
        code = stack.killed(writes, "apply", "-y", "-p", "1")
        assert code == -signal.SIGKILL, f"after write {writes}: exit {code}"
        finished = stack.json("apply", "-y")["data"]["summary"]
        assert finished["delete"] == 0
        assert stack.json("plan", "--detailed-exitcode")["data"]["actions"] == []
        for path, roles in MOUNTS.items():
            config = read(stack, "read", f"{path}/config")["data"]
            assert (config["version"], config["credential_version"]) == (1, 1), writes
            listed = read(stack, "list", "-detailed", f"{path}/roles")["data"]["key_info"]
            assert [info["version"] for info in listed.values()] == [1] * roles, writes


def test_an_unkilled_apply_makes_exactly_those_writes(stack: Stack) -> None:
    """The server's own count: its audit log knows every write, however it was sent."""
    start_over(stack)
    before = len(audited_writes(stack))
    assert stack.killed(WRITES + 1, "apply", "-y", "-p", "1") == 0
    written = audited_writes(stack)[before:]
    assert len(written) == len(set(written)) == WRITES, written


# A try of the live key and one of the new, the config's write, the node's proof, the commit.
REPLACING = 5


def new_stand_in(stack: Stack) -> str:
    """Another key of the mount's account, where the dev stack has the manifest's; its id."""
    layout = DevLayout(stack.dev)
    path, emulator = layout.credential("payment"), load_state(layout).emulator
    assert emulator
    client_id = json.loads(path.read_text())["clientID"]
    text = control(layout, emulator).create_key(client_id).reveal()
    path.write_text(text)
    return json.loads(text)["keyID"]


@pytest.mark.timeout(600)
def test_a_killed_replacement_of_a_credential_is_finished_by_the_next_run(stack: Stack) -> None:
    start_over(stack)
    stack.cli("apply", "-y", exported=True)
    for writes in range(1, REPLACING + 1):
        before = read(stack, "read", "skyflow/payment/config")["data"]["key_id"]
        key_id = new_stand_in(stack)
        assert stack.killed(writes, "apply", "-y", "-p", "1") == -signal.SIGKILL, (
            f"after write {writes}"
        )
        serving = read(stack, "read", "skyflow/payment/creds/payment-engine")["data"]
        assert serving["key_id"] in {before, key_id}
        stack.cli("apply", "-y", exported=True)
        config = read(stack, "read", "skyflow/payment/config")["data"]
        assert (config["key_id"], config["rotation"]["state"]) == (key_id, "committed"), writes
        assert (config["rotation"]["from"], config["credential_version"]) == (before, writes + 1)
        again = stack.json("plan", "--detailed-exitcode")["data"]
        assert (again["actions"], again["warnings"]) == ([], [])


def audited_writes(stack: Stack) -> list[tuple[str, str]]:
    """Every request that changed the server: its operation and path. What was refused, such
    as the probe for a control group, changed nothing."""
    entries = map(json.loads, stack.audit_log.read_text().splitlines())
    requests = [
        entry["request"]
        for entry in entries
        if entry["type"] == "response" and "error" not in entry
    ]
    return [
        (request["operation"], request["path"])
        for request in requests
        if request["operation"] in {"create", "update", "patch", "delete"}
        and request["path"] != "sys/capabilities-self"
    ]
