"""Logins of every type on a real server: made, compared, held, logged in, and nothing more."""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from support.identity import Cluster, Issuer, client_certificate, token_review_server
from support.stack import Stack, running_stack

from skyflowctl.client import (
    Jwt,
    Kubernetes,
    LoginRefusedError,
    PermissionDeniedError,
    ServerEndpoint,
    ServerLogin,
    TokenSource,
)

pytestmark = pytest.mark.real_server

MANIFEST = """\
version: 1
manifest: logins-test
mounts:
  order:
    credentials: {file: credentials/order.json}
    roles:
      producer:
        role_ids: [skyflow-role-order-prod]
        ctx: {required: true, pattern: "order:*", probe: "order:probe"}
        consumers:
          kubernetes: {order-pod: {service_accounts: [order], namespaces: [shop], token_ttl: 20m}}
          jwt: {order-ci: {preset: github, repository: shop/order, ref: refs/heads/main}}
          gitlab:
            order-pipeline: &pipeline
              {preset: gitlab, project_path: shop/order, ref: main, ref_protected: true,
               audience: "https://bao.shop.example"}
          cert: {order-edge: {common_names: [edge.shop.example], cidrs: [10.0.0.0/8]}}
      reader:
        role_ids: [skyflow-role-order-read]
        consumers:
          gitlab: {order-pipeline: *pipeline}
  payment:
    credentials: {file: credentials/payment.json}
    roles:
      engine: {role_ids: [skyflow-role-payment]}
auth:
  kubernetes: {host: "https://10.0.0.1:443", token_reviewer_jwt: {env: K8S_REVIEWER}}
  jwt:
    jwt_validation_pubkeys: [{file: issuer.pub}]
    bound_issuer: https://token.actions.githubusercontent.com
  gitlab:
    type: jwt
    jwt_validation_pubkeys: [{file: issuer.pub}]
    bound_issuer: https://gitlab.shop.example
  cert: {certificate: {file: clients-ca.pem}}
"""
OWN = "skyflow/order/creds/producer?ctx=order:ORD-1"
OTHERS = (
    "skyflow/order/creds/reader",
    "skyflow/payment/creds/engine",
    "skyflow/order/config",
    "secret/data/backend",
    "sys/mounts",
    "auth/jwt/role/order-ci",
)
ROLES = {
    "kubernetes": "auth/kubernetes/role/order-pod",
    "jwt": "auth/jwt/role/order-ci",
    "gitlab": "auth/gitlab/role/order-pipeline",
    "cert": "auth/cert/certs/order-edge",
}
LOGINS = {method: f"{method}/{path.rpartition('/')[2]}" for method, path in ROLES.items()}
ISSUER = Issuer()


@dataclass
class Site:
    """A stack with a cluster and an authority of client certificates beside it."""

    stack: Stack
    cluster: Cluster
    authority: trustme.CA


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    authority = trustme.CA()
    with running_stack(None) as stack, token_review_server() as cluster:
        (stack.folder / "mounts.yaml").write_text(MANIFEST)
        (stack.folder / "issuer.pub").write_text(ISSUER.public)
        authority.cert_pem.write_to_path(str(stack.folder / "clients-ca.pem"))
        stack.cli("apply", "-y", exported=True)
        yield Site(stack, cluster, authority)


def request(
    stack: Stack, path: str, body: object = None, token: str = "", certificate: Path | None = None
) -> tuple[int, dict]:
    """One request as an application sends it: status and answer."""
    context = ssl.create_default_context(cafile=stack.exports["BAO_CACERT"])
    if certificate:
        context.load_cert_chain(certificate)
    one = urllib.request.Request(
        f"{stack.exports['BAO_ADDR']}/v1/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Vault-Token": token} if token else {},
    )
    try:
        with urllib.request.urlopen(one, context=context, timeout=30) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def point_at_cluster(site: Site) -> None:
    """Set the cluster's address, which a dev stack does not take from a manifest."""
    body = {"kubernetes_host": site.cluster.address, "kubernetes_ca_cert": site.cluster.ca}
    site.stack.api("POST", "auth/kubernetes/config", body)


