"""Consumers, login methods and policies on a real server: made, compared, held, logged in."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from support.stack import Stack, running_stack

pytestmark = pytest.mark.real_server

MANIFEST = """\
version: 1
manifest: access-test
mounts:
  order:
    credentials: {file: credentials/order.json}
    roles:
      producer:
        role_ids: [skyflow-role-order-prod]
        ctx: {required: true, pattern: "order:*", probe: "order:probe"}
        sign: true
        sign_max_ttl: 5m
        consumers: {approle: {order-service: {token_ttl: 20m, cidrs: [10.0.0.0/8]}}}
      any:
        role_ids: [skyflow-role-any]
        ctx: {required: true, probe: "x"}
        sign: true
        consumers: {approle: {any-service: {}}}
      reader:
        role_ids: [skyflow-role-order-read]
        reuse: {min_ttl: 30m}
        consumers:
          approle:
            order-service: {token_ttl: 20m, cidrs: [10.0.0.0/8]}
            backoffice: {secret_id_num_uses: 1}
  payment:
    credentials: {file: credentials/payment.json}
    roles:
      engine: {role_ids: [skyflow-role-payment]}
auth:
  approle: {description: Logins of applications}
policies:
  backend-policy: {rules: {secret/data/backend: [read]}}
"""
ROLE = "auth/approle/role/order-service"
POLICY = "sys/policies/acl/skyflow.skyflow.order.producer"
OBJECTS = {
    "sys/policies/acl/backend-policy",
    POLICY,
    "sys/policies/acl/skyflow.skyflow.order.any",
    "sys/policies/acl/skyflow.skyflow.order.reader",
    "sys/auth/approle",
    ROLE,
    "auth/approle/role/any-service",
    "auth/approle/role/backoffice",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    manifest = tmp_path_factory.mktemp("access") / "mounts.yaml"
    manifest.write_text(MANIFEST)
    with running_stack(manifest) as running:
        applied = running.json("apply", "-y")
        assert {one["path"] for one in applied["data"]["actions"]} >= OBJECTS
        yield running


def login(stack: Stack, consumer: str) -> str:
    role = f"auth/approle/role/{consumer}"
    role_id = stack.api("GET", f"{role}/role-id")["data"]["role_id"]
    secret_id = stack.api("POST", f"{role}/secret-id", {})["data"]["secret_id"]
    body = {"role_id": role_id, "secret_id": secret_id}
    return stack.api("POST", "auth/approle/login", body)["auth"]["client_token"]


def read(stack: Stack, token: str, path: str) -> dict:
    """The data of one read with an application's own token."""
    request = urllib.request.Request(
        f"{stack.exports['BAO_ADDR']}/v1/{path}", headers={"X-Vault-Token": token}
    )
    context = ssl.create_default_context(cafile=stack.exports["BAO_CACERT"])
    with urllib.request.urlopen(request, context=context, timeout=30) as reply:
        return json.load(reply)["data"]


def status(stack: Stack, token: str, path: str, body: object = None) -> int:
    """The status of one request with an application's own token."""
    request = urllib.request.Request(
        f"{stack.exports['BAO_ADDR']}/v1/{path}",
        method="GET" if body is None else "POST",
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Vault-Token": token},
    )
    context = ssl.create_default_context(cafile=stack.exports["BAO_CACERT"])
    try:
        with urllib.request.urlopen(request, context=context, timeout=30) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def plan(stack: Stack, code: int = 0) -> dict:
    return stack.json("plan", "--detailed-exitcode", check=code)["data"]


def test_the_dev_stack_lets_consumers_log_in_from_this_machine_and_says_so(stack):
    said = stack.cli("plan", exported=True).stderr
    assert "the dev stack: 127.0.0.0/8 replaces the cidrs of consumers" in said
    live = stack.api("GET", ROLE)["data"]
    assert live["token_bound_cidrs"] == live["secret_id_bound_cidrs"] == ["127.0.0.0/8"]
    assert stack.api("GET", "auth/approle/role/backoffice")["data"]["token_bound_cidrs"] == []


