"""People on a real server: oidc, passwords and groups; made, compared, held, and logged in."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.bao import BaoServer, running_bao
from support.identity import Issuer, discovery_server
from support.stack import BIN

pytestmark = pytest.mark.real_server

MANIFEST = """\
version: 1
manifest: people
mounts: {}
auth:
  corp:
    type: oidc
    discovery_url: ISSUER
    client_id: bao
    client_secret: {env: OIDC_SECRET}
    default_role: oncall
    roles:
      oncall:
        bound_claims: {groups: [payments-oncall]}
        groups_claim: groups
        user_claim: email
        policies: [default]
  userpass:
    users:
      alice: {password: {env: ALICE}, policies: [auditor], token_ttl: 20m}
policies:
  operator: {rules: {"secret/data/operator": [read]}}
  auditor: {rules: {"secret/data/auditor": [read]}}
groups:
  payments-oncall: {policies: [operator], aliases: {corp: payments-oncall}}
"""
GROUP = "identity/group/name/payments-oncall"
ALICE = "auth/userpass/users/alice"
PASSWORD = "correct-horse-1"
PERSON: dict[str, Any] = {}


@dataclass
class Site:
    """A server, an issuer and a manifest."""

    server: BaoServer
    issuer: str
    folder: Path

    def run(self, *args: str, manifest: str = MANIFEST, code: int = 0) -> dict[str, Any]:
        file = self.folder / "mounts.yaml"
        file.write_text(manifest.replace("ISSUER", self.issuer))
        done = subprocess.run(
            [str(BIN / "skyflowctl"), *args, "-f", str(file), "-o", "json"],
            env={**self.server.env(), "OIDC_SECRET": "hush-1", "ALICE": PASSWORD},
            text=True,
            capture_output=True,
            timeout=90,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == code, f"{args}\n{done.stdout}\n{done.stderr}"
        assert "hush-1" not in done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def actions(self, command: str, *args: str, **more: Any) -> list[tuple[str, str]]:
        made = self.run(command, *args, **more)["data"]["actions"]
        return [(one["action"], one["path"]) for one in made]

    def policies_of(self, token: str) -> set[str]:
        found = self.server.api("POST", "auth/token/lookup", {"token": token})[1]["data"]
        return {*found["policies"], *(found.get("identity_policies") or ())}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        running_bao() as server,
        discovery_server(Issuer(), PERSON) as issuer,
    ):
        yield Site(server, issuer, tmp_path_factory.mktemp("people"))


@pytest.fixture
def applied(site: Site) -> Site:
    site.run("apply", "-y")
    return site


def log_in(site: Site, **claims: Any) -> tuple[int, dict]:
    """Log in as a browser does: the issuer's page, then the callback."""
    callback = "http://localhost:8250/oidc/callback"
    body = {"role": "oncall", "redirect_uri": callback, "client_nonce": "n-1"}
    page = site.server.api("POST", "auth/corp/oidc/auth_url", body)[1]["data"]["auth_url"]
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(page).query))
    PERSON.clear()
    PERSON.update({"sub": "u-1", "aud": "bao", "nonce": asked["nonce"], **claims})
    query = urllib.parse.urlencode({"state": asked["state"], "code": "any", "client_nonce": "n-1"})
    return site.server.api("GET", f"auth/corp/oidc/callback?{query}")


def test_the_second_plan_is_empty(applied: Site) -> None:
    made = applied.run("plan", "--detailed-exitcode")["data"]
    assert (made["actions"], made["drift"], made["warnings"]) == ([], [], [])


def test_an_export_has_groups_and_no_passwords_and_its_plan_is_empty(applied: Site) -> None:
    text = applied.run("export")["data"]["text"]
    wanted = {"policies": ["operator"], "aliases": {"corp": "payments-oncall"}}
    assert yaml.safe_load(text)["groups"] == {"payments-oncall": wanted}
    assert PASSWORD not in text
    auth = yaml.safe_load(text)["auth"]
    kept = {"live": True}
    assert auth["corp"]["client_secret"] == kept
    users = next(one["users"] for one in auth.values() if "users" in one)
    assert users["alice"]["password"] == kept
    applied.run("validate", manifest=text)
    planned = applied.run("plan", "--detailed-exitcode", manifest=text)["data"]
    assert (planned["actions"], planned["drift"], planned["warnings"]) == ([], [], [])


def test_a_person_of_the_group_logs_in_and_has_its_policies(applied: Site) -> None:
    code, answer = log_in(applied, email="ann@shop.example", groups=["payments-oncall"])
    assert code == 200, answer
    assert "operator" in applied.policies_of(answer["auth"]["client_token"])
    code, answer = log_in(applied, email="bob@shop.example", groups=["sales"])
    assert code == 400, answer


def test_a_user_logs_in_with_the_password_until_its_version_rises(applied: Site) -> None:
    code, answer = applied.server.api("POST", "auth/userpass/login/alice", {"password": PASSWORD})
    assert code == 200
    assert applied.policies_of(answer["auth"]["client_token"]) >= {"auditor"}
    applied.server.api("POST", f"{ALICE}/password", {"password": "another-1"})
    assert applied.actions("plan") == []  # the server never returns it
    raised = MANIFEST.replace(
        "{password: {env: ALICE}", "{password: {env: ALICE}, secret_version: 2"
    )
    assert applied.actions("apply", "-y", manifest=raised) == [("update", ALICE)]
    assert applied.actions("plan", manifest=raised) == []
    again = applied.server.api("POST", "auth/userpass/login/alice", {"password": PASSWORD})
    assert again[0] == 200


