"""Control groups, policies and identities of a server, as far as a mount's approvals need them.

``tests/e2e/test_guarded_server.py`` holds it against OpenBao. Policies are decided by
``posture.acl``, which ``tests/e2e/test_posture_acl.py`` holds against OpenBao.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from skyflowctl.hcl import Block, parse_hcl
from skyflowctl.manifest.load import load_manifest
from skyflowctl.posture.acl import Acl
from skyflowctl.posture.policies import parse_policy
from skyflowctl.vault.connection import NoResponseError, Received
from skyflowctl.vault.target import Target

Reply = tuple[int, dict[str, Any]]
GONE: Reply = (400, {"errors": ["wrapping token is not valid or does not exist"]})
NO_ACCESSOR: Reply = (400, {"errors": ["1 error occurred:\n\t* invalid accessor\n\n"]})
FORBIDDEN: Reply = (403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]})
POLICIES = ("sys/policies/acl/", "sys/policies/detailed/acl/", "sys/policy/")
MANIFEST = """\
version: 1
manifest: shop
mounts: {payment: {credentials: {env: KEY}, roles: {}}}
control_groups: {payment: {approvers: [ops], approvals: 2, ttl: 1h}}
policies: {operator: {rules: {
  "skyflow/*": [create, read, update, patch, delete, list],
  "sys/mounts/*": [read, update, delete], "sys/re*": [update, sudo],
  "identity/*": [create, read, update, patch, delete, list],
  "sys/policies/acl/operato*": [read, update, patch, delete],
  "sys/policies/detailed/acl/operato*": [read, update, patch, delete],
  "sys/policy/operato*": [read, update, patch, delete],
  "sys/control-group/request": [update]}}}
