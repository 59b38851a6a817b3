"""Namespaces of a manifest on a real server: made, marked, kept, and deleted only if empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.plugin import wait_for
from support.stack import Stack, running_stack

from skyflowctl.errors import RefusedError
from skyflowctl.executor.deletes import delete_object
from skyflowctl.planner.plan import ObjectKind
from skyflowctl.planner.prune_access import access_deletion
from skyflowctl.secret import Secret
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.target import Target

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

MANIFEST = """\
version: 1
manifest: tenants
mounts: {}
namespaces:
  shop: {metadata: {owner: payments}}
  lab: {}
"""
INSIDE = """\
version: 1
manifest: tenant-shop
mounts: {}
engines: {keys: {type: transit, description: Keys of the shop}}
"""
MARK = {"managed_by": "skyflowctl", "manifest": "tenants"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    file = tmp_path_factory.mktemp("namespaces") / "mounts.yaml"
    file.write_text(MANIFEST)
    with running_stack(file) as running:
        running.json("apply", "-y")
        yield running


def metadata(stack: Stack, name: str) -> dict[str, Any]:
    found: dict[str, Any] = stack.api("GET", f"sys/namespaces/{name}")["data"]["custom_metadata"]
    return found


def test_they_are_made_with_a_mark_and_the_second_plan_is_empty(stack):
    stack.json("apply", "-y")
    assert metadata(stack, "lab") == MARK
    made = stack.json("plan", "--detailed-exitcode")["data"]
    assert (made["actions"], made["drift"], made["warnings"]) == ([], [], [])


def test_a_changed_key_is_mended_and_a_further_one_is_kept(stack):
    stack.json("apply", "-y")
    stack.bao("namespace", "patch", "-custom-metadata=owner=x", "-custom-metadata=cost=7", "shop")
    (planned,) = stack.json("plan")["data"]["actions"]
    assert planned["changes"] == [{"field": "owner", "before": "x", "after": "payments"}]
    assert stack.json("apply", "-y")["data"]["actions"][0]["result"] == "done"
    assert metadata(stack, "shop") == {**MARK, "owner": "payments", "cost": "7"}


def test_one_that_others_made_needs_adoption_and_keeps_its_contents(stack, tmp_path):
    stack.bao("namespace", "create", "-custom-metadata=theirs=1", "team")
    file = tmp_path / "more.yaml"
    file.write_text(MANIFEST + "  team: {}\n")
    refused = stack.json("apply", "-y", "-f", str(file), check=5)
    assert {one["code"] for one in refused["errors"]} == {"needs-adoption"}
    assert metadata(stack, "team") == {"theirs": "1"}
    stack.json("apply", "-y", "-f", str(file), "--adopt=sys/namespaces/team")
    assert metadata(stack, "team") == {**MARK, "theirs": "1", "adopted": "true"}
    assert stack.json("plan", "-f", str(file))["data"]["actions"] == []


SHOP = "sys/namespaces/shop"
LETTERS = 'length=20\nrule "charset" { charset = "abcdefghij" }'
FEWER = MANIFEST.replace("  shop: {metadata: {owner: payments}}\n", "")
PRUNE = ("apply", "-y", "--prune", f"--allow-destroy={SHOP}")


@pytest.fixture
def fewer(stack: Stack, tmp_path: Path) -> Path:
    """The manifest was applied, and this file has it without the namespace ``shop``."""
    stack.json("apply", "-y")
    file = tmp_path / "fewer.yaml"
    file.write_text(FEWER)
    return file


def exists(stack: Stack, path: str = SHOP) -> bool:
    return stack.bao("read", path, check=False).returncode == 0


def codes(answer: dict[str, Any]) -> list[str]:
    return [one["code"] for one in answer["errors"]]


def test_with_its_contents_it_is_kept_and_after_them_it_goes_by_name(stack, tmp_path, fewer):
    inside = tmp_path / "inside.yaml"
    inside.write_text(INSIDE)
    stack.json("apply", "-y", "-n", "shop", "-f", str(inside))
    assert stack.json("plan", "-n", "shop", "-f", str(inside))["data"]["actions"] == []
    unnamed = stack.json("apply", "-y", "--prune", "-f", str(fewer))["data"]
    assert unnamed["actions"] == []
    (drift,) = [one for one in unnamed["drift"] if one["path"] == SHOP]
    assert drift["fix"].endswith(f"--allow-destroy={SHOP}' deletes it if it is empty")
    refused = stack.json(*PRUNE, "-f", str(fewer), check=5)
    assert codes(refused) == ["prune-not-empty"]
    assert refused["errors"][0]["why"] == "the server would delete shop/sys/mounts/keys"
    inside.write_text(INSIDE.partition("engines")[0])
    emptied = ("--prune", "--allow-large-prune", "--allow-destroy=keys")
    stack.json("apply", "-y", *emptied, "-n", "shop", "-f", str(inside))
    rehearsed = stack.json("apply", "--dry-run", *PRUNE[2:], "-f", str(fewer))["data"]
    assert [one["result"] for one in rehearsed["actions"]] == ["done"]
    assert exists(stack)
    done = stack.json(*PRUNE, "-f", str(fewer))["data"]["actions"]
    assert [(one["action"], one["kind"], one["path"]) for one in done] == [
        ("delete", "namespace", SHOP)
    ]
    assert not exists(stack)
    left = stack.json("plan", "--prune", "-f", str(fewer))["data"]
    assert (left["actions"], [one["path"] for one in left["drift"] if one["path"] == SHOP]) == (
        [],
        [],
    )


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("sys/auth/people", {"type": "userpass"}, "shop/sys/auth/people"),
        ("sys/policies/acl/p", {"policy": 'path "x" {}'}, "shop/sys/policies/acl/p"),
        ("sys/policies/password/p", {"policy": LETTERS}, "shop/sys/policies/password/p"),
        ("sys/namespaces/child", {}, "shop/sys/namespaces/child"),
        ("identity/group/name/g", {}, "shop/identity/group/id/"),
        ("identity/entity/name/e", {}, "shop/identity/entity/id/"),
        ("identity/oidc/scope/s", {}, "shop/identity/oidc/scope/s"),
        ("identity/oidc/key/k", {}, "shop/identity/oidc/key/k"),
        ("auth/token/roles/r", {}, "shop/auth/token/roles/r"),
    ],
)
def test_anything_in_it_keeps_it(stack, fewer, path, body, named):
    stack.api("POST", f"shop/{path}", body)
    refused = stack.json(*PRUNE, "-f", str(fewer), check=5)
    assert codes(refused) == ["prune-not-empty"]
    assert named in refused["errors"][0]["why"]
    assert exists(stack)
    stack.api("DELETE", f"shop/{path}")


def test_a_quota_on_it_keeps_it(stack, fewer):
    stack.api("POST", "sys/quotas/rate-limit/tenants", {"path": "shop/", "rate": 9000})
    refused = stack.json(*PRUNE, "-f", str(fewer), check=5)
    assert refused["errors"][0]["why"].endswith("sys/quotas/rate-limit/tenants")
    stack.api("DELETE", "sys/quotas/rate-limit/tenants")
    assert exists(stack)


def test_what_may_not_be_listed_keeps_it(stack, fewer):
    rules = """
      path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }
      path "shop/identity/*" { capabilities = ["deny"] }
    """
    stack.api("PUT", "sys/policies/acl/narrow", {"policy": rules})
    made = stack.api("POST", "auth/token/create", {"policies": ["narrow"]})
    narrow = Stack(
        stack.folder, stack.environ, {**stack.exports, "BAO_TOKEN": made["auth"]["client_token"]}
    )
    refused = narrow.json(*PRUNE, "-f", str(fewer), check=5)
    assert codes(refused) == ["prune-contents-unknown"]
    assert "shop/identity/entity/id" in refused["errors"][0]["why"]
    assert exists(stack)


def test_one_of_another_manifest_or_of_nobody_is_never_deleted(stack, fewer):
    for name, marks in {
        "theirs": {"managed_by": "skyflowctl", "manifest": "other"},
        "hand": {},
        "half": {"manifest": "tenants"},
    }.items():
        path = f"sys/namespaces/{name}"
        stack.api("POST", path, {"custom_metadata": marks})
        named = (f"--allow-destroy={path}", "-f", str(fewer))
        refused = stack.json("apply", "-y", "--prune", *named, check=5)
        assert codes(refused) == ["prune-not-made-here"]
        assert exists(stack, path)


@pytest.mark.usefixtures("fewer")
def test_what_is_made_in_it_between_plan_and_deletion_is_kept(stack):
    exports = stack.exports
    target = Target(
        exports["BAO_ADDR"], "", Secret(exports["BAO_TOKEN"]), "flags", exports["BAO_CACERT"]
    )
    gateway = Gateway(HttpTransport(target, run_id="race"))
    found = gateway.sys.access.object(SHOP)
    assert found is not None
    action = access_deletion(ObjectKind.NAMESPACE, SHOP, found)
    stack.api("POST", "shop/sys/mounts/late", {"type": "kv"})
    with pytest.raises(RefusedError, match="not empty") as refused:
        delete_object(action, gateway)
    assert refused.value.problems[0].code == "prune-not-empty"
    assert exists(stack)
    stack.api("DELETE", "shop/sys/mounts/late")
    stack.api("DELETE", SHOP)
    wait_for(lambda: not exists(stack))  # the server deletes it in the background
    stack.api("POST", SHOP, {"custom_metadata": {**MARK, "owner": "payments"}})
    with pytest.raises(RefusedError, match="namespace id"):
        delete_object(action, gateway)
    assert exists(stack)