def test_a_changed_policy_of_a_user_keeps_the_password(applied: Site) -> None:
    changed = MANIFEST.replace("policies: [auditor]", "policies: [auditor, operator]")
    assert applied.actions("apply", "-y", manifest=changed) == [("update", ALICE)]
    code, _ = applied.server.api("POST", "auth/userpass/login/alice", {"password": PASSWORD})
    assert code == 200


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (GROUP, {"policies": ["other"]}, "policies"),
        (ALICE, {"token_ttl": 60}, "token_ttl"),
        ("auth/corp/role/oncall", {"groups_claim": "teams"}, "groups_claim"),
        (
            "auth/corp/config",
            {"oidc_client_id": "other", "oidc_client_secret": "x", "oidc_discovery_url": "ISSUER"},
            "oidc_client_id",
        ),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_drift_is_found_and_mended(applied: Site, path: str, body: dict, field: str) -> None:
    sent = json.loads(json.dumps(body).replace("ISSUER", applied.issuer))
    assert applied.server.api("POST", path, sent)[0] < 300
    actions = applied.run("plan")["data"]["actions"]
    assert [one["path"] for one in actions] == [path]
    assert field in {change["field"] for change in actions[0]["changes"]}
    assert applied.actions("apply", "-y") == [("update", path)]
    assert applied.actions("plan") == []


def test_a_lost_alias_is_given_again(applied: Site) -> None:
    alias = applied.server.api("GET", GROUP)[1]["data"]["alias"]["id"]
    applied.server.api("DELETE", f"identity/group-alias/id/{alias}")
    assert applied.actions("apply", "-y") == [("update", GROUP)]
    assert applied.server.api("GET", GROUP)[1]["data"]["alias"]["name"] == "payments-oncall"


def test_an_alias_is_never_taken_from_another_group(applied: Site) -> None:
    server = applied.server
    server.api("POST", "identity/group/name/foreign", {"type": "external"})
    made = server.api("GET", "identity/group/name/foreign")[1]["data"]["id"]
    accessor = server.api("GET", "sys/auth")[1]["data"]["corp/"]["accessor"]
    alias = {"name": "ops", "mount_accessor": accessor, "canonical_id": made}
    server.api("POST", "identity/group-alias", alias)
    wanted = MANIFEST + "  ops: {policies: [operator], aliases: {corp: ops}}\n"
    failed = applied.run("apply", "-y", manifest=wanted, code=5)
    assert [one["code"] for one in failed["errors"]] == ["alias-taken"]
    assert server.api("GET", "identity/group/name/foreign")[1]["data"]["alias"]["name"] == "ops"
    assert server.api("GET", "identity/group/name/ops")[0] == 404
    server.api("DELETE", "identity/group/name/foreign")


def test_objects_that_others_made_need_adoption(applied: Site) -> None:
    server = applied.server
    server.api("POST", "identity/group/name/ops", {"policies": ["default"], "metadata": {"a": "b"}})
    server.api("POST", "auth/userpass/users/bob", {"password": "x-1", "token_policies": "default"})
    wanted = (MANIFEST + "  ops: {policies: [operator]}\n").replace(
        "    users:\n", "    users:\n      bob: {password: {env: ALICE}, policies: [operator]}\n"
    )
    refused = applied.run("apply", "-y", manifest=wanted, code=5)
    assert {one["code"] for one in refused["errors"]} == {"needs-adoption"}
    applied.run(
        "apply",
        "-y",
        "--adopt=identity/group/name/ops",
        "--adopt=auth/userpass/users/bob",
        manifest=wanted,
    )
    group = server.api("GET", "identity/group/name/ops")[1]["data"]
    assert group["metadata"] == {
        "a": "b", "managed_by": "skyflowctl", "manifest": "people", "adopted": "true",
    }  # fmt: skip
    assert applied.actions("plan", manifest=wanted) == []
    kept = applied.actions("plan", "--prune")
    assert kept == []  # adopted objects are deleted only if they are named
    for path in ("identity/group/name/ops", "auth/userpass/users/bob"):
        server.api("DELETE", path)


def test_prune_deletes_what_the_manifest_no_longer_declares(applied: Site) -> None:
    more = (MANIFEST + "  ops: {policies: [operator]}\n  dev: {policies: [operator]}\n").replace(
        "    users:\n", "    users:\n      bob: {password: {env: ALICE}, policies: [operator]}\n"
    )
    applied.run("apply", "-y", manifest=more)
    gone = [("delete", "auth/userpass/users/bob"), ("delete", "identity/group/name/ops")]
    less = MANIFEST + "  dev: {policies: [operator]}\n"
    assert sorted(applied.actions("apply", "-y", "--prune", manifest=less)) == gone
    assert applied.server.api("GET", gone[0][1])[0] == 404
    assert applied.server.api("GET", gone[1][1])[0] == 404
    applied.server.api("DELETE", "identity/group/name/dev")


def test_a_type_that_the_catalog_lacks_is_refused_when_it_is_planned(applied: Site) -> None:
    wanted = MANIFEST.replace("auth:\n", "auth:\n  staff: {type: ldap}\n")
    for command in (("plan",), ("apply", "-y")):
        refused = applied.run(*command, manifest=wanted, code=65)["errors"]
        assert [one["code"] for one in refused] == ["plugin-not-registered"]
        assert "no login method 'ldap'" in refused[0]["summary"]
        assert "userpass" in refused[0]["why"]  # the catalog's own list
        assert refused[0]["where"]["line"] == 5
    assert "staff/" not in applied.server.api("GET", "sys/auth")[1]["data"]


def test_a_group_keeps_its_type(applied: Site) -> None:
    wanted = MANIFEST.replace(", aliases: {corp: payments-oncall}", "")
    warnings = applied.run("plan", manifest=wanted)["data"]["warnings"]
    assert [one["code"] for one in warnings] == ["type-differs"]