def test_the_second_plan_is_empty(stack):
    made = plan(stack)
    assert (made["actions"], made["drift"], made["warnings"]) == ([], [], [])


def test_a_consumer_reads_its_tokens_and_nothing_else(stack):
    token, creds = login(stack, "order-service"), "skyflow/order/creds"
    allowed = [
        (f"{creds}/producer?ctx=order:1", None),
        (f"{creds}/producer", {"ctx": "order:2"}),
        (f"{creds}/reader", None),
        (f"{creds}/reader?ctx=x", None),
    ]
    denied = [
        (f"{creds}/producer", None),
        (f"{creds}/producer?ctx=payment:1", None),
        (f"{creds}/producer?ctx=order:1&ctx=payment:1", None),
        (f"{creds}/producer?ctx=order:1&other=x", None),
        (f"{creds}/producer", {"ctx": {"order": "1"}}),
        (f"{creds}/any?ctx=x", None),
        ("skyflow/payment/creds/engine", None),
        ("skyflow/order/config", None),
        ("skyflow/order/roles/producer", None),
        ("sys/mounts", None),
        ("secret/data/backend", None),
    ]
    assert [status(stack, token, *one) for one in allowed] == [200] * len(allowed)
    assert [status(stack, token, *one) for one in denied] == [403] * len(denied)


def test_one_login_is_handed_the_same_token_again(stack):
    one, again, other = (
        login(stack, name) for name in ("order-service", "order-service", "backoffice")
    )
    path = "skyflow/order/creds/reader?ctx=job:1"
    before = len(stack.audit_log.read_text().splitlines())
    answers = [read(stack, token, path) for token in (one, again, one, other)]
    tokens = [answer["access_token"] for answer in answers]
    assert [answer["reused"] for answer in answers] == [False, True, True, False]
    assert (len(set(tokens[:3])), tokens[3] in tokens[:3]) == (1, False)
    # A boolean is not hashed: the audit log says which answers were reused.
    log = [json.loads(line) for line in stack.audit_log.read_text().splitlines()[before:]]
    told = [
        entry["response"]["data"]["reused"]
        for entry in log
        if entry["type"] == "response"
        and entry["request"]["path"] == "skyflow/order/creds/reader"
        and "reused" in (entry["response"].get("data") or {})
    ]
    assert told == [False, True, True, False]
    assert not any(token in stack.audit_log.read_text() for token in tokens)
    said = stack.cli("consumer", "issue", "order-service", exported=True).stderr
    assert "all processes that log in as order-service get the same tokens of order/reader" in (
        " ".join(said.split())
    )


def test_a_consumer_has_data_tokens_signed_by_the_same_ctx_rule(stack):
    token, sign = login(stack, "order-service"), "skyflow/order/sign"
    tokens = {"data_tokens": ["5479-4229-4622-1393", "b", "5479-4229-4622-1393"]}
    allowed = [
        (f"{sign}/producer", {"ctx": "order:1", **tokens}),
        (f"{sign}/producer", {"ctx": "order:1", "ttl": 300, **tokens}),
        (f"{sign}/producer", {"ctx": "order:1", "ttl": "5m", "data_tokens": "a,b"}),
    ]
    denied = [
        (f"{sign}/producer", tokens),
        (f"{sign}/producer", {"ctx": "payment:1", **tokens}),
        (f"{sign}/producer", {"ctx": {"order": "1"}, **tokens}),
        (f"{sign}/producer", {"ctx": "order:1", "other": "x", **tokens}),
        (f"{sign}/producer?ctx=order:1", None),
        (f"{sign}/reader", tokens),
        (f"{sign}/any", {"ctx": "x", **tokens}),
        ("skyflow/payment/sign/engine", tokens),
    ]
    assert [status(stack, token, *one) for one in allowed] == [200] * len(allowed)
    assert [status(stack, token, *one) for one in denied] == [403] * len(denied)
    refused = {"ctx": "order:1", "ttl": 301, **tokens}
    assert status(stack, token, f"{sign}/producer", refused) == 400
    asked = ("sign", "order", "producer", *tokens["data_tokens"], "-o", "raw")
    login_of = {"BAO_TOKEN": token}
    signed = stack.cli(*asked, "--ctx", "order:1", exported=True, env=login_of).stdout.split()
    assert [one.startswith("signed_token_") for one in signed] == [True] * 3
    stack.cli(*asked, "--ctx", "payment:1", exported=True, env=login_of, check=4)
    logged = stack.audit_log.read_text()
    assert f"{sign}/producer" in logged
    assert "5479-4229-4622-1393" not in logged
    assert "signed_token_" not in logged


