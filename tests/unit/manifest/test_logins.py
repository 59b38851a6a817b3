"""Logins as the manifest builds them: exact claims, defaults, public files."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyflowctl.errors import InvalidInputError
from skyflowctl.manifest.load import load_manifest
from skyflowctl.manifest.model import Manifest

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"


def loaded(folder: Path, consumers: str, auth: str = "") -> Manifest:
    file = folder / "mounts.yaml"
    role = f"{{role_ids: [x], consumers: {consumers}}}"
    head = "version: 1\nmanifest: m\nmounts:\n  order:\n    roles:\n"
    file.write_text(f"{head}      r: {role}\n{f'auth: {auth}' if auth else ''}\n")
    return load_manifest([str(file)], environ={}).manifest


def settings(folder: Path, consumers: str, auth: str = "") -> dict:
    (one,) = loaded(folder, consumers, auth).consumers
    return dict(one.settings)


def test_github_binds_exactly_its_claims(tmp_path):
    made = settings(
        tmp_path,
        "{jwt: {ci: {preset: github, repository: shop/order, ref: r, environment: prod}}}",
    )
    assert made["bound_claims"] == {"repository": "shop/order", "ref": "r", "environment": "prod"}
    assert made["bound_audiences"] == ["https://github.com/shop"]
    assert (made["role_type"], made["bound_claims_type"]) == ("jwt", "string")
    assert made["user_claim"] == "repository"


def test_gitlab_binds_the_type_of_the_ref(tmp_path):
    made = settings(
        tmp_path,
        "{jwt: {ci: {preset: gitlab, project_path: a/b, ref: main, ref_protected: true,"
        " audience: x}}}",
    )
    assert made["bound_claims"] == {
        "project_path": "a/b",
        "ref": "main",
        "ref_type": "branch",
        "ref_protected": "true",
    }
    assert (made["bound_audiences"], made["user_claim"]) == (["x"], "project_path")


def test_a_login_method_with_its_own_name_has_the_declared_type(tmp_path):
    made = loaded(
        tmp_path,
        "{cluster: {pod: {service_accounts: [a], namespaces: [n]}}}",
        "{cluster: {type: kubernetes}}",
    )
    (one,) = made.consumers
    assert (one.method, one.type, made.objects) == ("cluster", "kubernetes", ())


def test_the_issuer_is_bound_by_default(tmp_path):
    made = loaded(tmp_path, "{}", '{jwt: {oidc_discovery_url: "https://id.example"}}')
    (config,) = made.objects
    assert (config.path, config.owner) == ("auth/jwt/config", "sys/auth/jwt")
    assert config.fields["bound_issuer"] == "https://id.example"


def test_a_certificate_of_the_login_method_is_that_of_its_logins(tmp_path):
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    made = settings(
        tmp_path,
        "{cert: {edge: {common_names: [a]}}}",
        "{cert: {certificate: {file: ca.pem}}}",
    )
    assert made["certificate"] == CERTIFICATE
    assert "certificate" not in settings(tmp_path, "{cert: {edge: {common_names: [a]}}}")


def test_a_private_key_in_a_public_file_is_refused(tmp_path):
    (tmp_path / "ca.pem").write_text(CERTIFICATE + KEY)
    with pytest.raises(InvalidInputError) as caught:
        loaded(tmp_path, "{}", "{cert: {certificate: {file: ca.pem}}}")
    (problem,) = caught.value.problems
    assert (problem.code, problem.where.line) == ("private-key", 7)
    assert "MIIB" not in str(problem)
