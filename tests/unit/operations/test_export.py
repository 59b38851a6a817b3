"""An export of every kind: valid, with an empty plan, and with a name for what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.fake_server import FakeCredentials
from support.gateways import Rig, memory_rig

from skyflowctl.manifest.load import load_manifest
from skyflowctl.operations.export import Exported, export
from skyflowctl.operations.exported_settings import of_mount
from skyflowctl.operations.plan import plan
from skyflowctl.planner.plan import Plan, PlanOptions, PruneOptions
from skyflowctl.vault.errors import ForbiddenError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import Reply, Request, TransportWrapper

MARKS = {"managed_by": "skyflowctl", "manifest": "shop"}
OWNED = ["ops", "skyflowctl.owner.shop"]
KEPT = {"live": True}


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = memory_rig()
    yield made
    made.gateway.close()


class Server:
    """Objects of one manifest on a server, their export, and the plan of it."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.gateway = rig.gateway
        self.file = folder / "exported.yaml"

    def write(self, path: str, /, **fields: Any) -> None:
        self.gateway.sys.access.write(path, fields)

    def engine(self, path: str, kind: str, **options: str) -> None:
        self.write(f"sys/mounts/{path}", type=kind, options={**MARKS, **options})

    def method(self, path: str, kind: str, **options: str) -> None:
        self.write(f"sys/auth/{path}", type=kind, options={**MARKS, **options})

    def exported(self, manifest_id: str = "") -> tuple[dict[str, Any], Exported]:
        made = export(self.gateway, manifest_id=manifest_id)
        self.file.write_text(made.text)
        return yaml.safe_load(made.text), made

    def plan(
        self, text: str = "", *, prune: bool = False, adopt: frozenset[str] = frozenset()
    ) -> Plan:
        if text:
            self.file.write_text(text)
        loaded = load_manifest([str(self.file)], environ={})
        options = PlanOptions(prune=PruneOptions() if prune else None, adopt=adopt)
        return plan(loaded.manifest, self.gateway, FakeCredentials(), options).plan

    def holds(self, *by_hand: str) -> dict[str, Any]:
        """The exported manifest, which changes nothing; only policies made by hand are left out."""
        data, made = self.exported()
        told = [one.summary for one in made.warnings]
        assert told == [f"policies: made by hand and left out: {one}" for one in by_hand]
        for prune in (False, True):
            planned = self.plan(prune=prune)
            others = [one for one in planned.actions if one.kind != "audited_header"]
            assert (others, planned.drift, planned.warnings) == ([], (), ())
        return data


@pytest.fixture
def server(rig: Rig, tmp_path: Path) -> Server:
    return Server(rig, tmp_path)


def test_a_database_engine_has_its_connections_without_passwords_and_its_roles(server):
    server.engine("database", "database", **{"secret_version:config/orders": "3"})
    url = "postgresql://{{username}}:{{password}}@db.example/orders"
    details = {"connection_url": url, "username": "bao"}
    server.write(
        "database/config/orders",
        plugin_name="postgresql-database-plugin",
        allowed_roles=["read"],
        connection_details=details,
    )
    role = {"db_name": "orders", "creation_statements": ["CREATE"], "default_ttl": 3600}
    server.write("database/roles/read", **role, max_ttl=86_400)
    written = server.holds()["engines"]["database"]
    assert written["connections"]["orders"] == {
        "plugin": "postgresql-database-plugin",
        **details,
        "password": KEPT,
        "secret_version": 3,
    }
    assert written["roles"]["read"] == {
        "connection": "orders",
        "creation_statements": ["CREATE"],
        "default_ttl": "1h",
        "max_ttl": "24h",
    }


def test_a_connection_whose_url_has_a_password_is_left_out_with_its_roles(server):
    server.engine("database", "database")
    url = "postgresql://bao:swordfish@db.example/orders"
    details = {"connection_url": url, "username": "bao"}
    server.write("database/config/orders", plugin_name="p", connection_details=details)
    server.write("database/roles/read", db_name="orders", creation_statements=["CREATE"])
    data, made = server.exported()
    assert data["engines"]["database"] == {"type": "database"}
    assert [one.summary for one in made.warnings] == [
        "engines/database/connections/orders: was left out",
        "engines/database/roles/read: was left out",
    ]
    assert "swordfish" not in made.text + str(made.warnings)
    for one in made.warnings:
        assert f"# Not exported: {one.summary}" in made.text
    assert server.plan().drift == ()