def test_a_required_ctx_without_a_pattern_is_any_text(stack):
    token, path = login(stack, "any-service"), "skyflow/order/creds/any"
    assert status(stack, token, f"{path}?ctx=anything") == 200
    assert status(stack, token, path) == 403
    body = {"data_tokens": ["a"]}
    assert status(stack, token, "skyflow/order/sign/any", {"ctx": "anything", **body}) == 200
    assert status(stack, token, "skyflow/order/sign/any", body) == 403


DRIFTS = [
    (ROLE, ROLE, {"token_ttl": "5h"}, "token_ttl"),
    (ROLE, ROLE, {"secret_id_bound_cidrs": []}, "secret_id_bound_cidrs"),
    (ROLE, ROLE, {"token_policies": ["root", "skyflowctl.owner.access-test"]}, "token_policies"),
    ("sys/auth/approle", "sys/auth/approle/tune", {"description": "other"}, "description"),
    (
        POLICY,
        POLICY,
        {
            "policy": "# managed-by:skyflowctl/access-test\n"
            'path "skyflow/order/creds/producer" { capabilities = ["read", "update"]\n'
            'required_parameters = ["ctx"]\nallowed_parameters = { "ctx" = ["order:*"] } }\n'
            'path "skyflow/order/sign/producer" { capabilities = ["update"] }'
        },
        'path "skyflow/order/sign/producer"',
    ),
    (
        "sys/policies/acl/backend-policy",
        "sys/policies/acl/backend-policy",
        {
            "policy": "# managed-by:skyflowctl/access-test\n"
            'path "secret/data/backend" { capabilities = ["read"] }\n'
            'path "sys/*" { capabilities = ["sudo"] }'
        },
        'path "sys/*"',
    ),
]


@pytest.mark.parametrize(("path", "written", "body", "field"), DRIFTS)
def test_one_change_is_named_and_mended(stack, path, written, body, field):
    stack.api("POST", written, body)
    (action,) = plan(stack, 2)["actions"]
    assert (action["action"], action["path"]) == ("update", path)
    assert [change["field"] for change in action["changes"]] == [field]
    stack.cli("apply", "-y", exported=True)
    assert plan(stack)["actions"] == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [(POLICY, "policy"), ("auth/approle/role/backoffice", "login_role")],
)
def test_an_object_that_was_deleted_is_made_again(stack, path, kind):
    stack.api("DELETE", path)
    (action,) = plan(stack, 2)["actions"]
    assert (action["action"], action["kind"], action["path"]) == ("create", kind, path)
    stack.cli("apply", "-y", exported=True)
    assert plan(stack)["actions"] == []


def test_spaces_and_comments_in_a_policy_are_no_change(stack):
    text = stack.api("GET", POLICY)["data"]["policy"]
    stack.api("POST", POLICY, {"policy": text.replace("  ", "\t") + "\n# by hand\n"})
    assert plan(stack)["actions"] == []


FOREIGN = [
    (POLICY, {"policy": 'path "skyflow/order/creds/producer" { capabilities = ["read"] }'}),
    (ROLE, {"token_policies": ["by-hand"]}),
]


