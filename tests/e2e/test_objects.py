"""Engines without keys of their own in the manifest: their objects by path, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

MANIFEST = """\
version: 1
manifest: objects
mounts: {}
engines:
  ssh:
    type: ssh
    objects:
      config/ca: {fields: {generate_signing_key: true}, once: {exists: config/ca}}
      roles/ops: {fields: {key_type: ca, allow_user_certificates: true, ttl: 30m, allowed_users: ops}}
  totp:
    type: totp
    objects:
      keys/app: {fields: {generate: true, issuer: shop, account_name: app}, once: {exists: keys/app}}
  rabbit:
    type: rabbitmq
    objects:
      config/connection:
        secret:
          connection_uri: {value: "http://127.0.0.1:9"}
          username: {value: app}
          password: {generate: {length: 24}}
          verify_connection: {value: "false"}
        secret_version: 1
      roles/reader: {fields: {tags: monitoring, vhosts: '{"/": {"read": ".*", "configure": "", "write": ""}}'}}
"""
OBJECTS = {
    "ssh/config/ca",
    "ssh/roles/ops",
    "totp/keys/app",
    "rabbit/config/connection",
    "rabbit/roles/reader",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    file = tmp_path_factory.mktemp("objects") / "mounts.yaml"
    file.write_text(MANIFEST)
    with running_stack(file) as running:
        made = running.json("apply", "-y")["data"]["actions"]
        assert {one["path"] for one in made if one["kind"] == "object"} == OBJECTS
        yield running


@pytest.fixture
def changed(tmp_path: Path):
    """Writes the manifest with one text replaced, and returns its path."""

    def write(old: str, new: str) -> str:
        assert old in MANIFEST
        file = tmp_path / "changed.yaml"
        file.write_text(MANIFEST.replace(old, new))
        return str(file)

    return write


def actions(stack: Stack, command: str, *args: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.json(command, *args)["data"]["actions"]
    return found


def test_the_second_plan_is_empty(stack):
    made = stack.json("plan", "--detailed-exitcode")["data"]
    assert (made["actions"], made["drift"], made["warnings"]) == ([], [], [])


THEIRS = {"key_type": "ca", "ttl": "1h", "allowed_users": "root", "allow_host_certificates": True}


def test_a_changed_object_is_drift_and_is_mended_in_place(stack):
    stack.api("POST", "ssh/roles/ops", THEIRS)
    (planned,) = actions(stack, "plan")
    fields = {one["field"]: (one["before"], one["after"]) for one in planned["changes"]}
    assert planned["path"] == "ssh/roles/ops"
    assert fields == {
        "allow_user_certificates": (False, True),
        "ttl": (3600, "30m"),
        "allowed_users": ("root", "ops"),
    }
    (done,) = actions(stack, "apply", "-y")
    assert done["result"] == "done"
    assert stack.api("GET", "ssh/roles/ops")["data"]["ttl"] == 1800


def test_what_is_written_once_is_never_written_again(stack):
    before = stack.api("GET", "ssh/config/ca")["data"]["public_key"]
    stack.json("apply", "-y")
    assert stack.api("GET", "ssh/config/ca")["data"]["public_key"] == before


def test_secret_fields_are_written_when_their_version_rises(stack, changed):
    file = changed("secret_version: 1", "secret_version: 2")
    (done,) = actions(stack, "apply", "-y", "-f", file)
    assert (done["path"], done["result"]) == ("rabbit/config/connection", "done")
    shown = {one["field"]: one["after"] for one in done["changes"]}
    assert shown["password"] == "generated, 24 characters"
    assert actions(stack, "plan", "-f", file) == []
    assert actions(stack, "plan") == []  # a lower number is no reason to write


@pytest.mark.parametrize(
    ("field", "name"),
    [("ttl: 30m", "no_such_field"), ("allowed_users: ops", "allowed_user")],
)
def test_a_field_that_the_server_does_not_return_is_refused(stack, changed, field, name):
    file = changed(field, f"{field}, {name}: x")
    refused = stack.json("apply", "-y", "-f", file, check=5)
    (error,) = [one for one in refused["errors"] if one["code"] == "not-readable"]
    assert name in error["summary"]
    assert error["where"]["line"] == 9
    assert "only once: once: {exists: roles/ops}; if it is a secret" in error["fix"]
    assert actions(stack, "plan") == []


def test_a_field_that_a_new_object_ignores_is_partly_done(stack, changed):
    file = changed(
        "      roles/ops:",
        "      roles/new: {fields: {key_type: otp, default_user: a, x_y: z}}\n      roles/ops:",
    )
    partly = stack.json("apply", "-y", "-f", file, check=3)
    (error,) = partly["errors"]
    assert error["summary"] == "the server does not return x_y: ssh/roles/new"
    assert "once: {exists: roles/new}; if it is a secret, declare it below secret" in error["fix"]
    stack.api("DELETE", "ssh/roles/new")


@pytest.mark.parametrize("path", ["rolez/ops", "sign/ops"])
def test_a_path_that_cannot_be_read_stops_no_other_object(stack, changed, path):
    stack.api("POST", "rabbit/roles/reader", {"tags": "administrator"})
    file = changed("      roles/ops:", f"      {path}: {{fields: {{ttl: 30m}}}}\n      roles/ops:")
    planned = stack.json("plan", "-f", file, check=3)["data"]
    (warning,) = planned["warnings"]
    assert (warning["code"], warning["where"]["line"]) == ("access-unreadable", 9)
    assert [one["path"] for one in planned["actions"]] == ["rabbit/roles/reader"]
    partly = stack.json("apply", "-y", "-f", file, check=3)
    assert [one["result"] for one in partly["data"]["actions"]] == ["done"]


def test_an_object_of_somebody_elses_engine_needs_adoption(stack, changed):
    stack.bao("secrets", "enable", "-path=theirs", "ssh")
    stack.api("POST", "theirs/roles/ops", {"key_type": "otp", "default_user": "root"})
    file = changed(
        "  totp:",
        "  theirs: {type: ssh, objects: {roles/ops: {fields: {key_type: otp, default_user: a}}}}\n  totp:",
    )
    refused = stack.json("apply", "-y", "-f", file, check=5)
    assert {one["code"] for one in refused["errors"]} == {"needs-adoption"}
    assert stack.api("GET", "theirs/roles/ops")["data"]["default_user"] == "root"
    named = ("--adopt=theirs", "--adopt=theirs/roles/ops")
    done = {one["path"]: one["result"] for one in actions(stack, "apply", "-y", "-f", file, *named)}
    assert done == {"sys/mounts/theirs": "done", "theirs/roles/ops": "done"}
    assert actions(stack, "plan", "-f", file) == []
    stack.api("DELETE", "sys/mounts/theirs")