def test_transit_keys_have_what_differs_from_the_defaults(server):
    server.engine("transit", "transit")
    server.write(
        "transit/keys/orders",
        type="aes256-gcm96",
        auto_rotate_period=2_592_000,
        min_decryption_version=2,
        min_encryption_version=0,
        exportable=False,
        deletion_allowed=False,
    )
    server.write("transit/keys/plain", type="ed25519", exportable=True, min_decryption_version=1)
    keys = server.holds()["engines"]["transit"]["keys"]
    assert keys["orders"] == {"auto_rotate_period": "30d", "min_decryption_version": 2}
    assert keys["plain"] == {"type": "ed25519", "exportable": True}


def test_objects_of_other_types_have_their_readable_fields(server):
    server.engine("ssh", "ssh", **{"secret_version:config/ca": "1"})
    server.write("ssh/roles/otp", key_type="otp", default_user="ops", port=22, allowed_users="")
    server.engine("totp", "totp")
    server.write("totp/keys/ann", account_name="ann", period=30)
    data, made = server.exported()
    otp = {"fields": {"key_type": "otp", "default_user": "ops", "port": 22}}
    assert data["engines"]["ssh"]["objects"] == {"roles/otp": otp}
    ann = {"fields": {"account_name": "ann", "period": 30}, "once": {"exists": "keys/ann"}}
    assert data["engines"]["totp"]["objects"] == {"keys/ann": ann}
    assert [one.summary for one in made.warnings] == [
        "ssh: was searched only at roles",
        "ssh/config/ca: was left out",
        "totp: was searched only at keys",
    ]
    planned = server.plan()
    assert {one.kind.value for one in planned.actions} <= {"audited_header"}


def test_an_object_whose_field_looks_like_a_secret_is_left_out(server):
    server.engine("ssh", "ssh")
    server.write("ssh/roles/otp", key_type="otp", default_password="swordfish")
    data, made = server.exported()
    assert "objects" not in data["engines"]["ssh"]
    assert "engines/ssh/objects/roles/otp: was left out" in [one.summary for one in made.warnings]
    assert "swordfish" not in made.text


def test_secrets_have_the_names_of_their_fields_and_others_secrets_are_named(server):
    server.engine("secret", "kv", version="2")
    for name, marks in (("ours", MARKS), ("theirs", {})):
        server.write(f"secret/metadata/{name}", custom_metadata=marks)
        server.write(f"secret/data/{name}", data={"user": "app", "pass": "swordfish"})
    data, made = server.exported()
    assert data["engines"]["secret"]["secrets"] == {"ours": {"pass": KEPT, "user": KEPT}}
    (warning,) = made.warnings
    assert "secret/data/theirs" in warning.summary
    assert "swordfish" not in made.text
    assert {one.kind.value for one in server.plan().actions} <= {"audited_header"}


def test_a_field_that_is_only_on_the_server_and_missing_there_is_refused(server):
    server.engine("secret", "kv", version="2")
    server.write("secret/metadata/ours", custom_metadata=MARKS)
    server.write("secret/data/ours", data={"user": "app"})
    data, _ = server.exported()
    data["engines"]["secret"]["secrets"]["ours"]["other"] = KEPT
    planned = server.plan(yaml.safe_dump(data))
    (problem,) = planned.left_out
    assert problem.code == "nothing-to-keep"
    assert "secret/data/ours" in problem.summary
    assert "other" in problem.summary


