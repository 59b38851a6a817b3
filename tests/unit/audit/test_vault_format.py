"""``audit who``, ``report`` and ``incident`` on logs in the shapes that HashiCorp Vault has written.

Shapes from the public reference (developer.hashicorp.com/vault/docs/audit/schema) and from the
vendor's support articles of 2018 and 2023; the entries are our own. Vault has not been run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.audit_logs import hashed, written
from support.cli import checked_data, invoke

PATH = "skyflow/order/creds/order-producer"
Entry = dict[str, Any]


def auth(shape: int) -> Entry:
    """The caller, as an AppRole login gives it."""
    known: Entry = {
        "client_token": hashed("s.orders"),
        "accessor": hashed("accessor"),
        "display_name": "approle",
        "policies": ["default", "orders"],
        "metadata": {"role_name": "orders"},
        "entity_id": "",
    }
    if shape == 2018:
        return known
    granting = [{"name": "orders", "namespace_id": "root", "type": "acl"}]
    return {
        **known,
        "token_policies": ["default", "orders"],
        "policy_results": {"allowed": True, "granting_policies": granting},
        "token_type": "service",
        "token_ttl": 2764800,
        "token_issue_time": "2023-04-17T12:47:22-07:00",
    }


def request(shape: int, number: int) -> Entry:
    """2018: no mount, namespace or client; 2023: the mount's type alone; 2025: all of it."""
    known: Entry = {
        "id": f"b2f72168-6cba-1bab-808a-{number:012x}",
        "operation": "read",
        "client_token": hashed("s.orders"),
        "client_token_accessor": hashed("accessor"),
        "path": PATH,
        "data": {"ctx": hashed("order:1")},
        "remote_address": "172.17.0.1",
    }
    if shape == 2018:
        return {**known, "policy_override": False, "wrap_ttl": 0, "headers": {}}
    known |= {"client_id": "PWa2", "mount_type": "skyflow", "namespace": {"id": "root"}}
    known |= {"remote_port": 53144}
    if shape == 2023:
        return known
    more = {"mount_point": "skyflow/order/", "mount_accessor": "skyflow_1", "mount_class": "secret"}
    plugin = {"mount_is_external_plugin": True, "mount_running_sha256": "a" * 64}
    return {**known, **more, **plugin, "request_uri": f"/v1/{PATH}"}


def answer(shape: int) -> Entry:
    data = {
        "access_token": hashed("bearer"),
        "expires_at": hashed("2026-11-22T19:44:11Z"),
        "key_id": hashed("k1"),
        "ttl": 3599,
    }
    if shape == 2018:
        return {"data": data, "wrap_info": None, "secret": None, "auth": None}
    return {"mount_type": "skyflow", "mount_class": "secret", "data": data}


def lines(shape: int) -> bytes:
    """A token, a denied request with a forward, and an entry that asks for nothing."""
    found = []
    for number, error in enumerate(("", "1 error occurred:\n\t* permission denied\n\n")):
        asked = {"auth": auth(shape), "request": request(shape, number)}
        if shape == 2025:
            asked["forwarded_from"] = "vault-1.prod.example:443"
        second = f"2026-11-22T18:00:0{number}"
        found.append({"time": f"{second}.238208382Z", "type": "request", **asked})
        replied = answer(shape) if not error else {"data": {"error": hashed("no")}}
        found.append(
            {"time": f"{second}.6406536Z", "type": "response", **asked, "response": replied}
        )
        if error:
            found[-1]["error"] = error
            if shape != 2018:
                found[-1]["auth"]["policy_results"] = {"allowed": False}
    other = {**request(shape, 9), "path": "auth/token/lookup-self", "data": None}
    other |= {"mount_type": "token"} if shape != 2018 else {}
    other |= {"mount_point": "auth/token/"} if shape == 2025 else {}
    found.append(
        {"time": "2026-11-22T18:00:05Z", "type": "request", "auth": auth(shape), "request": other}
    )
    return b"".join(json.dumps(one).encode() + b"\n" for one in found)


@pytest.fixture(params=[2018, 2023, 2025])
def ask(request: pytest.FixtureRequest, tmp_path) -> Callable[..., Entry]:
    log = written(tmp_path, "vault-audit.log", lines(request.param))

    def asked(verb: str, *words: str) -> Entry:
        return checked_data(invoke("audit", verb, log, *words, "-o", "json").stdout)

    return asked


def test_who_finds_each_request_with_its_app(ask):
    data = ask("who")
    rows = [(one["app"], one["auth"], one["mount"], one["role"]) for one in data["requests"]]
    assert rows == [("orders", "approle", "skyflow/order", "order-producer")] * 2
    assert [one["outcome"] for one in data["requests"]] == ["granted", "denied"]
    assert data["summary"]["certain"]
    assert len(ask("who", "--hashed", hashed("order:1"))["requests"]) == 2


def test_the_report_counts_them(ask):
    data = ask("report")
    (row,) = data["usage"]
    assert (row["mount"], row["role"], row["app"]) == ("skyflow/order", "order-producer", "orders")
    assert (row["requests"], row["granted"], row["denied"]) == (2, 1, 1)


def test_an_incident_has_the_end_from_the_ttl(ask):
    data = ask("incident", "--app", "orders")
    (token,) = data["tokens"]
    assert (token["alive_until"][:19], token["alive_until_from"]) == ("2026-11-22T18:59:59", "ttl")
