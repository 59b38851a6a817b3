"""``audit posture`` on real servers: a dev stack with real policies, and three nodes."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.cluster_engine import skyflowctl
from support.emulator import RunningEmulator, running_emulator
from support.plugin import build_from, copy_source
from support.stack import Stack, running_stack

from skyflowctl.version import semver

pytestmark = [pytest.mark.real_server, pytest.mark.timeout(180)]

ORDER = "skyflow/order"
CREDS = f"{ORDER}/creds"
CATALOG = "sys/plugins/catalog/secret/skyflow"


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    """A dev stack that may be put out of order."""
    with running_stack(apply=True) as running:
        yield running


def posture(stack: Stack, *words: str, check: int = 0, **env: str) -> dict:
    done = stack.cli(
        "audit", "posture", "-o", "json", *words, exported=True, check=check, env=env or {}
    )
    return json.loads(done.stdout)["data"]


def graded(data: dict, *, info: bool = False) -> set[tuple[str, str, str]]:
    return {
        (one["check"], one["grade"], one["subject"]["name"])
        for one in data["findings"]
        if info or one["grade"] != "info"
    }


def token_with(stack: Stack, name: str, text: str) -> str:
    """A token of a policy with this text."""
    stack.api("PUT", f"sys/policies/acl/{name}", {"policy": text})
    made = stack.api("POST", "auth/token/create", {"policies": [name]})
    return made["auth"]["client_token"]


def test_a_fresh_stack_has_what_is_true_of_it_and_nothing_else(stack):
    data = posture(stack)
    others = {one for one in graded(data) if one[0] != "root-tokens"}
    assert others == {("audit-devices", "medium", "server")}
    assert ("root-tokens", "high", "token-dev-operator") in graded(data)
    results = {one["id"]: one["result"] for one in data["checks"]}
    assert results.pop("unused-roles") == "skipped"
    assert results.pop("least-policies") == "skipped"
    assert set(results.values()) == {"ok", "findings"}


def test_the_exit_code_follows_the_grade_that_is_asked_for(stack):
    assert stack.cli("audit", "posture", exported=True, check=0).stdout.count("HIGH") >= 1
    failed = stack.cli("audit", "posture", "--fail-on", "high", exported=True, check=6)
    assert "error: the setup has findings" in failed.stderr


def test_evidence_has_the_answer_by_control_and_its_digests(stack, tmp_path):
    folder = tmp_path / "pci"
    data = posture(stack, "--profile", "pci", "--evidence", str(folder))
    assert json.loads((folder / "results.json").read_text()) == data
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True)
    with (folder / "controls.csv").open(newline="") as file:
        rows = [(row["control"], row["check"], row["result"]) for row in csv.DictReader(file)]
    assert rows == [
        (one["id"], each["id"], each["result"])
        for one in data["profile"]["controls"]
        for each in one["checks"]
    ]
    (run,) = json.loads((folder / "posture.sarif").read_text())["runs"]
    assert len(run["results"]) == len(data["findings"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    stack.cli("audit", "posture", "--evidence", str(tmp_path / "other"), exported=True, check=5)
    assert [one.name for one in (tmp_path / "other").iterdir()] == ["notes.txt"]


def test_sarif_is_data_alone_and_names_the_manifest(own_stack):
    own_stack.api("POST", "sys/mounts/skyflow/order/tune", {"audit_non_hmac_request_keys": ["ctx"]})
    try:
        done = own_stack.cli("audit", "posture", "-o", "sarif", exported=True, check=None)
        (run,) = json.loads(done.stdout)["runs"]
        words = f"{ORDER}: ctx is readable"
        plain = next(one for one in run["results"] if one["message"]["text"].startswith(words))
        physical = plain["locations"][0]["physicalLocation"]
        assert physical["artifactLocation"]["uri"] == "mounts.yaml"
        lines = (own_stack.folder / "mounts.yaml").read_text().splitlines()
        assert lines[physical["region"]["startLine"] - 1].strip().startswith("order:")
    finally:
        own_stack.cli("apply", "-y", exported=True)


def test_what_is_put_out_of_order_is_found(own_stack):
    bad = own_stack
    bad.api("PUT", "sys/policies/acl/wide", {"policy": 'path "skyflow/*" { policy = "read" }'})
    bad.api("POST", "sys/auth/approle", {"type": "approle"})
    bad.api("POST", "auth/approle/role/svc", {"token_policies": ["wide"]})
    bad.api("POST", "sys/auth/userpass", {"type": "userpass"})
    user = {"password": "not-a-secret-here", "token_policies": ["wide"]}
    bad.api("POST", "auth/userpass/users/ann", user)
    bad.api("POST", f"{ORDER}/roles/stray", {"role_ids": ["skyflow-role-order-prod"]})
    bad.api("POST", "sys/mounts/skyflow/extra", {"type": "skyflow", "seal_wrap": True})
    bad.api("PUT", "sys/config/auditing/request-headers/Application-Source", {"hmac": True})
    tune = {"audit_non_hmac_response_keys": ["access_token"]}
    bad.api("POST", f"sys/mounts/{ORDER}/tune", tune)
    log = str(bad.audit_log)
    bad.bao("read", f"{CREDS}/order-producer", "ctx=order:1")
    data = posture(bad, "--log", log, "--max-readers", "1", check=6)
    found = graded(data)
    assert {
        ("audit-ctx", "critical", ORDER),
        ("audited-headers", "low", "server"),
        ("creds-wildcards", "high", "wide"),
        ("creds-readers", "medium", ORDER),
        ("undeclared", "medium", "skyflow/extra"),
        ("undeclared", "medium", f"{CREDS}/stray"),
        ("seal-wrap", "low", "skyflow/extra"),
        ("credential-age", "low", "skyflow/extra"),
    } <= found
    wide = next(one for one in data["findings"] if one["subject"]["name"] == "wide")
    assert "approle role approle/svc" in wide["evidence"][-1]
    assert "userpass user userpass/ann" in wide["evidence"][-1]
    unused = next(one for one in data["findings"] if one["check"] == "unused-roles")
    assert f"{CREDS}/order-producer" not in unused["evidence"][0]


def test_the_same_account_on_two_mounts_is_critical(own_stack):
    """The dev stack has generated this credential itself; it is sent to a second mount."""
    text = (own_stack.dev / "credentials" / "order.json").read_text()
    own_stack.api("POST", "sys/mounts/skyflow/twin", {"type": "skyflow"})
    own_stack.api("POST", "skyflow/twin/config", {"credentials_json": text})
    data = posture(own_stack, check=6)
    shared = next(one for one in data["findings"] if one["check"] == "shared-account")
    assert shared["grade"] == "critical"
    assert shared["summary"] == "one key serves 2 mounts: skyflow/order, skyflow/twin"


@pytest.mark.slow
def test_the_policy_lines_that_it_names_are_enough(own_stack):
    """Granted what each answer asks for, a login that could read nothing reads everything."""
    narrow = f'path "{CREDS}/order-producer" {{ capabilities = ["read"] }}'
    own_stack.api("PUT", "sys/policies/acl/narrow", {"policy": narrow})
    own_stack.api("POST", "sys/auth/machines", {"type": "approle"})
    own_stack.api("POST", "auth/machines/role/svc", {"token_policies": ["narrow"]})
    lines: set[str] = set()
    rounds = 0
    while True:
        text = "\n".join(sorted(lines)) or 'path "nothing" { capabilities = ["read"] }'
        token = token_with(own_stack, "watcher", text)
        done = own_stack.cli(
            "audit", "posture", "-o", "json", exported=True, check=None, env={"BAO_TOKEN": token}
        )
        findings = json.loads(done.stdout)["data"]["findings"]
        wanted = {one["fix"] for one in findings if one["unchecked"]}
        if not wanted:
            break
        assert wanted - lines, wanted
        lines |= wanted
        rounds += 1
    assert 3 <= rounds <= 8
    assert 'path "sys/audit" { capabilities = ["read", "sudo"] }' in lines
    assert not any("update" in line for line in lines if "lookup-accessor" not in line)


@pytest.mark.slow
def test_policies_of_people_are_held_to_the_least_ones(own_stack):
    """Each verdict: not there, as shipped, more, less; the printed commands end it."""
    own_stack.cli("init", "-f", "people.yaml", "--with", "operators")
    text = (own_stack.folder / "people.yaml").read_text()
    least = {name: one["text"] for name, one in yaml.safe_load(text)["policies"].items()}
    assert sorted(least) == ["application", "auditor", "operator", "rotator"]

    def told(name: str) -> list[tuple[str, bool]]:
        found = posture(own_stack, check=None)["findings"]
        about = [one for one in found if one["check"] == "least-policies"]
        return [(one["grade"], one["unchecked"]) for one in about if one["subject"]["name"] == name]

    def write(name: str, extra: str = "") -> None:
        own_stack.api("PUT", f"sys/policies/acl/{name}", {"policy": least[name] + extra})

    write("operator")
    assert told("server") == [("info", True)]
    for name in least:
        write(name)
        assert told(name) == [], name
    assert told("server") == []
    write("operator", 'path "sys/policies/acl/*" { capabilities = ["update"] }')
    assert told("operator") == [("high", False)]
    shown = own_stack.cli("audit", "posture", exported=True, check=None).stdout
    assert 'path "sys/policies/acl/*" { capabilities = ["update"] }' in shown
    least["rotator"] = least["rotator"].replace('"update"', '"create"', 1)
    write("rotator")
    assert told("rotator") == [("medium", False), ("info", False)]


def test_a_login_that_may_read_nothing_is_no_place_in_order(stack):
    token = token_with(stack, "nothing", 'path "nothing" { capabilities = ["read"] }')
    words = ("audit", "posture")
    done = stack.cli(*words, exported=True, check=6, env={"BAO_TOKEN": token})
    assert "checks could not be made" in done.stdout
    stack.cli(*words, "--allow-unchecked", exported=True, check=0, env={"BAO_TOKEN": token})


def test_a_token_that_is_none_is_exit_4(stack):
    done = stack.cli(
        "audit", "posture", exported=True, check=4, env={"BAO_TOKEN": "hvs.none-of-yours"}
    )
    assert done.stdout == ""


# Three nodes -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[ServerCluster]:
    with running_cluster(shared_plugins=False) as running:
        yield running


@pytest.fixture(scope="module")
def emulator() -> Iterator[RunningEmulator]:
    with running_emulator() as running:
        yield running


@pytest.fixture(scope="module")
def registered(cluster: ServerCluster, emulator: RunningEmulator, tmp_path_factory) -> dict:
    """The engine in every node's own plugin directory, as the catalog has it."""
    source = copy_source(tmp_path_factory.mktemp("engine"))
    first = cluster.nodes[0].plugin_dir
    sha256 = build_from(source, first, "skyflow")
    for node in cluster.nodes[1:]:
        shutil.copy2(first / "skyflow", node.plugin_dir / "skyflow")
    entry = {
        "sha256": sha256,
        "command": "skyflow",
        "version": semver(),
        "args": ["--allow-host", emulator.host],
        "env": [f"SSL_CERT_FILE={emulator.ca}"],
    }
    leader = cluster.leader()
    assert cluster.call(leader, "PUT", CATALOG, entry)[0] == 204
    return entry