@pytest.mark.parametrize(("path", "body"), FOREIGN)
def test_an_object_of_others_is_changed_only_when_it_is_named(stack, path, body):
    stack.api("POST", path, body)
    before = stack.api("GET", path)["data"]
    refused = stack.json("apply", "-y", check=5)
    assert [error["code"] for error in refused["errors"]] == ["needs-adoption"]
    assert path in refused["errors"][0]["summary"]
    assert f"--adopt={path}" in refused["errors"][0]["fix"]
    assert stack.api("GET", path)["data"] == before
    stack.cli("apply", "-y", f"--adopt={path}", exported=True)
    assert plan(stack)["actions"] == []
    stack.api("DELETE", path)
    stack.cli("apply", "-y", exported=True)


def test_a_policy_of_another_manifest_needs_its_id_too(stack):
    stack.api("POST", POLICY, {"policy": '# managed-by:skyflowctl/other\npath "a" {}'})
    refused = stack.json("apply", "-y", f"--adopt={POLICY}", check=5)
    assert "--adopt-from=other" in refused["errors"][0]["fix"]
    stack.cli("apply", "-y", f"--adopt={POLICY}", "--adopt-from=other", exported=True)
    assert plan(stack)["actions"] == []
    stack.api("DELETE", POLICY)
    stack.cli("apply", "-y", exported=True)


def test_one_mount_plans_only_its_own_consumers(stack):
    stack.api("DELETE", ROLE)
    stack.api("DELETE", "sys/policies/acl/backend-policy")
    only_payment = stack.json("plan", "payment")["data"]
    only_order = stack.json("plan", "order")["data"]
    assert only_payment["actions"] == []
    assert [action["path"] for action in only_order["actions"]] == [ROLE]
    stack.cli("apply", "-y", exported=True)
    assert plan(stack)["actions"] == []


