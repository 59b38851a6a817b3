"""A3: a dry run says apart what it proved and what only the token service knows."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.bao import BaoServer
from support.cli import schema_of
from support.emulator import RunningEmulator
from support.plugin import build_from, copy_source, register
from support.stack import BIN, clean_environ

PLUGIN = "skyflow-dry"
MANIFEST = """version: 1
manifest: dry
plugin: {name: skyflow-dry}
defaults: {path_prefix: dry}
mounts:
  order:
    credentials: {file: key.json}
    roles:
      good: {role_ids: [r1]}
"""
LACKING = "      lacking: {role_ids: [not-of-this-account]}\n"


class Place:
    """A folder with a manifest, and a server that allows the emulator's host or does not."""

    def __init__(self, folder: Path, bao: BaoServer, emulator: RunningEmulator) -> None:
        self.folder, self.bao, self.emulator = folder, bao, emulator
        self.digest = build_from(copy_source(folder / "src"), bao.plugin_dir, PLUGIN)

    def register(self, *args: str) -> None:
        env = [f"SSL_CERT_FILE={self.emulator.ca}"]
        status, body = register(self.bao, PLUGIN, self.digest, args=args, env=env)
        assert status == 204, body

    def run(self, *args: str, server: bool, check: int = 0, text: bool = False) -> Any:
        environ = self.bao.env() if server else clean_environ()
        environ |= {"HOME": str(self.folder), "SSL_CERT_FILE": str(self.emulator.ca)}
        environ |= {"SKYFLOWCTL_ALLOW_HOSTS": self.emulator.host}
        done = subprocess.run(
            [str(BIN / "skyflowctl"), "apply", *args, *([] if text else ["-o", "json"])],
            env=environ,
            cwd=self.folder,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=90,
            check=False,
        )
        assert done.returncode == check, (args, done.stdout, done.stderr)
        if text:
            return done.stdout
        whole = json.loads(done.stdout)
        if "dry_run" in whole["data"]:
            Draft202012Validator(schema_of("apply")).validate(whole["data"])
        return whole

    def exchanges(self) -> int:
        client_id = json.loads((self.folder / "key.json").read_text())["clientID"]
        return sum(one["client_id"] == client_id for one in self.emulator.control.log())


@pytest.fixture(scope="module")
def place(tmp_path_factory, bao, emulator) -> Place:
    made = Place(tmp_path_factory.mktemp("dry"), bao, emulator)
    (made.folder / "key.json").write_text(emulator.new_account("r1"))
    (made.folder / "key.json").chmod(0o600)
    return made


@pytest.fixture(autouse=True)
def manifest(place):
    (place.folder / "mounts.yaml").write_text(MANIFEST + LACKING)


def results(whole: dict[str, Any]) -> dict[str, str]:
    return {one["role"]: one["result"] for one in whole["data"]["dry_run"]["verified"]}


def test_a_dry_run_promises_rules_and_names_what_it_cannot_prove(place):
    before = place.exchanges()
    told = place.run("--dry-run", server=False, text=True)
    assert "Rules proved on the real engine:" in told
    assert "Not provable without the token service:" in told
    assert "whether the account has each Skyflow role" in told
    assert "minted a token" not in told
    dry = place.run("--dry-run", server=False)["data"]["dry_run"]
    assert (dry["connections"], dry["verified"], dry["engine_hosts"]) == ([], [], None)
    assert place.exchanges() == before


def test_verify_without_a_server_finds_the_role_that_the_account_lacks(place):
    whole = place.run("--dry-run", "--verify", server=False, check=3)
    assert results(whole) == {"good": "ok", "lacking": "refused"}
    assert whole["errors"][0]["code"] == "role-refused"
    assert whole["data"]["dry_run"]["connections"] == [{"to": place.emulator.host, "for": "tokens"}]
    assert whole["data"]["dry_run"]["not_provable"] == []


def test_the_engines_hosts_come_from_the_servers_catalog(place):
    place.register("--allow-host", "tokens.example.com:443")
    refused = place.run("--dry-run", server=True, check=3)
    assert "tokenURI" in json.dumps(refused["errors"])
    hosts = refused["data"]["dry_run"]["engine_hosts"]
    assert "tokens.example.com:443" in hosts
    assert place.emulator.host not in hosts

    place.register("--allow-host", place.emulator.host)
    allowed = place.run("--dry-run", server=True)["data"]["dry_run"]
    assert place.emulator.host in allowed["engine_hosts"]
    assert allowed["connections"] == [{"to": place.bao.address, "for": "the live state"}]


def test_verify_asks_the_server_where_the_mount_is(place):
    place.register("--allow-host", place.emulator.host)
    (place.folder / "mounts.yaml").write_text(MANIFEST)
    place.run("-y", server=True)
    try:
        (place.folder / "mounts.yaml").write_text(MANIFEST + LACKING)
        whole = place.run("--dry-run", "--verify", server=True, check=3)
        assert results(whole) == {"good": "ok", "lacking": "refused"}
        asked = {one["role"]: one["asked"] for one in whole["data"]["dry_run"]["verified"]}
        assert asked == {"good": "dry/order/config/verify", "lacking": place.emulator.host}
        targets = [(one["to"], one["for"]) for one in whole["data"]["dry_run"]["connections"]]
        assert targets == [
            (place.bao.address, "the live state"),
            (place.bao.address, "dry/order/config/verify"),
            (place.emulator.host, "tokens"),
        ]
    finally:
        place.bao.bao("secrets", "disable", "dry/order")


def test_verify_alone_is_a_usage_error(place):
    error = place.run("--verify", "-y", server=True, check=64)["errors"][0]
    assert (error["code"], error["fix"]) == (
        "contradiction",
        "add --dry-run, or leave out --verify",
    )


def test_verify_on_a_dev_stack_trusts_its_own_ca_without_dev_env(stack, tmp_path):
    (tmp_path / "mounts.yaml").write_text(MANIFEST.replace("order:", "newcomer:"))
    verify = ("apply", "--dry-run", "--verify", "-f", str(tmp_path / "mounts.yaml"))
    whole = stack.json(*verify, "--dev", exported=False)
    assert results(whole) == {"good": "ok"}
    (verified,) = whole["data"]["dry_run"]["verified"]
    assert verified["asked"].startswith("127.0.0.1:")