def test_login_methods_have_their_configuration_and_logins(server):
    server.write("sys/policies/acl/ops", policy="# managed by hand")
    server.method("corp", "oidc", **{"secret_version:config": "2"})
    server.write(
        "auth/corp/config",
        oidc_discovery_url="https://id.example",
        oidc_client_id="bao",
        oidc_discovery_ca_pem="A PEM",
        default_role="staff",
    )
    staff = {"role_type": "oidc", "user_claim": "email", "groups_claim": "groups"}
    callback = ["http://localhost:8250/oidc/callback"]
    bound = {"bound_claims": {"team": ["a"]}, "bound_claims_type": "string"}
    server.write(
        "auth/corp/role/staff",
        **staff,
        **bound,
        allowed_redirect_uris=callback,
        token_policies=OWNED,
    )
    server.method("kubernetes", "kubernetes")
    server.write(
        "auth/kubernetes/config",
        kubernetes_host="https://10.0.0.1",
        kubernetes_ca_cert="A PEM",
        disable_local_ca_jwt=True,
        token_reviewer_jwt_set=True,
    )
    server.method("jwt", "jwt")
    server.write("auth/jwt/config", jwt_validation_pubkeys=["A KEY"], bound_issuer="https://ci")
    server.method("userpass", "userpass")
    server.write("auth/userpass/users/ann", token_policies=OWNED, token_ttl=900)
    auth = server.holds("ops")["auth"]
    assert auth["corp"] == {
        "type": "oidc",
        "discovery_url": "https://id.example",
        "client_id": "bao",
        "client_secret": KEPT,
        "secret_version": 2,
        "default_role": "staff",
        "ca": KEPT,
        "roles": {
            "staff": {
                "policies": ["ops"],
                "user_claim": "email",
                "groups_claim": "groups",
                "bound_claims": {"team": ["a"]},
            }
        },
    }
    assert auth["kubernetes"] == {
        "host": "https://10.0.0.1",
        "ca": KEPT,
        "disable_local_ca_jwt": True,
        "token_reviewer_jwt": KEPT,
    }
    assert auth["jwt"] == {"jwt_validation_pubkeys": [KEPT], "bound_issuer": "https://ci"}
    user = {"policies": ["ops"], "password": KEPT, "token_ttl": "15m"}
    assert auth["userpass"] == {"users": {"ann": user}}


def test_a_configuration_is_not_changed_if_the_server_would_forget_its_secret(server):
    server.method("corp", "oidc")
    url, client = "https://id.example", "bao"
    server.write("auth/corp/config", oidc_discovery_url=url, oidc_client_id=client)
    _, made = server.exported()
    planned = server.plan(made.text.replace("client_id: bao", "client_id: other"))
    (problem,) = planned.left_out
    assert (problem.code, problem.summary.split(":")[0]) == (
        "would-forget",
        "auth/corp/config cannot be changed",
    )
    assert "auth/corp/config" not in {one.path for one in planned.actions}


def test_a_kept_certificate_is_sent_with_another_change(server):
    server.method("kubernetes", "kubernetes")
    config = {"kubernetes_host": "https://10.0.0.1", "kubernetes_ca_cert": "A PEM"}
    server.write("auth/kubernetes/config", **config)
    _, made = server.exported()
    planned = server.plan(made.text.replace("10.0.0.1", "10.0.0.2"))
    (action,) = [one for one in planned.actions if one.path == "auth/kubernetes/config"]
    assert [one.field for one in action.changes] == ["kubernetes_host"]
    assert action.body["fields"]["kubernetes_ca_cert"] == "A PEM"


def test_what_is_to_be_kept_is_refused_where_it_is_not(server):
    server.method("corp", "oidc")
    server.write("auth/corp/config", oidc_discovery_url="https://id.example", oidc_client_id="b")
    server.method("userpass", "userpass")
    server.write("auth/userpass/users/ann", token_policies=OWNED)
    server.exported()
    for path in ("auth/corp/config", "auth/userpass/users/ann"):
        server.gateway.sys.access.delete(path)
    problems = server.plan().left_out
    assert [(one.code, one.summary.split(" ")[0]) for one in problems] == [
        ("nothing-to-keep", "auth/corp/config"),
        ("nothing-to-keep", "auth/userpass/users/ann"),
    ]


def test_quotas_namespaces_and_groups_are_written_and_those_of_others_are_not(server):
    server.engine("transit", "transit")
    for name in ("skyflowctl.shop.transit", "skyflowctl.other.ssh"):
        server.write(
            f"sys/quotas/rate-limit/{name}",
            name=name,
            type="rate-limit",
            path="transit/" if "shop" in name else "ssh/",
            rate=12.5 if "other" in name else 500.0,
            interval=1,
            block_interval=90,
            role="",
            inheritable=False,
        )
    server.write("sys/namespaces/shop", custom_metadata={**MARKS, "owner": "ann"})
    server.write("sys/namespaces/other", custom_metadata={**MARKS, "manifest": "other"})
    server.write("identity/group/name/ops", policies=["ops"], metadata=MARKS)
    server.write("sys/policies/acl/ops", policy="# managed by hand")
    data = server.holds("ops")
    assert data["quotas"] == {
        "transit": {"path": "transit", "rate": 500, "block_interval": "1m30s"}
    }
    assert data["namespaces"] == {"shop": {"metadata": {"owner": "ann"}}}
    assert data["groups"] == {"ops": {"policies": ["ops"]}}


