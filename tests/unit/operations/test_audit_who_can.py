"""Which logins can read: what follows from policies, identities and tokens that are known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from skyflowctl.operations.audit_who_can import (
    _Decider,
    _of_earlier_logins,
    _readers,
)
from skyflowctl.posture.facts import (
    Entity,
    EntityAlias,
    Identities,
    LiveToken,
    Login,
    NotRead,
    Tokens,
)
from skyflowctl.posture.policies import parse_policy

PATH = "skyflow/order/creds/producer"
TEXTS = {
    "pay": f'path "{PATH}" {{ capabilities = ["read"] }}',
    "stop": f'path "{PATH}" {{ capabilities = ["deny"] }}',
    "lint": 'path "secret/x" { capabilities = ["read"] }',
    "default": "",
}


@pytest.fixture
def decider() -> _Decider:
    return _Decider(
        PATH, {name: parse_policy(name, text) for name, text in TEXTS.items()}, datetime.now(UTC)
    )


def entity(name: str, *policies: str, mount: str = "jwt", alias: str = "x") -> Entity:
    return Entity(name, frozenset(policies), (EntityAlias(mount, alias),))


def rows(decider: _Decider, login: Login, alias: str | NotRead | None, *entities: Entity) -> list:
    found = _readers(login, alias, Identities(entities), decider)
    return [(one.decision, one.entity, one.why) for one in found]


CI = Login("jwt role", "jwt/ci", ("default", "lint"))
PAYS = Login("jwt role", "jwt/pay", ("default", "pay"))


def test_a_login_whose_identity_is_not_known_may_read_by_it(decider) -> None:
    found = rows(decider, CI, None, entity("alice", "pay"))
    assert found == [("maybe", "alice", "only if alice logs in through it")]


def test_a_login_that_an_identity_may_be_denied_is_not_certain(decider) -> None:
    found = rows(decider, PAYS, None, entity("bob", "stop"), entity("carol"))
    assert found == [("maybe", "", "not if bob logs in through it")]


def test_an_alias_that_could_not_be_read_is_as_one_that_is_not_known(decider) -> None:
    login = Login("approle role", "approle/app", ("default", "lint"))
    found = rows(decider, login, NotRead("role-id"), entity("alice", "pay", mount="approle"))
    assert [one[0] for one in found] == ["maybe"]


def test_a_known_alias_is_certain(decider) -> None:
    login = Login("userpass user", "userpass/alice", ("default", "lint"))
    mine = entity("alice", "pay", mount="userpass", alias="alice")
    other = entity("bob", "pay", mount="userpass", alias="bob")
    assert rows(decider, login, "alice", mine, other) == [("yes", "alice", "")]


def token(name: str, *policies: str, by: str = "auth/approle/login", login: str = "") -> LiveToken:
    return LiveToken(name, name, policies, "", by, login=login)


def earlier(
    decider: _Decider, *tokens: LiveToken, entities: tuple[Entity, ...] = ()
) -> list[tuple[str, str]]:
    found = _of_earlier_logins(
        Tokens(tokens, len(tokens)), (CI, PAYS), Identities(entities), decider
    )
    return [(one.name, one.decision) for one in found]


def test_a_token_from_before_its_login_was_narrowed_still_reads(decider) -> None:
    kept = token("approle", "default", "lint", "pay")
    assert earlier(decider, kept) == [("approle", "yes")]
    assert earlier(decider, kept, kept) == [("approle (2 tokens)", "yes")]


def test_a_token_that_its_login_explains_is_not_told_twice(decider) -> None:
    mine = token("jwt", "default", "pay", by="auth/jwt/login", login="pay")
    assert earlier(decider, mine) == []
    assert earlier(decider, token("jwt", "default")) == []
    assert earlier(decider, token("root", "pay", by="auth/token/create")) == []


def test_a_token_is_not_hidden_by_another_login_with_its_policies(decider) -> None:
    narrowed = token("jwt", "default", "pay", by="auth/jwt/login", login="ci")
    assert earlier(decider, narrowed) == [("jwt", "yes")]
    elsewhere = token("approle", "default", "pay", login="pay")
    assert earlier(decider, elsewhere) == [("approle", "yes")]
    assert earlier(decider, token("jwt", "default", "pay", by="auth/jwt/login")) == [("jwt", "yes")]


def test_a_token_is_explained_by_an_entity_of_its_own_mount_only(decider) -> None:
    mine = token("jwt", "default", "lint", "pay", by="auth/jwt/login", login="ci")
    assert earlier(decider, mine, entities=(entity("alice", "pay"),)) == []
    other = entity("alice", "pay", mount="userpass")
    assert earlier(decider, mine, entities=(other,)) == [("jwt", "yes")]
