"""Database, pki and transit engines on a real server: made, compared, mended, refused.

The databases themselves are in test_secret_management.py; here no connection is opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bao import BaoServer, running_bao
from support.stack import Stack, clean_environ

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

MANIFEST = """\
version: 1
manifest: typed
mounts: {}
engines:
  db:
    type: database
    default_lease_ttl: 2h
    max_lease_ttl: 48h
    connections:
      orders:
        plugin: postgresql-database-plugin
        connection_url: "postgresql://{{username}}:{{password}}@127.0.0.1:9/orders"
        username: bao
        password: {env: ORDERS_PW}
        secret_version: 1
        verify_connection: false
    roles:
      orders-read:
        connection: orders
        creation_statements: ["CREATE ROLE \\"{{name}}\\" LOGIN PASSWORD '{{password}}'"]
        default_ttl: 1h
        max_ttl: 24h
  root:
    type: pki
    max_lease_ttl: 3650d
    root: {common_name: Shop root, ttl: 3600d, key_type: ec, issuer_name: root-1}
  services:
    type: pki
    max_lease_ttl: 365d
    urls: {issuing_certificates: ["https://bao.shop.example/v1/services/ca"]}
    intermediate: {common_name: Shop services, organization: Shop, ttl: 300d, signed_by: root}
    roles:
      web: {allowed_domains: [shop.example], allow_subdomains: true, key_type: ec, ttl: 24h, max_ttl: 24h}
  transit:
    type: transit
    keys:
      orders: {auto_rotate_period: 30d}
      signing: {type: ed25519}