def log_in(site: Site, method: str) -> tuple[int, dict]:
    stack = site.stack
    if method == "cert":
        file = client_certificate(site.authority, stack.folder, "edge.shop.example")
        return request(stack, "auth/cert/login", {"name": "order-edge"}, certificate=file)
    role = ROLES[method].rpartition("/")[2]
    jwt = pod(site) if method == "kubernetes" else getattr(ISSUER, TOKENS[method])()
    return request(stack, f"auth/{method}/login", {"role": role, "jwt": jwt})


TOKENS = {"jwt": "github", "gitlab": "gitlab"}


def pod(site: Site, namespace: str = "shop", name: str = "order") -> str:
    """The token of a pod, which the cluster knows and the server can ask about."""
    point_at_cluster(site)
    token = ISSUER.service_account(namespace, name)
    site.cluster.accounts[token] = f"{namespace}/{name}"
    return token


def test_the_second_plan_is_empty(site):
    site.stack.cli("apply", "-y", exported=True)
    planned = site.stack.json("plan", "--detailed-exitcode")["data"]
    assert (planned["actions"], planned["warnings"]) == ([], [])


@pytest.mark.parametrize("method", list(ROLES))
def test_each_login_reads_its_own_creds_and_nothing_else(site, method):
    status, answer = log_in(site, method)
    assert status == 200, answer
    token = answer["auth"]["client_token"]
    status, creds = request(site.stack, OWN, token=token)
    assert (status, creds.get("errors")) == (200, None)
    assert creds["data"]["access_token"]
    assert request(site.stack, "skyflow/order/creds/producer", token=token)[0] == 403
    denied = [one for one in OTHERS if not (method == "gitlab" and one.endswith("/reader"))]
    assert {path: request(site.stack, path, token=token)[0] for path in denied} == dict.fromkeys(
        denied, 403
    )


@pytest.mark.parametrize(
    ("mount", "role", "readers"),
    [
        ("order", "producer", set(ROLES)),
        ("order", "reader", {"gitlab"}),
        ("payment", "engine", set()),
    ],
)
def test_who_can_names_exactly_the_logins_that_read(site, mount, role, readers):
    answer = site.stack.json("audit", "who-can", mount, role)["data"]
    assert answer["complete"], answer["not_read"]
    named = {one["name"]: one["decision"] for one in answer["readers"]}
    assert {method for method in ROLES if named.get(LOGINS[method]) == "yes"} == readers
    path = f"skyflow/{mount}/creds/{role}" + ("?ctx=order:who" if role == "producer" else "")
    for method in ROLES:
        token = log_in(site, method)[1]["auth"]["client_token"]
        assert request(site.stack, path, token=token)[0] == (200 if method in readers else 403)


def client_login(site: Site, kind: str, file: Path) -> ServerLogin:
    """The client library's login, whose token is in this file."""
    file.write_text(pod(site) if kind == "kubernetes" else ISSUER.github())
    return Kubernetes("order-pod", file) if kind == "kubernetes" else Jwt("order-ci", file)


