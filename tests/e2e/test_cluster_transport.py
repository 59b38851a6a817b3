"""The gateway on a three-node cluster: consistent through a standby, and through a kill."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from support.cluster import ServerCluster, ServerNode, running_cluster, wait_until
from support.emulator import RunningEmulator, running_emulator
from support.plugin import build_from, copy_source

from skyflowctl.secret import Secret
from skyflowctl.vault.errors import (
    NotFoundError,
    OutcomeUnknownError,
    PluginMissingError,
    RedirectRefusedError,
    VaultError,
)
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.target import Target
from skyflowctl.vault.transport import Request
from skyflowctl.version import semver

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(180),
]

SERVED_BY = "x-vault-raft-node-id"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ServerCluster]:
    with running_cluster(shared_plugins=False) as running:
        yield running


@pytest.fixture(scope="module")
def emulator() -> Iterator[RunningEmulator]:
    with running_emulator() as running:
        yield running


@pytest.fixture(scope="module")
def plugin(cluster: ServerCluster, emulator: RunningEmulator, tmp_path_factory) -> str:
    """The engine on every node's own plugin directory, and in the catalog."""
    source = copy_source(tmp_path_factory.mktemp("src"))
    digests = {build_from(source, node.plugin_dir, "skyflow") for node in cluster.nodes}
    assert len(digests) == 1, "the launcher must not depend on where it lies"
    gateway_to(cluster, cluster.leader()).sys.catalog.register(
        "skyflow",
        sha256=digests.pop(),
        command="skyflow",
        version=semver(),
        args=["--allow-host", emulator.host],
        env=[f"SSL_CERT_FILE={emulator.ca}"],
    )
    return "skyflow"


def transport_to(cluster: ServerCluster, *nodes: ServerNode, **options: object) -> HttpTransport:
    target = Target(
        address=nodes[0].address,
        namespace="",
        token=Secret(cluster.token),
        source="flags",
        ca_cert=str(cluster.ca),
        nodes=tuple(node.address for node in nodes[1:]),
    )
    return HttpTransport(target, run_id="cluster", **options)


def gateway_to(cluster: ServerCluster, *nodes: ServerNode, **options: object) -> Gateway:
    return Gateway(transport_to(cluster, *nodes, **options))


def test_reads_after_writes_through_a_standby_are_consistent(cluster: ServerCluster):
    standby = cluster.standbys()[0]
    assert cluster.served_by(standby) == standby.name, "the standby must serve reads itself"
    gateway = gateway_to(cluster, standby)
    anomalies = 0
    for number in range(50):
        path = f"raw/{number}"
        gateway.transport.send(Request("POST", f"sys/mounts/{path}", body={"type": "kv"}))
        listed = gateway.transport.send(Request("GET", "sys/mounts"))
        anomalies += f"{path}/" not in listed.data
        body = {"value": str(number)}
        gateway.transport.send(Request("POST", f"{path}/x", body=body, idempotent=True))
        stored = gateway.transport.send(Request("GET", f"{path}/x"))
        anomalies += stored.data != body
    assert anomalies == 0
    for number in range(50):
        gateway.sys.disable_mount(f"raw/{number}")


def test_another_processes_writes_are_seen_by_fresh_reads(cluster: ServerCluster):
    """Right after an apply another process plans, through a standby that lags behind."""
    leader, standby = cluster.leader(), cluster.standbys()[0]
    writer = gateway_to(cluster, leader)
    writer.sys.enable_mount("fresh", {"type": "kv"})
    missed = 0
    for number in range(50):
        writer.sys.tune_mount("fresh", {"description": str(number)})
        state = gateway_to(cluster, standby).read_live_state(["fresh"], "kv")
        missed += state.mounts["fresh"].description != str(number)
    assert missed == 0
    writer.sys.disable_mount("fresh")


def test_typed_writes_through_a_standby_work(cluster: ServerCluster):
    gateway = gateway_to(cluster, cluster.standbys()[0])
    live = gateway.sys.enable_mount("through", {"type": "kv", "description": "a"})
    assert live.description == "a"
    assert gateway.sys.tune_mount("through", {"description": "b"}).description == "b"
    gateway.sys.put_audited_header("X-Through", hmac=False)
    assert gateway.sys.audited_headers()["x-through"] is False
    gateway.sys.disable_mount("through")
    assert gateway.sys.mount("through") is None


def test_the_cluster_lists_its_nodes(cluster: ServerCluster):
    gateway = gateway_to(cluster, cluster.standbys()[0])
    addresses = {node.address for node in cluster.nodes}
    # A node that was started again is listed with its first echo to the leader.
    wait_until(
        lambda: {node.api_address for node in gateway.sys.nodes()} == addresses,
        "a node is not listed",
    )
    active = [node.api_address for node in gateway.sys.nodes() if node.active]
    assert active == [cluster.leader().address]


