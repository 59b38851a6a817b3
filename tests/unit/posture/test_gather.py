"""Facts gathered from a server that allows, forbids, lags, or knows no detailed list."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from support.posture import DIGEST, NOW
from support.transports import FakeTransport

from skyflowctl.errors import InvalidInputError
from skyflowctl.operations.audit_exercised import exercised
from skyflowctl.operations.posture import PostureRequest, gather, posture
from skyflowctl.posture.collect.reads import MAX_TOKENS
from skyflowctl.posture.facts import NotRead, ServerLogins
from skyflowctl.posture.model import CheckStatus
from skyflowctl.vault.errors import ForbiddenError, OutcomeUnknownError, VaultError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import Reply, Request, make_reply

ADDRESS = "unix:///bao.sock"
WIDE = 'path "skyflow/*" { capabilities = ["read"] }'
MOUNT = {
    "type": "skyflow",
    "config": {},
    "running_sha256": DIGEST,
    "running_plugin_version": "v1.0.0",
}
ROLE = {"role_ids": ["id"], "version": 1}


class Clock:
    def now(self):
        return NOW

    def monotonic(self):
        return 0.0


class Server(FakeTransport):
    """Answers from a table of (method, path) to data; anything else is a 404 without a text."""

    requests_made = 0
    cluster_id = "c"

    def __init__(self, table: Mapping[tuple[str, str], Any] | None = None) -> None:
        self.table = {**STANDARD, **(table or {})}
        self.asked: list[tuple[str, str]] = []
        self.forbidden: Callable[[str], bool] = lambda path: False
        self._lock = threading.Lock()

    def send(self, request: Request) -> Reply:
        method, path, body = request.method, request.path, request.body
        with self._lock:
            self.asked.append((method, path))
        if self.forbidden(path):
            raise error_for(403, ("permission denied",), method=method, path=path)
        answer = self.table.get((method, path))
        if isinstance(answer, VaultError):
            raise answer
        if callable(answer):
            answer = answer(body)
        if answer is None:
            raise error_for(404, (), method=method, path=path)
        if path in {"sys/health", "sys/seal-status"}:
            return make_reply(200, answer, {})
        return make_reply(200, {"data": answer}, {})


STANDARD: dict[tuple[str, str], Any] = {
    ("GET", "sys/health"): {"initialized": True, "sealed": False, "version": "2.7.2"},
    ("GET", "sys/seal-status"): {"type": "shamir", "sealed": False},
    ("GET", "auth/token/lookup-self"): {"accessor": "own", "policies": ["auditor"]},
    ("GET", "sys/audit"): {
        "one/": {"type": "file", "options": {"file_path": "/a", "log_raw": True}},
        "two/": {"type": "file", "options": {"file_path": "/b"}},
    },
    ("GET", "sys/config/auditing/request-headers"): {"headers": {}},
    ("GET", "sys/config/state/sanitized"): {
        "listeners": [
            {"type": "tcp", "config": {"address": "0.0.0.0:8200", "tls_disable": "true"}},
            {"type": "unix", "config": {"address": "/x"}},
        ]
    },
    ("GET", "sys/mounts"): {"skyflow/order/": MOUNT, "secret/": {"type": "kv"}},
    ("GET", "sys/plugins/catalog"): {
        "detailed": [{"name": "skyflow", "type": "secret", "version": "v1.0.0", "sha256": DIGEST}]
    },
    ("GET", "sys/ha-status"): {"nodes": [{"api_address": "https://n1"}]},
    ("LIST", "sys/policies/detailed/acl"): {"key_info": {"default": {"policy": ""}}},
    ("LIST", "auth/token/accessors"): {"keys": ["own"]},
    ("POST", "auth/token/lookup-accessor"): lambda body: {
        "display_name": f"token-{body['accessor']}",
        "policies": ["auditor"],
        "path": "auth/token/create",
    },
    ("GET", "skyflow/order/config"): {
        "credentials_configured": True,
        "client_id": "c",
        "key_id": "k",
        "key_valid_after": "2026-11-01T00:00:00Z",
    },
    ("LIST", "skyflow/order/roles"): {"keys": ["writer"], "key_info": {"writer": ROLE}},
    ("LIST", "skyflow/order/config/history"): {"keys": [], "key_info": {}},
    ("POST", "sys/capabilities-self"): {"sys/mounts": ["deny"]},
}
LOGINS: dict[tuple[str, str], Any] = {
    ("LIST", "sys/policies/detailed/acl"): {"key_info": {"wide": {"policy": WIDE}}},
    ("GET", "sys/auth"): {
        "approle/": {"type": "approle"},
        "people/": {"type": "userpass"},
        "token/": {"type": "token"},
        "odd/": {"type": "github"},
    },
    ("LIST", "auth/approle/role"): {"keys": ["svc"]},
    ("GET", "auth/approle/role/svc"): {"token_policies": ["Wide"]},
    ("LIST", "auth/people/users"): {"keys": ["ann"]},
    ("GET", "auth/people/users/ann"): {"policies": "wide, x", "token_no_default_policy": True},
    ("LIST", "auth/token/roles"): {"keys": ["ops"]},
    ("GET", "auth/token/roles/ops"): {"allowed_policies": None, "allowed_policies_glob": ["w*"]},
    ("LIST", "identity/entity/name"): {"keys": ["bob", "nobody"]},
    ("GET", "identity/entity/name/bob"): {"policies": ["wide"]},
    ("GET", "identity/entity/name/nobody"): {"policies": None},
}


def asked(server, **changes):
    question = PostureRequest((ADDRESS,), parallelism=3, **changes)
    return gather(Gateway(server), question, connect=lambda node: None, clock=Clock())


def test_what_the_server_says_is_taken_over():
    facts = asked(Server())
    assert [(one.path, one.options["file_path"]) for one in facts.audit_devices] == [
        ("one", "/a"),
        ("two", "/b"),
    ]
    assert facts.audit_devices[0].options["log_raw"] == "true"
    assert [(one.address, one.tls) for one in facts.server.listeners] == [("0.0.0.0:8200", False)]
    assert (facts.server.version, facts.server.seal_type) == ("2.7.2", "shamir")
    assert [one.path for one in facts.ours] == ["skyflow/order"]
    assert sorted(facts.ours[0].roles) == ["writer"]
    assert [one.display_name for one in facts.tokens.found] == ["token-own"]
    assert facts.own_policies == ("auditor",)


def test_logins_are_not_asked_for_while_no_policy_opens_a_token():
    server = Server()
    assert asked(server).logins == ServerLogins()
    assert ("GET", "sys/auth") not in server.asked


def test_logins_of_every_kind():
    facts = asked(Server(LOGINS))
    found = {str(one): one.policies for one in facts.logins.found}
    assert found == {
        "approle role approle/svc": ("default", "wide"),
        "userpass user people/ann": ("wide", "x"),
        "token role token/ops": ("default", "wide"),
        "entity bob": ("default", "wide"),
        "live token token-own": ("auditor",),
    }
    assert [one.path for one in facts.logins.not_read] == ["auth/odd"]


LIFTED = """path "a/+" { capabilities = ["update"] control_group = { factor "f" {} } }
path "a/b" { capabilities = ["update"] }"""


def test_logins_and_their_aliases_are_asked_for_if_a_policy_lifts_a_guard():
    bob = {"policies": ["wide"], "aliases": [{"mount_path": "auth/approle/", "name": "id"}]}
    policies = {"key_info": {"lifted": {"policy": LIFTED}}}
    table = {
        **LOGINS,
        ("LIST", "sys/policies/detailed/acl"): policies,
        ("GET", "identity/entity/name/bob"): bob,
        ("GET", "auth/approle/role/svc/role-id"): {"role_id": "id"},
    }
    logins = asked(Server(table)).logins
    assert {one.name: alias for one, alias in logins.aliases.items()} == {"approle/svc": "id"}
    assert [one.name for one in logins.identities.at("approle")] == ["bob"]


def test_a_login_that_may_read_nothing_gets_the_policy_that_it_needs():
    server = Server()
    server.forbidden = lambda path: (
        path not in {"sys/health", "sys/seal-status", "sys/capabilities-self"}
    )
    report = posture(
        Gateway(server), PostureRequest((ADDRESS,)), connect=lambda node: None, clock=Clock()
    )
    lines = {one.fix for one in report.findings if one.unchecked}
    assert {line.split('"')[1] for line in lines} == {
        "sys/audit",
        "sys/mounts",
        "sys/config/auditing/request-headers",
        "sys/config/state/sanitized",
        "sys/plugins/catalog",
        "sys/ha-status",
        "sys/policies/detailed/acl",
        "auth/token/accessors/",
    }
    assert [one.check.id for one in report.checks if one.result is CheckStatus.OK] == ["server"]


def test_a_dead_token_ends_the_command():
    server = Server()
    server.forbidden = lambda path: path not in {"sys/health", "sys/seal-status"}
    with pytest.raises(ForbiddenError):
        asked(server)


@pytest.mark.parametrize("part", ["config", "roles", "config/history"])
def test_a_part_of_a_mount_that_may_not_be_read(part):
    server = Server()
    server.forbidden = lambda path: path == f"skyflow/order/{part}"
    (mount,) = asked(server).ours
    assert [one.path for one in mount.not_read] == [f"skyflow/order/{part}"]


@pytest.mark.parametrize(
    ("health", "word"),
    [
        ({"initialized": True, "sealed": True}, "sealed"),
        ({"initialized": False, "sealed": True}, "not initialised"),
        (error_for(503, ("Vault is sealed",), method="GET", path="sys/health"), "sealed"),
    ],
)
def test_a_server_that_is_down_is_a_fact(health, word):
    assert word in asked(Server({("GET", "sys/health"): health})).server.down


def test_a_server_that_is_sealed_meanwhile_is_one_too():
    sealed = error_for(503, ("Vault is sealed",), method="GET", path="sys/mounts")
    assert "sealed" in asked(Server({("GET", "sys/mounts"): sealed})).server.down


def test_vault_has_no_detailed_list_of_policies():
    unsupported = error_for(404, ("unsupported path",), method="LIST", path="x")
    table = {
        ("LIST", "sys/policies/detailed/acl"): unsupported,
        ("LIST", "sys/policies/acl"): {"keys": ["default", "wide"]},
        ("GET", "sys/policies/acl/default"): {"policy": ""},
        ("GET", "sys/policies/acl/wide"): {"policy": WIDE},
    }
    assert asked(Server(table)).policies == {"default": "", "wide": WIDE}
    without = dict(table)
    del without["GET", "sys/policies/acl/wide"]
    assert isinstance(asked(Server(without)).policies, NotRead)


def test_so_many_tokens_are_looked_at_and_the_own_one_is_among_them():
    keys = [f"acc{n:05}" for n in range(MAX_TOKENS + 5)] + ["own"]
    facts = asked(Server({("LIST", "auth/token/accessors"): {"keys": keys}}))
    assert len(facts.tokens.found) == MAX_TOKENS
    assert facts.tokens.total == MAX_TOKENS + 6
    assert facts.tokens.found[0].own


@pytest.mark.parametrize("status", [400, 403])
def test_a_token_that_ends_meanwhile_is_none_that_was_missed(status):
    """OpenBao 2.7.2 says 400 (measured), others 403."""

    def look(body):
        if body["accessor"] == "gone":
            raise error_for(status, ("invalid accessor",), method="POST", path="x")
        return {"display_name": "t", "policies": [], "path": "auth/approle/login"}

    table = {
        ("LIST", "auth/token/accessors"): {"keys": ["gone", "own"]},
        ("POST", "auth/token/lookup-accessor"): look,
    }
    tokens = asked(Server(table)).tokens
    assert (len(tokens.found), tokens.total) == (1, 1)


def test_an_unnamed_node_is_told_and_not_asked():
    nodes = {"nodes": [{"api_address": "https://n1"}, {"api_address": "https://n2"}]}
    facts = asked(Server({("GET", "sys/ha-status"): nodes}))
    assert [(one.name, one.asked) for one in facts.nodes] == [
        ("https://n1", False),
        ("https://n2", False),
    ]


def test_c2_one_catalog_entry_that_may_not_be_read_is_named():
    server = Server()
    server.forbidden = lambda path: path == "sys/plugins/catalog/secret/skyflow"
    facts = asked(server)
    assert [one.version for one in facts.catalog] == ["v1.0.0"]
    (unread,) = facts.catalog_unread
    assert unread.path == "sys/plugins/catalog/secret/skyflow"
    assert unread.capabilities == ("read", "sudo")  # of the server's own (measured)


def test_f_a_mount_whose_process_hangs_is_named_and_the_rest_is_looked_at():
    silence = OutcomeUnknownError("no answer", why="none in time", fix="wait")
    parts = (("GET", "config"), ("LIST", "roles"), ("LIST", "config/history"))
    table = {(method, f"skyflow/order/{part}"): silence for method, part in parts}
    facts = asked(Server(table))
    assert not facts.server.down
    (mount,) = facts.ours
    assert {one.why for one in mount.not_read} == {"none in time"}
    assert len(mount.not_read) == 3


def test_a_node_is_asked_for_each_mount_and_what_it_does_not_answer_is_kept():
    listed = {"nodes": [{"api_address": "https://n1"}, {"api_address": "https://n2"}]}
    server = Server({("GET", "sys/ha-status"): listed})
    config = {**STANDARD["GET", "skyflow/order/config"], "process": {"dumpable": True}}
    failure = error_for(500, ("internal error",), method="GET", path="skyflow/order/config")
    answers = {"https://n1": config, "https://n2": failure}

    def connect(node):
        table = {("GET", "skyflow/order/config"): answers[node.api_address]}
        return Gateway(Server(table))

    question = PostureRequest((ADDRESS,), parallelism=3)
    one, two = gather(Gateway(server), question, connect=connect, clock=Clock()).nodes
    assert one.processes == {"skyflow/order": {"dumpable": True}}
    assert (one.missing, one.not_read, two.missing, two.processes) == ((), (), (), {})
    assert [missing.path for missing in two.not_read] == ["skyflow/order/config"]


def test_a_log_without_an_entry_is_refused(tmp_path):
    log = tmp_path / "audit.log"
    log.write_text("no entry\n")
    with pytest.raises(InvalidInputError):
        exercised([str(log)], plugin_name="skyflow")
