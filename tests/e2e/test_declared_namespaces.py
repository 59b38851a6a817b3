"""Namespaces of a manifest on a real server: made, marked, kept, and never deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.stack import Stack, running_stack

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
    assert metadata(stack, "lab") == MARK
    made = stack.json("plan", "--detailed-exitcode")["data"]
    assert (made["actions"], made["drift"], made["warnings"]) == ([], [], [])


def test_a_changed_key_is_mended_and_a_further_one_is_kept(stack):
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


def test_its_contents_have_a_manifest_of_their_own_and_it_is_never_deleted(stack, tmp_path):
    file = tmp_path / "inside.yaml"
    file.write_text(INSIDE)
    stack.json("apply", "-y", "-n", "shop", "-f", str(file))
    assert stack.json("plan", "-n", "shop", "-f", str(file))["data"]["actions"] == []
    fewer = tmp_path / "fewer.yaml"
    fewer.write_text(MANIFEST.replace("  shop: {metadata: {owner: payments}}\n", ""))
    pruned = stack.json("apply", "-y", "--prune", "--allow-large-prune", "-f", str(fewer))
    assert pruned["data"]["actions"] == []
    assert metadata(stack, "shop")["manifest"] == "tenants"