@pytest.mark.parametrize("kind", ["kubernetes", "jwt"])
def test_the_client_library_logs_in_once_and_again_with_a_replaced_token(site, kind, tmp_path):
    stack, file = site.stack, tmp_path / "token"
    server = ServerEndpoint(stack.exports["BAO_ADDR"], ca_cert=stack.exports["BAO_CACERT"])
    login, path = client_login(site, kind, file), f'"path":"auth/{kind}/login"'
    before = stack.audit_log.read_text().count(path)
    with TokenSource(login, server=server) as source:
        for number in range(5):
            token = source.token("skyflow/order", "producer", ctx=f"order:{number}")
            assert token.access_token.count(".") == 2
        assert stack.audit_log.read_text().count(path) == before + 2  # request and response
        with pytest.raises(PermissionDeniedError):
            source.token("skyflow/payment", "engine")
        # The server forgets the login; the file has a newer token by then.
        stack.api("POST", f"sys/leases/revoke-prefix/auth/{kind}/login", {})
        client_login(site, kind, file)
        assert source.token("skyflow/order", "producer", ctx="order:after").access_token
        file.write_text("forged.token.here")
        stack.api("POST", f"sys/leases/revoke-prefix/auth/{kind}/login", {})
        with pytest.raises(LoginRefusedError) as caught:
            source.token("skyflow/order", "producer", ctx="order:refused")
        assert caught.value.status in {400, 403}


def test_a_login_of_two_roles_reads_both(site):
    token = log_in(site, "gitlab")[1]["auth"]["client_token"]
    assert request(site.stack, "skyflow/order/creds/reader", token=token)[0] == 200


def test_a_person_logs_in_with_the_generated_password_that_plan_and_apply_name(site):
    file = site.stack.folder / "people.yaml"
    user = {"password": {"env": "ALICE_PW"}, "policies": ["default"]}
    method = {"type": "userpass", "users": {"alice": user}}
    file.write_text(
        json.dumps({"version": 1, "manifest": "p", "mounts": {}, "auth": {"u": method}})
    )
    done = site.stack.cli("apply", "-y", "-f", str(file), exported=True, env={"ALICE_PW": "real"})
    assert "password        from a generated value, in place of env: ALICE_PW" in done.stderr
    named = re.search(r"replaces env: ALICE_PW; apply keeps it in (\S+)", done.stderr)
    assert named, done.stderr
    path = "auth/u/login/alice"
    assert request(site.stack, path, {"password": Path(named[1]).read_text()})[0] == 200
    assert request(site.stack, path, {"password": "real"})[0] == 400


GITHUB_REFUSED = {
    "repository": "shop/payment",
    "ref": "refs/heads/feature",
    "aud": "https://github.com/other",
    "iss": "https://github.example/_services/token",
}
GITLAB_REFUSED = {
    "project_path": "shop/payment",
    "ref": "feature",
    "ref_type": "tag",
    "ref_protected": "false",
    "aud": "https://other.example",
    "iss": "https://token.actions.githubusercontent.com",
}


@pytest.mark.parametrize(("claim", "value"), GITHUB_REFUSED.items())
def test_a_github_token_with_another_claim_is_refused(site, claim, value):
    body = {"role": "order-ci", "jwt": ISSUER.github(**{claim: value})}
    assert request(site.stack, "auth/jwt/login", body)[0] == 400


@pytest.mark.parametrize(("claim", "value"), GITLAB_REFUSED.items())
def test_a_gitlab_token_with_another_claim_is_refused(site, claim, value):
    body = {"role": "order-pipeline", "jwt": ISSUER.gitlab(**{claim: value})}
    assert request(site.stack, "auth/gitlab/login", body)[0] == 400


def test_a_token_of_another_key_is_refused(site):
    body = {"role": "order-ci", "jwt": Issuer().github()}
    assert request(site.stack, "auth/jwt/login", body)[0] == 400


@pytest.mark.parametrize("account", [("shop", "payment"), ("other", "order")])
def test_another_service_account_is_refused(site, account):
    body = {"role": "order-pod", "jwt": pod(site, *account)}
    assert request(site.stack, "auth/kubernetes/login", body)[0] == 403


def test_a_token_that_the_cluster_does_not_know_is_refused(site):
    point_at_cluster(site)
    forged = Issuer().service_account("shop", "order")
    body = {"role": "order-pod", "jwt": forged}
    assert request(site.stack, "auth/kubernetes/login", body)[0] == 403


