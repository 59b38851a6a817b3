"""Every command within a namespace, with a login of that namespace alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.stack import Stack

pytestmark = pytest.mark.real_server

NAME = "team-blue"
ALL = 'path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }'


@dataclass
class Team:
    """A namespace of the stack's server with a token that was made in it."""

    stack: Stack
    env: dict[str, str]

    def cli(self, *args: str, check: int = 0):
        return self.stack.cli(*args, "-n", NAME, exported=True, env=self.env, check=check)

    def json(self, *args: str, check: int = 0) -> dict[str, Any]:
        return json.loads(self.cli(*args, "-o", "json", check=check).stdout)


@pytest.fixture(scope="module")
def team(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    policy = Path(tmp_path_factory.mktemp("team")) / "all.hcl"
    policy.write_text(ALL)
    stack.bao("namespace", "create", NAME)
    within = f"-namespace={NAME}"
    try:
        stack.bao("policy", "write", within, "all", str(policy))
        token = stack.bao("token", "create", within, "-policy=all", "-field=token").stdout.strip()
        made = Team(stack, {"BAO_TOKEN": token})
        made.cli("apply", "-y")
        yield made
    finally:
        for path in json.loads(stack.bao("secrets", "list", within, "-format=json").stdout):
            if path.startswith("skyflow/"):
                stack.bao("secrets", "disable", within, path)
        stack.bao("namespace", "delete", NAME)


def test_what_apply_made_is_in_the_namespace_and_the_second_plan_is_empty(team: Team) -> None:
    mounts = json.loads(
        team.stack.bao("secrets", "list", f"-namespace={NAME}", "-format=json").stdout
    )
    assert {"skyflow/order/", "skyflow/payment/", "skyflow/purchase/"} <= mounts.keys()
    planned = team.json("plan", "--detailed-exitcode")
    assert planned["data"]["actions"] == []


def test_a_login_of_the_namespace_is_told_that_headers_are_the_servers(team: Team) -> None:
    planned = team.json("plan")
    assert [one["code"] for one in planned["data"]["warnings"]] == ["audited-headers-unreadable"]


def test_a_login_of_the_root_plans_a_namespace_without_a_warning(team: Team) -> None:
    planned = team.stack.json("plan", "-n", NAME)
    assert (planned["data"]["actions"], planned["data"]["warnings"]) == ([], [])


def test_every_mount_of_the_namespace_is_well(team: Team) -> None:
    assert {one["health"] for one in team.json("status")["data"]["mounts"]} == {"ok"}
    assert {one["state"] for one in team.json("health")["data"]["mounts"]} == {"ok"}
    mounts = team.json("mount", "list")["data"]["mounts"]
    assert {one["state"] for one in mounts} == {"mounted"}


def test_a_token_comes_from_the_namespaces_own_credential(team: Team) -> None:
    minted = team.json("creds", "order", "order-producer", "--ctx", "order:ORD-1")["data"]
    config = team.json("config", "show", "order")["data"]
    assert minted["key_id"] == config["key_id"]


def test_the_log_and_the_server_name_the_same_roles(team: Team) -> None:
    team.cli("creds", "order", "order-producer", "--ctx", "order:ORD-1")
    log, only = str(team.stack.audit_log), ("--mount", f"{NAME}/*")
    found = team.json("audit", "report", log, "--server-roles", *only)["data"]
    used = {(one["mount"], one["role"]) for one in found["usage"]}
    assert (f"{NAME}/skyflow/order", "order-producer") in used
    assert not [one for one in found["unusual"] if one["kind"] == "undeclared-role"]
    idle = team.json("audit", "unused", log, "--days", "1h")["data"]["unused"]
    names = {one["name"] for one in idle if one["kind"] == "role"}
    assert names
    assert all(one.startswith(f"{NAME}/") for one in names)
    assert f"{NAME}/skyflow/order/creds/order-producer" not in names


@pytest.mark.parametrize(
    "words",
    [
        ("mount", "show", "order"),
        ("role", "list", "order"),
        ("role", "show", "order", "order-producer"),
        ("config", "verify", "order"),
        ("plugin", "list"),
    ],
    ids=" ".join,
)
def test_readers_work_within_the_namespace(team: Team, words: tuple[str, ...]) -> None:
    assert team.json(*words)["status"] == "ok"


@pytest.mark.parametrize(
    "words",
    [
        ("plan",),
        ("apply", "-y"),
        ("status",),
        ("health",),
        ("creds", "order", "order-producer", "--ctx", "order:ORD-1"),
        ("mount", "list"),
        ("mount", "show", "order"),
        ("role", "list", "order"),
        ("role", "show", "order", "order-producer"),
        ("config", "show", "order"),
        ("config", "verify", "order"),
        ("plugin", "list"),
    ],
    ids=" ".join,
)
def test_a_namespace_that_is_not_there_is_a_wrong_name(
    stack: Stack, words: tuple[str, ...]
) -> None:
    done = stack.json(*words, "-n", "nowhere", check=64)
    assert [one["code"] for one in done["errors"]] == ["no-such-namespace"]
    assert "nowhere" in done["errors"][0]["summary"]
