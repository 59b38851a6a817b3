"""apply --prune of secrets, engines and policies, with a manifest that has no mounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

HEAD = "version: 1\nmanifest: platform\nmounts: {}\nengines:\n"
ALL = ("backend", "airflow", "dir/old", "older")
POLICIES = ("one", "two", "three")


def manifest(*secrets: str, attic: bool = True, policies: tuple[str, ...] = POLICIES) -> str:
    def engine(path: str, names: tuple[str, ...]) -> str:
        fields = ", ".join(f"{name}: {{user: {{value: app}}}}" for name in names)
        return f"  {path}: {{type: kv, version: 2, secrets: {{{fields}}}}}\n"

    rules = ", ".join(f"{name}: {{rules: {{kept/data/x: [read]}}}}" for name in policies)
    text = HEAD + engine("kept", secrets) + (engine("attic", ("box",)) if attic else "")
    return text + f"policies: {{{rules}}}\n"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    path = tmp_path_factory.mktemp("prune-kv") / "mounts.yaml"
    path.write_text(manifest(*ALL))
    with running_stack(path) as running:
        yield running


def declare(stack: Stack, text: str) -> None:
    (Path(stack.folder) / "mounts.yaml").write_text(text)


def start_over(stack: Stack) -> None:
    declare(stack, manifest(*ALL))
    stack.json("apply", "-y")


def listed(stack: Stack, folder: str = "") -> list[str]:
    return stack.api("GET", f"kept/metadata/{folder}?list=true")["data"]["keys"]


def test_a_named_secret_goes_with_all_versions_and_the_second_plan_is_empty(stack: Stack) -> None:
    start_over(stack)
    stack.bao("kv", "put", "-mount=kept", "dir/old", "user=newer")
    stack.bao("kv", "put", "-mount=kept", "by-hand", "user=theirs")
    declare(stack, manifest("backend", "airflow"))
    assert stack.json("plan")["data"]["drift"] == []  # they are searched only by a prune
    found = stack.json("plan", "--prune")["data"]
    assert [one["path"] for one in found["drift"]] == ["kept/data/dir/old", "kept/data/older"]
    flags = [
        word.rstrip("'")
        for one in found["drift"]
        for word in one["fix"].split()
        if word.startswith("--allow-destroy=")
    ]
    applied = stack.json("apply", "-y", "--prune", *flags)["data"]
    assert [(one["action"], one["kind"]) for one in applied["actions"]] == [
        ("delete", "secret")
    ] * 2
    assert listed(stack) == ["airflow", "backend", "by-hand"]
    left = stack.json("plan", "--prune", *flags)["data"]
    assert (left["actions"], left["drift"]) == ([], [])


def test_a_secret_of_others_is_refused(stack: Stack) -> None:
    start_over(stack)
    stack.bao("kv", "put", "-mount=kept", "by-hand", "user=theirs")
    flag = "--allow-destroy=kept/data/by-hand"
    refused = stack.json("apply", "-y", "--prune", flag, check=5)
    assert [one["code"] for one in refused["errors"]] == ["prune-not-made-here"]
    assert "by-hand" in listed(stack)


def test_an_engine_goes_with_its_secrets_unless_others_have_some_there(stack: Stack) -> None:
    start_over(stack)
    declare(stack, manifest(*ALL, attic=False))
    flag = "--allow-destroy=sys/mounts/attic"
    stack.bao("kv", "put", "-mount=attic", "dir/theirs", "user=theirs")
    refused = stack.json("apply", "-y", "--prune", flag, check=5)
    assert refused["errors"][0]["why"].endswith("attic/data/dir/theirs")
    stack.bao("kv", "metadata", "delete", "-mount=attic", "dir/theirs")
    shown = stack.cli("plan", "--prune", flag, exported=True)
    assert "attic/data/box" in shown.stdout
    stack.json("apply", "-y", "--prune", "--allow-destroy=attic")
    assert "attic/" not in stack.api("GET", "sys/mounts")["data"]
    assert stack.json("plan", "--prune", flag)["data"]["actions"] == []


def test_policies_are_pruned_although_there_are_no_mounts(stack: Stack) -> None:
    start_over(stack)
    declare(stack, manifest(*ALL, policies=("one", "two")))
    applied = stack.json("apply", "-y", "--prune")["data"]
    assert [one["path"] for one in applied["actions"]] == ["sys/policies/acl/three"]


def test_a_dry_run_deletes_in_memory_alone(stack: Stack) -> None:
    start_over(stack)
    declare(stack, manifest("backend", "airflow", "dir/old", attic=False))
    flags = ("--allow-destroy=kept/data/older", "--allow-destroy=sys/mounts/attic")
    stack.json("apply", "--dry-run", "--prune", *flags)
    assert "older" in listed(stack)
    assert "attic/" in stack.api("GET", "sys/mounts")["data"]


def end_of_deletion(stack: Stack, place: int) -> None:
    """Delete a secret's newest version, and run one of the commands that the plan prints."""
    stack.api("DELETE", "kept/data/airflow")
    stack.json("apply", "-y", check=3)
    (drift,) = stack.json("plan")["data"]["drift"]
    printed = drift["fix"].split("; ")[place].partition(": ")[2]
    stack.bao(*printed.partition(", then")[0].split()[1:])


def test_each_printed_command_ends_the_deletion_of_a_secret(stack: Stack) -> None:
    start_over(stack)
    end_of_deletion(stack, 0)
    kept = stack.json("plan")["data"]
    assert (kept["actions"], kept["drift"]) == ([], [])
    end_of_deletion(stack, 1)
    written = stack.json("apply", "-y")["data"]["actions"]
    assert [(one["action"], one["path"]) for one in written] == [("create", "kept/data/airflow")]
    left = stack.json("plan")["data"]
    assert (left["actions"], left["drift"]) == ([], [])
