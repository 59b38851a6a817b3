"""The example of a secret management server, with real PostgreSQL and MariaDB servers."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.bao import BaoServer, running_bao
from support.databases import Database, databases_installed, running_mariadb, running_postgres
from support.identity import Issuer, discovery_server
from support.stack import REPO, Stack, clean_environ

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not databases_installed(), reason="no PostgreSQL or MariaDB here"),
]

EXAMPLE = REPO / "examples" / "secret-management.yaml"
KINDS = {
    "engine": 5,
    "object": 12,
    "secret": 1,
    "policy": 3,
    "login_method": 4,
    "login_role": 4,
    "group": 1,
    "quota": 2,
    "namespace": 1,
    "audited_header": 2,
}
SECOND_DEVICE = 'audit "file" "second" {{ options = {{ file_path = "{path}" }} }}'
SECRETS = {"OIDC_CLIENT_SECRET": "oidc-hidden-1", "BREAK_GLASS_PASSWORD": "glass-hidden-1"}
QUOTAS = "sys/quotas/rate-limit/skyflowctl.secret-management"
MOUNTS = ("secret", "database", "pki-root", "pki", "transit")


@dataclass
class Site:
    """A server, two databases, and a folder with the example."""

    server: BaoServer
    orders: Database
    billing: Database
    stack: Stack

    def get(self, path: str) -> dict[str, Any]:
        return self.call("GET", path)["data"]

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        status, answer = self.server.api(method, path, body)
        assert status in (200, 204), (path, status, answer)
        return answer or {}

    def actions(self, command: str, *args: str, check: int = 0) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.stack.json(command, *args, check=check)["data"][
            "actions"
        ]
        return found

    def databases(self) -> dict[str, Database]:
        return {"orders-read": self.orders, "billing-read": self.billing}

    def users(self, database: Database) -> set[str]:
        table = "pg_user" if database is self.orders else "mysql.user"
        name = "usename" if database is self.orders else "user"
        return set(database.query(f"SELECT {name} FROM {table}").split())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("management")
    shutil.copy(EXAMPLE, folder / "mounts.yaml")
    shutil.copy(EXAMPLE.with_name("k8s-ca.pem"), folder)
    second = folder / "second-audit.log"
    with (
        running_bao(extra=SECOND_DEVICE.format(path=second)) as server,
        running_postgres() as orders,
        running_mariadb() as billing,
        discovery_server(Issuer()) as issuer,
    ):
        environ = {
            **clean_environ(),
            **server.env(),
            "HOME": str(folder),
            "ORDERS_DB": f"127.0.0.1:{orders.port}",
            "ORDERS_DB_SSLMODE": "disable",
            "ORDERS_DB_PASSWORD": orders.password,
            "BILLING_DB": f"127.0.0.1:{billing.port}",
            "BILLING_DB_PASSWORD": billing.password,
            "OIDC_ISSUER": issuer,
            "AUDIT_LOG": str(server.folder / "audit.log"),
            "SECOND_AUDIT_LOG": str(second),
            **SECRETS,
        }
        yield Site(server, orders, billing, Stack(folder, environ, {}))


@pytest.fixture
def applied(site: Site) -> Site:
    """The site with the example applied, whatever an earlier test left."""
    done = site.stack.cli("apply", "-y", "-o", "json")
    shown = done.stdout + done.stderr
    assert site.orders.password not in shown
    assert not [one for one in (site.billing.password, *SECRETS.values()) if one in shown]
    return site


def test_every_kind_is_made_and_the_second_plan_is_empty(site: Site) -> None:
    start_over(site)
    made = site.actions("apply", "-y")
    assert {one["result"] for one in made} == {"done"}
    kinds = [one["kind"] for one in made]
    assert {kind: kinds.count(kind) for kind in KINDS} == KINDS
    again = site.stack.json("plan", "--detailed-exitcode")["data"]
    assert (again["actions"], again["drift"], again["warnings"]) == ([], [], [])


@pytest.mark.parametrize("role", ["orders-read", "billing-read"])
def test_a_user_of_a_database_lives_as_long_as_its_lease(applied: Site, role: str) -> None:
    database = applied.databases()[role]
    made = applied.call("GET", f"database/creds/{role}")
    user = made["data"]["username"]
    assert made["lease_duration"] == 3600
    assert user in applied.users(database)
    applied.call("POST", "sys/leases/revoke", {"lease_id": made["lease_id"], "sync": True})
    assert user not in applied.users(database)


def test_a_tls_server_uses_a_certificate_of_24_hours(applied: Site, tmp_path: Path) -> None:
    name = "orders.svc.shop.example"
    made = applied.call("POST", "pki/issue/service", {"common_name": name})["data"]
    for file, text in (
        ("chain.pem", "\n".join([made["certificate"], *made["ca_chain"]])),
        ("key.pem", made["private_key"]),
        ("root.pem", applied.get("pki-root/cert/ca")["certificate"]),
    ):
        (tmp_path / file).write_text(text + "\n")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "root.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer_once, args=(listener, serving), daemon=True)
        thread.start()
        with (
            socket.create_connection(listener.getsockname(), timeout=20) as plain,
            trusting.wrap_socket(plain, server_hostname=name) as connection,
        ):
            assert connection.recv(16) == b"served"
            shown = connection.getpeercert()
        thread.join(20)
    assert shown
    ends, begins = (ssl.cert_time_to_seconds(str(shown[key])) for key in ("notAfter", "notBefore"))
    assert 86_400 <= ends - begins <= 86_400 + 60


def _answer_once(listener: socket.socket, context: ssl.SSLContext) -> None:
    connection, _ = listener.accept()
    with context.wrap_socket(connection, server_side=True) as wrapped:
        wrapped.sendall(b"served")


def test_transit_encrypts_signs_and_keeps_its_key(applied: Site) -> None:
    text = base64.b64encode(b"4000 0000 0000 0002").decode()
    sealed = applied.call("POST", "transit/encrypt/orders", {"plaintext": text})["data"]
    asked = {"ciphertext": sealed["ciphertext"]}
    assert applied.call("POST", "transit/decrypt/orders", asked)["data"]["plaintext"] == text
    signed = applied.call("POST", "transit/sign/receipts", {"input": text})["data"]["signature"]
    proof = {"input": text, "signature": signed}
    assert applied.call("POST", "transit/verify/receipts", proof)["data"]["valid"]
    assert applied.server.api("GET", "transit/export/encryption-key/orders")[0] == 400
    assert applied.server.api("DELETE", "transit/keys/orders")[0] == 400


def test_each_login_reads_its_own_and_nothing_else(applied: Site) -> None:
    role = "auth/approle/role/billing"
    body = {
        "role_id": applied.get(f"{role}/role-id")["role_id"],
        "secret_id": applied.call("POST", f"{role}/secret-id", {})["data"]["secret_id"],
    }
    token = applied.call("POST", "auth/approle/login", body)["auth"]["client_token"]
    for path, allowed in (
        ("database/creds/billing-read", True),
        ("database/creds/orders-read", False),
        ("secret/data/orders", False),
        ("database/config/billing", False),
    ):
        asked = {"token": token, "paths": [path]}
        rights = applied.call("POST", "sys/capabilities", asked)["data"][path]
        assert ("read" in rights) == allowed, (path, rights)


def test_an_export_has_everything_and_neither_its_plan_nor_a_prune_changes_anything(
    applied: Site, tmp_path: Path
) -> None:
    file = tmp_path / "exported.yaml"
    done = applied.stack.cli("export", "--out", str(file), "-o", "json")
    text, told = file.read_text(), done.stdout + done.stderr
    assert json.loads(done.stdout)["data"]["warnings"] == []
    for password in (applied.orders.password, applied.billing.password, *SECRETS.values()):
        assert password not in text + told
    written = yaml.safe_load(text)
    assert list(written["engines"]) == sorted(MOUNTS)
    assert written["engines"]["pki"]["max_lease_ttl"] == "365d"
    assert list(written["auth"]) == ["approle", "corp", "kubernetes", "userpass"]
    assert written["auth"]["kubernetes"]["roles"]["orders"]["service_accounts"] == ["orders"]
    declared = yaml.safe_load(EXAMPLE.read_text())
    for section in ("engines", "auth", "policies", "groups", "quotas", "namespaces"):
        assert written[section].keys() == declared[section].keys()
    assert written["audit_devices"].keys() == declared["audit_devices"].keys()
    for engine, body in declared["engines"].items():
        assert written["engines"][engine].keys() >= body.keys() - {"version"}
    for authority in ("root", "intermediate"):
        engine = "pki" if authority == "intermediate" else "pki-root"
        wanted = {"key_bits": 256, **declared["engines"][engine][authority]}
        assert written["engines"][engine][authority] == wanted
    kept = {"live": True}
    assert written["engines"]["database"]["connections"]["orders"]["password"] == kept
    assert written["auth"]["corp"]["client_secret"] == kept
    assert written["auth"]["userpass"]["users"]["break-glass"]["password"] == kept
    applied.stack.cli("validate", "-f", str(file))
    for command in (("plan",), ("plan", "--prune")):
        made = applied.stack.json(*command, "--detailed-exitcode", "-f", str(file))["data"]
        assert (made["actions"], made["drift"], made["warnings"]) == ([], [], []), command


def test_settings_that_a_manifest_has_no_key_for_are_named(applied: Site) -> None:
    tunes = [
        ("sys/auth/approle/tune", {"default_lease_ttl": "1h"}, {"default_lease_ttl": 0}),
        ("secret/config", {"max_versions": 7}, {"max_versions": 0}),
        ("auth/approle/role/billing", {"token_period": 60}, {"token_period": 0}),
        ("pki/roles/odd", {"ou": ["x"], "require_cn": False}, {}),
        ("sys/policies/acl/by-hand", {"policy": 'path "x" { capabilities = ["read"] }'}, {}),
    ]
    for path, changed, _ in tunes:
        applied.call("POST", path, changed)
    found = applied.stack.json("export")["data"]["warnings"]
    for path, _, before in tunes:
        applied.call("POST" if before else "DELETE", path, before or None)
    assert {one["summary"] for one in found} == {
        "policies: made by hand and left out: by-hand",
        "auth/approle: without default_lease_ttl",
        "auth/approle/role/billing: without token_period",
        "pki/roles/odd: without ou, require_cn",
        "secret: without max_versions",
    }


MARK = {"managed_by": "skyflowctl", "manifest": "secret-management"}
WIDER = """# managed-by:skyflowctl/secret-management
path "transit/*" { capabilities = ["read"] }"""
DRIFTS = [
    ("sys/mounts/pki", "sys/mounts/pki/tune", {"description": "x"}, "description"),
    ("database/config/orders", "database/config/orders", {"allowed_roles": "*"}, "allowed_roles"),
    ("database/config/billing", "database/config/billing", {"allowed_roles": "*"}, "allowed_roles"),
    ("database/roles/orders-read", "database/roles/orders-read", {"max_ttl": "1h"}, "max_ttl"),
    ("pki/config/urls", "pki/config/urls", {"crl_distribution_points": "http://x"}, "crl_distribution_points"),
    ("pki/roles/service", "pki/roles/service", {"allow_any_name": True}, "allow_any_name"),
    ("transit/keys/orders/config", "transit/keys/orders/config", {"deletion_allowed": True}, "deletion_allowed"),
    ("auth/approle/role/billing", "auth/approle/role/billing", {"token_ttl": 60}, "token_ttl"),
    ("sys/auth/kubernetes", "sys/auth/kubernetes/tune", {"description": "x"}, "description"),
    ("auth/corp/role/employee", "auth/corp/role/employee", {"user_claim": "sub"}, "user_claim"),
    ("auth/userpass/users/break-glass", "auth/userpass/users/break-glass", {"token_ttl": 7}, "token_ttl"),
    ("identity/group/name/payments-oncall", "identity/group/name/payments-oncall", {"policies": ["x"]}, "policies"),
    ("sys/quotas/rate-limit/skyflowctl.secret-management.transit", "sys/quotas/rate-limit/skyflowctl.secret-management.transit", {"path": "transit", "rate": 9}, "rate"),
    ("auth/kubernetes/config", "auth/kubernetes/config", {"kubernetes_host": "https://x:1"}, "kubernetes_host"),
    ("auth/corp/config", "auth/corp/config", {"default_role": "x", "oidc_client_secret": SECRETS["OIDC_CLIENT_SECRET"]}, "default_role"),
    ("secret/data/orders", "secret/data/orders", {"data": {"smtp_password": "x"}}, "smtp_user"),
    ("sys/policies/acl/support", "sys/policies/acl/support", {"policy": WIDER}, 'path "transit/*"'),
    ("sys/namespaces/shop", "sys/namespaces/shop", {"custom_metadata": {**MARK, "owner": "x"}}, "owner"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "at", "body", "field"), DRIFTS, ids=[one[0] for one in DRIFTS])
def test_one_change_by_hand_is_named_and_mended(applied: Site, path, at, body, field) -> None:
    whole = at in {"auth/kubernetes/config", "auth/corp/config"}  # each write needs all fields
    live = applied.get(at) if whole else {}
    applied.call("POST", at, {**live, **body})
    (planned,) = applied.actions("plan")
    assert (planned["action"], planned["path"]) == ("update", path)
    assert field in [change["field"] for change in planned["changes"]]
    (done,) = applied.actions("apply", "-y")
    assert done["result"] == "done"
    assert applied.actions("plan") == []


PRUNED = {
    "auth/approle/role/billing",
    "auth/userpass/users/break-glass",
    "identity/group/name/payments-oncall",
    "sys/policies/acl/billing-service",
    "secret/data/orders",
    "sys/auth/kubernetes",
    "sys/mounts/transit",
    "sys/namespaces/shop",
    f"{QUOTAS}.logins",
    f"{QUOTAS}.transit",
}
WITHOUT = [
    ("policies", "billing-service"),
    ("groups", "payments-oncall"),
    ("namespaces", "shop"),
    ("quotas", "logins"),
    ("quotas", "transit"),
    ("audit_devices", "second"),
    ("engines", "transit"),
    ("engines", "secret", "secrets"),
    ("engines", "database", "roles", "billing-read"),
    ("auth", "kubernetes"),
    ("auth", "approle", "roles"),
    ("auth", "userpass", "users"),
]


def test_a_prune_removes_what_left_the_manifest_and_nothing_else(applied: Site) -> None:
    text = yaml.safe_load((applied.stack.folder / "mounts.yaml").read_text())
    for *sections, name in WITHOUT:
        place = text
        for section in sections:
            place = place[section]
        del place[name]
    (applied.stack.folder / "less.yaml").write_text(yaml.safe_dump(text))
    prune = ("--prune", "--allow-large-prune", "-f", "less.yaml")
    by_name = [f"--allow-destroy={path}" for path in PRUNED if path.startswith(("sys", "secret"))]
    made = applied.actions("apply", "-y", *prune, *by_name)
    assert {one["result"] for one in made} == {"done"}
    gone = [one for one in made if one["action"] == "delete"]
    assert {one["path"] for one in gone if one["kind"] != "login_role"} <= PRUNED
    assert {one["path"] for one in gone} >= PRUNED
    again = applied.stack.json("plan", *prune)["data"]
    assert (again["actions"], again["drift"]) == ([], [])
    # Single objects of an engine carry no mark, so none is ever pruned; nor is an audit device.
    assert applied.get("database/roles/billing-read")["db_name"] == "billing"
    assert applied.get("sys/audit").keys() == {"main/", "second/"}


def test_a_quota_of_the_example_limits_real_logins(applied: Site) -> None:
    path, ends = "auth/approle/login", time.monotonic() + 60
    while 429 not in burst(applied, path, 300):  # 100 in any second pass
        assert time.monotonic() < ends
    assert 429 not in burst(applied, "auth/userpass/login/nobody", 300)  # no quota on it
    while applied.server.api("POST", path, {})[0] == 429:
        assert time.monotonic() < ends


def burst(site: Site, path: str, count: int) -> set[int]:
    """The status codes of so many requests, sent at once on one connection."""
    host, port = site.server.address.removeprefix("https://").split(":")
    trusting = ssl.create_default_context(cafile=str(site.server.ca))
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n"
    sent = f"{head}\r\n{{}}" * (count - 1) + f"{head}Connection: close\r\n\r\n{{}}"
    with (
        socket.create_connection((host, int(port)), timeout=30) as plain,
        trusting.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall(sent.encode())
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    codes = [int(one[:3]) for one in answers.split(b"HTTP/1.1 ")[1:]]
    assert len(codes) == count
    return set(codes)


def test_a_tenant_uses_a_mount_of_its_namespace(applied: Site) -> None:
    tenant = "version: 1\nmanifest: shop\nmounts: {}\n"
    shop = ("-n", "shop", "-f", "shop.yaml")
    file = applied.stack.folder / "shop.yaml"
    file.write_text(f"{tenant}engines: {{keys: {{type: transit, keys: {{orders: {{}}}}}}}}\n")
    made = {one["path"] for one in applied.actions("apply", "-y", *shop)}
    assert made >= {"sys/mounts/keys", "keys/keys/orders"}
    assert applied.actions("plan", *shop) == []
    sealed = applied.call("POST", "shop/keys/encrypt/orders", {"plaintext": "eA=="})["data"]
    opened = applied.call("POST", "shop/keys/decrypt/orders", sealed)["data"]
    assert opened["plaintext"] == "eA=="
    assert applied.server.api("POST", "keys/encrypt/orders", {"plaintext": "eA=="})[0] == 404
    assert applied.actions("plan") == []  # what is in it is not this manifest's
    file.write_text(tenant)
    prune = ("--prune", "--allow-large-prune", "--allow-destroy=keys")
    applied.actions("apply", "-y", *prune, *shop)


def test_a_person_logs_in_when_the_identity_provider_is_down(applied: Site) -> None:
    password = {"password": SECRETS["BREAK_GLASS_PASSWORD"]}
    made = applied.call("POST", "auth/userpass/login/break-glass", password)["auth"]
    assert "support" in made["policies"]
    assert applied.get("sys/namespaces/shop")["custom_metadata"]["owner"] == "payments"


def test_two_audit_devices_record_every_request(applied: Site) -> None:
    applied.call("GET", "sys/internal/ui/mounts")
    for variable in ("AUDIT_LOG", "SECOND_AUDIT_LOG"):
        lines = Path(applied.stack.environ[variable]).read_text().splitlines()
        paths = [json.loads(line)["request"].get("path") for line in lines]
        assert "sys/internal/ui/mounts" in paths
    environ = {**applied.stack.environ, "SECOND_AUDIT_LOG": "/mnt/audit/elsewhere.log"}
    done = Stack(applied.stack.folder, environ, {}).cli("plan")
    assert "sys/audit/second cannot be changed" in done.stderr


def test_an_audit_device_with_another_option_is_named_and_mended(applied: Site) -> None:
    """On this server by its configuration alone, with the text that the plan prints."""
    config = applied.server.folder / "bao.hcl"
    whole = config.read_text()
    second = SECOND_DEVICE.format(path=applied.stack.environ["SECOND_AUDIT_LOG"])
    assert second in whole

    def reload(text: str, *names: str) -> None:
        config.write_text(text)
        applied.server.process.send_signal(signal.SIGHUP)
        ends = time.monotonic() + 20
        while applied.get("sys/audit").keys() != {f"{name}/" for name in names}:
            assert time.monotonic() < ends

    try:
        reload(whole.replace(second, ""), "main")
        other = SECOND_DEVICE.format(path=applied.server.folder / "other.log")
        reload(whole.replace(second, other), "main", "second")
        (warning,) = applied.stack.json("plan")["data"]["warnings"]
        assert "sys/audit/second" in warning["summary"]
        assert "options.file_path is" in warning["summary"]
        refused = applied.stack.json("apply", "-y", check=5)
        assert [one["code"] for one in refused["errors"]] == ["type-differs"]

        reload(whole.replace(second, ""), "main")
        failed = applied.stack.json("apply", "-y", check=3)
        (made,) = failed["data"]["actions"]
        assert (made["action"], made["path"]) == ("create", "sys/audit/second")
        said = failed["errors"][0]["fix"].partition(":  ")[2]
        reload(f"{whole.replace(second, '')}\n{said}\n", "main", "second")
        done = applied.stack.json("apply", "-y")["data"]
        assert (done["actions"], done["warnings"]) == ([], [])
    finally:
        reload(whole.replace(second, ""), "main")
        reload(whole, "main", "second")


def start_over(site: Site) -> None:
    for mount in MOUNTS:
        site.server.api("DELETE", f"sys/mounts/{mount}")
    for method in ("approle", "kubernetes", "corp", "userpass"):
        site.server.api("DELETE", f"sys/auth/{method}")
    site.server.api("DELETE", "identity/group/name/payments-oncall")
    for policy in ("orders-service", "billing-service", "support"):
        site.server.api("DELETE", f"sys/policies/acl/{policy}")
    for name in ("logins", "transit"):
        site.server.api("DELETE", f"{QUOTAS}.{name}")
    for header in ("X-Skyflowctl-Run", "Application-Source"):
        site.server.api("DELETE", f"sys/config/auditing/request-headers/{header}")
    site.server.api("DELETE", "sys/namespaces/shop")
    gone = time.monotonic() + 20
    while site.server.api("GET", "sys/namespaces/shop")[0] != 404:  # deleted in the background
        assert time.monotonic() < gone


def test_a_kill_after_every_write_is_finished_by_the_next_run(site: Site) -> None:
    """Every kind is made anew, but for audit devices: this server's API takes none.

    Apply writes nothing for them, so there is no write of theirs to be killed after; a
    configuration that lacks one is in the test of audit devices.
    """
    writes = 0
    while True:
        writes += 1
        start_over(site)
        code = site.stack.killed(writes, "apply", "-y", "-p", "1")
        if code == 0:
            break
        assert code == -signal.SIGKILL, f"after write {writes}: exit {code}"
        assert site.stack.json("apply", "-y")["data"]["summary"]["delete"] == 0
        assert site.actions("plan") == [], f"after write {writes}"
        issuers = site.call("LIST", "pki/issuers")["data"]["keys"]
        assert len(issuers) == 2, f"after write {writes}: one of its own, and the root"
    assert writes > sum(KINDS.values())
