"""Which requests leave the namespace out."""

from __future__ import annotations

import pytest
from support.scripted import Answer, ScriptedServer, scripted

from skyflowctl.secret import Secret
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.namespaces import is_root_only
from skyflowctl.vault.target import Target


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("sys/health", True),
        ("sys/config/auditing/request-headers", True),
        ("sys/config/auditing/request-headers/X-Skyflowctl-Run", True),
        ("sys/plugins/catalog/secret/skyflow", True),
        ("sys/plugins/catalog", False),
        ("sys/plugins/reload/backend", False),
        ("sys/ha-status", False),
        ("sys/mounts", False),
        ("sys/mounts/sys/health", False),
        ("skyflow/order/health", False),
    ],
)
def test_only_what_belongs_to_the_server_is_asked_of_the_root(path: str, expected: bool) -> None:
    assert is_root_only(path) is expected


def _within_team(server: ScriptedServer) -> Gateway:
    target = Target(server.address, "team", Secret("a-token"), "flags")
    return Gateway(HttpTransport(target, run_id="run"))


def test_rights_on_the_servers_own_paths_are_asked_of_the_root() -> None:
    header = "sys/config/auditing/request-headers/X-Y"
    granted = {"skyflow/order/config": ["read"], header: ["root"]}
    with scripted(Answer(200, {"request_id": "r", "data": granted})) as s:
        rights = _within_team(s).sys.capabilities(["skyflow/order/config", header])
    asked = {one.headers.get("x-vault-namespace") or "": one.body for one in s.seen}
    assert b"skyflow/order" in asked["team"]
    assert header.encode() in asked[""]
    assert header.encode() not in asked["team"]
    assert rights == {"skyflow/order/config": ("read",), header: ("root",)}


def test_a_login_that_may_not_ask_the_root_has_no_rights_there() -> None:
    header = "sys/config/auditing/request-headers/X-Y"
    with scripted(Answer(403, {"errors": ["permission denied"]})) as s:
        assert _within_team(s).sys.capabilities([header]) == {header: ()}
