"""Database, pki and transit engines of a manifest become objects in the server's units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skyflowctl.clock import SystemClock
from skyflowctl.errors import InvalidInputError
from skyflowctl.manifest.load import load_manifest
from skyflowctl.manifest.model import DeclaredObject
from skyflowctl.operations.validate import validate

HEAD = "version: 1\nmanifest: shop\nmounts: {}\nengines:\n"
DATABASE = """\
  db:
    type: database
    connections:
      orders:
        plugin: postgresql-database-plugin
        connection_url: "postgresql://{{username}}:{{password}}@db:5432/orders"
        username: bao
        password: {env: PW}
        secret_version: 3
        verify_connection: false
    roles:
      read: {connection: orders, creation_statements: [CREATE], default_ttl: 1h}
"""
PKI = """\
  root:
    type: pki
    max_lease_ttl: 3650d
    root: {common_name: Shop root, ttl: 3600d, key_type: ec}
  services:
    type: pki
    urls: {issuing_certificates: ["https://bao/ca"]}
    intermediate: {common_name: Services, signed_by: root, once: {exists: issuer/services}}
    roles: {web: {allowed_domains: [shop.example], ttl: 24h}}
"""
TRANSIT = """\
  transit:
    type: transit
    keys:
      orders: {auto_rotate_period: 30d, min_decryption_version: 2}
      sign: {type: ed25519, exportable: true}
"""


@pytest.fixture
def objects(tmp_path: Path):
    def read(text: str) -> dict[str, DeclaredObject]:
        file = tmp_path / "mounts.yaml"
        file.write_text(HEAD + text)
        return {one.path: one for one in load_manifest([str(file)], environ={}).manifest.objects}

    return read


def fields(one: DeclaredObject, *names: str) -> dict[str, Any]:
    return {name: one.fields[name] for name in names}


def test_a_connection_has_its_password_by_version_and_the_roles_that_name_it(objects):
    one = objects(DATABASE)["db/config/orders"]
    assert one.owner == "sys/mounts/db"
    assert fields(one, "plugin_name", "username", "allowed_roles") == {
        "plugin_name": "postgresql-database-plugin",
        "username": "bao",
        "allowed_roles": ["read"],
    }
    assert (one.secret["password"].text, one.secret_version, one.keeps_secret) == (
        "env: PW",
        3,
        True,
    )
    assert one.flags == {"verify_connection": False}
    assert not {"password", "verify_connection"} & one.fields.keys()


def test_a_database_role_waits_for_its_connection_and_has_every_default(objects):
    one = objects(DATABASE)["db/roles/read"]
    assert one.after == ("db/config/orders",)
    assert one.fields == {
        "db_name": "orders",
        "creation_statements": ["CREATE"],
        "revocation_statements": [],
        "renew_statements": [],
        "rollback_statements": [],
        "default_ttl": 3600,
        "max_ttl": 0,
    }


def test_a_root_is_made_once_and_its_roles_wait_for_it(objects):
    found = objects(PKI)
    root = found["root/root/generate/internal"]
    assert root.once == "root/cert/ca"
    assert root.fields == {"common_name": "Shop root", "ttl": 3600 * 86400, "key_type": "ec"}
    middle = found["services/intermediate/generate/internal"]
    assert middle.once == "services/issuer/services"
    assert middle.after == ("services/config/urls", "root/root/generate/internal")
    assert found["services/roles/web"].after == ("services/intermediate/generate/internal",)
    assert fields(found["services/roles/web"], "ttl", "key_type", "allow_localhost") == {
        "ttl": 86400,
        "key_type": "rsa",
        "allow_localhost": True,
    }


def test_a_transit_key_has_a_part_that_changes_and_one_that_never_does(objects):
    found = objects(TRANSIT)
    key, config = found["transit/keys/orders"], found["transit/keys/orders/config"]
    assert (key.fields, key.fixed) == ({}, {"type": "aes256-gcm96", "exportable": False})
    assert (config.read_path, config.after) == ("transit/keys/orders", ("transit/keys/orders",))
    assert config.fields == {
        "deletion_allowed": False,
        "auto_rotate_period": 30 * 86400,
        "min_decryption_version": 2,
    }
    assert found["transit/keys/sign"].fixed == {"type": "ed25519", "exportable": True}


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("postgresql://{{username}}:{{password}}@db:5432/x", False),
        ("{{username}}:{{password}}@tcp(db:3306)/", False),
        ("postgresql://db:5432/x", False),
        ("host=db user=bao password={{password}}", False),
        ("postgresql://bao:pw@db:5432/x", True),
        ("bao:pw@tcp(db:3306)/", True),
        ("host=db user=bao password=pw", True),
    ],
)
def test_a_password_in_a_url_is_refused(tmp_path, url, refused):
    file = tmp_path / "mounts.yaml"
    one = f'{{plugin: x-plugin, connection_url: "{url}"}}'
    file.write_text(f"{HEAD}  db: {{type: database, connections: {{a: {one}}}}}\n")
    if not refused:
        assert load_manifest([str(file)], environ={}).manifest.objects
        return
    with pytest.raises(Exception, match="the connection URL contains a password"):
        load_manifest([str(file)], environ={})


@pytest.mark.parametrize(
    ("body", "fix"),
    [
        ("max_lease_ttl: 3650d, root: {common_name: R, ttl: 3650d}", ""),
        ("root: {common_name: R, ttl: 768h}", ""),
        ("root: {common_name: R, ttl: 3650d}", "add max_lease_ttl: 3650d"),
        (
            "max_lease_ttl: 365d, root: {common_name: R, ttl: 3650d}",
            "use 365d, or max_lease_ttl: 3650d",
        ),
        ("max_lease_ttl: 24h, roles: {web: {ttl: 1h, max_ttl: 24h}}", ""),
        ("max_lease_ttl: 24h, roles: {web: {max_ttl: 48h}}", "use 24h, or max_lease_ttl: 48h"),
        ("roles: {web: {ttl: 800h}}", "add max_lease_ttl: 800h"),
    ],
)
def test_a_certificate_that_the_server_would_shorten_is_refused(tmp_path, body, fix):
    file = tmp_path / "mounts.yaml"
    file.write_text(f"{HEAD}  pki: {{type: pki, {body}}}\n")
    if not fix:
        assert load_manifest([str(file)], environ={}).manifest.objects
        return
    with pytest.raises(InvalidInputError) as raised:
        load_manifest([str(file)], environ={})
    (problem,) = raised.value.problems
    assert (problem.code, problem.fix, problem.where.line) == ("bad-duration", fix, 5)


def test_a_signer_that_only_the_server_may_have_is_a_warning(tmp_path):
    file = tmp_path / "mounts.yaml"
    body = "intermediate: {common_name: S, signed_by: pkii}"
    file.write_text(f"{HEAD}  pki: {{type: pki}}\n  services: {{type: pki, {body}}}\n")
    (warning,) = validate([str(file)], environ={}, clock=SystemClock()).warnings
    assert (warning.code, warning.fix) == ("signer-missing", 'did you mean "pki"?')
    assert warning.where.line == 6
    file.write_text(file.read_text().replace("pkii", "pki"))
    assert validate([str(file)], environ={}, clock=SystemClock()).warnings == ()
