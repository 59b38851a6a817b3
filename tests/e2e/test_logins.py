"""Logins of every type on a real server: made, compared, held, logged in, and nothing more."""

from __future__ import annotations

import json
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


def test_a_login_of_two_roles_reads_both(site):
    token = log_in(site, "gitlab")[1]["auth"]["client_token"]
    assert request(site.stack, "skyflow/order/creds/reader", token=token)[0] == 200


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