class Forbids(TransportWrapper):
    """Refuses requests for some paths, and counts all."""

    def __init__(self, inner: Any, *paths: str) -> None:
        super().__init__(inner)
        self.paths = paths
        self.asked: list[tuple[str, str]] = []

    def send(self, request: Request) -> Reply:
        self.asked.append((request.method, request.path))
        if request.path in self.paths:
            raise ForbiddenError("403", path=request.path)
        return super().send(request)


def test_what_may_not_be_read_is_a_warning_each_and_the_rest_is_written(server, rig):
    server.engine("database", "database")
    server.engine("transit", "transit")
    for name in ("a", "b"):
        server.write(f"transit/keys/{name}", type="ed25519", min_decryption_version=1)
    unread = ("database/config", "transit/keys/a", "sys/quotas/rate-limit", "sys/namespaces")
    made = export(Gateway(Forbids(rig.transport, *unread)))
    assert {one.summary.split(":")[0] for one in made.warnings} == set(unread)
    assert yaml.safe_load(made.text)["engines"]["transit"]["keys"].keys() == {"b"}


@pytest.mark.parametrize("count", [1, 40])
def test_one_request_an_object_and_one_a_list(server, rig, count):
    server.engine("transit", "transit")
    for number in range(count):
        server.write(f"transit/keys/k{number}", type="ed25519", min_decryption_version=1)
    counting = Forbids(rig.transport)
    export(Gateway(counting))
    assert len([one for one in counting.asked if one[1].startswith("transit/keys/")]) == count
    assert len(counting.asked) - count < 14


ROLE = {"token_policies": OWNED, "token_period": 60}
WITHOUT_KEYS = [
    ("pki", "pki/roles/web", {"key_type": "rsa", "key_bits": 2048, "ou": ["x"]}, "ou"),
    ("pki", "pki/roles/web", {"key_type": "ec", "key_bits": 256, "require_cn": False}, "require_cn"),
    ("pki", "pki/config/urls", {"enable_templating": True}, "enable_templating"),
    ("transit", "transit/keys/k", {"type": "aes256-gcm96", "derived": True}, "derived"),
    ("database", "database/config/c", {"plugin_name": "p", "connection_details": {"tls_ca": "x"}}, "tls_ca"),
    ("database", "database/roles/r", {"db_name": "c", "credential_type": "rsa"}, "credential_type"),
    ("approle", "auth/approle/role/r", {**ROLE, "bind_secret_id": True}, "token_period"),
    ("approle", "auth/approle/role/r", {"token_policies": OWNED, "secret_id_bound_cidrs": ["10.0.0.0/8"]}, "secret_id_bound_cidrs"),
    ("userpass", "auth/userpass/users/r", ROLE, "token_period"),
    ("kubernetes", "auth/kubernetes/config", {"kubernetes_host": "https://k", "issuer": "x"}, "issuer"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "path", "fields", "named"), WITHOUT_KEYS)
def test_a_setting_that_a_manifest_has_no_key_for_is_named(server, kind, path, fields, named):
    make = server.method if path.startswith("auth/") else server.engine
    make(kind, kind)
    server.write(path, **fields)
    _, made = server.exported()
    assert f"{path}: without {named}" in [one.summary for one in made.warnings]
    assert f"# Not exported: {path}: without {named}" in made.text


def test_settings_of_secrets_groups_and_mounts_are_named(server):
    server.engine("kv", "kv", version="2", theirs="x")
    server.write("kv/metadata/a", custom_metadata={**MARKS, "team": "x"})
    server.write("kv/data/a", data={"user": "app"})
    members = {"member_entity_ids": ["e"], "member_group_ids": None, "id": "i"}
    server.write("identity/group/name/ops", policies=["ops"], metadata=MARKS, **members)
    _, made = server.exported()
    assert {one.summary for one in made.warnings if "without" in one.summary} == {
        "kv: without options.theirs",
        "kv/data/a: without custom_metadata.team",
        "identity/group/name/ops: without member_entity_ids",
    }


