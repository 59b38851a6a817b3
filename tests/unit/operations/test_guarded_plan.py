"""What an apply requires of the guards on its plan, before the first write."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.scripted import Answer, ScriptedServer, Seen, scripted

from skyflowctl.errors import NotPermittedError, RefusedError
from skyflowctl.operations.guarded_plan import (
    refuse_guarded_without_entity,
    refuse_guards_without_effect,
    require_approvals,
)
from skyflowctl.planner.plan import Action, ActionType, ObjectKind
from skyflowctl.secret import Secret
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.target import Target

CONFIG, ROLE, FREE = "skyflow/a/config", "skyflow/a/roles/w", "sys/mounts/skyflow/a/tune"
GROUP = "identity/group/name/ops"
PARKED = {"token": "s.1", "accessor": "acc", "ttl": 60, "creation_path": "x"}


class Guarding:
    """A server that parks writes to some paths; ``login`` is what a token says of itself."""

    def __init__(self) -> None:
        self.guarded = {CONFIG, ROLE}
        self.login: dict[str, object] = {"entity_id": "e", "policies": ["operator"]}
        self.without_control_groups: Answer | None = None

    def __call__(self, seen: Seen) -> Answer:
        path = seen.path.removeprefix("/v1/").partition("?")[0]
        if path == "sys/health":
            return Answer(200, {"cluster_id": "c", "initialized": True, "sealed": False})
        if path == "auth/token/lookup-self":
            return Answer(200, {"request_id": "r", "data": self.login})
        if path == "sys/control-group/request":
            has = Answer(400, {"errors": ["1 error occurred:\n\t* invalid accessor\n\n"]})
            return self.without_control_groups or has
        if path == "auth/token/revoke-self":
            return Answer(204)
        if path in self.guarded:
            return Answer(200, {"request_id": "r", "data": None, "wrap_info": PARKED})
        return Answer(400, {"errors": ["unknown field"]})


@pytest.fixture
def server() -> Iterator[tuple[ScriptedServer, Guarding]]:
    with scripted(Answer()) as running:
        running.script = guarding = Guarding()
        yield running, guarding


def gateway(server: ScriptedServer) -> Gateway:
    target = Target(server.address, "", Secret("t"), "flags")
    return Gateway(HttpTransport(target, run_id="r"))


def action(path: str, what: ActionType = ActionType.UPDATE) -> Action:
    return Action(what, ObjectKind.ROLE, "a", path, ())


def codes(error: RefusedError) -> list[str]:
    return [one.code for one in error.problems]


def test_a_plan_whose_every_path_is_guarded_is_let_through(server):
    running, _ = server
    require_approvals([action(CONFIG), action(ROLE)], gateway(running), 2)
    require_approvals([], gateway(running), 2)


def test_a_path_without_a_guard_is_refused_by_name(server):
    running, _ = server
    with pytest.raises(RefusedError) as refused:
        require_approvals([action(CONFIG), action(FREE)], gateway(running), 2)
    assert codes(refused.value) == ["approval-not-required"]
    (problem,) = refused.value.problems
    assert FREE in problem.summary
    assert CONFIG not in problem.summary


@pytest.mark.parametrize(
    "one",
    [action(GROUP), action(ROLE, ActionType.DELETE), action(FREE, ActionType.PLUGIN_UPGRADE)],
)
def test_what_cannot_be_probed_is_refused_and_not_probed(server, one):
    running, _ = server
    with pytest.raises(RefusedError) as refused:
        require_approvals([action(CONFIG), one], gateway(running), 2)
    assert codes(refused.value) == ["approval-not-provable"]
    assert not any(one.path in seen.path for seen in running.seen)


def guarding_policy(text: str = 'path "x" {\n  control_group = {}\n}') -> Action:
    path = "sys/policies/acl/operator"
    return Action(ActionType.CREATE, ObjectKind.POLICY, "", path, (), body={"policy": text})


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, 'no handler for route "sys/control-group/request". route entry not found.'),
        (404, "1 error occurred:\n\t* unsupported path\n\n"),
        (400, "1 error occurred:\n\t* unsupported path\n\n"),
        (400, "enterprise-only feature"),
    ],
)
def test_a_server_without_control_groups_is_refused_with_the_reason(server, status, text):
    running, guarding = server
    guarding.without_control_groups = Answer(status, {"errors": [text]})
    for refuse in (
        lambda: require_approvals([action(CONFIG)], gateway(running), 2),
        lambda: refuse_guards_without_effect([guarding_policy()], gateway(running)),
    ):
        with pytest.raises(RefusedError) as refused:
            refuse()
        assert codes(refused.value) == ["no-control-groups"]
    refuse_guards_without_effect(
        [action(CONFIG), guarding_policy("# no control_group")], gateway(running)
    )


def test_a_guard_is_written_where_it_has_an_effect(server):
    running, _ = server
    refuse_guards_without_effect([guarding_policy()], gateway(running))
    assert [one.method for one in running.seen if "control-group" in one.path] == ["POST"]


def test_a_move_is_guarded_where_moves_are(server):
    running, guarding = server
    guarding.guarded.add("sys/remount")
    require_approvals([action("sys/mounts/x", ActionType.MOVE)], gateway(running), 2)


def test_a_login_without_an_entity_is_refused_before_the_first_write(server):
    running, guarding = server
    guarding.login["entity_id"] = ""
    with pytest.raises(NotPermittedError) as refused:
        refuse_guarded_without_entity([action(ROLE), action(FREE)], gateway(running), 2)
    (problem,) = refused.value.problems
    assert problem.code == "no-entity"
    assert ROLE in problem.summary
    assert FREE not in problem.summary


@pytest.mark.parametrize(
    "login", [{"entity_id": "e"}, {}, {"entity_id": "", "policies": ["root"]}, None]
)
def test_other_logins_cost_one_request_and_no_probe(server, login):
    running, guarding = server
    guarding.login = {"entity_id": ""} if login is None else login
    actions = [action(ROLE)] if login is not None else []
    refuse_guarded_without_entity(actions, gateway(running), 2)
    assert [one.path for one in running.seen if "skyflow/" in one.path] == []


def test_one_without_an_entity_may_write_where_nothing_is_guarded(server):
    running, guarding = server
    guarding.login["entity_id"] = ""
    refuse_guarded_without_entity([action(FREE)], gateway(running), 2)