def test_a_redirect_goes_only_to_named_nodes(cluster: ServerCluster):
    leader, standby = cluster.leader(), cluster.standbys()[0]
    no_forwarding = {"X-Vault-No-Request-Forwarding": "true"}

    def enable(transport: HttpTransport, path: str) -> None:
        transport.send(
            Request(
                "POST",
                f"sys/mounts/{path}",
                body={"type": "kv"},
                headers=no_forwarding,
                idempotent=path == "idempotent",
            )
        )

    alone = transport_to(cluster, standby, timeout=1)
    with pytest.raises(RedirectRefusedError) as refused:
        enable(alone, "idempotent")
    assert leader.address in refused.value.problems[0].summary
    with pytest.raises(OutcomeUnknownError):
        enable(alone, "once")
    named = transport_to(cluster, standby, leader)
    enable(named, "once")
    assert "once" in Gateway(named).sys.mounts()
    Gateway(named).sys.disable_mount("once")


def test_idempotent_writes_outlive_the_leader(cluster: ServerCluster):
    leader, standby = cluster.leader(), cluster.standbys()[0]
    gateway = gateway_to(cluster, standby, timeout=60)
    gateway.sys.enable_mount("outlive", {"type": "kv"})
    killer = threading.Timer(0.3, leader.kill)
    killer.start()
    started, count = time.monotonic(), 0
    while time.monotonic() - started < 1.5 or killer.is_alive():
        body = {"value": str(count)}
        gateway.transport.send(Request("PUT", f"outlive/{count}", body=body, idempotent=True))
        count += 1
    killer.join()
    assert leader.process.poll() is not None
    for number in range(count):
        stored = gateway.transport.send(Request("GET", f"outlive/{number}"))
        assert stored.data == {"value": str(number)}
    gateway.sys.disable_mount("outlive")
    cluster.start(leader)
    cluster.wait_ready()


def test_mounts_outlive_the_leader_without_loss_or_double(cluster: ServerCluster):
    """Enabling is not idempotent: a lost answer is compared with what is mounted."""
    leader, standby = cluster.leader(), cluster.standbys()[0]
    gateway = gateway_to(cluster, standby, timeout=60)
    killer = threading.Timer(0.2, leader.kill)
    killer.start()
    paths = [f"enabled/{number}" for number in range(60)]
    for path in paths:
        assert (
            gateway.sys.enable_mount(path, {"type": "kv", "description": path}).description == path
        )
    killer.join()
    assert set(paths) <= set(gateway.sys.mounts())
    for path in paths:
        gateway.sys.disable_mount(path)
    cluster.start(leader)
    cluster.wait_ready()


def test_the_engine_is_the_same_on_every_node(cluster: ServerCluster, plugin: str, emulator):
    standby = cluster.standbys()[0]
    gateway = gateway_to(cluster, standby)
    gateway.sys.enable_mount("engine", {"type": plugin})
    before = emulator.control.counters()["exchanges"]
    gateway.engine("engine").write_role("reader", {"role_ids": ["r-read"]}, cas=0)
    gateway.engine("engine").write_config(
        {"credentials_json": Secret(emulator.new_account("r-read"))}
    )
    assert emulator.control.counters()["exchanges"] == before + 1, "it minted exactly once"
    assert gateway.engine("engine").config().version == 1
    assert set(gateway.engine("engine").roles()) == {"reader"}
    for node in cluster.nodes:
        local = transport_to(cluster, node, local=True)
        wait_until(lambda local=local: ready(local), f"no token through {node.name}", 20)
        reply = local.send(Request("GET", "engine/creds/reader"))
        assert reply.headers[SERVED_BY] == node.name
    body = {"role_ids": ["r-read"], "description": "by the standby itself"}
    local = transport_to(cluster, standby, local=True)
    reply = local.send(Request("POST", "engine/roles/reader", body=body))
    assert (reply.data["version"], reply.headers[SERVED_BY]) == (2, cluster.leader().name)
    before = emulator.control.counters()["exchanges"]
    assert gateway.engine("engine").verify().ok
    assert emulator.control.counters()["exchanges"] == before + 1
    gateway.sys.disable_mount("engine")


def ready(local: HttpTransport) -> bool:
    """Whether this node's own engine has seen the config that was written elsewhere."""
    try:
        local.send(Request("GET", "engine/creds/reader"))
    except VaultError:
        return False
    return True


def test_a_node_without_the_plugin_file_is_found(cluster: ServerCluster, plugin: str):
    standby = cluster.standbys()[0]
    launcher = standby.plugin_dir / plugin
    hidden = launcher.rename(standby.folder / "elsewhere")
    try:
        gateway_to(cluster, cluster.leader()).sys.enable_mount("half", {"type": plugin})
        local = Gateway(transport_to(cluster, standby, local=True))

        def missing() -> bool:
            try:
                local.engine("half").health()
            except PluginMissingError:
                return True
            except NotFoundError:  # the node does not know the mount yet
                return False
            return False

        wait_until(missing, "the node's lack was not told", 20)
    finally:
        hidden.rename(launcher)
    gateway_to(cluster, cluster.leader()).sys.disable_mount("half")
