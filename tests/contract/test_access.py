"""Policies, login methods and login roles: the in-process server and a real OpenBao agree."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from support.gateways import memory_rig, target_of

from skyflowctl.errors import RefusedError
from skyflowctl.executor.access_steps import write_access
from skyflowctl.planner.plan import Action, ActionType, Change, ObjectKind
from skyflowctl.secret import Secret
from skyflowctl.vault.access_api import AccessNeeded, policy_path
from skyflowctl.vault.errors import ConflictError, SilentlyIgnoredError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.live import LivePolicy, LiveSecret, login_role_path

TEXT = '# managed-by:skyflowctl/a\npath "x" { capabilities = ["read"] }\n'
RULE = Change('path "x"', None, "read")


@pytest.fixture(scope="module", params=["memory", "real"])
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    if request.param == "memory":
        made = memory_rig().gateway
    else:
        made = Gateway(HttpTransport(target_of(request.getfixturevalue("bao")), run_id="access"))
    yield made
    made.close()


@pytest.fixture
def name() -> str:
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
def method(gateway: Gateway, name: str) -> str:
    gateway.sys.access.write(
        f"sys/auth/{name}", {"type": "approle", "description": "d", "options": {"manifest": "a"}}
    )
    return name


def policy(name: str, **changes: object) -> Action:
    fields = {
        "action": ActionType.CREATE,
        "kind": ObjectKind.POLICY,
        "mount": "",
        "path": policy_path(name),
        "changes": (Change("manifest", None, "a"), RULE),
        "body": {"policy": TEXT, "cas": -1},
    }
    return Action(**{**fields, **changes})


def test_a_policy_comes_back_byte_for_byte_with_its_version(gateway, name):
    assert gateway.sys.access.policy(name) is None
    write_access(policy(name), gateway.sys)
    assert gateway.sys.access.policy(name) == LivePolicy(name, TEXT, 1)
    assert gateway.sys.access.policies([name, "none"]) == {name: LivePolicy(name, TEXT, 1)}


def test_a_write_that_is_repeated_is_done_once(gateway, name):
    write_access(policy(name), gateway.sys)
    write_access(policy(name), gateway.sys)
    assert gateway.sys.access.policy(name).version == 1


def test_an_object_that_appeared_meanwhile_is_not_written_over(gateway, name):
    gateway.sys.access.write(policy_path(name), {"policy": 'path "other" {}'})
    with pytest.raises(RefusedError) as caught:
        write_access(policy(name), gateway.sys)
    assert caught.value.problems[0].code == "object-changed"
    assert gateway.sys.access.policy(name).text == 'path "other" {}'


def test_another_version_than_the_compared_one_is_a_conflict(gateway, name):
    gateway.sys.access.write(policy_path(name), {"policy": TEXT.replace('"x"', '"y"')})
    update = policy(
        name,
        action=ActionType.UPDATE,
        changes=(RULE, Change('path "y"', "read", None)),
        body={"policy": TEXT, "cas": 7},
    )
    with pytest.raises(ConflictError):
        write_access(update, gateway.sys)


def test_a_login_method_keeps_its_options_when_it_is_tuned(gateway, method):
    changes = (Change("description", "d", "e"), Change("options.adopted", None, "true"))
    body = {"description": "e", "options": {"adopted": "true"}}
    path = f"sys/auth/{method}"
    write_access(
        Action(ActionType.UPDATE, ObjectKind.LOGIN_METHOD, "", path, changes, body), gateway.sys
    )
    live = gateway.sys.access.login_methods()[method]
    assert (live.type, live.description) == ("approle", "e")
    assert live.options == {"manifest": "a", "adopted": "true"}


def test_a_login_role_has_every_managed_setting(gateway, method):
    path = login_role_path(method, "app")
    assert gateway.sys.access.object(login_role_path(method, "app")) is None
    assert gateway.sys.access.login_role_names(method) == []
    settings = {
        "bind_secret_id": True,
        "token_ttl": 1200,
        "token_max_ttl": 0,
        "secret_id_ttl": 60,
        "token_num_uses": 0,
        "secret_id_num_uses": 1,
        "secret_id_bound_cidrs": ["10.0.0.0/8"],
        "token_bound_cidrs": ["10.0.0.0/8"],
        "token_policies": ["skyflow.a", "skyflowctl.owner.a"],
    }
    changes = tuple(Change(key, None, value) for key, value in settings.items())
    write_access(
        Action(ActionType.CREATE, ObjectKind.LOGIN_ROLE, "", path, changes, settings), gateway.sys
    )
    live = gateway.sys.access.object(login_role_path(method, "app"))
    assert {key: live[key] for key in settings} == settings
    assert gateway.sys.access.login_role_names(method) == ["app"]


def test_an_ignored_setting_is_no_success(gateway, method):
    changes = (Change("no_such_setting", None, 5),)
    action = Action(
        ActionType.CREATE,
        ObjectKind.LOGIN_ROLE,
        "",
        login_role_path(method, "odd"),
        changes,
        {"no_such_setting": 5},
    )
    with pytest.raises(SilentlyIgnoredError) as caught:
        write_access(action, gateway.sys)
    assert "no_such_setting" in caught.value.problems[0].summary


@pytest.mark.parametrize("count", [2, 4, 8])
def test_reading_costs_two_lists_and_a_request_for_each_login(gateway, method, count):
    for number in range(count):
        gateway.sys.access.write(login_role_path(method, f"app{number}"), {"token_ttl": 60})
        gateway.sys.access.write(policy_path(f"{method}-{number}"), {"policy": TEXT})
    needed = AccessNeeded(
        policies=frozenset(f"{method}-{number}" for number in range(count)),
        login_methods=True,
        objects={
            f"auth/{method}/role/app{number}": f"sys/auth/{method}" for number in range(count)
        },
    )
    before = gateway.requests_made
    found = gateway.sys.access.read(needed, 4, {})
    assert gateway.requests_made - before == 2 + count
    assert needed.policies <= found.policies.keys()
    assert (len(found.login_roles), found.unread) == (count, {})


def test_nothing_is_asked_if_nothing_is_needed(gateway):
    before = gateway.requests_made
    gateway.sys.access.read(AccessNeeded(), 4, {})
    assert gateway.requests_made == before


def test_every_secret_is_listed_with_its_marks_and_one_goes_with_all_versions(gateway, name):
    gateway.sys.enable_mount(name, {"type": "kv", "options": {"version": "2"}})
    kv = gateway.sys.access.kv
    assert kv.secrets(name) == {}
    for path in ("a", "dir/b", "dir/sub/c"):
        kv.mark(name, path, {"manifest": "m"}, new=True)
        kv.write(name, path, {"key": Secret("v")}, 0)
    before = gateway.requests_made
    found = kv.secrets(name)
    assert gateway.requests_made - before == 3  # one for each folder
    assert found == {
        f"{name}/data/{path}": LiveSecret(1, {"manifest": "m"})
        for path in ("a", "dir/b", "dir/sub/c")
    }
    kv.delete(name, "dir/b")
    kv.delete(name, "dir/b")
    assert kv.secret(name, "dir/b") is None
    assert sorted(kv.secrets(name)) == [f"{name}/data/a", f"{name}/data/dir/sub/c"]
