"""The precedence of policies, computed here and asked of a real server."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from skyflowctl.posture.acl import Acl
from skyflowctl.posture.least import may
from skyflowctl.posture.policies import parse_policy

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


@pytest.mark.parametrize("path", ["cubbyhole/r", "cubbyhole/r/", "cubbyhole/+", "cubbyhole/+/"])
def test_a_list_is_allowed_with_and_without_a_slash_at_the_end(bao, path):
    text = f'path "{path}" {{ capabilities = ["list"] }}'
    acl = Acl([parse_policy("acl-list", text)], datetime.now(UTC))
    token = token_of(bao, {"acl-list": text})
    for asked in ("cubbyhole/r", "cubbyhole/r/"):
        status, _ = replace(bao, token=token).api("LIST", asked)
        assert ("list" in may(acl, asked)) is (status == 404), (path, asked, status)
