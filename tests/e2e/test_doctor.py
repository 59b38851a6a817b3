"""``doctor`` on a real stack: what is well, and each failure by its grade and fix."""

from __future__ import annotations

import json
import shlex
import signal

import pytest
from support.stack import Stack, running_stack

pytestmark = pytest.mark.real_server


@pytest.fixture(scope="module")
def stack():
    with running_stack(apply=True) as running:
        yield running


def findings(stack: Stack, *words: str, check: int = 0, exported: bool = True):
    answer = stack.json("doctor", *words, check=check, exported=exported)
    found = answer["data"]["findings"]
    assert sum(answer["data"]["summary"].values()) == len(found)
    assert all(one["fix"] for one in found if one["grade"] in {"bad", "warning"})
    return found


def grades(found, check: str) -> set[str]:
    return {one["grade"] for one in found if one["check"] == check}


def test_a_good_stack_has_no_bad_finding(stack: Stack):
    found = findings(stack)
    for check in ("target", "tls", "nodes", "login", "permissions", "plugin", "engine", "keys"):
        assert grades(found, check) == {"ok"}, [one for one in found if one["check"] == check]
    assert grades(found, "token service") == {"unknown"}, "no reference is followed here"
    audit = [one["summary"] for one in found if one["check"] == "audit"]
    assert audit == ["there is only one audit device"]


def test_without_a_server_this_machine_is_checked_all_the_same(stack: Stack):
    found = findings(stack, check=6, exported=False)
    assert grades(found, "target") == {"unknown"}
    assert not grades(found, "nodes")
    lost = [one["summary"] for one in found if one["check"] == "credentials"]
    assert len(lost) == 3, "the dev stack generated the credentials; their files are not there"
    assert all(one.startswith("there is no file") for one in lost)


def test_a_server_that_does_not_answer_is_bad_and_not_asked_further(stack: Stack):
    found = findings(stack, "--address", "https://127.0.0.1:1", check=6)
    assert grades(found, "tls") == grades(found, "nodes") == {"bad"}
    assert grades(found, "server") == {"unknown"}


def test_a_login_that_is_not_valid_is_bad(stack: Stack, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("s.wrong")
    wrong.chmod(0o600)
    found = findings(stack, "--token-file", str(wrong), check=6)
    assert grades(found, "login") == {"bad"}
    assert grades(found, "permissions") == {"unknown"}


def idempotence(found) -> list[dict]:
    return [one for one in found if one["check"] == "idempotence"]


def test_idempotence_is_proved_on_a_scratch_mount_and_touches_no_other(stack: Stack):
    before, start = stack.api("GET", "sys/mounts")["data"], stack.audit_log.stat().st_size
    (one,) = idempotence(findings(stack, "--idempotence", "-y"))
    assert (one["grade"], one["summary"]) == ("ok", "applied twice: 4 actions, then none")
    assert stack.api("GET", "sys/mounts")["data"] == before
    with stack.audit_log.open() as log:
        log.seek(start)
        seen = [json.loads(line)["request"] for line in log]
    written = {one["path"] for one in seen if one["operation"] in {"create", "update", "delete"}}
    asked = {"sys/capabilities-self", "sys/control-group/request"}
    assert written - asked
    assert all("/doctor-" in path for path in written - asked), written


def test_idempotence_is_not_begun_without_a_confirmation_or_a_server(stack: Stack):
    before = stack.api("GET", "sys/mounts")["data"]
    refused = stack.cli("doctor", "--idempotence", "--no-input", check=5, exported=True)
    assert "makes the mount skyflow/doctor-" in refused.stderr
    assert "skyflowctl mount disable skyflow/doctor-" in refused.stderr
    stack.cli("doctor", "--idempotence", "-y", check=64)
    assert stack.api("GET", "sys/mounts")["data"] == before


def test_a_scratch_mount_of_a_killed_run_is_found_and_its_command_removes_it(stack: Stack):
    before = stack.api("GET", "sys/mounts")["data"]
    assert stack.killed(2, "doctor", "--idempotence", "-y") == -signal.SIGKILL
    (one,) = idempotence(findings(stack))
    assert one["grade"] == "warning"
    words = shlex.split(one["fix"])
    assert words[:3] == ["skyflowctl", "mount", "disable"]
    stack.cli(*words[1:], "-y", exported=True)
    assert stack.api("GET", "sys/mounts")["data"] == before
    assert not idempotence(findings(stack))


def test_a_context_that_is_used_is_not_called_hidden(stack: Stack):
    stack.cli(
        "context", "add", "dev", "--address", stack.exports["BAO_ADDR"],
        "--ca-cert", stack.exports["BAO_CACERT"],
    )  # fmt: skip
    try:
        found = findings(stack, "--context", "dev", check=None)
        hidden = "the environment's address hides the context dev"
        assert hidden not in [one["summary"] for one in found]
        stack.cli("context", "use", "dev")
        assert hidden in [one["summary"] for one in findings(stack)]
    finally:
        stack.cli("context", "remove", "dev", "-y")


def test_a_wrong_digest_in_the_catalog_is_bad_before_a_restart_finds_it(stack: Stack):
    path = "sys/plugins/catalog/secret/skyflow"
    entry = stack.api("GET", f"{path}?version=v1.0.0")["data"]
    kept = {name: entry[name] for name in ("command", "args", "version", "sha256")}
    stack.api("POST", path, {**kept, "sha256": "ab" * 32})
    try:
        bad = [one for one in findings(stack, check=6) if one["grade"] == "bad"]
        assert {one["check"] for one in bad} == {"plugin"}
        assert len(bad) == 3, "one for each mount"
        assert all("another file than the one that is registered" in one["summary"] for one in bad)
        assert all("skyflowctl plugin register" in one["fix"] for one in bad)
    finally:
        stack.api("POST", path, kept)
    assert grades(findings(stack), "plugin") == {"ok"}


def test_the_rules_that_a_narrow_login_is_told_to_add_let_it_see_all(stack: Stack):
    reads = 'path "skyflow/*" { capabilities = ["read", "list"] }'
    stack.api("PUT", "sys/policies/acl/narrow", {"policy": reads})
    token = stack.bao("token", "create", "-policy=narrow", "-field=token").stdout.strip()
    exports = {**stack.exports, "BAO_TOKEN": token, "VAULT_TOKEN": token}
    login = Stack(stack.folder, stack.environ, exports)

    def refused() -> list[dict]:
        found = findings(login, check=None)
        return [one for one in found if "capabilities = [" in one["fix"]]

    told = refused()
    checks = {"permissions", "plugin", "engine", "audit"}
    assert {one["check"] for one in told} == {"nodes", "server", *checks}
    rules = set()
    for one in told:
        rule, command = one["fix"].splitlines()
        rules.add(rule.removeprefix("add to a policy of this login:  "))
        assert command == "bao policy write NAME FILE"
    stack.api("PUT", "sys/policies/acl/narrow", {"policy": "\n".join([reads, *rules])})
    assert refused() == []
    found = findings(login)
    for check in ("nodes", "server", "keys", *checks):
        assert "unknown" not in grades(found, check), found
