"""Reports of a namespace: the server's mounts and the log's rows are the same mounts."""

from __future__ import annotations

import pytest
from support.audit_logs import Story, approle, written
from support.cli import checked_data, invoke
from support.gateways import memory_rig
from support.reached import reach_gateway

from skyflowctl.cli.context import gateways
from skyflowctl.operations.audit_report import server_mounts
from skyflowctl.vault.memory_transport import MemoryTransport
from skyflowctl.vault.transport import ServerInfo

NAMESPACE = "team"
ROLES = ("order", "stock")


@pytest.fixture
def rig(monkeypatch):
    """A server, reached within a namespace, with three mounts of two roles each."""
    made = memory_rig()

    info = ServerInfo("a server, namespace team", namespace=NAMESPACE)
    monkeypatch.setattr(MemoryTransport, "server", property(lambda _: info))
    reach_gateway(made.gateway, monkeypatch)
    monkeypatch.setattr(gateways, "server_is_named", lambda _: True)
    for name in ("one", "other", "cut"):
        path = f"skyflow/{name}"
        made.gateway.sys.enable_mount(path, {"type": made.plugin})
        for role in ROLES:
            made.gateway.engine(path).write_role(role, {"role_ids": ["r-read"]})
        made.gateway.engine(path).write_config({"credentials_json": made.new_credential()}, cas=0)
    made.gateway.engine("skyflow/cut").cut_off("INC-1", "run-7")
    yield made
    made.gateway.close()


def log_of(tmp_path, *roles: str, mount: str = "skyflow/one") -> str:
    story = Story(plain_ctx=True)
    for role in roles:
        story.creds(approle("orders"), "a:1", mount=mount, role=role)
    for entry in story.entries:
        entry["request"]["namespace"] = {"id": "Ab12", "path": f"{NAMESPACE}/"}
    return written(tmp_path, "audit.log", story.device())


def report(log: str, *arguments: str) -> dict:
    return checked_data(
        invoke("audit", "report", log, "--server-roles", *arguments, "-o", "json").stdout
    )


def test_roles_of_the_server_are_those_of_the_namespaces_rows(rig, tmp_path) -> None:
    data = report(log_of(tmp_path, "order", "unknown"))
    assert {one["mount"] for one in data["usage"]} == {"team/skyflow/one"}
    undeclared = [one for one in data["unusual"] if one["kind"] == "undeclared-role"]
    assert [(one["mount"], one["role"]) for one in undeclared] == [("team/skyflow/one", "unknown")]
    assert "not declared on this mount" in undeclared[0]["detail"]


@pytest.mark.parametrize(
    ("glob", "cut"),
    [("team/skyflow/*", 1), ("team/skyflow/cut", 1), ("team/skyflow/one", 0), ("skyflow/*", 0)],
)
def test_a_cut_off_is_found_by_the_path_that_the_rows_have(rig, tmp_path, glob, cut) -> None:
    data = report(log_of(tmp_path, "order"), "--mount", glob)
    assert len(data["cut_off"]) == cut
    for one in data["cut_off"]:
        assert (one["mount"], one["namespace"]) == ("team/skyflow/cut", NAMESPACE)
        assert one["api"] == "full"
        assert (one["reason"], one["run"]) == ("INC-1", "run-7")


def test_the_way_out_of_a_cut_off_names_the_namespace(rig, tmp_path) -> None:
    done = invoke("audit", "report", log_of(tmp_path, "order"), "--server-roles")
    assert "team/skyflow/cut is cut off since" in done.stdout
    assert "'skyflowctl rotate skyflow/cut -n team --generate'" in done.stdout


def test_a_mount_is_listed_once_and_read_twice(rig, monkeypatch) -> None:
    before = rig.gateway.requests_made
    found = server_mounts(rig.gateway, rig.plugin)
    assert rig.gateway.requests_made - before == 1 + 2 * 3
    assert [one.path for one in found] == [f"team/skyflow/{n}" for n in ("cut", "one", "other")]
    assert [bool(one.revoked) for one in found] == [True, False, False]
    assert all(set(one.roles) == set(ROLES) for one in found)


def unused_roles(*arguments: str) -> set[str]:
    done = invoke("audit", "unused", *arguments, "--days", "1s", "-o", "json")
    found = checked_data(done.stdout)["unused"]
    return {one["name"] for one in found if one["kind"] == "role"}


def test_a_role_of_a_namespace_that_was_used_is_not_unused(rig, tmp_path) -> None:
    mine = "team/skyflow/one/creds/order"
    found = unused_roles(log_of(tmp_path, "order", "order"))
    assert mine not in found
    assert len(found) == 5
    assert all(one.startswith("team/skyflow/") for one in found)


def test_the_same_without_a_server_where_the_manifest_is_for_the_namespace(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mounts.yaml").write_text(
        "version: 1\nmanifest: shop\nmounts:\n  one:\n    credentials: {env: KEY}\n    roles:\n"
        "      order: {role_ids: [a]}\n      stock: {role_ids: [b]}\n"
    )
    log = log_of(tmp_path, "order", "order")
    for given in (("-n", NAMESPACE), ()):
        if not given:
            monkeypatch.setenv("BAO_NAMESPACE", NAMESPACE)
        assert unused_roles(log, *given) == {"team/skyflow/one/creds/stock"}
