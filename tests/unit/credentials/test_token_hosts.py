"""A private token service: named with --allow-host or SKYFLOWCTL_ALLOW_HOSTS, else refused."""

from __future__ import annotations

import json

import pytest
from support.cli import checked_envelope, invoke

from skyflowctl.credentials.token_hosts import token_hosts
from skyflowctl.errors import UsageError
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS, parse_host

HOST = "tokens.example.test:8443"
MANIFEST = """version: 1
manifest: shop
plugin: {name: skyflow, version: v1.0.0}
mounts:
  order:
    credentials: {file: key.json}
    roles:
      producer: {role_ids: [r1]}
"""
COMMANDS = {
    "validate": (),
    "apply": ("--dry-run",),
    "creds": ("order", "producer", "--dry-run"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch, service_account_text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKYFLOWCTL_ALLOW_HOSTS", raising=False)
    account = json.loads(service_account_text)
    account["tokenURI"] = f"https://{HOST}/v1/auth/sa/oauth/token"
    (tmp_path / "key.json").write_text(json.dumps(account))
    (tmp_path / "key.json").chmod(0o600)
    (tmp_path / "mounts.yaml").write_text(MANIFEST)
    return tmp_path


def run(command: str, *more: str, env: dict[str, str] | None = None):
    return invoke(command, *COMMANDS[command], *more, "-o", "json", env=env)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_private_token_service_must_be_named(folder, command):
    refused = run(command)
    assert refused.exit_code == 65
    assert f"host that is not allowed: {HOST}" in refused.stdout
    assert f"--allow-host {HOST}" in refused.stdout
    for done in (
        run(command, "--allow-host", "other.example.test:443", "--allow-host", HOST),
        run(command, env={"SKYFLOWCTL_ALLOW_HOSTS": f"other.example.test:443, {HOST}"}),
    ):
        assert done.exit_code == 0, done.stdout
        checked_envelope(done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_host_and_port_is_a_usage_error(folder, command):
    done = run(command, "--allow-host", "tokens.example.test")
    assert done.exit_code == 64
    assert "HOST:PORT" in checked_envelope(done.stdout)["errors"][0]["summary"]


def test_flags_stand_before_the_variable():
    environ = {"SKYFLOWCTL_ALLOW_HOSTS": " a.test:1 ,, B.test:2,"}
    assert token_hosts(None, {}) == SKYFLOW_HOSTS
    assert token_hosts([], environ) == SKYFLOW_HOSTS | {"a.test:1", "b.test:2"}
    assert token_hosts(["c.test:3"], environ) == SKYFLOW_HOSTS | {"c.test:3"}
    with pytest.raises(UsageError, match="SKYFLOWCTL_ALLOW_HOSTS"):
        token_hosts(None, {"SKYFLOWCTL_ALLOW_HOSTS": "https://a.test:1"})


@pytest.mark.parametrize(
    ("text", "found"),
    [("Tokens.Test:443", "tokens.test:443"), ("[::1]:8443", "[::1]:8443"), ("h:65535", "h:65535")],
)
def test_a_host_is_held_in_one_form(text, found):
    assert parse_host(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "h:",
        ":1",
        "h:0",
        "h:65536",
        "h:01",
        "https://h:1",
        "u@h:1",
        "h/x:1",
        "a b:1",
        "*:1",
    ],
)
def test_what_is_no_host_is_refused(text):
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_host(text)
