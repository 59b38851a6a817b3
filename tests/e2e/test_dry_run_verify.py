"""A3: a dry run says apart what it proved and what only the token service knows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.cli import schema_of
from support.plugin import build_from, copy_source
from support.site import Site

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


class Place(Site):
    """A server that allows the emulator's host or does not, and an account of one role."""

    digest = ""

    def build(self) -> None:
        """Build the plugin, which :meth:`allow` registers."""
        self.digest = build_from(copy_source(self.folder / "src"), self.server.plugin_dir, PLUGIN)

    def allow(self, host: str) -> None:
        """Register the plugin with one further token service."""
        self.register(PLUGIN, self.digest, "--allow-host", host)

    def apply(self, *args: str, server: bool, code: int = 0) -> dict[str, Any]:
        """Apply with ``-o json``; its envelope, the data of a dry run checked."""
        whole = self.cli("apply", *args, server=server, code=code)
        if "dry_run" in whole["data"]:
            Draft202012Validator(schema_of("apply")).validate(whole["data"])
        return whole

    def exchanges(self) -> int:
        client_id = json.loads((self.folder / "key.json").read_text())["clientID"]
        return sum(one["client_id"] == client_id for one in self.emulator.control.log())


@pytest.fixture(scope="module")
def place(tmp_path_factory, bao, emulator) -> Place:
    made = Place(bao, emulator, tmp_path_factory.mktemp("dry"))
    made.build()
    made.write("key.json", emulator.new_account("r1"))
    return made


@pytest.fixture(autouse=True)
def manifest(place):
    (place.folder / "mounts.yaml").write_text(MANIFEST + LACKING)


def results(whole: dict[str, Any]) -> dict[str, str]:
    return {one["role"]: one["result"] for one in whole["data"]["dry_run"]["verified"]}


def test_a_dry_run_promises_rules_and_names_what_it_cannot_prove(place):
    before = place.exchanges()
    told = place.run("apply", "--dry-run", server=False).stdout
    assert "Rules proved on the real engine:" in told
    assert "Not provable without the token service:" in told
    assert "whether the account has each Skyflow role" in told
    assert "minted a token" not in told
    dry = place.apply("--dry-run", server=False)["data"]["dry_run"]
    assert (dry["connections"], dry["verified"], dry["engine_hosts"]) == ([], [], None)
    assert place.exchanges() == before


def test_verify_without_a_server_finds_the_role_that_the_account_lacks(place):
    whole = place.apply("--dry-run", "--verify", server=False, code=3)
    assert results(whole) == {"good": "ok", "lacking": "refused"}
    assert whole["errors"][0]["code"] == "role-refused"
    assert whole["data"]["dry_run"]["connections"] == [{"to": place.emulator.host, "for": "tokens"}]
    assert whole["data"]["dry_run"]["not_provable"] == []


def test_the_engines_hosts_come_from_the_servers_catalog(place):
    place.allow("tokens.example.com:443")
    refused = place.apply("--dry-run", server=True, code=3)
    assert "tokenURI" in json.dumps(refused["errors"])
    hosts = refused["data"]["dry_run"]["engine_hosts"]
    assert "tokens.example.com:443" in hosts
    assert place.emulator.host not in hosts

    place.allow(place.emulator.host)
    allowed = place.apply("--dry-run", server=True)["data"]["dry_run"]
    assert place.emulator.host in allowed["engine_hosts"]
    assert allowed["connections"] == [{"to": place.server.address, "for": "the live state"}]


def test_verify_asks_the_server_where_the_mount_is(place):
    place.allow(place.emulator.host)
    (place.folder / "mounts.yaml").write_text(MANIFEST)
    place.apply("-y", server=True)
    try:
        (place.folder / "mounts.yaml").write_text(MANIFEST + LACKING)
        whole = place.apply("--dry-run", "--verify", server=True, code=3)
        assert results(whole) == {"good": "ok", "lacking": "refused"}
        asked = {one["role"]: one["asked"] for one in whole["data"]["dry_run"]["verified"]}
        assert asked == {"good": "dry/order/config/verify", "lacking": place.emulator.host}
        targets = [(one["to"], one["for"]) for one in whole["data"]["dry_run"]["connections"]]
        assert targets == [
            (place.server.address, "the live state"),
            (place.server.address, "dry/order/config/verify"),
            (place.emulator.host, "tokens"),
        ]
    finally:
        place.server.bao("secrets", "disable", "dry/order")


def test_verify_alone_is_a_usage_error(place):
    error = place.apply("--verify", "-y", server=True, code=64)["errors"][0]
    assert (error["code"], error["fix"]) == (
        "contradiction",
        "add --dry-run, or leave out --verify",
    )


def test_verify_on_a_dev_stack_trusts_its_own_ca_without_dev_env(stack, tmp_path):
    text = MANIFEST.replace("order:", "newcomer:").replace(PLUGIN, "skyflow")
    (tmp_path / "mounts.yaml").write_text(text)
    verify = ("apply", "--dry-run", "--verify", "-f", str(tmp_path / "mounts.yaml"))
    whole = stack.json(*verify, "--dev", exported=False)
    assert results(whole) == {"good": "ok"}
    (verified,) = whole["data"]["dry_run"]["verified"]
    assert verified["asked"].startswith("127.0.0.1:")
