"""What an apply asks about permissions before its first write."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from skyflowctl.errors import NotPermittedError
from skyflowctl.operations.plan import PlanResult
from skyflowctl.operations.preflight import plan_permission_problems, refuse_unpermitted
from skyflowctl.planner.plan import Action, ActionType, ObjectKind, Plan
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import Reply, Request


class Rights:
    """A server that knows what a login may do; it notes how many paths each request names."""

    namespace = ""
    server = SimpleNamespace(name="prod")

    def __init__(self, held: dict[str, list[str]], default: list[str]) -> None:
        self.held, self.default, self.sizes = held, default, list[int]()

    def send(self, request: Request) -> Reply:
        assert request.path == "sys/capabilities-self"
        paths = cast("dict[str, Any]", request.body)["paths"]
        self.sizes.append(len(paths))
        data = {path: self.held.get(path, self.default) for path in paths}
        return Reply(200, data)


def planned(*actions: Action) -> PlanResult:
    live = SimpleNamespace(engines={})
    return cast("PlanResult", SimpleNamespace(plan=Plan(actions, (), 0), live=live))


def action(kind: ObjectKind, path: str, what: ActionType = ActionType.CREATE) -> Action:
    return Action(what, kind, "", path, ())


def asked(rights: Rights, *actions: Action) -> str:
    """The printed rules; empty if nothing is missing."""
    found = plan_permission_problems(planned(*actions), Gateway(cast("Any", rights)))
    return found[0].fix.partition(":  ")[2] if found else ""


def test_an_empty_plan_asks_nothing() -> None:
    rights = Rights({}, ["deny"])
    assert asked(rights) == ""
    assert rights.sizes == []


def test_paths_are_asked_for_in_chunks_of_500() -> None:
    rights = Rights({}, ["root"])
    roles = [action(ObjectKind.ROLE, f"skyflow/order/roles/r{n}") for n in range(1001)]
    assert asked(rights, *roles) == ""
    assert rights.sizes == [500, 500, 1]


@pytest.mark.parametrize(
    ("path", "kind", "what", "held", "rule"),
    [
        ("a/roles/b", ObjectKind.ROLE, ActionType.CREATE, ["update"], '["create", "update"]'),
        ("a/roles/b", ObjectKind.ROLE, ActionType.UPDATE, ["create"], '["create", "update"]'),
        ("a/roles/b", ObjectKind.ROLE, ActionType.UPDATE, ["update"], ""),
        ("a/roles/b", ObjectKind.ROLE, ActionType.DELETE, ["read"], '["read", "delete"]'),
        (
            "sys/policies/acl/x",
            ObjectKind.POLICY,
            ActionType.CREATE,
            ["deny"],
            '["read", "update"]',
        ),
        (
            "auth/x/role/y",
            ObjectKind.LOGIN_ROLE,
            ActionType.CREATE,
            ["deny"],
            '["create", "read", "update"]',
        ),
        ("auth/x/role/y", ObjectKind.LOGIN_ROLE, ActionType.CREATE, ["read", "create"], ""),
        (
            "sys/config/auditing/request-headers/X",
            ObjectKind.AUDITED_HEADER,
            ActionType.UPDATE,
            ["update"],
            '["update", "sudo"]',
        ),
    ],
)
def test_the_rule_has_what_is_missing_and_what_is_held(
    path: str, kind: ObjectKind, what: ActionType, held: list[str], rule: str
) -> None:
    found = asked(Rights({path: held}, ["root"]), action(kind, path, what))
    assert found == (f'path "{path}" {{ capabilities = {rule} }}' if rule else "")


def test_an_upgrade_asks_for_the_nodes_and_the_catalog() -> None:
    what = ActionType.PLUGIN_UPGRADE
    plan = planned(action(ObjectKind.MOUNT, "sys/mounts/skyflow/order/tune", what))
    plan.manifest = SimpleNamespace(plugin=SimpleNamespace(name="skyflow"))
    (problem,) = plan_permission_problems(plan, Gateway(cast("Any", Rights({}, ["deny"]))))
    for path, words in {
        "sys/ha-status": '"read"',
        "sys/mounts/skyflow/order": '"read"',
        "sys/mounts/skyflow/order/tune": '"update"',
        "sys/plugins/catalog/secret/skyflow": '"read", "sudo"',
        "sys/plugins/reload/backend": '"update"',
    }.items():
        assert f'path "{path}" {{ capabilities = [{words}] }}' in problem.fix


def test_a_missing_permission_is_an_error_that_names_the_server() -> None:
    gateway = Gateway(cast("Any", Rights({}, ["deny"])))
    with pytest.raises(NotPermittedError, match="on prod: it lacks a/roles/b"):
        refuse_unpermitted(planned(action(ObjectKind.ROLE, "a/roles/b")), gateway)


@pytest.mark.parametrize(
    ("configured", "api", "enough", "refused"),
    [
        (True, "full", ["update"], ["create"]),
        (False, "full", ["create"], ["update"]),
        (True, "basic", ["update"], ["create"]),
        (None, "", ["create"], ["update"]),
        (False, "basic", ["create"], ["deny"]),
        (False, "basic", ["update"], ["deny"]),
    ],
)
def test_a_new_config_needs_create_and_a_changed_one_update(
    configured: bool | None, api: str, enough: list[str], refused: list[str]
) -> None:
    change = action(ObjectKind.CONFIG, "skyflow/order/config", ActionType.UPDATE)
    plan = planned(change)
    if configured is not None:
        config = SimpleNamespace(configured=configured, api=SimpleNamespace(name=api))
        engines = cast("dict[str, Any]", plan.live.engines)
        engines["skyflow/order"] = SimpleNamespace(config=config)

    def missing(held: list[str]) -> bool:
        rights = Rights({change.path: held}, ["root"])
        return bool(plan_permission_problems(plan, Gateway(cast("Any", rights))))

    assert not missing(enough)
    assert missing(refused)


@pytest.mark.parametrize(("marks", "refused"), [({"owner": "shop"}, True), ({}, False)])
def test_a_new_secret_that_is_marked_first_needs_update(
    marks: dict[str, str], refused: bool
) -> None:
    body = {"engine": "kv", "path": "app", "custom_metadata": marks, "data": {"a": "b"}}
    new = Action(ActionType.CREATE, ObjectKind.SECRET, "", "kv/data/app", (), body=body)
    assert bool(asked(Rights({new.path: ["create"]}, ["root"]), new)) is refused
    assert asked(Rights({new.path: ["update"]}, ["root"]), new) == ""
