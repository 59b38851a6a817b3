"""What a ``creds`` that works loads: a library more is paid at every token."""

from __future__ import annotations

import pytest
from support.stack import Stack

pytestmark = pytest.mark.real_server
NOT_NEEDED = {
    "cryptography", "grpclib", "h11", "hpack", "httpx", "hvac", "jsonschema", "keyring", "psutil",
    "pydantic", "requests", "rich", "skyflow", "trustme", "urllib3", "yaml",
}  # fmt: skip


@pytest.mark.parametrize("form", ["-o raw", "-o json", "-o env", "-o table", "--wrap-ttl 5m"])
def test_a_token_through_the_server_loads_little(stack: Stack, form: str):
    done = stack.cli(
        "creds", "order", "order-producer", "--ctx", "order:ORD-42", *form.split(),
        exported=True, env={"PYTHONPROFILEIMPORTTIME": "1"},
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in lines}
    assert {"http", "typer", "skyflowctl"} <= loaded
    # A wrapped answer is told from a parked one by a POST, which hvac sends.
    allowed = {"hvac", "requests", "urllib3"} if "--wrap-ttl" in form else set()
    assert not loaded & (NOT_NEEDED - allowed)