"""
OBJECTS = {
    "db/config/orders",
    "db/roles/orders-read",
    "root/root/generate/internal",
    "services/config/urls",
    "services/intermediate/generate/internal",
    "services/roles/web",
    "transit/keys/orders",
    "transit/keys/orders/config",
    "transit/keys/signing",
    "transit/keys/signing/config",
}


@pytest.fixture(scope="module")
def server() -> Iterator[BaoServer]:
    with running_bao() as running:
        yield running


@pytest.fixture(scope="module")
def stack(server: BaoServer, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    folder = tmp_path_factory.mktemp("typed")
    (folder / "mounts.yaml").write_text(MANIFEST)
    environ = {**clean_environ(), **server.env(), "HOME": str(folder), "ORDERS_PW": "pw-of-orders"}
    stack = Stack(folder, environ, {})
    planned = stack.json("plan")["data"]["actions"]
    assert {one["path"] for one in planned if one["kind"] == "object"} == OBJECTS
    done = stack.cli("apply", "-y", "-o", "json")
    assert "pw-of-orders" not in done.stdout + done.stderr
    assert json.loads(done.stdout)["data"]["summary"]["failed"] == 0
    return stack


@pytest.fixture
def changed(tmp_path: Path):
    """Writes the manifest with one text replaced, and returns its path."""

    def write(old: str, new: str) -> str:
        assert old in MANIFEST
        file = tmp_path / "changed.yaml"
        file.write_text(MANIFEST.replace(old, new))
        return str(file)

    return write


def actions(stack: Stack, *args: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.json(*args)["data"]["actions"]
    return found


def data(server: BaoServer, path: str) -> dict[str, Any]:
    status, body = server.api("GET", path)
    assert status == 200, (path, status, body)
    found: dict[str, Any] = body["data"]
    return found


def test_the_second_plan_is_empty(stack):
    made = stack.json("plan", "--detailed-exitcode")["data"]
    assert (made["actions"], made["drift"], made["warnings"]) == ([], [], [])


def test_the_intermediate_is_signed_by_the_root_and_issues_for_24_hours(stack, server):
    asked = {"common_name": "a.shop.example", "ttl": "240h"}
    status, body = server.api("POST", "services/issue/web", asked)
    assert status == 200
    assert len(body["data"]["ca_chain"]) == 2
    made = data(server, f"services/cert/{body['data']['serial_number']}")
    assert made["certificate"].strip() == body["data"]["certificate"].strip()
    assert server.api("POST", "services/issue/web", {"common_name": "a.other.example"})[0] == 400


DRIFTS = [
    ("db/config/orders", "db/config/orders", {"username": "other", "verify_connection": False}, "username"),
    ("db/roles/orders-read", "db/roles/orders-read", {"default_ttl": 60}, "default_ttl"),
    ("services/config/urls", "services/config/urls", {"issuing_certificates": "http://x"}, "issuing_certificates"),
    ("services/roles/web", "services/roles/web", {"allow_any_name": True}, "allow_any_name"),
    ("transit/keys/orders/config", "transit/keys/orders/config", {"deletion_allowed": True}, "deletion_allowed"),
    ("sys/mounts/db", "sys/mounts/db/tune", {"max_lease_ttl": 10800}, "max_lease_ttl"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "written", "body", "field"), DRIFTS, ids=[one[0] for one in DRIFTS]
)
def test_a_change_by_hand_is_named_and_mended(stack, server, path, written, body, field):
    assert server.api("POST", written, body)[0] in (200, 204)
    (planned,) = actions(stack, "plan")
    assert (planned["action"], planned["path"]) == ("update", path)
    assert field in [change["field"] for change in planned["changes"]]
    assert "password" not in [change["field"] for change in planned["changes"]]
    (done,) = actions(stack, "apply", "-y")
    assert done["result"] == "done"
    assert actions(stack, "plan") == []


def test_a_deleted_role_is_made_again(stack, server):
    assert server.api("DELETE", "services/roles/web")[0] == 204
    (planned,) = actions(stack, "plan")
    assert (planned["action"], planned["path"]) == ("create", "services/roles/web")
    assert actions(stack, "apply", "-y")[0]["result"] == "done"


def test_certificates_and_keys_are_never_made_again(stack, server, changed):
    before = data(server, "root/cert/ca"), data(server, "transit/keys/orders")["keys"]
    assert (
        actions(stack, "plan", "-f", changed("common_name: Shop root", "common_name: Other")) == []
    )
    stack.json("apply", "-y")
    assert before == (data(server, "root/cert/ca"), data(server, "transit/keys/orders")["keys"])


def test_a_second_root_is_made_where_once_names_it(stack, server, changed):
    named = "issuer_name: root-2, once: {exists: issuer/root-2}"
    file = changed("issuer_name: root-1", named)
    (planned,) = actions(stack, "plan", "-f", file)
    assert planned["path"] == "root/root/generate/internal"
    assert actions(stack, "apply", "-y", "-f", file)[0]["result"] == "done"
    assert data(server, "root/issuer/root-2")["issuer_name"] == "root-2"
    assert actions(stack, "plan", "-f", file) == actions(stack, "plan") == []


def test_a_password_is_written_when_its_version_rises_and_read_by_no_one(stack, server, changed):
    file = changed("secret_version: 1", "secret_version: 2")
    (done,) = actions(stack, "apply", "-y", "-f", file)
    shown = {one["field"]: one["after"] for one in done["changes"]}
    assert (done["path"], shown["password"]) == ("db/config/orders", "from env: ORDERS_PW")
    assert actions(stack, "plan", "-f", file) == actions(stack, "plan") == []
    assert "password" not in json.dumps(data(server, "db/config/orders")["connection_details"]).replace(
        "{{password}}", "")  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [("{type: ed25519}", "{type: ecdsa-p256}", "type"), ("orders: {auto", "orders: {exportable: true, auto", "exportable")],
)  # fmt: skip
def test_what_a_key_never_changes_is_refused(stack, changed, old, new, field):
    refused = stack.json("apply", "-y", "-f", changed(old, new), check=5)
    (error,) = refused["errors"]
    assert error["code"] == "type-differs"
    assert f"cannot be changed: {field} is" in error["summary"]


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("  transit:\n    type: transit", "  cloud:\n    type: aws\n    objects: {}\n  transit:\n    type: transit", "aws"),
        ("plugin: postgresql-database-plugin", "plugin: oracle-database-plugin", "oracle-database-plugin"),
    ],
)  # fmt: skip
def test_a_plugin_that_the_server_lacks_is_refused_by_the_plan(stack, changed, old, new, missing):
    refused = stack.json("plan", "-f", changed(old, new), check=65)
    (error,) = refused["errors"]
    assert error["code"] == "plugin-not-registered"
    assert repr(missing) in error["summary"]
    assert error["where"]["line"]


def test_objects_of_an_engine_that_another_manifest_made_are_refused(stack, tmp_path):
    file = tmp_path / "other.yaml"
    text = MANIFEST.replace("manifest: typed", "manifest: theirs").replace(
        "ttl: 24h, max", "ttl: 12h, max"
    )
    file.write_text(text)
    refused = stack.json("apply", "-y", "-f", str(file), check=5)
    codes = {one["code"] for one in refused["errors"]}
    assert codes == {"needs-adoption"}
    assert any("--adopt=services/roles/web" in one["fix"] for one in refused["errors"])


def test_a_dry_run_makes_everything_anew(tmp_path):
    file = tmp_path / "mounts.yaml"
    file.write_text(MANIFEST)
    stack = Stack(tmp_path, {**clean_environ(), "HOME": str(tmp_path), "ORDERS_PW": "x"}, {})
    done = stack.json("apply", "--dry-run", exported=False)
    assert done["data"]["dry_run"]["left"] == 0
