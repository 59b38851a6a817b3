"""Audit devices of a manifest: by the server's configuration, its API, or the dev stack."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.bao import BaoServer, running_bao
from support.stack import Stack, clean_environ, running_stack

from skyflowctl.vault.audit_devices import stanza

pytestmark = pytest.mark.real_server

MANIFEST = """\
version: 1
manifest: audited
mounts: {{}}
audit_devices:
  first:
    type: file
    description: "the \\"first\\" of two"
    options: {{file_path: {folder}/first.log, mode: "0640", hmac_accessor: false}}
  second: {{type: file, options: {{file_path: {folder}/second.log}}}}
"""


def site(server: BaoServer, folder: Path, **environ: str) -> Stack:
    (folder / "mounts.yaml").write_text(MANIFEST.format(folder=folder))
    home = {"HOME": str(folder), **environ}
    return Stack(folder, {**clean_environ(), **server.env(), **home}, {})


@pytest.fixture(scope="module")
def server() -> Iterator[BaoServer]:
    with running_bao(extra="allow_audit_log_prefixing = true") as running:
        yield running


@pytest.fixture
def stack(server: BaoServer, tmp_path: Path) -> Iterator[Stack]:
    """A server with its own device alone, before and after."""
    config = server.folder / "bao.hcl"
    before = config.read_text()
    yield site(server, tmp_path)
    config.write_text(before)
    reload(server, {"main/"})


def devices(server: BaoServer) -> dict[str, Any]:
    found: dict[str, Any] = server.api("GET", "sys/audit")[1]["data"]
    return found


def made(data: dict[str, Any]) -> dict[str, str | None]:
    """The result of each creation of an audit device, by path."""
    found = [one for one in data["actions"] if one["kind"] == "audit_device"]
    assert {one["action"] for one in found} <= {"create"}
    return {one["path"]: one.get("result") for one in found}


def reload(server: BaoServer, names: set[str]) -> None:
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while devices(server).keys() != names:
        assert time.monotonic() < deadline, devices(server)
        time.sleep(0.02)


def stanzas(problems: list[dict[str, Any]]) -> list[str]:
    """The texts for the configuration, as the fixes have them."""
    found = []
    for one in problems:
        if one["code"] == "audit-device-by-configuration":
            assert "every node" in one["fix"]
            assert "one host only" in one["fix"]
            found.append(one["fix"].partition(":  ")[2])
    return found


def test_the_printed_text_is_put_into_the_configuration_and_then_nothing_is_left(stack, server):
    planned = stack.json("plan")["data"]
    assert made(planned) == {"sys/audit/first": None, "sys/audit/second": None}
    said = stanzas(planned["warnings"])
    refused = stack.json("apply", "-y", check=3)
    assert refused["status"] == "partial"
    assert set(made(refused["data"]).values()) == {"failed"}
    assert stanzas(refused["errors"]) == said
    assert devices(server).keys() == {"main/"}

    config = server.folder / "bao.hcl"
    config.write_text("\n".join([config.read_text(), *said, ""]))
    reload(server, {"main/", "first/", "second/"})
    again = stack.json("apply", "-y")["data"]
    assert (again["actions"], again["warnings"]) == ([], [])
    assert "No changes" in stack.cli("plan", "--detailed-exitcode").stdout

    policy = '# managed-by:skyflowctl/audited\npath "x" { capabilities = ["read"] }'
    server.api("POST", "sys/policies/acl/ours", {"policy": policy})
    exported = stack.folder / "exported.yaml"
    stack.cli("export", "--manifest", "audited", "--out", str(exported))
    server.api("DELETE", "sys/policies/acl/ours")
    written = yaml.safe_load(exported.read_text())["audit_devices"]
    assert (
        written["first"]
        == yaml.safe_load(MANIFEST.format(folder=stack.folder))["audit_devices"]["first"]
    )
    assert written.keys() == {"first", "main", "second"}
    stack.cli("validate", "-f", str(exported))
    again = stack.json("plan", "-f", str(exported))["data"]
    assert [one["path"] for one in again["actions"]] == ["sys/policies/acl/ours"]
    assert again["warnings"] == []

    # Another option: no server takes it, and the whole plan is refused before anything is written.
    manifest = stack.folder / "mounts.yaml"
    manifest.write_text(manifest.read_text().replace("second.log", "other.log"))
    (warning,) = stack.json("plan")["data"]["warnings"]
    assert "options.file_path is" in warning["summary"]
    assert "new name" in warning["fix"]
    (problem,) = stack.json("apply", "-y", check=5)["errors"]
    assert problem["code"] == "type-differs"

    # Out of the manifest: it stays, and is no drift.
    manifest.write_text(manifest.read_text().partition("audit_devices:")[0])
    pruned = stack.json("apply", "--prune", "-y")["data"]
    assert (pruned["actions"], pruned["drift"]) == ([], [])
    assert devices(server).keys() == {"main/", "first/", "second/"}


def test_any_text_that_is_printed_is_read_back_by_the_server(server, stack):
    """Whatever the server's parser makes of a text in its configuration, it is the same text."""
    seed = random.randrange(10**9)
    texts = [*HARD, *random_texts(random.Random(seed), 60)]
    bodies = [
        {"type": "file", "description": one, "options": {"file_path": "discard", "prefix": one}}
        for one in texts
    ]
    said = [stanza(f"sys/audit/d{n}", body) for n, body in enumerate(bodies)]
    assert not any("\n" in line for line in said)
    config = server.folder / "bao.hcl"
    config.write_text("\n".join([config.read_text(), *said, ""]))
    reload(server, {"main/", *(f"d{n}/" for n in range(len(texts)))})
    found = devices(server)
    for n, text in enumerate(texts):
        read = found[f"d{n}/"]
        assert (read["description"], read["options"].get("prefix", "")) == (text, text), seed


