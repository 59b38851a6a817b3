"""What each way through the command line loads: start-up is a promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROBE = """
import json, sys
sys.argv = ["skyflowctl", *json.loads(sys.argv[1])]
from skyflowctl.cli.main import main
try:
    main()
except SystemExit:
    pass
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr)
"""
HEAVY = {
    "cryptography", "grpclib", "h11", "hpack", "hvac", "jinja2", "jsonschema", "keyring", "pydantic",
    "opentelemetry", "requests", "rich", "skyflow", "yaml",
}  # fmt: skip


def loaded(args, **env):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(args)],
        env={**os.environ, "NO_COLOR": "1", **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "args", [["--help"], [], ["--version"], ["mount", "--help"], ["help", "exit-codes"]]
)
def test_static_pages_load_no_typer(args):
    assert not loaded(args) & (HEAVY | {"typer"})


@pytest.mark.parametrize(
    "args",
    [
        ["version"],
        ["plan", "--help"],
        ["creds", "--help"],
        ["apply", "--help"],
        ["plan", "--frob"],
        ["rotate", "--help"],
        ["rotate", "a", "--rollback", "--retire"],
        ["rotate", "a", "--watch", "x"],
        ["rotate", "a", "--credentials", "x"],
        ["config", "rollback", "--help"],
    ],
)
def test_a_plain_start_loads_typer_alone(args):
    assert not loaded(args) & HEAVY


def test_creds_loads_nothing_heavy(tmp_path):
    manifest = tmp_path / "mounts.yaml"
    manifest.write_text("version: 1\ndefaults:\n  path_prefix: skyflow\n")
    found = loaded(
        ["creds", "order", "order-producer", "--ctx", "order:x"],
        BAO_ADDR="http://127.0.0.1:9",
        BAO_TOKEN="x",
        BAO_MAX_RETRIES="0",
        BAO_CLIENT_TIMEOUT="1s",
        SKYFLOWCTL_FILE=str(manifest),
    )
    assert "http" in found
    assert not found & HEAVY


def test_a_valid_manifest_is_checked_without_jsonschema(tmp_path):
    manifest = tmp_path / "mounts.yaml"
    manifest.write_text(
        "version: 1\nmanifest: shop\nmounts:\n  order:\n    credentials: {env: NOT_SET}\n"
        "    roles: {producer: {role_ids: [x]}}\n"
    )
    server = {"BAO_ADDR": "http://127.0.0.1:9", "BAO_TOKEN": "x", "BAO_MAX_RETRIES": "0"}
    for command in ("validate", "plan"):
        found = loaded([command, "-f", str(manifest)], **server)
        assert "yaml" in found, command
        assert not found & {"attr", "referencing", "jinja2", "pydantic"}, command
        assert not found & {"hvac", "jsonschema", "requests"}, command
    manifest.write_text("version: 2\nmounts: {}\n")
    assert "jsonschema" in loaded(["validate", "-f", str(manifest)])