"""
"""Without the generated guards, this operator may write everything around the mount."""
APPROVER = 'path "sys/control-group/*" { capabilities = ["create", "update"] }\npath "*" { capabilities = ["read", "list"] }'
CONFIG, ROLE, FREE = (
    "skyflow/payment/config",
    "skyflow/payment/roles/payment-producer",
    "skyflow/order/config",
)
EVERYTHING = {"policy": 'path "*" { capabilities = ["create", "update", "delete"] }'}
ME = {"name": "ops", "member_entity_ids": ["olga"]}
ATTACKS = (
    ("PUT", "sys/policies/acl/operator", EVERYTHING),
    ("PATCH", "sys/policies/acl/operator", EVERYTHING),
    ("DELETE", "sys/policies/acl/operator", None),
    ("POST", "sys/policies/detailed/acl/operator", EVERYTHING),
    ("PUT", "sys/policy/operator", EVERYTHING),
    ("PUT", "sys/policies/acl/helper", EVERYTHING),
    ("POST", "sys/mounts/skyflow/payment", {"type": "kv"}),
    ("DELETE", "sys/mounts/skyflow/payment", None),
    ("POST", "sys/mounts/skyflow/payment/tune", {"description": "taken"}),
    ("POST", "sys/remount", {"from": "skyflow/payment", "to": "skyflow/order"}),
    ("POST", "identity/group/name/ops", ME),
    ("POST", "identity/group", ME),
    ("POST", "identity/entity/id/rita", {"policies": ["operator"]}),
    ("POST", "identity/entity-alias", {"canonical_id": "rita", "name": "olga"}),
    ("POST", "identity/persona", {"entity_id": "rita", "name": "olga"}),
    ("POST", "identity/alias", {"entity_id": "rita", "name": "olga"}),
    ("POST", CONFIG, {"description": "taken"}),
    ("PATCH", CONFIG, {"description": "taken"}),
    ("DELETE", CONFIG, None),
    ("POST", f"{CONFIG}/rollback", {}),
    ("DELETE", f"{CONFIG}/history/1", None),
    ("POST", ROLE, {"description": "taken"}),
    ("DELETE", ROLE, None),
)
_OPERATIONS = {"GET": "read", "LIST": "list", "DELETE": "delete", "PATCH": "patch"}
_NOW = datetime.min.replace(tzinfo=UTC)


def guarded_policy(folder: Path) -> str:
    """Return the policy of operators that the manifest makes; written to a folder."""
    file = folder / "guarded.yaml"
    file.write_text(MANIFEST)
    (policy,) = load_manifest([str(file)], environ={}).manifest.policies
    return policy.text


@dataclass
class Login:
    """A token."""

    name: str
    entity: str
    policies: tuple[str, ...]


@dataclass(frozen=True)
class Factor:
    """What a control group requires."""

    groups: tuple[str, ...]
    approvals: int


@dataclass
class Held:
    """A parked request."""

    accessor: str
    login: str
    method: str
    path: str
    body: dict[str, Any]
    factors: tuple[Factor, ...]
    ends: float
    version: int
    approvers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Execution:
    """A write that ran: whose it was, and the parked request that it was, if it was one."""

    name: str
    method: str
    path: str
    held: Held | None
    stale: bool = False


class GuardedServer:
    """The server; ``now`` returns seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.policies: dict[str, str] = {}
        self.logins: dict[str, Login] = {}
        self.groups: dict[str, list[str]] = {}
        self.held: dict[str, Held] = {}
        self.objects: dict[str, dict[str, Any]] = {}
        self.executed: list[Execution] = []
        self.drops_next_unwrap = False
        self._number = 0

    def login(self, name: str, *policies: str, entity: str | None = None) -> str:
        self._number += 1
        token = f"s.login-{self._number}"
        self.logins[token] = Login(name, name if entity is None else entity, policies)
        return token

    def call(self, token: str, method: str, path: str, body: Mapping[str, Any] | None) -> Reply:
        """Answer one request."""
        self.held = {key: one for key, one in self.held.items() if self._now() < one.ends}
        sent = dict(body or {})
        if path == "sys/health":
            return 200, {"cluster_id": "c", "initialized": True, "sealed": False}
        if path == "auth/token/revoke-self":
            known = self.held.pop(token, None) or self.logins.pop(token, None)
            return (204, {}) if known else FORBIDDEN
        if path.startswith("sys/wrapping/"):
            return self._wrapping(path, token, str(sent.get("token") or token))
        login = self.logins.get(token)
        if login is None:
            return FORBIDDEN
        if path == "auth/token/lookup-self":
            found = {"entity_id": login.entity, "expire_time": None, "policies": login.policies}
            return _data(found)
        if path.startswith("sys/internal/ui/mounts/"):
            return _data({"path": "skyflow/payment/", "type": "skyflow"})
        return self._ruled(token, login, method, path, sent)

    def _ruled(
        self, token: str, login: Login, method: str, path: str, body: dict[str, Any]
    ) -> Reply:
        """Refuse, park or run a request, as the policies say."""
        if "root" in login.policies:
            return self._run(login, method, path, body)
        texts = [(name, self.policies.get(name, "")) for name in login.policies]
        acl = Acl([_parsed(name, text) for name, text in texts], _NOW)
        rule = acl.list_rule(path) if method == "LIST" else acl.rule(path)
        operation = self._operation(method, path)
        if rule is None or operation not in rule.capabilities:
            return FORBIDDEN
        if path == "sys/remount" and "sudo" not in rule.capabilities:
            return FORBIDDEN
        if rule.denied & body.keys():
            return FORBIDDEN
        if operation not in rule.guarded:
            return self._run(login, method, path, body)
        text = next(text for name, text in texts if f'"{rule.text}"' in text)
        ttl, factors = _control_group(text, rule.text)
        if not ttl:
            return 200, {"data": None, "auth": None, "wrap_info": None}
        self._number += 1
        wrapping, accessor = f"s.wrap-{self._number}", f"accessor-{self._number}"
        version = self.objects.get(path, {}).get("version", 0)
        ends = self._now() + ttl
        self.held[wrapping] = Held(accessor, token, method, path, body, factors, ends, version)
        info = {"token": wrapping, "accessor": accessor, "ttl": ttl, "creation_path": path}
        return 200, {"request_id": "r", "data": None, "auth": None, "wrap_info": info}

    def _operation(self, method: str, path: str) -> str:
        if method in _OPERATIONS:
            return _OPERATIONS[method]
        return (
            "update" if path.startswith(("sys/", "identity/")) or path in self.objects else "create"
        )

    def _run(
        self, login: Login, method: str, path: str, body: dict[str, Any], held: Held | None = None
    ) -> Reply:
        if path.startswith("sys/control-group/"):
            return self._control_group(login, path.rpartition("/")[2], str(body.get("accessor")))
        if method in {"GET", "LIST"}:
            found = self.objects.get(path)
            return _data(found) if found else (404, {"errors": []})
        version = self.objects.get(path, {}).get("version", 0)
        if body.get("cas", version) != version:
            return 409, {"errors": ["check-and-set failed"]}
        stale = held is not None and held.version != version
        self.executed.append(Execution(login.name, method, path, held, stale))
        self._change(method, path, body, version)
        return _data({"version": version + 1})

    def _change(self, method: str, path: str, body: dict[str, Any], version: int) -> None:
        name = next((path.removeprefix(one) for one in POLICIES if path.startswith(one)), "")
        if name:
            self.policies[name] = "" if method == "DELETE" else str(body.get("policy", ""))
        elif path.startswith("identity/group"):
            self.groups["ops"] = list(body.get("member_entity_ids") or ())
        elif method == "DELETE":
            self.objects.pop(path, None)
        else:
            kept = {key: one for key, one in body.items() if key != "cas"}
            self.objects[path] = {**self.objects.get(path, {}), **kept, "version": version + 1}

    def _wrapping(self, path: str, login: str, token: str) -> Reply:
        if login not in self.logins and login not in self.held:
            return FORBIDDEN
        one = self.held.get(token)
        if one is None or not self._approved(one):
            return GONE
        if path.endswith("/lookup"):
            return _data({"creation_path": one.path})
        sender = self.logins.get(one.login)
        # Each unwrap runs the request again, with the login that sent it.
        answer = self._run(sender, one.method, one.path, one.body, one) if sender else FORBIDDEN
        if self.drops_next_unwrap:
            self.drops_next_unwrap = False
            raise NoResponseError("the connection was lost")
        return answer

    def _control_group(self, login: Login, verb: str, accessor: str) -> Reply:
        one = next((one for one in self.held.values() if one.accessor == accessor), None)
        if one is None:
            return NO_ACCESSOR
        sender = self.logins.get(one.login) or Login("", "", ())
        if verb == "authorize":
            member = any(login.entity in self._members(factor) for factor in one.factors)
            refusal = "" if login.entity else "empty entity ID"
            if member and login.entity == sender.entity:
                refusal = "token owner cannot be approver"
            elif member and login.entity in one.approvers:
                refusal = "approver has already authorized"
            if refusal:
                return 500, {"errors": [f"1 error occurred:\n\t* {refusal}\n\n"]}
            if member:
                one.approvers.append(login.entity)
            return _data({"approved": self._approved(one)})
        return _data(
            {
                "approved": self._approved(one),
                "request_path": one.path,
                "request_operation": "delete" if one.method == "DELETE" else "update",
                "request_data": one.body,
                "request_entity": {"ID": sender.entity, "name": sender.name, "aliases": []},
                "authorizations": [{"entity_id": who, "entity_name": who} for who in one.approvers],
            }
        )

    def _members(self, factor: Factor) -> set[str]:
        return {who for name in factor.groups for who in self.groups.get(name, ())}

    def _approved(self, one: Held) -> bool:
        return all(
            len(set(one.approvers) & self._members(factor)) >= factor.approvals
            for factor in one.factors
        )