HARD = [
    "a ${b",
    'x ${"} y',
    "%{if",
    "${",
    "$${a}",
    "$",
    '"',
    "\\",
    "\\u0041",
    "\ue123",
    "\u2028",
    "é",
]


def random_texts(chosen: random.Random, number: int) -> list[str]:
    """Texts that a manifest may have: without control characters and halves of characters."""
    rare = [chr(n) for n in range(0x20, 0x2FFFF) if not 0xD800 <= n < 0xE000 and n != 0x7F]
    letters = [*'${}"\\%ab ', *chosen.sample(rare, 300)]
    return ["".join(chosen.choices(letters, k=chosen.randrange(1, 40))) for _ in range(number)]


def test_the_option_that_only_the_server_has_is_a_difference(stack, server):
    config = server.folder / "bao.hcl"
    path = stack.folder / "second.log"
    added = f'audit "file" "second" {{ options = {{ file_path = "{path}", log_raw = "true" }} }}'
    config.write_text(f"{config.read_text()}\n{added}\n")
    reload(server, {"main/", "second/"})
    found = {one["code"]: one for one in stack.json("plan")["data"]["warnings"]}
    assert "options.log_raw is 'true', not None" in found["type-differs"]["summary"]


def test_health_names_a_device_whose_folder_was_deleted_until_a_reload_makes_it(stack, server):
    config = server.folder / "bao.hcl"
    folder = stack.folder / "logs"
    path = folder / "second.log"
    manifest = stack.folder / "mounts.yaml"
    manifest.write_text(manifest.read_text().replace(f"{stack.folder}/second.log", str(path)))
    added = f'audit "file" "second" {{ options = {{ file_path = "{path}" }} }}'
    config.write_text(f"{config.read_text()}\n{added}\n")
    reload(server, {"main/", "second/"})
    assert "audit device" not in stack.cli("health").stderr
    shutil.rmtree(folder)
    said = stack.cli("health").stderr
    assert f"the records of the audit device second are lost: {path} was deleted" in said
    assert f"process {server.process.pid} " in said
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "audit device" not in stack.cli("health").stderr


def test_a_login_that_may_not_read_them_never_says_no_changes(stack, server, tmp_path):
    rules = 'path "sys/mounts" { capabilities = ["read"] }'
    server.api("POST", "sys/policies/acl/mounts-only", {"policy": rules})
    answer = server.api("POST", "auth/token/create", {"policies": ["mounts-only"]})[1]
    weak = site(server, tmp_path, BAO_TOKEN=answer["auth"]["client_token"])
    done = weak.cli("plan", check=3)
    assert "No changes" not in done.stdout
    assert "sys/audit/first was not compared" in done.stderr
    assert "read and sudo on sys/audit" in done.stderr


def test_a_server_whose_api_takes_them_needs_no_configuration(tmp_path):
    with running_bao(extra="unsafe_allow_api_audit_creation = true") as other:
        stack = site(other, tmp_path)
        assert stanzas(stack.json("plan")["data"]["warnings"])
        done = stack.json("apply", "-y")["data"]
        assert set(made(done).values()) == {"done"}
        assert not stanzas(done["warnings"])
        found = devices(other)
        assert found["first/"]["options"]["mode"] == "0640"
        assert found["first/"]["description"] == 'the "first" of two'
        assert stack.json("plan", "--detailed-exitcode")["data"]["actions"] == []


@pytest.mark.slow
def test_the_dev_stack_is_reloaded_and_shows_them(tmp_path):
    source = tmp_path / "mounts.yaml"
    source.write_text(MANIFEST.format(folder="/var/log/openbao") + "  file: {type: syslog}\n")
    with running_stack(source) as stack:
        stack.cli("dev", "up")
        stack.load_exports()
        done = stack.cli("apply", "-y", exported=True)
        assert "may need the server's configuration" not in done.stderr
        assert f"sys/audit/first writes to {stack.dev}/logs/audit-first.log" in done.stderr
        found = stack.api("GET", "sys/audit")["data"]
        assert found.keys() == {"file/", "first/", "second/"}
        assert "sys/audit" in (stack.dev / "logs" / "audit-second.log").read_text()
        assert stack.json("plan", "--detailed-exitcode")["data"]["actions"] == []
        assert stack.json("apply", "-y")["data"]["actions"] == []
        what_a_killed_run_left_stops_no_later_device(stack)


def what_a_killed_run_left_stops_no_later_device(stack: Stack) -> None:
    """The run wrote the configuration, and died before its server could refuse it."""
    manifest, config = stack.folder / "mounts.yaml", stack.dev / "openbao.hcl"
    config.write_text(f'{config.read_text()}audit "file" "left" {{ description = "a ${{b" }}\n')
    before = manifest.read_text()
    manifest.write_text(f"{before}  third: {{type: file, options: {{file_path: /tmp/third}}}}\n")
    assert made(stack.json("apply", "-y")["data"]) == {"sys/audit/third": "done"}
    assert '"left"' not in config.read_text()
    text = config.read_text()
    (stack.dev / "logs" / "audit-dead.log").mkdir()
    dead = "  dead: {type: file, options: {file_path: /tmp/dead}}\n"
    manifest.write_text(manifest.read_text() + dead)
    refused = stack.json("apply", "-y", check=3)
    (error,) = [one for one in refused["errors"] if one["code"] == "audit-device-refused"]
    assert "is a directory" in error["why"]
    assert config.read_text() == text