MOUNTED = {"type": "x", "description": "", "accessor": "x_1", "uuid": "1", "options": MARKS}
DEFAULTS = {"default_lease_ttl": 0, "max_lease_ttl": 0, "force_no_cache": False}


@pytest.mark.parametrize(
    ("kind", "config", "named"),
    [
        ("engine", {**DEFAULTS, "max_lease_ttl": 60, "listing_visibility": "unauth"}, ["listing_visibility"]),
        ("engine", {**DEFAULTS, "audit_non_hmac_request_keys": ["a"]}, ["audit_non_hmac_request_keys"]),
        ("login method", {**DEFAULTS, "token_type": "default-service"}, []),
        ("login method", {**DEFAULTS, "default_lease_ttl": 60, "token_type": "batch"}, ["default_lease_ttl", "token_type"]),
        ("login method", {"user_lockout_config": {"user_lockout_threshold": 0}}, []),
        ("login method", {"user_lockout_config": {"user_lockout_disable": True}}, ["user_lockout_config"]),
        ("mount", {**DEFAULTS, "audit_non_hmac_request_keys": ["ctx"]}, []),
        ("mount", {**DEFAULTS, "audit_non_hmac_response_keys": ["token"], "max_lease_ttl": 60}, ["audit_non_hmac_response_keys", "max_lease_ttl"]),
    ],
)  # fmt: skip
def test_settings_in_a_list_of_mounts(kind, config, named):
    assert of_mount(kind, {**MOUNTED, "config": config}) == named
    local = of_mount(kind, {**MOUNTED, "config": config, "local": True})
    assert local == sorted([*named, "local"])


def test_a_secret_that_was_rotated_by_its_number_keeps_the_number(server):
    server.engine("secret", "kv", version="2")
    server.write("secret/metadata/a", custom_metadata={**MARKS, "rotate_version": "4"})
    server.write("secret/data/a", data={"user": "app"})
    secrets = server.holds()["engines"]["secret"]["secrets"]
    assert secrets == {"a": {"rotate_version": 4, "user": KEPT}}


def _made_by_hand(server: Server) -> None:
    server.write("sys/mounts/transit", type="transit")
    server.write("transit/keys/k", type="ed25519", min_decryption_version=1)
    server.write("sys/mounts/secret", type="kv", options={"version": "2"})
    server.write("secret/metadata/a", custom_metadata={})
    server.write("secret/data/a", data={"user": "app"})
    server.write("sys/auth/approle", type="approle")
    login = {"bind_secret_id": True, "token_policies": ["app"], "token_ttl": 60}
    server.write("auth/approle/role/app", **login)
    server.write("sys/policies/acl/app", policy='path "secret/data/a" { capabilities = ["read"] }')
    server.write(
        "identity/group/name/ops", policies=["app"], type="internal", metadata=None, alias={}
    )
    server.write("sys/namespaces/tenant", custom_metadata={"owner": "ann"})
    quota = {"name": "mine", "type": "rate-limit", "path": "transit", "rate": 5}
    server.write("sys/quotas/rate-limit/mine", **quota)


def test_what_was_made_by_hand_is_named_once_with_the_way_to_declare_it(server):
    server.engine("ssh", "ssh")
    _made_by_hand(server)
    data, made = server.exported()
    assert data.keys() == {"version", "manifest", "plugin", "mounts", "engines"}
    assert data["engines"].keys() == {"ssh"}
    told = [one for one in made.warnings if "made by hand" in one.summary]
    objects = (
        "auth/approle/role/app, identity/group/name/ops, sys/namespaces/tenant, "
        "sys/quotas/rate-limit/mine"
    )
    assert [one.summary for one in told] == [
        "engines: made by hand and left out: secret, transit",
        "login methods: made by hand and left out: approle",
        "policies: made by hand and left out: app",
        f"objects: made by hand and left out: {objects}",
    ]
    assert all("export --manifest" in one.fix and "--adopt" in one.fix for one in told)