@pytest.fixture(scope="module")
def mounted(cluster: ServerCluster, registered: dict) -> str:
    """One mount of it, on every node."""
    leader = cluster.leader()
    assert cluster.call(leader, "POST", "sys/mounts/skyflow/order", {"type": "skyflow"})[0] == 204
    for node in cluster.nodes:
        what = f"{node.name} has no mount"
        wait_until(lambda node=node: cluster.call(node, "GET", f"{ORDER}/config")[0] == 200, what)
    return ORDER


def about_nodes(cluster: ServerCluster, folder: Path, *named: ServerNode) -> dict[str, dict]:
    """What the check of the engine finds, by the node's address, with these nodes named."""
    leader = cluster.leader()
    words = [word for node in named for word in ("--node", node.address)]
    done = skyflowctl(
        cluster, leader, folder, "audit", "posture", "--address", leader.address,
        "--token-file", str(token_file(cluster, folder)), "-o", "json", *words,
    )  # fmt: skip
    data = json.loads(done.stdout)["data"]
    findings = [one for one in data["findings"] if one["check"] == "engine-digest"]
    return {one["subject"]["name"]: one for one in findings}


def token_file(cluster: ServerCluster, folder: Path) -> Path:
    file = folder / "token"
    file.write_text(cluster.token)
    file.chmod(0o600)
    return file


