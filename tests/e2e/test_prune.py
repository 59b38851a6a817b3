"""apply --prune on a real server: what left the manifest goes, and nothing else, killed or not."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

ROLES = ("keeper", "reader", "writer", "old-one", "old-two")
MINE = "skyflow/order/roles"


def manifest(
    *roles: str, mounts: tuple[str, ...] = ("order",), name: str = "prune-test", prefix: str = ""
) -> str:
    lines = ["version: 1", f"manifest: {name}"]
    lines += [f"defaults: {{path_prefix: {prefix}}}"] if prefix else []
    lines += ["mounts:"]
    for mount in mounts:
        lines += [f"  {mount}:", f"    credentials: {{file: credentials/{mount}.json}}"]
        lines += ["    roles:"]
        lines += [f"      {role}: {{role_ids: [skyflow-{role}]}}" for role in roles]
    return "\n".join((*lines, ""))


ALL = manifest(*ROLES, mounts=("order", "gone", "kept"))
LESS = manifest("keeper", "reader", "writer", mounts=("order", "kept"))
PRUNE = ("--prune", "--allow-destroy=skyflow/gone", "--allow-large-prune")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    path = tmp_path_factory.mktemp("prune") / "mounts.yaml"
    path.write_text(ALL)
    with running_stack(path) as running:
        yield running


def declare(stack: Stack, text: str) -> None:
    (Path(stack.folder) / "mounts.yaml").write_text(text)


def start_over(stack: Stack) -> None:
    declare(stack, ALL)
    stack.json("apply", "-y")


def paths(actions: list[dict]) -> list[str]:
    return [one["path"] for one in actions if one["action"] == "delete"]


def test_what_left_the_manifest_is_deleted_and_the_second_plan_is_empty(stack: Stack) -> None:
    start_over(stack)
    stack.bao("write", f"{MINE}/by-hand", "role_ids=somebodys")
    declare(stack, LESS)
    drift = stack.json("plan", "--detailed-exitcode", check=2)["data"]
    assert drift["actions"] == []
    plan = stack.json("plan", *PRUNE, "--detailed-exitcode", check=2)["data"]
    assert set(paths(plan["actions"])) == {
        f"{MINE}/old-one",
        f"{MINE}/old-two",
        "skyflow/kept/roles/old-one",
        "skyflow/kept/roles/old-two",
        "sys/mounts/skyflow/gone",
    }
    assert paths(plan["actions"])[-1] == "sys/mounts/skyflow/gone"
    shown = stack.cli("apply", *PRUNE, "-y", exported=True)
    assert "- mount sys/mounts/skyflow/gone" in shown.stderr
    assert f"deletes {MINE}/old-one" in shown.stderr
    left = stack.json("plan", *PRUNE)["data"]
    assert left["actions"] == []
    assert [one["path"] for one in left["drift"]] == [f"{MINE}/by-hand"]
    assert "skyflow/gone/" not in stack.api("GET", "sys/mounts")["data"]
    stack.bao("delete", f"{MINE}/by-hand")


def test_a_large_prune_is_shown_and_refused(stack: Stack) -> None:
    start_over(stack)
    declare(stack, manifest("keeper", mounts=("order", "gone", "kept")))
    for command in (("plan",), ("apply", "-y")):
        refused = stack.json(*command, "--prune", check=5)
        assert (refused["status"], refused["errors"][0]["code"]) == ("refused", "prune-too-many")
        assert len(paths(refused["data"]["actions"])) == 12
        (flag,) = [one for one in refused["errors"][0]["fix"].split() if one.startswith("--")]
    assert len(stack.api("GET", f"{MINE}?list=true")["data"]["keys"]) == 5
    stack.json("apply", "-y", "--prune", flag)
    assert stack.api("GET", f"{MINE}?list=true")["data"]["keys"] == ["keeper"]


def test_two_manifests_never_touch_each_other(stack: Stack) -> None:
    start_over(stack)
    other = Path(stack.folder) / "other.yaml"
    other.write_text(manifest("theirs", "more", name="other", prefix="other"))
    stack.json("apply", "-y", "-f", "other.yaml")
    # Each leaves a role in the other's mount.
    for mount, owner in (("skyflow/order", "other"), ("other/order", "prune-test")):
        tags = f"tags=managed-by:skyflowctl/{owner}"
        stack.bao("write", f"{mount}/roles/guest", "role_ids=guest", tags)
    declare(stack, LESS)
    pruned = stack.json("apply", "-y", *PRUNE)["data"]
    assert not [one for one in paths(pruned["actions"]) if one.startswith("other/")]
    other.write_text(manifest("theirs", name="other", prefix="other"))
    pruned = stack.json("apply", "-y", "--prune", "-f", "other.yaml")["data"]
    assert paths(pruned["actions"]) == ["other/order/roles/more"]
    for mount in ("skyflow/order", "other/order"):
        assert "guest" in stack.api("GET", f"{mount}/roles?list=true")["data"]["keys"]
    refused = stack.json(
        "apply", "-y", "--prune", "-f", "other.yaml", "--allow-destroy=skyflow/kept", check=5
    )
    assert [one["code"] for one in refused["errors"]] == ["prune-not-made-here"]
    stack.bao("secrets", "disable", "other/order")
    stack.bao("delete", f"{MINE}/guest")


@pytest.mark.timeout(180)
def test_killed_after_every_delete_the_same_command_finishes(stack: Stack) -> None:
    command = ("apply", "-y", "-p", "1", *PRUNE)
    for writes in range(1, 4):
        start_over(stack)
        declare(stack, manifest("keeper", "reader", "writer", "old-one", mounts=("order", "kept")))
        code = stack.killed(writes, *command)
        assert code == -signal.SIGKILL, f"after write {writes}"
        stack.json("apply", "-y", *PRUNE)
        left = stack.json("plan", *PRUNE, "--detailed-exitcode")["data"]
        assert (left["actions"], left["drift"]) == ([], [])


def commands(text: str) -> list[list[str]]:
    """The commands that a text prints, without the program's name."""
    return [shlex.split(one)[1:] for one in re.findall(r"'(skyflowctl [^']*)'", text)]


def test_without_mounts_the_printed_commands_delete_them_and_then_a_prune_works(stack: Stack):
    start_over(stack)
    declare(stack, "version: 1\nmanifest: prune-test\nmounts: {}\n")
    (refused,) = stack.json("apply", "-y", "--prune", check=5)["errors"]
    assert refused["code"] == "prune-empty-manifest"
    drift = stack.json("plan")["data"]["drift"]
    printed = [command for one in drift for command in commands(one["fix"])]
    assert printed == commands(refused["fix"])
    assert len(printed) == 3
    for command in printed:
        stack.json(*command)
    assert stack.json("apply", "-y", "--prune")["data"]["drift"] == []