def test_another_client_certificate_is_refused(site):
    stack, body = site.stack, {"name": "order-edge"}
    named = client_certificate(site.authority, stack.folder, "other.shop.example")
    foreign = client_certificate(trustme.CA(), stack.folder, "edge.shop.example")
    assert request(stack, "auth/cert/login", body, certificate=named)[0] == 400
    assert request(stack, "auth/cert/login", body, certificate=foreign)[0] == 400
    assert request(stack, "auth/cert/login", body)[0] == 400


DRIFT = {
    "kubernetes": {"bound_service_account_namespaces": ["shop", "other"]},
    "jwt": {"bound_claims": {"repository": "shop/order"}},
    "gitlab": {"bound_claims_type": "glob"},
    "cert": {"allowed_common_names": ["*"]},
}


@pytest.mark.parametrize("method", list(ROLES))
def test_drift_of_a_login_is_found_and_mended(site, method):
    stack, path = site.stack, ROLES[method]
    before = stack.api("GET", path)["data"]
    # The server wants the type of a jwt login in each write (measured).
    kind = {"role_type": "jwt"} if method in {"jwt", "gitlab"} else {}
    stack.api("POST", path, {**kind, **DRIFT[method]})
    planned = stack.json("plan", "--detailed-exitcode", check=2)["data"]["actions"]
    found = {one["path"]: [change["field"] for change in one["changes"]] for one in planned}
    assert found[path] == list(DRIFT[method])
    stack.cli("apply", "-y", exported=True)
    assert stack.api("GET", path)["data"] == before
    assert stack.json("plan")["data"]["actions"] == []


def test_drift_of_a_configuration_is_found_and_mended(site):
    stack, path = site.stack, "auth/jwt/config"
    stack.api("POST", path, {"jwt_validation_pubkeys": [Issuer().public], "bound_issuer": "x"})
    planned = stack.json("plan", "--detailed-exitcode", check=2)["data"]["actions"]
    (action,) = [one for one in planned if one["path"] == path]
    assert (action["action"], action["kind"]) == ("update", "login_config")
    assert {one["field"] for one in action["changes"]} == {"jwt_validation_pubkeys", "bound_issuer"}
    stack.cli("apply", "-y", exported=True)
    assert log_in(site, "jwt")[0] == 200


def test_a_cluster_is_configured_with_its_reviewer_again_after_drift(site):
    stack, path = site.stack, "auth/kubernetes/config"
    point_at_cluster(site)  # clears the token of the reviewer (measured)
    (action,) = stack.json("plan", "--detailed-exitcode", check=2)["data"]["actions"]
    assert action["path"] == path
    done = stack.cli("apply", "-y", exported=True)
    assert "no cluster is asked about the logins of kubernetes" in done.stderr
    assert "127.0.0.0/8 replaces the cidrs" in done.stderr
    live = stack.api("GET", path)["data"]
    assert live["token_reviewer_jwt_set"] is True
    assert live["kubernetes_host"] == "https://127.0.0.1:1"
    assert stack.json("plan")["data"]["actions"] == []


def test_a_prune_deletes_logins_of_every_type_and_no_others(site):
    stack, manifest = site.stack, site.stack.folder / "mounts.yaml"
    smaller = MANIFEST.replace("jwt: {order-ci: ", "jwt: {order-cd: ").replace(
        "cert: {order-edge: ", "cert: {order-rim: "
    )
    hand = stack.api("GET", ROLES["cert"])["data"]
    stack.api("POST", "auth/cert/certs/by-hand", {**hand, "token_policies": ["x"]})
    manifest.write_text(smaller)
    try:
        done = stack.json("apply", "--prune", "-y")["data"]["actions"]
        gone = {one["path"] for one in done if one["action"] == "delete"}
        assert gone == {ROLES["jwt"], ROLES["cert"]}
        assert stack.api("GET", "auth/cert/certs/by-hand")["data"]["token_policies"] == ["x"]
    finally:
        manifest.write_text(MANIFEST)
        stack.api("DELETE", "auth/cert/certs/by-hand")
        stack.cli("apply", "--prune", "-y", exported=True)
    assert stack.json("plan")["data"]["actions"] == []


