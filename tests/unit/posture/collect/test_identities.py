"""Entities and groups as the server returns them, and the parts that it does not return."""

from __future__ import annotations

from typing import Any

from support.transports import FakeTransport

from skyflowctl.posture.collect.identities import _inherited, aliases_of, read_identities
from skyflowctl.posture.facts import EntityAlias, Identities, IdentityGroup, Login, NotRead
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.transport import Reply, Request, make_reply

ANN = {
    "name": "ann",
    "policies": ["Own"],
    "group_ids": ["1"],
    "aliases": [
        {"mount_path": "auth/approle/", "name": "id-1"},
        {"mount_path": "auth/userpass/", "name": "ann"},
    ],
}
ANSWERS: dict[str, Any] = {
    "identity/entity/name": {"keys": ["ann", "gone"]},
    "identity/entity/name/ann": ANN,
    "identity/entity/name/gone": {"name": "gone", "policies": ["own"], "disabled": True},
    "identity/group/name": {"keys": ["inner", "outer", "ext"]},
    "identity/group/name/inner": {
        "id": "1", "name": "inner", "policies": ["in"], "parent_group_ids": ["2"],
    },
    "identity/group/name/outer": {"id": "2", "name": "outer", "policies": ["out"]},
    "identity/group/name/ext": {
        "id": "3", "name": "ext", "type": "external", "policies": ["ext"],
        "alias": {"mount_path": "auth/ldap/"},
    },
    "auth/approle/role/app/role-id": {"role_id": "id-1"},
}  # fmt: skip
APP = Login("approle role", "approle/app", ("default",))


class Server(FakeTransport):
    """Answers from the table; forbids the paths that begin with one of these words."""

    def __init__(self, *forbidden: str) -> None:
        self.forbidden = forbidden

    def send(self, request: Request) -> Reply:
        if request.path.startswith(self.forbidden):
            raise error_for(403, ("permission denied",), method=request.method, path=request.path)
        return make_reply(200, {"data": ANSWERS[request.path]}, {})


def test_an_entity_has_the_policies_of_its_groups_and_of_those_that_they_are_in() -> None:
    found = read_identities(Server(), 2)
    (ann,) = found.entities
    assert (ann.own, ann.policies) == ({"own"}, {"own", "in", "out"})
    assert EntityAlias("userpass", "ann") in ann.aliases
    assert [one.name for one in found.at("approle")] == ["ann"]
    ext = frozenset({"ext"})
    assert found.external() == [IdentityGroup("ext", ext, ext, "ldap", external=True)]
    assert found.not_read == ()


def test_what_may_not_be_read_of_identities_is_named_with_its_rule() -> None:
    found = read_identities(Server("identity/group/name", "identity/entity/name/ann"), 2)
    assert (found.entities, found.groups) == ((), ())
    assert {one.policy_line for one in found.not_read} == {
        'path "identity/group/name" { capabilities = ["list"] }',
        'path "identity/entity/name/*" { capabilities = ["read"] }',
    }


def test_the_alias_of_an_approle_is_its_role_id_and_is_asked_only_where_it_matters() -> None:
    identities = read_identities(Server(), 2)
    elsewhere = Login("approle role", "other/app", ("default",))
    assert aliases_of(Server(), (APP, elsewhere), identities, 2) == {APP: "id-1"}
    unread = aliases_of(Server("auth/"), (APP,), identities, 2)[APP]
    assert unread == NotRead("auth/approle/role/+/role-id", ("read",))
    assert aliases_of(Server(), (APP,), Identities(), 2) == {}


def test_a_group_has_the_policies_of_every_group_that_it_is_in() -> None:
    groups = {
        "a": {"policies": ["one"], "parent_group_ids": ["b"]},
        "b": {"policies": ["two"], "parent_group_ids": ["c", "a"]},
        "c": {"policies": ["three"], "parent_group_ids": None},
    }
    assert _inherited("a", groups) == {"one", "two", "three"}
    assert _inherited("c", groups) == {"three"}