def test_a_missing_login_method_is_refused_with_the_fix(stack, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(
        "version: 1\nmanifest: other\nmounts:\n  other:\n    roles:\n"
        "      r: {role_ids: [x], consumers: {approle: {app: {}}}}\n"
    )
    stack.api("DELETE", "sys/auth/approle")
    refused = stack.json("apply", "-y", "-f", str(other), check=5)
    assert [error["code"] for error in refused["errors"]] == ["login-method-missing"]
    assert "auth: {approle: {}}" in refused["errors"][0]["fix"]
    stack.cli("apply", "-y", exported=True)
    assert plan(stack)["actions"] == []


def test_a_dry_run_makes_the_same_objects(stack):
    done = stack.json("apply", "--dry-run")
    assert done["status"] in {"ok", "changes"}
    stack.api("DELETE", ROLE)
    dry = stack.json("apply", "--dry-run")["data"]
    assert [action["path"] for action in dry["actions"]] == [ROLE]
    assert {one["path"] for one in plan(stack, 2)["actions"]} == {ROLE}
    stack.cli("apply", "-y", exported=True)


def test_an_export_is_valid_and_its_plan_is_empty(stack, tmp_path):
    file = tmp_path / "exported.yaml"
    exported = stack.json("export", "--out", str(file))
    assert exported["errors"] == []
    assert exported["data"]["mounts"] == ["skyflow/order", "skyflow/payment"]
    assert file.read_text() == exported["data"]["text"] == stack.json("export")["data"]["text"]
    assert stack.cli("export", exported=True).stdout == file.read_text()
    stack.cli("validate", "-f", str(file))
    planned = stack.json("plan", "-f", str(file), "--detailed-exitcode")["data"]
    assert (planned["actions"], planned["warnings"]) == ([], [])
    again = stack.json("export", "--out", str(file), check=5)
    assert [error["code"] for error in again["errors"]] == ["file-exists"]


def test_protection_and_marks_of_others_are_exported_as_they_are(stack, tmp_path):
    tune = "sys/mounts/skyflow/payment/tune"
    stack.api("POST", tune, {"options": {"protect": "true"}})
    try:
        text = stack.json("export", "payment", "--manifest", "mine")["data"]["text"]
        assert "protect: true" in text
        assert "managed-by" not in text
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        stack.cli("validate", "-f", str(file))
    finally:
        stack.api("POST", tune, {"options": {"protect": ""}})


def test_a_part_is_exported_and_what_it_lacks_is_said(stack):
    exported = stack.cli("export", "payment", "-o", "json", exported=True)
    data = json.loads(exported.stdout)["data"]
    assert data["mounts"] == ["skyflow/payment"]
    assert "consumers" not in data["text"]
    assert f"{ROLE}: was left out" in exported.stderr


def test_mounts_without_a_mark_are_exported_under_a_chosen_id(stack, tmp_path):
    stack.api("POST", "sys/mounts/hand/made", {"type": "skyflow", "description": "${by} hand"})
    try:
        refused = stack.json("export", check=64)
        assert [error["code"] for error in refused["errors"]] == ["several-manifests"]
        file = tmp_path / "hand.yaml"
        stack.cli("export", "hand/made", "--manifest", "mine", "--out", str(file), exported=True)
        stack.cli("validate", "-f", str(file))
        refused = stack.json("apply", "-y", "-f", str(file), check=5)
        assert [error["code"] for error in refused["errors"]] == ["needs-adoption"]
        stack.cli("apply", "-y", "-f", str(file), "--adopt=hand/made", exported=True)
        assert stack.json("plan", "-f", str(file))["data"]["actions"] == []
        assert stack.api("GET", "sys/mounts/hand/made")["data"]["description"] == "${by} hand"
    finally:
        stack.api("DELETE", "sys/mounts/hand/made")


def test_a_mount_without_a_credential_has_none_to_keep(stack, tmp_path):
    file = tmp_path / "bare.yaml"
    file.write_text("version: 1\nmanifest: bare\nmounts:\n  bare:\n    credentials: {live: true}\n")
    refused = stack.json("plan", "-f", str(file), check=65)
    assert [error["code"] for error in refused["errors"]] == ["no-live-credential"]
    assert refused["errors"][0]["where"]["line"] == 4


@pytest.mark.parametrize("name", ["nowhere/else", "sys"])
def test_an_unknown_mount_is_not_exported(stack, name):
    refused = stack.json("export", name, check=64)
    assert refused["errors"][0]["code"] in {"unknown-mount", "bad-mount"}


def test_a_prune_deletes_the_login_and_the_policies_that_were_taken_out(stack, tmp_path):
    smaller = MANIFEST.replace("            backoffice: {secret_id_num_uses: 1}\n", "").replace(
        "        consumers: {approle: {any-service: {}}}\n", ""
    )
    manifest = stack.folder / "mounts.yaml"
    manifest.write_text(smaller)
    gone = {
        "auth/approle/role/any-service",
        "auth/approle/role/backoffice",
        "sys/policies/acl/skyflow.skyflow.order.any",
    }
    stack.api("POST", "auth/approle/role/by-hand", {"token_ttl": 60})
    try:
        without = plan(stack, 2)
        assert without["actions"] == []
        assert [one["path"] for one in without["drift"]] == [
            "sys/policies/acl/skyflow.skyflow.order.any"
        ]
        pruned = stack.json("apply", "--prune", "-y")["data"]["actions"]
        assert {(one["action"], one["path"]) for one in pruned} == {("delete", one) for one in gone}
        assert [one["kind"] for one in pruned] == ["login_role", "login_role", "policy"]
        again = stack.json("plan", "--prune", "--detailed-exitcode")["data"]
        assert (again["actions"], again["drift"]) == ([], [])
        assert stack.api("GET", "auth/approle/role/by-hand")["data"]["token_ttl"] == 60
    finally:
        manifest.write_text(MANIFEST)
        stack.api("DELETE", "auth/approle/role/by-hand")
        stack.cli("apply", "-y", exported=True)
