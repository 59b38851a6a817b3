"""The commands for consumers, with the stock client as the application, on a real server."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest
from support.stack import BIN, Stack, running_stack

pytestmark = pytest.mark.real_server

MANIFEST = """\
version: 1
manifest: consumers-test
mounts:
  order:
    credentials: {file: credentials/order.json}
    roles:
      producer:
        role_ids: [skyflow-role-order-prod]
        ctx: {required: true, pattern: "order:*", probe: "order:probe"}
        sign: true
        consumers: {approle: {order-service: {}, limited: {secret_id_num_uses: 5}}}
      reader:
        role_ids: [skyflow-role-order-read]
        consumers: {approle: {order-service: {}, remote: {cidrs: [10.1.0.0/16]}, spare: {}}}
  payment:
    credentials: {file: credentials/payment.json}
    roles:
      engine: {role_ids: [skyflow-role-payment]}
auth:
  approle: {}
"""
PRODUCER, SIGN = "skyflow/order/creds/producer", "skyflow/order/sign/producer"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    manifest = tmp_path_factory.mktemp("consumers") / "mounts.yaml"
    manifest.write_text(MANIFEST)
    with running_stack(manifest, apply=True) as running:
        running.api("POST", "sys/mounts/secret", {"type": "kv"})
        yield running


def consumer(stack: Stack, *words: str, check: int = 0) -> dict:
    return stack.json("consumer", *words, check=check)["data"]


def problem(stack: Stack, *words: str, check: int) -> dict:
    return stack.json("consumer", *words, check=check)["errors"][0]


def unwrap(stack: Stack, wrap_token: str) -> str:
    """The secret id, taken out with the command that the table prints."""
    done = subprocess.run(
        ["bash", "-c", "(read -rs BAO_TOKEN && export BAO_TOKEN && bao unwrap -field=secret_id)"],
        env={**stack.environ, **stack.exports, "PATH": f"{BIN}:/usr/bin:/bin"},
        input=f"{wrap_token}\n",
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def log_in(stack: Stack, role_id: str, secret_id: str) -> str:
    body = {"role_id": role_id, "secret_id": secret_id}
    return stack.api("POST", "auth/approle/login", body)["auth"]["client_token"]


def listed(stack: Stack, name: str) -> list[dict]:
    (found,) = [one for one in consumer(stack, "list")["consumers"] if one["consumer"] == name]
    return found["secret_ids"]


def revoke_all(stack: Stack, name: str) -> None:
    consumer(stack, "revoke", name, "--all", "-y")


def test_an_issued_secret_id_is_unwrapped_once_with_the_printed_command(stack):
    revoke_all(stack, "order-service")
    made = consumer(stack, "issue", "order-service", "--num-uses", "3", "--cidr", "127.0.0.0/8")
    assert (made["consumer"], made["method"], made["wrap_ttl"]) == ("order-service", "approle", 300)
    assert made["creation_path"] == "auth/approle/role/order-service/secret-id"
    (before,) = listed(stack, "order-service")
    assert before["accessor"] == made["secret_id_accessor"]
    assert (before["uses_left"], before["used"], before["cidrs"]) == (3, False, ["127.0.0.0/8"])
    assert log_in(stack, made["role_id"], unwrap(stack, made["wrap_token"]))
    (after,) = listed(stack, "order-service")
    assert (after["uses_left"], after["used"]) == (2, True)
    with pytest.raises(subprocess.CalledProcessError):
        unwrap(stack, made["wrap_token"])


@pytest.mark.slow
def test_the_table_says_what_to_do_next_and_only_stdout_has_the_token(stack):
    shown = stack.cli("consumer", "issue", "spare", "--wrap-ttl", "2m", exported=True)
    wrap_token = re.search(r"wrap_token +(\S+)", shown.stdout)[1]
    role_id = re.search(r"^role_id +(\S+)", shown.stdout, re.MULTILINE)[1]
    assert "(read -rs BAO_TOKEN && export BAO_TOKEN && bao unwrap -field=secret_id)" in shown.stdout
    assert log_in(stack, role_id, unwrap(stack, wrap_token))
    assert wrap_token not in shown.stderr
    assert wrap_token not in stack.audit_log.read_text()


@pytest.mark.slow
def test_list_names_roles_and_says_that_an_unlimited_use_is_not_shown(stack):
    revoke_all(stack, "spare")
    made = consumer(stack, "issue", "spare")
    log_in(stack, made["role_id"], unwrap(stack, made["wrap_token"]))
    rows = {one["consumer"]: one for one in consumer(stack, "list")["consumers"]}
    assert list(rows) == ["limited", "order-service", "remote", "spare"]
    assert [one["path"] for one in rows["order-service"]["roles"]] == [
        PRODUCER, "skyflow/order/creds/reader",
    ]  # fmt: skip
    (only,) = rows["spare"]["secret_ids"]
    assert (only["uses_left"], only["used"], only["expires_at"]) == (None, None, None)
    assert "not shown" in stack.cli("consumer", "list", exported=True).stdout


@pytest.mark.slow
def test_rotate_keeps_the_old_until_the_new_one_has_been_used(stack):
    revoke_all(stack, "limited")
    first = consumer(stack, "issue", "limited")
    second = consumer(stack, "rotate", "limited")
    assert len(listed(stack, "limited")) == 2
    refused = problem(stack, "rotate", "limited", "--retire", "-y", check=5)
    assert (refused["code"], len(listed(stack, "limited"))) == ("use-not-shown", 2)
    log_in(stack, second["role_id"], unwrap(stack, second["wrap_token"]))
    assert problem(stack, "rotate", "limited", "--retire", check=5)["code"] == "needs-confirmation"
    done = consumer(stack, "rotate", "limited", "--retire", "-y")
    assert done["destroyed"] == [{"accessor": first["secret_id_accessor"], "result": "destroyed"}]
    (left,) = listed(stack, "limited")
    assert left["accessor"] == second["secret_id_accessor"]
    assert consumer(stack, "rotate", "limited", "--retire", "-y")["destroyed"] == []


@pytest.mark.slow
def test_the_fix_for_a_use_that_is_never_shown_works_as_printed(stack):
    revoke_all(stack, "order-service")
    old = consumer(stack, "issue", "order-service")["secret_id_accessor"]
    new = consumer(stack, "rotate", "order-service")["secret_id_accessor"]
    refused = problem(stack, "rotate", "order-service", "--retire", "-y", check=5)
    printed = refused["fix"].partition("skyflowctl ")[2].split()
    assert printed[-1] == old
    stack.cli(*printed, "-y", exported=True)
    assert [one["accessor"] for one in listed(stack, "order-service")] == [new]


@pytest.mark.slow
def test_revoke_says_what_stays_valid(stack):
    revoke_all(stack, "spare")
    made = consumer(stack, "issue", "spare")
    secret_id = unwrap(stack, made["wrap_token"])
    token = log_in(stack, made["role_id"], secret_id)
    accessor = made["secret_id_accessor"]
    said = stack.cli("consumer", "revoke", "spare", "--accessor", accessor, "-y", exported=True)
    assert "stay valid until they expire" in said.stderr
    with pytest.raises(OSError, match="400"):
        log_in(stack, made["role_id"], secret_id)
    own = stack.api("POST", "auth/token/lookup", {"token": token})["data"]
    stack.bao("write", "auth/token/revoke-accessor", f"accessor={own['accessor']}")
    with pytest.raises(OSError, match="403"):
        stack.api("POST", "auth/token/lookup", {"token": token})
    again = consumer(stack, "revoke", "spare", "--accessor", accessor, "-y")
    assert again["destroyed"] == [{"accessor": accessor, "result": "absent"}]


MISTAKES = [
    (("issue", "nobody"), 64, "unknown-consumer"),
    (("issue", "spare", "--wrap-ttl", "soon"), 64, "usage"),
    (("issue", "spare", "--cidr", "here"), 64, "usage"),
    (("revoke", "spare"), 64, "which-secret-ids"),
    (("revoke", "spare", "--all", "--accessor", "x"), 64, "which-secret-ids"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "code", "name"), MISTAKES)
def test_a_mistake_is_named(stack, words, code, name):
    assert problem(stack, *words, check=code)["code"] == name


@pytest.mark.slow
def test_addresses_are_those_of_the_servers_login_role(stack):
    role = "auth/approle/role/remote"
    outside = problem(stack, "issue", "remote", "--cidr", "10.1.0.0/16", check=64)
    assert outside["code"] == "cidr-outside"
    assert outside["fix"] == "give a range within 127.0.0.0/8"  # as applied to the dev stack
    consumer(stack, "issue", "remote", "--cidr", outside["fix"].split()[-1])
    assert all(one["ok"] for one in consumer(stack, "check", "remote")["checks"])
    before = stack.api("GET", role)["data"]
    names = ("secret_id_bound_cidrs", "token_bound_cidrs")
    stack.api("POST", role, {name: ["10.1.0.0/16"] for name in names})
    try:
        assert problem(stack, "check", "remote", check=4)["code"] == "cannot-log-in"
    finally:
        stack.api("POST", role, {name: before[name] for name in names})


def test_check_proves_what_a_consumer_may_do_and_leaves_nothing(stack):
    before, log = listed(stack, "order-service"), len(stack.audit_log.read_text())
    checks = consumer(stack, "check", "order-service")["checks"]
    asked = {(one["path"], one["request"]): (one["expected"], one["got"]) for one in checks}
    assert all(one["ok"] for one in checks)
    assert asked[PRODUCER, "any"] == ("allow", "allow")
    assert asked[PRODUCER, "without ctx"] == ("deny", "deny")
    assert asked[PRODUCER, "other ctx"] == ("deny", "deny")
    assert asked[SIGN, "any"] == ("allow", "allow")
    assert asked[SIGN, "without ctx"] == asked[SIGN, "other ctx"] == ("deny", "deny")
    no_sign = ("skyflow/order/sign/reader", "skyflow/payment/sign/engine")
    for path in (
        *no_sign,
        "skyflow/payment/creds/engine",
        "skyflow/order/config",
        "secret/",
        "sys/mounts",
    ):
        assert asked[path, "any"] == ("deny", "deny")
    assert listed(stack, "order-service") == before
    entries = [json.loads(line) for line in stack.audit_log.read_text()[log:].splitlines()]
    paths = [one["request"]["path"] for one in entries if one["type"] == "response"]
    assert "auth/token/revoke-self" in paths
    assert not any("/creds/" in path or "/sign/" in path for path in paths)
    denied = [one for one in entries if "permission denied" in one.get("error", "")]
    assert denied == []


TOO_MUCH = """
path "secret/data/one" { capabilities = ["read"] }
path "secret/data/many/*" { capabilities = ["read"] }
path "skyflow/order/creds/producer" { capabilities = ["read"] }
path "sys/policies/*" { capabilities = ["update"] }
path "skyflow/+/creds/engine" { capabilities = ["read"] }
"""


def test_check_finds_each_right_that_the_manifest_does_not_give(stack):
    role = "auth/approle/role/spare"
    before = stack.api("GET", role)["data"]["token_policies"]
    stack.api("POST", "sys/policies/acl/too-much", {"policy": TOO_MUCH})
    stack.api("POST", role, {"token_policies": [*before, "too-much"]})
    try:
        checks = consumer(stack, "check", "spare", check=6)["checks"]
    finally:
        stack.api("POST", role, {"token_policies": before})
    assert {one["path"] for one in checks if not one["ok"]} == {
        "secret/data/one",
        "secret/data/many/*",
        PRODUCER,
        "sys/policies/*",
        "sys/policies/acl",
        "skyflow/payment/creds/engine",
    }


@pytest.mark.slow
def test_check_finds_a_policy_that_lost_its_ctx_rule(stack):
    path = "sys/policies/acl/skyflow.skyflow.order.producer"
    before = stack.api("GET", path)["data"]["policy"]
    text = f'path "{PRODUCER}" {{ capabilities = ["read", "update"] }}\n'
    text += f'path "{SIGN}" {{ capabilities = ["update"] }}'
    stack.api("POST", path, {"policy": text})
    try:
        checks = consumer(stack, "check", "order-service", check=6)["checks"]
    finally:
        stack.api("POST", path, {"policy": before})
    wrong = [(one["path"], one["request"]) for one in checks if not one["ok"]]
    assert wrong == [
        (path, request) for path in (PRODUCER, SIGN) for request in ("without ctx", "other ctx")
    ]


@pytest.mark.slow
def test_a_login_role_of_others_gets_no_secret_id(stack):
    role = "auth/approle/role/spare"
    before = stack.api("GET", role)["data"]["token_policies"]
    stack.api("POST", role, {"token_policies": ["by-hand"]})
    try:
        assert problem(stack, "issue", "spare", check=5)["code"] == "not-ours"
        assert problem(stack, "check", "spare", check=5)["code"] == "not-ours"
    finally:
        stack.api("POST", role, {"token_policies": before})


@pytest.mark.slow
def test_a_login_role_that_is_missing_is_named(stack):
    role = "auth/approle/role/spare"
    before = stack.api("GET", role)["data"]
    stack.api("DELETE", role)
    try:
        assert problem(stack, "issue", "spare", check=64)["code"] == "consumer-missing"
        assert problem(stack, "rotate", "spare", "--retire", check=64)["code"] == "consumer-missing"
        (row,) = [one for one in consumer(stack, "list")["consumers"] if one["consumer"] == "spare"]
        assert (row["state"], row["secret_ids"]) == ("absent", [])
    finally:
        stack.api("POST", role, {name: value for name, value in before.items() if value})