def check(site: Site, name: str, *words: str, code: int = 0, **env: str) -> dict:
    done = site.stack.cli(
        "consumer", "check", name, *words, "-o", "json", check=code, exported=True, env=env
    )
    return json.loads(done.stdout)


def certificate_of_edge(site: Site) -> Path:
    return client_certificate(site.authority, site.stack.folder, "edge.shop.example")


CHECKED = {"order-pod": "kubernetes", "order-ci": "jwt", "order-pipeline": "gitlab"}


@pytest.mark.parametrize(("name", "method"), CHECKED.items())
def test_check_logs_in_with_a_jwt_that_is_no_argument(site, name, method):
    jwt = pod(site) if method == "kubernetes" else getattr(ISSUER, TOKENS[method])()
    data = check(site, name, "--jwt", "env:JOB_TOKEN", JOB_TOKEN=jwt)["data"]
    asked = {(one["path"], one["request"]): one["got"] for one in data["checks"]}
    assert (data["by"], all(one["ok"] for one in data["checks"])) == ("login", True)
    assert asked["skyflow/order/creds/producer", "any"] == "allow"
    assert asked["skyflow/order/creds/producer", "without ctx"] == "deny"
    assert asked["skyflow/payment/creds/engine", "any"] == "deny"
    assert asked[ROLES[method], "any"] == "deny"


def test_check_logs_in_with_a_client_certificate(site):
    data = check(site, "order-edge", "--cert", f"file:{certificate_of_edge(site)}")["data"]
    assert (data["by"], all(one["ok"] for one in data["checks"])) == ("login", True)


def test_check_without_a_proof_is_by_policy_and_says_so(site):
    stack, log = site.stack, len(site.stack.audit_log.read_text())
    data = check(site, "order-ci")["data"]
    assert (data["by"], all(one["ok"] for one in data["checks"])) == ("policy", True)
    entries = [json.loads(line) for line in stack.audit_log.read_text()[log:].splitlines()]
    paths = [one["request"]["path"] for one in entries if one["type"] == "response"]
    assert {"auth/token/create", "auth/token/revoke-self"} <= set(paths)
    assert not any("/creds/" in path for path in paths)
    shown = stack.cli("consumer", "check", "order-ci", exported=True).stdout
    assert "by policy: the login itself was not tried" in shown


def test_check_finds_a_right_that_the_manifest_does_not_give(site):
    stack, path = site.stack, ROLES["cert"]
    before = stack.api("GET", path)["data"]["token_policies"]
    stack.api("POST", "sys/policies/acl/too-much", {"policy": 'path "x/y" {capabilities=["read"]}'})
    stack.api("POST", path, {"token_policies": [*before, "too-much"]})
    try:
        by_policy = check(site, "order-edge", code=6)["data"]["checks"]
        proof = f"file:{certificate_of_edge(site)}"
        by_login = check(site, "order-edge", "--cert", proof, code=6)["data"]["checks"]
    finally:
        stack.api("POST", path, {"token_policies": before})
    assert [[one["path"] for one in found if not one["ok"]] for found in (by_policy, by_login)] == [
        ["x/y"],
        ["x/y"],
    ]


def test_check_with_a_token_of_another_repository_is_refused_with_the_servers_reason(site):
    jwt = ISSUER.github(repository="shop/payment")
    (problem,) = check(site, "order-ci", "--jwt", "env:JOB_TOKEN", code=4, JOB_TOKEN=jwt)["errors"]
    assert problem["code"] == "cannot-log-in"
    assert "repository" in problem["why"]
    assert problem["fix"] == "give a token with the claims that the manifest names for order-ci"
    assert jwt not in json.dumps(problem)


