"""The permission pre-flight of ``apply``, kind by kind: the rules that it prints are enough."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

READER = """
path "*" { capabilities = ["read", "list"] }
path "sys/config/auditing/request-headers" { capabilities = ["read", "sudo"] }
path "sys/plugins/catalog/*" { capabilities = ["read", "sudo"] }
path "sys/control-group/request" { capabilities = ["update"] }
"""
KINDS = """
version: 1
manifest: kinds
mounts: {}
namespaces: {team: {}}
engines:
  notes: {type: kv, version: 2, secrets: {mail: {password: {generate: {length: 20}}}}}
  keys: {type: transit, keys: {orders: {}}}
policies:
  notes-reader: {rules: {secret/data/notes: [read]}}
auth:
  approle: {roles: {batch: {policies: [notes-reader]}}}
groups:
  ops: {policies: [notes-reader]}
quotas:
  notes: {path: notes, rate: 5000}
"""
WRITES = {"create", "update", "delete", "patch"}


@pytest.fixture(scope="module")
def fresh() -> Iterator[Stack]:
    """A stack without mounts."""
    with running_stack() as running:
        yield running


def login(stack: Stack, name: str, *rules: str) -> dict[str, str]:
    """The environment of a login with a policy of these rules."""
    stack.api("PUT", f"sys/policies/acl/{name}", {"policy": "\n".join(rules)})
    made = stack.api("POST", "auth/token/create", {"policies": [name]})
    return {"BAO_TOKEN": made["auth"]["client_token"]}


def applied(stack: Stack, environ: dict[str, str], check: int, *words: str) -> dict:
    done = stack.cli("apply", "-y", "-o", "json", *words, exported=True, env=environ, check=check)
    return json.loads(done.stdout)


def rules_of(refused: dict) -> list[str]:
    (problem,) = [one for one in refused["errors"] if one["code"] == "missing-permissions"]
    return re.findall(r'path "[^"]+" \{[^}]*\}', problem["fix"])


def written(stack: Stack, run: str) -> list[str]:
    """The paths of a run's writes by the server's audit log, besides what only asks."""
    entries = map(json.loads, stack.audit_log.read_text().splitlines())
    asks = {"sys/capabilities-self", "sys/control-group/request"}
    return [
        one["request"]["path"]
        for one in entries
        if run in str(one["request"].get("headers"))
        and one["request"]["operation"] in WRITES
        and one["request"]["path"] not in asks
    ]


def test_the_printed_rules_are_what_the_apply_needs(fresh: Stack):
    manifest = fresh.folder / "mounts.yaml"
    own = manifest.read_text()
    refused = applied(fresh, login(fresh, "reader", READER), 4)
    assert written(fresh, refused["run_id"]) == []
    assert fresh.api("GET", "sys/mounts").keys() & {"skyflow/order/"} == set()

    rules = rules_of(refused)
    assert 'path "sys/mounts/skyflow/order" { capabilities = ["read", "update", "list"] }' in rules
    # One rule less is one permission less, and still nothing is written.
    again = applied(fresh, login(fresh, "most", READER, *rules[:-1]), 4)
    assert rules_of(again) == rules[-1:]
    assert written(fresh, again["run_id"]) == []

    enough = login(fresh, "enough", READER, *rules)
    assert applied(fresh, enough, 0)["status"] == "ok"
    # Nothing is asked where nothing changes.
    unchanged = applied(fresh, login(fresh, "reader", READER), 0)
    assert unchanged["data"]["actions"] == []

    # A changed role, and one that is new.
    manifest.write_text(own.replace("order-producer:", "order-writer:", 1))
    more = applied(fresh, login(fresh, "reader", READER), 4)
    assert any(
        '"skyflow/order/roles/order-writer" { capabilities = ["create", "read", "list"] }' in one
        for one in rules_of(more)
    )
    manifest.write_text(own)


def test_the_printed_rules_are_enough_for_every_kind(fresh: Stack):
    (fresh.folder / "kinds.yaml").write_text(KINDS)
    words = ("-f", "kinds.yaml")
    refused = applied(fresh, login(fresh, "reader", READER), 4, *words)
    assert written(fresh, refused["run_id"]) == []
    enough = login(fresh, "kinds", READER, *rules_of(refused))
    assert applied(fresh, enough, 0, *words)["status"] == "ok"
    removed = KINDS.replace("policies:\n  notes-reader", "policies:\n  other", 1)
    removed = removed.replace("groups:\n  ops: {policies: [notes-reader]}\n", "")
    removed = removed.replace("[notes-reader]", "[other]")
    (fresh.folder / "kinds.yaml").write_text(removed)
    deleted = applied(
        fresh, login(fresh, "reader", READER), 4, *words, "--prune", "--allow-large-prune"
    )
    assert (
        'path "identity/group/name/ops" { capabilities = ["read", "delete", "list"] }'
        in rules_of(deleted)
    )
    pruner = login(fresh, "pruner", READER, *rules_of(deleted))
    assert applied(fresh, pruner, 0, *words, "--prune", "--allow-large-prune")["status"] == "ok"
