"""Three real nodes: an old key retired, a mount cut off, a node that stands still meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from support.cluster import ServerCluster, ServerNode, running_cluster
from support.cluster_engine import Tenant, new_tenant, register_engine
from support.emulator import RunningEmulator

from skyflowctl.clock import SystemClock
from skyflowctl.credentials.model import Credential
from skyflowctl.errors import ExitCode
from skyflowctl.rotation.model import KeyInfo, Options, Result, RotationJob
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.rotation.retire import retire_mount
from skyflowctl.rotation.revocation.model import AtSkyflow
from skyflowctl.rotation.revocation.revoke import revoke_mount
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import RedirectRefusedError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.responses import ClusterNode
from skyflowctl.vault.target import Target

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(240),
]


class Keys:
    """Skyflow's keys through the emulator's control API."""

    def __init__(self, emulator: RunningEmulator) -> None:
        self._control = emulator.control

    def list_keys(self, client_id: str) -> tuple[KeyInfo, ...]:
        return tuple(KeyInfo(key) for key in self._control.account(client_id)["keys"])

    def create_key(self, client_id: str) -> Credential:
        raise AssertionError(f"nothing here creates keys: {client_id}")

    def delete_key(self, client_id: str, key_id: str) -> None:
        self._control.delete_key(client_id, key_id)


@pytest.fixture(scope="module")
def cluster(emulator: RunningEmulator, tmp_path_factory) -> Iterator[ServerCluster]:
    with running_cluster() as running:
        register_engine(running, emulator, tmp_path_factory.mktemp("copy"))
        yield running


def make_tenant(cluster: ServerCluster, emulator: RunningEmulator, name: str) -> Tenant:
    """A mount with a role and a credential, known to every node."""
    cluster.wait_ready()
    made = new_tenant(cluster, emulator, name, "r-reader")
    leader = cluster.leader()
    assert made.call(leader, "POST", "roles/reader", {"role_ids": ["r-reader"]})[0] == 200
    assert made.call(leader, "POST", "config", {"credentials_json": made.credentials})[0] == 200
    for node in cluster.nodes:
        made.wait_for_key(node, "reader")
    return made


@contextmanager
def world_of(cluster: ServerCluster, emulator: RunningEmulator) -> Iterator[Dependencies]:
    """The way in is a standby; every node is named."""
    first, *others = [*cluster.standbys(), cluster.leader()]
    target = Target(
        address=first.address,
        namespace="",
        token=Secret(cluster.token),
        source="flags",
        ca_cert=str(cluster.ca),
        nodes=tuple(node.address for node in others),
    )
    transport = HttpTransport(target, run_id="after-e2e")

    def connect(node: ClusterNode) -> Gateway | None:
        try:
            return Gateway(transport.at_node(node.api_address))
        except RedirectRefusedError:
            return None

    gateway = Gateway(transport)
    yield Dependencies(gateway, connect, SystemClock(), "after-e2e", time.sleep, Keys(emulator))
    gateway.close()


@contextmanager
def held(node: ServerNode) -> Iterator[None]:
    """A node that stands still, as a machine does that is paused."""
    assert node.process
    os.kill(node.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.process.pid, signal.SIGCONT)


def refused_everywhere(tenant: Tenant, cluster: ServerCluster) -> None:
    for node in cluster.nodes:
        status, body, _ = cluster.call(node, "GET", f"{tenant.path}/creds/reader")
        assert (status, "mount not configured" in str(body)) == (400, True), body


def test_an_old_key_is_retired_and_no_node_misses_it(cluster, emulator):
    tenant = make_tenant(cluster, emulator, "retire")
    old = tenant.key_id
    with world_of(cluster, emulator) as world:
        fields = {"credentials_json": Secret(tenant.new_key()), "rotation_id": "rot"}
        world.gateway.engine(tenant.path).write_config(fields)
        world.gateway.engine(tenant.path).commit("rot")
        job = RotationJob("retire", tenant.path, Options(retire_margin=timedelta()))
        assert retire_mount(job, world).problems[0].code == "old-tokens-live"
        done = retire_mount(job, world, now=True)
        assert (done.result, done.problems) == (Result.RETIRED, ())
        assert {tenant.creds_key(node, "reader") for node in cluster.nodes} == {tenant.key_id}
        account = world.gateway.engine(tenant.path).config().client_id
        assert old not in {key.key_id for key in Keys(emulator).list_keys(account)}
        assert retire_mount(job, world).steps == ()


def test_a_cut_off_is_proved_by_every_node(cluster, emulator):
    tenant, other = (make_tenant(cluster, emulator, name) for name in ("cut", "beside"))
    with world_of(cluster, emulator) as world:
        job = RotationJob("cut", tenant.path)
        done = revoke_mount(job, world, reason="test", delete_keys=True)
    assert (done.exit_code, done.problems) == (ExitCode.OK, ())
    assert {node.node for node in done.nodes if node.proved} == {
        node.address for node in cluster.nodes
    }
    states = {one.path: (one.before, one.after) for one in done.others}
    assert states[other.path] == ("ok", "ok")
    assert [key.at_skyflow for key in done.keys] == [AtSkyflow.DELETED]
    refused_everywhere(tenant, cluster)


def test_a_standby_that_stands_still_holds_back_nothing(cluster, emulator):
    tenant = make_tenant(cluster, emulator, "still")
    standby = cluster.standbys()[-1]
    with world_of(cluster, emulator) as world, held(standby):
        done = revoke_mount(RotationJob("still", tenant.path), world, reason="test")
        assert done.cut_off
        assert tenant.call(cluster.leader(), "GET", "creds/reader")[0] == 400
    assert done.exit_code in (ExitCode.PARTIAL, ExitCode.UNHEALTHY)
    assert standby.address in {node.node for node in done.nodes if not node.proved}
    cluster.wait_ready()
    with world_of(cluster, emulator) as world:
        again = revoke_mount(RotationJob("still", tenant.path), world, reason="test")
    assert (again.exit_code, again.done_before) == (ExitCode.OK, True)
    refused_everywhere(tenant, cluster)