def test_a_new_manifest_has_what_was_made_by_hand_and_adoption_changes_marks_only(server):
    _made_by_hand(server)
    server.write("sys/mounts/theirs", type="ssh", options={**MARKS, "manifest": "other"})
    data, made = server.exported("shop")
    assert [one.summary for one in made.warnings] == [
        "quotas: made by hand and left out: sys/quotas/rate-limit/mine"
    ]
    assert data["engines"] == {
        "secret": {"type": "kv", "secrets": {"a": {"user": KEPT}}},
        "transit": {"type": "transit", "keys": {"k": {"type": "ed25519"}}},
    }
    app = {"policies": ["app"], "token_ttl": "1m"}
    assert data["auth"] == {"approle": {"roles": {"app": app}}}
    assert data["groups"] == {"ops": {"policies": ["app"]}}
    assert data["namespaces"] == {"tenant": {"metadata": {"owner": "ann"}}}
    assert data["policies"]["app"]["text"].startswith('path "secret/data/a"')
    planned = server.plan()
    adopted = {
        "auth/approle/role/app",
        "identity/group/name/ops",
        "secret/data/a",
        "sys/auth/approle",
        "sys/mounts/secret",
        "sys/mounts/transit",
        "sys/namespaces/tenant",
        "sys/policies/acl/app",
    }
    actions = [one for one in planned.actions if one.kind != "audited_header"]
    assert {one.path for one in actions} == adopted
    assert len(planned.unadopted) == len(adopted)
    fields = {change.field.rpartition(".")[2] for one in actions for change in one.changes}
    assert fields == {"managed_by", "manifest", "adopted", "token_policies"}


def test_an_oidc_method_without_a_client_has_no_secret_to_keep(server):
    server.method("corp", "oidc")
    server.write("auth/corp/config", oidc_discovery_url="https://id.example", oidc_client_id="")
    data, made = server.exported()
    assert data["auth"]["corp"] == {"type": "oidc"}
    (warning,) = made.warnings
    assert (warning.summary, "no oidc client" in warning.why) == (
        "auth/corp/config: was left out",
        True,
    )
    assert server.plan().left_out == ()


def test_audit_devices_are_written_and_one_with_another_option_is_named(server):
    server.engine("transit", "transit")
    options = {"file_path": "/var/log/a.log", "mode": "0640", "log_raw": "false"}
    server.write("sys/audit/first", type="file", description="the first", options=options)
    socket = {"address": "127.0.0.1:9090", "socket_type": "tcp", "write_timeout": "2s"}
    server.write("sys/audit/second", type="socket", options=socket)
    data = server.holds()
    assert data["audit_devices"] == {
        "first": {
            "type": "file",
            "description": "the first",
            "options": {**options, "log_raw": False},
        },
        "second": {"type": "socket", "options": socket},
    }
    server.write("sys/audit/odd", type="file", options={"file_path": "/b", "fallback": "true"})
    data, made = server.exported()
    (warning,) = made.warnings
    assert warning.summary == "sys/audit/odd: was left out"
    assert warning.why == "a manifest has no key for its fallback"
    assert data["audit_devices"].keys() == {"first", "second"}


def test_audit_devices_that_may_not_be_read_are_a_warning(server, rig):
    server.engine("transit", "transit")
    made = export(Gateway(Forbids(rig.transport, "sys/audit")))
    (warning,) = made.warnings
    assert warning.summary == "sys/audit: its entries were left out"


def test_a_part_has_no_audit_device(server, rig):
    server.write("sys/audit/first", type="file", options={"file_path": "/var/log/a.log"})
    server.write("sys/mounts/skyflow/order", type="skyflow", options=MARKS)
    assert "audit_devices" not in export(rig.gateway, ["skyflow/order"]).text
    assert "audit_devices" in export(rig.gateway).text


def test_what_is_about_to_be_read_is_told(server, rig):
    server.engine("secret", "kv", version="2")
    server.write("secret/metadata/ours", custom_metadata=MARKS)
    server.write("secret/data/ours", data={"user": "app"})
    server.engine("transit", "transit")
    told: list[str] = []
    export(rig.gateway, reads=told.append)
    assert told[:2] == ["sys/mounts", "0 mounts"]
    assert {"secret/data/ours", "transit/keys", "sys/auth"} < set(told)


def test_an_external_group_without_an_alias_is_left_out_and_named(server):
    server.engine("transit", "transit")
    group = {"type": "external", "policies": ["ops"], "metadata": MARKS, "alias": {}}
    server.write("identity/group/name/ops", **group)
    data, made = server.exported()
    assert "groups" not in data
    assert [one.summary for one in made.warnings] == ["identity/group/name/ops: was left out"]