def test_check_with_a_token_that_is_none_says_nothing_of_claims(site):
    words = ("order-ci", "--jwt", "env:JOB_TOKEN")
    (problem,) = check(site, *words, code=4, JOB_TOKEN="no-token")["errors"]
    assert (problem["code"], "claims" in problem["fix"]) == ("cannot-log-in", False)


def test_check_with_a_certificate_without_its_key_says_how_to_join_them(site, tmp_path):
    pem, end = certificate_of_edge(site).read_text(), "-----END CERTIFICATE-----"
    alone = tmp_path / "edge.crt"
    alone.write_text(pem[pem.index("-----BEGIN CERTIFICATE-----") : pem.index(end) + len(end)])
    (problem,) = check(site, "order-edge", "--cert", f"file:{alone}", code=64)["errors"]
    assert (problem["code"], problem["why"]) == ("bad-client-certificate", "it has no key")
    assert problem["fix"].endswith("into one PEM file: cat edge.crt edge.key > edge.pem")


MISTAKES = [
    (("check", "order-ci", "--cert", "env:HOME"), 64, "wrong-proof"),
    (("check", "order-edge", "--jwt", "env:HOME"), 64, "wrong-proof"),
    (("check", "order-ci", "--jwt", "eyJhbGciOi.eyJpc3MiOi.c2ln"), 64, "bad-reference"),
    (("issue", "order-ci"), 5, "no-secret-ids"),
    (("rotate", "order-pod"), 5, "no-secret-ids"),
    (("rotate", "order-edge", "--retire", "-y"), 5, "no-secret-ids"),
    (("revoke", "order-edge", "--all", "-y"), 5, "no-secret-ids"),
]


@pytest.mark.parametrize(("words", "code", "name"), MISTAKES)
def test_a_mistake_is_named(site, words, code, name):
    (problem,) = site.stack.json("consumer", *words, check=code)["errors"]
    assert problem["code"] == name


def test_the_list_has_every_type(site):
    stack = site.stack
    found = stack.json("consumer", "list")["data"]["consumers"]
    assert {one["consumer"]: (one["method"], one["type"], one["state"]) for one in found} == {
        "order-ci": ("jwt", "jwt", "live"),
        "order-edge": ("cert", "cert", "live"),
        "order-pipeline": ("gitlab", "jwt", "live"),
        "order-pod": ("kubernetes", "kubernetes", "live"),
    }
    shown = stack.cli("consumer", "list", exported=True).stdout
    assert "order-pipeline  gitlab (jwt)" in shown
    assert "no secret ids" not in shown


def test_an_export_has_every_login_and_its_plan_is_empty(site):
    stack = site.stack
    stack.cli("apply", "-y", exported=True)
    file = stack.folder / "exported.yaml"
    file.unlink(missing_ok=True)
    done = stack.cli("export", "--out", str(file), exported=True)
    left_out = [line for line in done.stderr.splitlines() if "left out" in line]
    (certificate,) = [line for line in left_out if "made by hand" not in line]
    assert f"{ROLES['cert']}: its certificate was left out" in certificate
    text = file.read_text()
    for part in ("preset: github", "preset: gitlab", "ref_protected: true", "type: jwt"):
        assert part in text
    stack.cli("validate", "-f", str(file))
    planned = stack.json("plan", "-f", str(file), "--detailed-exitcode")["data"]
    assert (planned["actions"], planned["warnings"]) == ([], [])


def test_a_login_that_a_manifest_cannot_declare_is_left_out_and_named(site):
    stack, path = site.stack, ROLES["cert"]
    before = stack.api("GET", path)["data"]["allowed_common_names"]
    stack.api("POST", path, {"allowed_common_names": ["*.shop.example"]})
    try:
        done = stack.cli("export", exported=True)
    finally:
        stack.api("POST", path, {"allowed_common_names": before})
    assert f"{path}: was left out" in done.stderr
    manifest = done.stdout.partition("version: 1\n")[2]
    assert "order-pod" in manifest
    assert "order-edge" not in manifest
