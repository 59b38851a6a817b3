"""``metrics`` on the dev stack: printed, written and served, and taken by Prometheus's own tool."""

from __future__ import annotations

import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest
from support.plugin import wait_for
from support.stack import BIN, Stack, running_stack

pytestmark = pytest.mark.real_server


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(apply=True) as running:
        yield running


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def of(mount: str, name: str, found: dict[str, float]) -> float:
    return next(value for key, value in found.items() if key.startswith(f'{name}{{mount="{mount}"'))


def test_printed_for_every_mount_and_without_another_mint(stack):
    found = samples(stack.cli("metrics", exported=True).stdout)
    assert found["skyflow_up"] == 1
    assert [of(one, "skyflow_mount_health", found) for one in ("order", "payment")] == [1, 1]
    assert of("order", "skyflow_roles", found) == 4
    assert 0 <= of("order", "skyflow_credential_age_seconds", found) < 600
    before = stack.api("GET", "skyflow/order/health")["data"]["timestamp"]
    stack.cli("metrics", exported=True)
    assert stack.api("GET", "skyflow/order/health")["data"]["timestamp"] == before


def test_drift_is_counted(stack):
    stack.api("POST", "skyflow/order/roles/stray", {"role_ids": ["skyflow-role-order-prod"]})
    try:
        found = samples(stack.cli("metrics", "--drift", exported=True).stdout)
        assert found['skyflow_drift{kind="undeclared"}'] == 1
        assert found["skyflow_pending_changes"] == 0
    finally:
        stack.api("DELETE", "skyflow/order/roles/stray")


@pytest.mark.needs("promtool")
def test_the_file_is_what_prometheus_reads_and_says_when_the_server_is_down(stack):
    done = stack.json("metrics", "--textfile", "a.prom")["data"]
    text = (stack.folder / "a.prom").read_text()
    assert done["textfile"] == str(stack.folder / "a.prom")
    check = subprocess.run(
        ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (check.returncode, check.stderr) == (0, "")
    elsewhere = {"BAO_ADDR": "https://127.0.0.1:1", "BAO_MAX_RETRIES": "0"}
    stack.cli("metrics", "--textfile", "a.prom", exported=True, env=elsewhere, check=69)
    assert samples((stack.folder / "a.prom").read_text())["skyflow_up"] == 0
    stack.cli("metrics", "--textfile", "none/at/all", exported=True, check=64)


def test_served_until_sigterm(stack):
    started = subprocess.Popen(
        [str(BIN / "skyflowctl"), "metrics", "--serve", "127.0.0.1:0"],
        env={**stack.environ, **stack.exports},
        cwd=stack.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        address = re.search(r"http://\S+", started.stderr.readline())[0]
        with urllib.request.urlopen(address, timeout=30) as reply:
            assert reply.headers["Content-Type"].startswith("text/plain; version=")
            found = samples(reply.read().decode())
        assert of("payment", "skyflow_mount_health", found) == 1
        started.send_signal(signal.SIGTERM)
        wait_for(lambda: started.poll() is not None)
        assert started.returncode == 143
    finally:
        started.kill()
        started.communicate()


@pytest.mark.parametrize(
    "words",
    [("--serve", "9464"), ("--serve", "127.0.0.1:99999"), ("--serve", "192.0.2.1:9464"),
     ("--serve", "127.0.0.1:0", "--textfile", "x"), ("--serve", "127.0.0.1:0", "-f", "-")],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_a_usage_error(stack, words):
    stack.cli("metrics", *words, exported=True, check=64)


def test_a_manifest_on_standard_input_cannot_be_read_for_every_scrape(stack):
    named = {"SKYFLOWCTL_FILE": "-"}
    done = stack.cli("metrics", "--serve", "127.0.0.1:0", exported=True, env=named, check=64)
    assert "only once" in done.stderr
