"""Login methods against an issuer and a cluster on loopback: configured, refused, killed, mended."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.bao import BaoServer
from support.identity import GITHUB, Issuer, discovery_server, token_review_server
from support.stack import BIN, REPO

pytestmark = pytest.mark.real_server

NOBODY = "http://127.0.0.1:1"  # no one listens there


def run(bao: BaoServer, file: Path, *words: str, code: int = 0, **env: str) -> dict:
    done = subprocess.run(
        [str(BIN / "skyflowctl"), *words, "-f", str(file), "-o", "json"],
        env={**bao.env(), **env},
        cwd=file.parent,
        text=True,
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def manifest(folder: Path, name: str, auth: Mapping[str, object]) -> Path:
    file = folder / "mounts.yaml"
    data = {"version": 1, "manifest": name, "mounts": {}, "auth": auth}
    file.write_text(json.dumps(data))
    return file


def remove(bao: BaoServer, *methods: str) -> None:
    for one in methods:
        bao.api("DELETE", f"sys/auth/{one}")


def log_in(bao: BaoServer, method: str, role: str, jwt: str) -> tuple[int, dict]:
    return bao.api("POST", f"auth/{method}/login", {"role": role, "jwt": jwt})


def test_an_issuer_that_is_not_reached_fails_its_login_method_alone(bao, tmp_path):
    roles = {"ci": {"policies": ["p"], "bound_subject": "job", "audience": "x"}}
    lone = {"type": "jwt", "oidc_discovery_url": NOBODY, "roles": roles}
    auth = {"lm-lone": lone, "lm-apps": {"type": "approle", "roles": {"app": {"policies": ["p"]}}}}
    file = manifest(tmp_path, "lm-lone", auth)
    try:
        done = run(bao, file, "apply", "-y", code=3)
        results = {one["path"]: one["result"] for one in done["data"]["actions"]}
        assert results.pop("auth/lm-lone/config") == "failed"
        assert set(results.values()) == {"done"}
        assert "auth/lm-apps/role/app" in results
        with discovery_server(Issuer()) as address:
            lone["oidc_discovery_url"] = address
            run(bao, manifest(tmp_path, "lm-lone", auth), "apply", "-y")
            assert run(bao, file, "plan")["data"]["actions"] == []
    finally:
        remove(bao, "lm-lone", "lm-apps")


@pytest.mark.parametrize("source", ["oidc_discovery_url", "jwks_url"])
def test_tokens_are_checked_with_the_keys_of_an_issuer_on_loopback(bao, tmp_path, source):
    issuer, name = Issuer(), f"lm-{source.partition('_')[0]}"
    with discovery_server(issuer) as address:
        place = {"oidc_discovery_url": address, "jwks_url": f"{address}/keys"}[source]
        # The issuer of the shape is GitHub's; its keys are the stand-in's.
        ci = {"policies": ["p"], "preset": "github", "repository": "shop/order", "ref": "main"}
        method = {"type": "jwt", source: place, "bound_issuer": GITHUB, "roles": {"ci": ci}}
        file = manifest(tmp_path, name, {name: method})
        try:
            run(bao, file, "apply", "-y")
            status, answer = log_in(bao, name, "ci", issuer.github(ref="main"))
            assert status == 200, answer
            assert {"p", f"skyflowctl.owner.{name}"} <= set(answer["auth"]["token_policies"])
            assert log_in(bao, name, "ci", issuer.github(ref="main", iss=address))[0] == 400
            assert log_in(bao, name, "ci", Issuer().github(ref="main"))[0] == 400
            assert run(bao, file, "plan")["data"]["actions"] == []
        finally:
            remove(bao, name)


def test_a_cluster_is_asked_with_the_reviewers_token_of_its_version(bao, tmp_path):
    name = "lm-cluster"
    with token_review_server() as cluster:
        (tmp_path / "ca.pem").write_text(cluster.ca)
        method = {
            "type": "kubernetes",
            "host": cluster.address,
            "ca": {"file": "ca.pem"},
            "token_reviewer_jwt": {"env": "REVIEWER"},
            "roles": {"pod": {"policies": ["p"], "service_accounts": ["a"], "namespaces": ["n"]}},
        }
        file = manifest(tmp_path, name, {name: method})
        first, second = (Issuer().service_account("kube-system", "reviewer") for _ in range(2))
        pod = Issuer().service_account("n", "a")
        cluster.accounts[pod] = "n/a"
        try:
            done = run(bao, file, "apply", "-y", REVIEWER=first)
            assert first not in json.dumps(done)
            assert log_in(bao, name, "pod", pod)[0] == 200
            assert run(bao, file, "plan", REVIEWER=second)["data"]["actions"] == []
            method["secret_version"] = 2
            manifest(tmp_path, name, {name: method})
            run(bao, file, "apply", "-y", REVIEWER=second)
            assert log_in(bao, name, "pod", pod)[0] == 200
            assert cluster.asked_with == [f"Bearer {first}", f"Bearer {second}"]
            assert run(bao, file, "plan", REVIEWER=second)["data"]["actions"] == []
        finally:
            remove(bao, name)


def test_an_apply_that_was_killed_after_each_write_is_finished(bao, tmp_path):
    name, issuer = "lm-killed", Issuer()
    (tmp_path / "issuer.pub").write_text(issuer.public)
    ci = {"policies": ["p"], "preset": "github", "repository": "shop/order", "ref": "main"}
    method = {
        "type": "jwt",
        "jwt_validation_pubkeys": [{"file": "issuer.pub"}],
        "bound_issuer": GITHUB,
        "roles": {"ci": ci},
    }
    file = manifest(tmp_path, name, {name: method})
    command = ["apply", "-y", "-p", "1", "-f", str(file)]
    killed = 0
    try:
        while True:
            done = subprocess.run(
                [sys.executable, "-m", "support.killed", "1", "--", *command],
                env={**bao.env(), "PYTHONPATH": str(REPO / "tests")},
                cwd=tmp_path,
                capture_output=True,
                timeout=90,
                check=False,
            )
            if done.returncode != -signal.SIGKILL:
                break
            killed += 1
        assert done.returncode == 0, done.stderr
        assert killed >= 3  # the login method, its configuration, the login
        assert log_in(bao, name, "ci", issuer.github(ref="main"))[0] == 200
        assert run(bao, file, "plan", "--detailed-exitcode")["data"]["actions"] == []
    finally:
        remove(bao, name)


def test_a_login_of_others_is_taken_over_only_by_name(bao, tmp_path):
    name = "lm-adopted"
    certificate = tmp_path / "ca.pem"
    with token_review_server() as cluster:
        certificate.write_text(cluster.ca)
    roles = {"edge": {"policies": ["p"], "common_names": ["edge"]}}
    method = {"type": "cert", "certificate": {"file": "ca.pem"}, "roles": roles}
    file = manifest(tmp_path, name, {name: method})
    path = f"auth/{name}/certs/edge"
    try:
        bao.api("POST", f"sys/auth/{name}", {"type": "cert"})
        body = {"certificate": cluster.ca, "allowed_common_names": ["*"]}
        bao.api("POST", path, body)
        (first, *_) = run(bao, file, "apply", "-y", code=5)["errors"]
        assert first["code"] == "needs-adoption"
        assert bao.api("GET", path)[1]["data"]["allowed_common_names"] == ["*"]
        run(bao, file, "apply", "-y", f"--adopt={path}", f"--adopt=sys/auth/{name}")
        live = bao.api("GET", path)[1]["data"]
        assert live["allowed_common_names"] == ["edge"]
        assert f"skyflowctl.adopted.{name}" in live["token_policies"]
        assert run(bao, file, "plan")["data"]["actions"] == []
    finally:
        remove(bao, name)


def test_a_login_by_certificate_without_an_authority_is_refused_with_the_fix(bao, tmp_path):
    name = "lm-bare"
    roles = {"edge": {"policies": ["p"], "common_names": ["edge"]}}
    file = manifest(tmp_path, name, {name: {"type": "cert", "roles": roles}})
    (problem,) = run(bao, file, "apply", "-y", code=5)["errors"]
    assert problem["code"] == "certificate-missing"
    assert f"auth: {{{name}: {{certificate: {{file: clients-ca.pem}}}}}}" in problem["fix"]
    assert f"{name}/" not in bao.api("GET", "sys/auth")[1]["data"]
