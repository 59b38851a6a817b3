"""What a command that reads loads: a library more is paid at every start."""

from __future__ import annotations

import pytest
from support.stack import Stack

pytestmark = pytest.mark.real_server
NEVER_BY_READS = {
    "asyncio", "cryptography", "grpclib", "h11", "httpx", "hvac", "jinja2", "jsonschema", "keyring",
    "psutil", "pydantic", "requests", "rich", "skyflow", "trustme", "urllib3",
}  # fmt: skip
NEVER_BY_CREDS = NEVER_BY_READS | {"hpack", "yaml"}


def loaded_by(stderr: str) -> set[str]:
    """The top-level packages that a process with PYTHONPROFILEIMPORTTIME loaded."""
    lines = [line for line in stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize("form", ["-o raw", "-o json", "-o env", "-o table", "--wrap-ttl 5m"])
def test_a_token_through_the_server_loads_little(stack: Stack, form: str):
    done = stack.cli(
        "creds", "order", "order-producer", "--ctx", "order:ORD-42", *form.split(),
        exported=True, env={"PYTHONPROFILEIMPORTTIME": "1"},
    )  # fmt: skip
    loaded = loaded_by(done.stderr)
    assert {"http", "typer", "skyflowctl"} <= loaded
    # A wrapped answer is told from a parked one by a POST, which hvac sends.
    allowed = {"hvac", "requests", "urllib3"} if "--wrap-ttl" in form else set()
    assert not loaded & (NEVER_BY_CREDS - allowed)


@pytest.mark.parametrize("words", ["plan", "status", "health", "mount list", "role list order"])
def test_a_command_that_reads_loads_no_client_for_writes(stack: Stack, words: str):
    done = stack.cli(*words.split(), exported=True, env={"PYTHONPROFILEIMPORTTIME": "1"})
    loaded = loaded_by(done.stderr)
    assert {"http", "typer", "skyflowctl"} <= loaded
    assert loaded & NEVER_BY_READS == set()