@pytest.mark.slow
@pytest.mark.cluster
def test_three_nodes(cluster: ServerCluster, mounted: str, registered: dict, tmp_path: Path):
    """In this order: the last one leaves a node without its plugin."""
    check_a_node_that_was_not_named_is_told_and_one_that_was_is_well(cluster, tmp_path)
    check_a_catalog_that_registers_another_file_than_the_running(
        cluster, mounted, registered, tmp_path
    )
    check_a_node_whose_plugin_file_is_gone_is_critical(cluster, mounted, tmp_path)


def check_a_node_that_was_not_named_is_told_and_one_that_was_is_well(
    cluster: ServerCluster, tmp_path: Path
):
    named, other = cluster.standbys()[:2]
    found = about_nodes(cluster, tmp_path, named)
    assert list(found) == [other.address]
    assert found[other.address]["unchecked"]
    assert about_nodes(cluster, tmp_path, named, other) == {}


def check_a_node_whose_plugin_file_is_gone_is_critical(
    cluster: ServerCluster, mounted: str, tmp_path: Path
):
    broken, other = cluster.standbys()[:2]
    (broken.plugin_dir / "skyflow").unlink()
    broken.kill()
    cluster.start(broken)
    wait_until(lambda: cluster.health(broken) == 429, "the standby does not come back")
    wait_until(
        lambda: cluster.call(broken, "GET", f"{mounted}/config")[0] == 404, "it has the plugin"
    )
    found = about_nodes(cluster, tmp_path, broken, other)
    assert list(found) == [broken.address]
    assert found[broken.address]["grade"] == "critical"
    assert found[broken.address]["evidence"] == [mounted]


def check_a_catalog_that_registers_another_file_than_the_running(
    cluster: ServerCluster, mounted: str, registered: dict, tmp_path: Path
):
    leader = cluster.leader()
    entry = {"sha256": "cd" * 32, "command": "skyflow", "version": semver()}
    assert cluster.call(leader, "PUT", CATALOG, entry)[0] == 204
    try:
        found = about_nodes(cluster, tmp_path, *cluster.standbys())
    finally:
        assert cluster.call(leader, "PUT", CATALOG, registered)[0] == 204
    assert found[mounted]["grade"] == "critical"
    assert "another file" in found[mounted]["summary"]
