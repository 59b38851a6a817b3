"""The precedence of policies, computed here and asked of a real server."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import pytest

from skyflowctl.posture.acl import Acl
from skyflowctl.posture.least import excess, may
from skyflowctl.posture.policies import PathRule, parse_policy

pytestmark = pytest.mark.real_server

_SEGMENTS = ("a", "b", "ab", "creds", "+", "+", "x")
_WORDS = ("create", "read", "update", "delete", "list", "sudo", "deny")
_ODD_PATHS = ("*", "+", "+/*", "a+/b", "a/+b/*", "a/b**", "/a/b", "+/+/*")
_ASKED = [
    "/".join(parts)
    for length in (1, 2, 3, 4)
    for parts in itertools.product(("a", "b", "ab", "creds", "zz"), repeat=length)
]


def path(rnd: random.Random) -> str:
    if rnd.random() < 0.05:
        return rnd.choice(_ODD_PATHS)
    text = "/".join(rnd.choice(_SEGMENTS) for _ in range(rnd.randint(1, 4)))
    if rnd.random() < 0.35:
        return text + ("/*" if text.endswith("+") else "*")
    return text + ("/" if rnd.random() < 0.1 else "")


def policy(rnd: random.Random) -> str:
    lines = []
    for _ in range(rnd.randint(1, 6)):
        words = json.dumps(rnd.sample(_WORDS, rnd.randint(1, 2)))
        lines.append(f'path "{path(rnd)}" {{ capabilities = {words} }}')
    return "\n".join(lines)


def token_of(bao, texts) -> str:
    """A new token with these policies alone."""
    for name, text in texts.items():
        status, body = bao.api("PUT", f"sys/policies/acl/{name}", {"policy": text})
        assert status == 204, (text, body)
    body = {"policies": list(texts), "no_default_policy": True}
    return bao.api("POST", "auth/token/create", body)[1]["auth"]["client_token"]


def allowed(bao, texts, paths) -> dict[str, set[str]]:
    """What the server says a token with these policies may do."""
    token = token_of(bao, texts)
    _, answer = bao.api("POST", "sys/capabilities", {"token": token, "paths": paths})
    return {path: set(answer["data"][path]) for path in paths}


def computed(texts, paths) -> dict[str, set[str]]:
    acl = Acl([parse_policy(name, text) for name, text in texts.items()], datetime.now(UTC))
    return {path: set(acl.capabilities(path)) or {"deny"} for path in paths}


@pytest.mark.parametrize("seed", range(4))
def test_random_policies_allow_what_the_server_says(bao, seed):
    rnd = random.Random(seed)
    for _ in range(10):
        texts = {f"acl-{seed}-{n}": policy(rnd) for n in range(rnd.randint(1, 3))}
        paths = rnd.sample(_ASKED, 300)
        assert computed(texts, paths) == allowed(bao, texts, paths), texts


@pytest.mark.parametrize(
    "text",
    [
        'path "a" { policy = "read" } path "b" { policy = "write" } path "ab" { policy = "sudo" }',
        'path "a/*" { policy = "write" } path "a/b" { policy = "deny" }',
        'path "a" { capabilities=["read"] expiration="2020-01-01T00:00:00Z" }',
        'path "a" { capabilities=["read"] expiration="2999-01-01T00:00:00Z" }',
        'path "a" { capabilities=["read"] policy="write" capabilities=["sudo"] }',
        '{"path": {"a": {"capabilities": ["read"]}, "b/*": {"policy": "read"}}}',
        '{"path": [{"a": {"capabilities": ["read"]}}, {"b/*": {"policy": "read"}}]}',
        'path "\\141\\x62" { capabilities = ["read",] } path "${a}/*" { capabilities = ["list"] }',
        '/* c */ path "a" { // x\n capabilities=["read"], min_wrapping_ttl="1s" # y\n }',
        'path "a" { policy="read" required_parameters=["ctx"] allowed_parameters={"*"=[]} }',
        'path path { capabilities = ["read"] } path "a" "b" { capabilities = ["list"] }',
        'path "a/*" { capabilities = ["read"] } path "a/b" { capabilities = [] } path "b" {}',
        'name = "x"\npath "a" { capabilities = ["read"]\n pagination_limit = 3 }',
    ],
)
def test_every_way_to_write_a_policy_is_read_as_the_server_reads_it(bao, text):
    paths = ["a", "b", "ab", "a/b", "a/x", "b/c", "path", "${a}/1"]
    assert computed({"acl-form": text}, paths) == allowed(bao, {"acl-form": text}, paths)


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        'denied_parameters = { "credentials_json" = [] }',
        'denied_parameters = { "Credentials_JSON" = [] }',
        'denied_parameters = { "credentials_json" = ["x"] }',
        'denied_parameters = { "credentials_json" = ["x", "*"] }',
        'denied_parameters = { "credentials_json" = ["**"] }',
        'denied_parameters = { "credentials_json" = ["x*"] }',
        'denied_parameters = { "credentials_json" = [7] }',
        'denied_parameters = { "*" = ["x"] }',
        'denied_parameters = { "cred*" = [] }',
        'denied_parameters = { "tags" = [] }',
        "denied_parameters = {}",
        'allowed_parameters = { "credentials_json" = [] }',
        'allowed_parameters = { "credentials_json" = ["x"] }',
        'allowed_parameters = { "credentials_json" = ["x", "{*"] }',
        'allowed_parameters = { "credentials_json" = ["*"] }',
        'allowed_parameters = { "credentials_json" = ["*}"] }',
        'allowed_parameters = { "*" = [], "credentials_json" = ["x"] }',
        'allowed_parameters = { "*" = [] }',
        'allowed_parameters = { "*" = ["x"] }',
        'allowed_parameters = { "tags" = [] }',
        "allowed_parameters = {}",
        'allowed_parameters = { "*" = [] } denied_parameters = { "credentials_json" = [] }',
    ],
)
def test_a_policy_lets_a_key_through_where_the_server_does(bao, parameters):
    text = f'path "cubbyhole/field" {{ capabilities = ["create", "update"] {parameters} }}'
    (rule,) = parse_policy("acl-field", text).rules
    token = token_of(bao, {"acl-field": text})
    body = {"credentials_json": '{"clientID": "a key"}'}
    status, _ = replace(bao, token=token).api("PUT", "cubbyhole/field", body)
    assert status in (204, 403)
    assert rule.may_send("credentials_json") is (status == 204)


def list_path(rnd: random.Random) -> str:
    if rnd.random() < 0.3:
        ends = ("*", "a*", "a/*", "+/*", "+/a*", "+/+/*", "ab/*")
        return f"cubbyhole/{rnd.choice(ends)}"
    parts = (rnd.choice(("a", "b", "+", "+", "ab")) for _ in range(rnd.randint(1, 2)))
    return "/".join(("cubbyhole", *parts)) + rnd.choice(("", "/"))


@pytest.mark.parametrize("word", ["list", "scan"])
def test_a_list_is_allowed_where_the_server_allows_it_with_and_without_a_slash(bao, word):
    asked = ("a", "b", "ab", "a/b", "b/ab", "a/b/a")
    for seed in range(30):
        rnd = random.Random(seed)
        text = "\n".join(
            f'path "{list_path(rnd)}" {{ capabilities = ["{rnd.choice(("read", word, "deny"))}"] }}'
            for _ in range(rnd.randint(1, 5))
        )
        acl = Acl([parse_policy("acl-list", text)], datetime.now(UTC))
        login = replace(bao, token=token_of(bao, {"acl-list": text}))
        for path in (f"cubbyhole/{one}{end}" for one in asked for end in ("", "/")):
            status, _ = login.api(word.upper(), path)
            assert (word in may(acl, path)) is (status != 403), (text, path, status)


_BODIES = [
    {name: value for name, value in zip("abc", values, strict=True) if value}
    for values in itertools.product((None, "x", "xy", "z"), (None, "x", "q"), (None, "x"))
]


def with_fields(rnd: random.Random) -> str:
    needs = json.dumps(rnd.sample("ab", rnd.randint(0, 2)))
    values = ([], ["x"], ["x*"], ["x", "z"], ["xy", "z*"])
    names = rnd.sample(("a", "b", "*"), rnd.randint(0, 2))
    allows = ", ".join(f'"{name}" = {json.dumps(rnd.choice(values))}' for name in names)
    limits = f"required_parameters = {needs}\nallowed_parameters = {{ {allows} }}"
    return f'path "cubbyhole/field" {{\ncapabilities = ["create", "update"]\n{limits}\n}}'


def accepts(rule: PathRule, body: dict[str, str]) -> bool:
    values = dict(rule.values)
    return rule.required <= body.keys() and (
        rule.allowed is None
        or all(
            any(fnmatchcase(value, one) for one in values[name] or ["*"])
            if name in values
            else "*" in rule.allowed
            for name, value in body.items()
        )
    )


@pytest.mark.parametrize("seed", range(20))
def test_rules_of_several_policies_are_joined_and_compared_as_the_server_does(bao, seed):
    rnd = random.Random(seed)
    rules, acls, accepted = [], [], []
    for who in ("own", "most"):
        texts = {f"acl-{who}-{n}": with_fields(rnd) for n in range(rnd.randint(1, 3))}
        policies = [parse_policy(name, text) for name, text in texts.items()]
        acls.append(Acl(policies, datetime.now(UTC)))
        rules.append([rule for one in policies for rule in one.rules])
        joined = acls[-1].rule("cubbyhole/field")
        login = replace(bao, token=token_of(bao, texts))
        taken = [login.api("PUT", "cubbyhole/field", body)[0] != 403 for body in _BODIES]
        assert [accepts(joined, body) for body in _BODIES] == taken, texts
        accepted.append({n for n, ok in enumerate(taken) if ok})
    own, most = accepted
    found = excess(rules[0], acls[0], acls[1], rules[1])
    # Of a rule that no request can meet, a difference is told all the same.
    assert bool(found) == bool(own - most) or not own, (rules, found)
