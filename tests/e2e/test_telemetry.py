"""Telemetry of a plugin process under a real server, as a receiver of the public protocol has it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.bao import BaoServer, running_bao
from support.emulator import RunningEmulator
from support.otlp import OtlpReceiver, grpc_receiver, otlp_receiver
from support.plugin import build_from, copy_source, processes_of, register

pytestmark = pytest.mark.real_server

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CTX = "order:ORD-secret-42"
OFF_THREADS = 2
OFTEN = ["OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_METRIC_EXPORT_INTERVAL=200"]
PLANTED = ["OTEL_PYTHON_CONTEXT=planted", "OTEL_TRACES_EXPORTER=planted", "OTEL_PROPAGATORS=b3"]


@pytest.fixture(scope="module")
def server():
    with running_bao() as running:
        yield running


@pytest.fixture(scope="module")
def launcher(server: BaoServer) -> str:
    """The sha256 of a launcher that every test registers under a name of its own."""
    return build_from(copy_source(server.folder), server.plugin_dir, "skyflow")


@contextmanager
def mount(
    server: BaoServer, sha256: str, emulator: RunningEmulator, name: str, env: list[str]
) -> Iterator[str]:
    """A mount with the role ``reader``, whose plugin has this environment; its path."""
    os.link(server.plugin_dir / "skyflow", server.plugin_dir / name)
    args = ["--allow-host", emulator.host]
    trust = f"SSL_CERT_FILE={emulator.ca}"
    assert register(server, name, sha256, args=args, env=[trust, *env])[0] == 204
    tune = {"passthrough_request_headers": ["Traceparent", "Application-Source"]}
    path = f"skyflow/{name}"
    status, body = server.api("POST", f"sys/mounts/{path}", {"type": name, "config": tune})
    assert status == 204, body
    credentials = emulator.new_account("role-1")
    for part, fields in (
        ("config", {"credentials_json": credentials}),
        ("roles/reader", {"role_ids": ["role-1"]}),
    ):
        status, body = server.api("POST", f"{path}/{part}", fields)
        assert status == 200, body
    try:
        yield path
    finally:
        server.api("DELETE", f"sys/mounts/{path}")


def read(server: BaoServer, path: str, **headers: str) -> dict:
    """Read a path, with headers of the caller."""
    request = urllib.request.Request(f"{server.address}/v1/{path}", method="GET")
    for name, value in {"X-Vault-Token": server.token, **headers}.items():
        request.add_header(name.replace("_", "-"), value)
    context = ssl.create_default_context(cafile=str(server.ca)) if server.ca else None
    with urllib.request.urlopen(request, context=context, timeout=30) as reply:
        return json.loads(reply.read())["data"]


def test_a_trace_and_the_metrics_of_a_token_reach_the_receiver(server, launcher, emulator):
    with otlp_receiver() as receiver:
        env = [
            f"OTEL_EXPORTER_OTLP_ENDPOINT={receiver.url}",
            "OTEL_RESOURCE_ATTRIBUTES=team=payments",
            "ENV=uat",
            *OFTEN,
            *PLANTED,
        ]
        with mount(server, launcher, emulator, "traced", env) as path:
            caller = {"Traceparent": f"00-{TRACE}-{CALLER}-01", "Application_Source": "shop"}
            token = read(server, f"{path}/creds/reader?ctx={CTX}", **caller)
            with pytest.raises(urllib.error.HTTPError):
                read(server, f"{path}/creds/nobody-has-this")
            check_trace(receiver, path)
            check_metrics(receiver, path)
            (process,) = processes_of(server, "traced")
            assert not {one.partition("=")[0] for one in PLANTED} & process.environment
        sent = b"".join(receiver.bodies)
        assert CTX.encode() not in sent
        assert token["access_token"].encode() not in sent
        assert b"nobody-has-this" not in sent


def test_the_plugin_sends_over_grpc_too(server, launcher, emulator):
    with grpc_receiver() as receiver:
        env = [f"OTEL_EXPORTER_OTLP_ENDPOINT={receiver.url}", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"]
        with mount(server, launcher, emulator, "grpc", [*env, *OFTEN]) as path:
            read(server, f"{path}/creds/reader", Traceparent=f"00-{TRACE}-{CALLER}-01")
            receiver.wait_for(
                lambda found: len([s for s in found.spans if s.trace_id == TRACE]) > 1
            )
            receiver.wait_for(lambda found: found.last("skyflow.token.requests"))


def check_trace(receiver: OtlpReceiver, path: str) -> None:
    def of_trace(found: OtlpReceiver) -> list:
        spans = [one for one in found.spans if one.trace_id == TRACE]
        return spans if len(spans) >= 2 else []

    spans = {one.name: one for one in receiver.wait_for(of_trace)}
    outer, inner = spans["creds read"], spans["token service exchange"]
    assert (outer.parent_id, inner.parent_id) == (CALLER, outer.span_id)
    assert (outer.kind, inner.kind, outer.failed) == (2, 3, False)
    assert outer.attributes["skyflow.mount"] == path
    assert outer.attributes["skyflow.role"] == "reader"
    assert outer.attributes["skyflow.application"] == "shop"
    assert outer.start <= inner.start <= inner.end <= outer.end
    expected = {"service.name": "skyflow-plugin", "deployment.environment.name": "uat"}
    assert expected.items() <= outer.resource.items()
    assert outer.resource["team"] == "payments"
    assert outer.resource["service.version"]


def check_metrics(receiver: OtlpReceiver, path: str) -> None:
    mount = {"skyflow.mount": path}
    of_role = {**mount, "skyflow.role": "reader"}
    of_caller = {**of_role, "skyflow.application": "shop"}

    def values(metric: str) -> dict:
        return {tuple(one.attributes.items()): one for one in receiver.last(metric)}

    receiver.wait_for(lambda found: found.last("skyflow.token.errors"))
    assert values("skyflow.token.requests")[tuple(of_caller.items())].value == 1
    duration = values("skyflow.token.duration")[tuple(of_role.items())]
    assert (duration.count, duration.unit) == (1, "s")
    assert 0 < duration.value < 10
    (error,) = receiver.last("skyflow.token.errors")
    assert error.attributes == {**mount, "error.type": "unknown_role"}
    assert sum(one.count for one in receiver.last("skyflow.exchange.duration")) >= 1
    (age,) = receiver.last("skyflow.credential.age")
    assert 0 <= age.value < 600
    assert [one.value for one in receiver.last("skyflow.queue.length")] == [0]
    assert [one.value for one in receiver.last("skyflow.role.writes")] == [1]
    assert [one.value for one in receiver.last("skyflow.config.writes")] == [1]


@pytest.mark.parametrize("kind", ["down", "silent", "full"])
def test_a_bad_collector_neither_delays_nor_fails_a_request(server, launcher, emulator, kind):
    """Down: refuses connections. Silent: accepts and never answers. Full: answers 503."""
    with socket.create_server(("127.0.0.1", 0)) as silent, otlp_receiver(answer=503) as full:
        address = "http://{}:{}".format(*silent.getsockname())
        url = {"down": "http://127.0.0.1:9", "silent": address, "full": full.url}[kind]
        env = [f"OTEL_EXPORTER_OTLP_ENDPOINT={url}", "OTEL_BSP_MAX_QUEUE_SIZE=16", *OFTEN]
        env.append("OTEL_BSP_MAX_EXPORT_BATCH_SIZE=8")
        with mount(server, launcher, emulator, kind, env) as path:
            seconds = []
            for _ in range(100):
                started = time.monotonic()
                assert read(server, f"{path}/creds/reader")["access_token"]
                seconds.append(time.monotonic() - started)
            # A batch is full after four reads: if they waited for its export, 25 would be slow.
            assert len([one for one in seconds if one > 0.5]) <= 5, sorted(seconds)[-10:]
            assert max(seconds) < 5.0
            if kind == "full":
                full.wait_for(lambda found: found.bodies)
            started = time.monotonic()
        assert time.monotonic() - started < 5.0


@pytest.mark.parametrize("switch", ["", "ENV=dev", "TELEMETRY_ENABLED=false"])
def test_off_is_off(server, launcher, emulator, switch):
    """No library of telemetry is loaded, no thread is left, and no connection is made."""
    with otlp_receiver() as receiver:
        env = [switch] if switch else []
        if switch.startswith("TELEMETRY"):
            env.append(f"OTEL_EXPORTER_OTLP_ENDPOINT={receiver.url}")
        name = f"off-{switch.partition('=')[0].lower().replace('_', '-')}"
        with mount(server, launcher, emulator, name, env) as path:
            assert read(server, f"{path}/creds/reader")["access_token"]
            (process,) = processes_of(server, name)
            folder = Path(f"/proc/{process.pid}")
            assert "_upb" not in (folder / "maps").read_text()
            # One thread for the loop, one that signs.
            assert len([*(folder / "task").iterdir()]) <= OFF_THREADS
        assert receiver.bodies == []
