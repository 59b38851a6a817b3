"""The client library as an application uses it: while a mount is rotated and its plugin killed.

``SKYFLOWCTL_SOAK_SECONDS`` is how long the soak asks, 60 by default; 600 is the full run.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.application_reads import ApplicationReads
from support.loaded import Held, Watch, memory
from support.stack import Stack, running_stack

from skyflowctl.client import (
    AppRole,
    ClientLimits,
    PermissionDeniedError,
    ServerEndpoint,
    TokenSource,
)

SECONDS = float(os.environ.get("SKYFLOWCTL_SOAK_SECONDS", "60"))
pytestmark = [pytest.mark.real_server, pytest.mark.timeout(300 + 2 * SECONDS)]
MOUNT, ROLE = "skyflow/order", "producer"
MANIFEST = """\
version: 1
manifest: client-test
mounts:
  order:
    credentials: {file: credentials/order.json}
    roles:
      producer:
        role_ids: [skyflow-role-order-prod]
        ctx: {required: true, pattern: "order:*", probe: "order:probe"}
        sign: true
        consumers: {approle: {order-service: {}}}
auth:
  approle: {}
policies:
  reads-backend: {rules: {"secret/data/backend": [read]}}
engines:
  secret: {type: kv, version: 2, secrets: {backend: {user: {value: app}, password: {generate: {length: 32}}}}}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    manifest = tmp_path_factory.mktemp("client") / "mounts.yaml"
    manifest.write_text(MANIFEST)
    with running_stack(manifest, apply=True) as running:
        yield running


def login(stack: Stack) -> AppRole:
    role = "auth/approle/role/order-service"
    role_id = stack.api("GET", f"{role}/role-id")["data"]["role_id"]
    return AppRole(role_id, stack.api("POST", f"{role}/secret-id", {})["data"]["secret_id"])


def endpoint(stack: Stack) -> ServerEndpoint:
    return ServerEndpoint(stack.exports["BAO_ADDR"], ca_cert=stack.exports["BAO_CACERT"])


def logins(stack: Stack) -> int:
    return stack.audit_log.read_text().count('"path":"auth/approle/login"') // 2


def test_an_application_reads_signs_and_is_denied_by_its_own_login(stack: Stack):
    before = logins(stack)
    with TokenSource(login(stack), server=endpoint(stack), application="order-service") as source:
        token = source.token(MOUNT, ROLE, ctx="order:1")
        assert token.access_token.count(".") == 2
        assert token.seconds_left() > 3500
        (signed,) = source.sign(MOUNT, ROLE, ["tok-1"], ctx="order:1")
        assert signed.signed_data_token.startswith("signed_token_")
        assert logins(stack) == before + 1
        with pytest.raises(PermissionDeniedError):
            source.secrets("secret/backend")  # not permitted to this consumer
    assert '"claimed_app": "order-service"' in stack.cli(
        "audit", "who", str(stack.audit_log), "-o", "json", exported=True
    ).stdout.replace('":"', '": "')


def test_a_secret_of_the_manifest(stack: Stack):
    from skyflowctl.client import FixedToken

    token = FixedToken(stack.exports["BAO_TOKEN"])
    with TokenSource(token, server=endpoint(stack)) as source:
        fields = source.secrets("secret/backend")
    assert (fields["user"], len(fields["password"])) == ("app", 32)


@pytest.mark.slow
def test_no_read_fails_through_a_rotation_and_a_killed_plugin(stack: Stack):
    with (
        TokenSource(login(stack), server=endpoint(stack)) as source,
        ApplicationReads(source, MOUNT, ROLE) as reads,
    ):
        reads.wait_for(100)
        stack.cli("rotate", "order", "--generate", "-y", exported=True)
        reads.wait_for(100)
        plugins = [one for one in stack.processes() if "plugins/" in " ".join(one.cmdline())]
        for process in plugins:
            os.kill(process.pid, signal.SIGKILL)
        reads.wait_for(200)
    assert plugins
    assert reads.failed == []


@pytest.mark.slow
def test_sixteen_threads_for_long_leave_memory_and_descriptors_and_log_in_once(stack: Stack):
    before = logins(stack)
    limits = ClientLimits(entries=64)
    with TokenSource(login(stack), server=endpoint(stack), limits=limits) as source:
        ends = time.monotonic() + SECONDS

        def ask(number: int) -> int:
            asked = 0
            while time.monotonic() < ends:
                asked += 1
                new = f"order:{number}-{asked}" if asked % 200 == 0 else f"order:{asked % 32}"
                source.token(MOUNT, ROLE, ctx=new)
                time.sleep(0.0005)
            return asked

        with Watch(os.getpid(), 0.5) as watch, ThreadPoolExecutor(16) as threads:
            asked = sum(threads.map(ask, range(16)))
        early, late = watch.quarters()
    assert asked > 1_000
    assert logins(stack) == before + 1
    assert memory(late) - memory(early) < 4, [one.memory for one in watch.seen]
    assert max(one.files for one in late) <= max(one.files for one in early) + 2
    assert max(one.threads for one in late) <= max(one.threads for one in early) + 2
    assert Held.of(os.getpid()).files < 500