class InProcessPool:
    """Stands for ``TargetPool``: sends each request to a server in this process."""

    def __init__(self, server: GuardedServer, target: Target) -> None:
        self._server = server
        self._token = target.token.reveal() if target.token else ""

    def send(
        self, _address: str, method: str, path: str, *, content: bytes | None = None, **_: Any
    ) -> Received:
        body = json.loads(content) if content else None
        status, answer = self._server.call(self._token, method, path, body)
        return Received(status, {}, json.dumps(answer).encode() if answer else b"")

    def close(self) -> None:
        """Nothing is open."""


def _data(value: Any) -> Reply:
    return 200, {"request_id": "r", "data": value, "wrap_info": None}


_parsed = cache(parse_policy)


@cache
def _control_group(text: str, path: str) -> tuple[int, tuple[Factor, ...]]:
    """Return the ttl in seconds and the factors of the first rule of a path."""
    bodies = [body for keys, body in parse_hcl(text).items if keys == ("path", path)]
    group = _first(bodies[0], "control_group")
    factors = []
    for keys, body in group.items:
        if keys[0] == "factor":
            identity = _first(body, "identity")
            names = tuple(identity.values("group_names")[0])
            factors.append(Factor(names, int(identity.values("approvals")[0])))
    ttl = str((group.values("ttl") or ["0s"])[0])
    return int(ttl.removesuffix("s")), tuple(factors)


def _first(body: Any, key: str) -> Block:
    found = body.values(key)[0]
    assert isinstance(found, Block)
    return found
