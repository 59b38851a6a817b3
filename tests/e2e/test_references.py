"""References that are read from a real server, run, or piped in, as commands resolve them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bao import BaoServer
from support.keys import credential
from support.stack import BIN, Stack, clean_environ

from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.credentials.schemes import vault
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import ServerUnreachableError
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.target import Target

pytestmark = pytest.mark.real_server

MANIFEST = """\
version: 1
manifest: references
plugin: {name: transit}  # of a type that the catalog has: nothing is written
defaults: {path_prefix: references}
mounts:
  order:
    credentials: %s
    roles: {writer: {role_ids: [r1]}}
"""


@pytest.fixture(scope="module")
def kv(bao: BaoServer) -> Iterator[BaoServer]:
    """The session's server with a KV engine of each version, and one that is none."""
    for path, body in {
        "refs-one": {"type": "kv", "options": {"version": "1"}},
        "refs-two": {"type": "kv", "options": {"version": "2"}},
        "refs/data": {"type": "kv"},
        "refs-transit": {"type": "transit"},
    }.items():
        assert bao.api("POST", f"sys/mounts/{path}", body)[0] == 204
    secret = {"key": "SECRET", "number": 7, "nothing": "", "null": None}
    assert bao.api("POST", "refs-one/data/order", secret)[0] == 204
    assert bao.api("POST", "refs/data/order", secret)[0] == 204
    for name in ("order", "team/data/order", "deleted", "destroyed"):
        assert bao.api("POST", f"refs-two/data/{name}", {"data": secret})[0] == 200
    assert bao.api("POST", "refs-two/data/newer", {"data": {"key": "old"}})[0] == 200
    assert bao.api("POST", "refs-two/data/newer", {"data": {"other": "new"}})[0] == 200
    assert bao.api("DELETE", "refs-two/data/deleted")[0] == 204
    assert bao.api("PUT", "refs-two/destroy/destroyed", {"versions": [1]})[0] == 204
    yield bao
    for path in ("refs-one", "refs-two", "refs/data", "refs-transit"):
        bao.api("DELETE", f"sys/mounts/{path}")


def transport(server: BaoServer, token: str = "") -> HttpTransport:
    ca = str(server.ca) if server.ca else None
    target = Target(server.address, "", Secret(token or server.token), "flags", ca_cert=ca)
    return HttpTransport(target, run_id="references")


@pytest.mark.parametrize(
    "path",
    ["refs-one/data/order", "refs/data/order", "refs-two/order", "refs-two/team/data/order"],
)
def test_the_server_tells_the_version_not_the_path(kv, path):
    reader = transport(kv)
    assert vault.read(reader, path, "key") == Secret("SECRET")
    assert reader.requests_made == 2


@pytest.mark.parametrize(
    ("path", "field", "code"),
    [
        ("refs-two/deleted", "key", "reference-missing"),
        ("refs-two/destroyed", "key", "reference-missing"),
        ("refs-two/newer", "key", "reference-missing"),
        ("refs-two/nobody", "key", "reference-missing"),
        ("refs-two/data/order", "key", "reference-missing"),
        ("refs-one/nobody", "key", "reference-missing"),
        ("refs-two/order", "nobody", "reference-missing"),
        ("refs-two/order", "null", "reference-missing"),
        ("refs-two/order", "number", "reference-unreadable"),
        ("refs-two/order", "nothing", "reference-empty"),
        ("refs-two", "key", "reference-unreadable"),
        ("refs-transit/keys/a", "key", "reference-unreadable"),
        ("nowhere/order", "key", "reference-forbidden"),
    ],
)
def test_what_is_not_there_or_no_text(kv, path, field, code):
    with pytest.raises(UnresolvedReferenceError) as caught:
        vault.read(transport(kv), path, field)
    (problem,) = caught.value.problems
    assert problem.code == code, problem
    assert "SECRET" not in str(problem)
    assert all((problem.summary, problem.why, problem.fix))


def token_with(server: BaoServer, rules: str) -> str:
    assert server.api("PUT", "sys/policies/acl/refs-reader", {"policy": rules})[0] == 204
    status, body = server.api("POST", "auth/token/create", {"policies": ["refs-reader"]})
    assert status == 200
    return body["auth"]["client_token"]


def test_without_permission_and_with_the_one_that_the_message_names(kv):
    token = token_with(kv, 'path "refs-two/data/other" { capabilities = ["read"] }')
    with pytest.raises(UnresolvedReferenceError) as caught:
        vault.read(transport(kv, token), "refs-two/order", "key")
    (problem,) = caught.value.problems
    assert problem.code == "reference-forbidden"
    path = problem.fix.rpartition(" ")[2]
    assert path == "refs-two/data/order"
    token = token_with(kv, f'path "{path}" {{ capabilities = ["read"] }}')
    assert vault.read(transport(kv, token), "refs-two/order", "key") == Secret("SECRET")


def test_a_server_that_cannot_be_asked_is_no_missing_secret(kv):
    target = Target("http://127.0.0.1:1", "", Secret("t"), "flags")
    with pytest.raises(ServerUnreachableError):
        vault.read(HttpTransport(target, run_id="r"), "refs-two/order", "key")


class Folder:
    """A manifest's folder, and skyflowctl in it."""

    def __init__(self, server: BaoServer, path: Path) -> None:
        self.server, self.path = server, path
        self.key = credential()

    def plan(
        self, reference: str, *words: str, stdin: str | None = None, command: str = "plan"
    ) -> tuple[dict, str]:
        (self.path / "mounts.yaml").write_text(MANIFEST % reference)
        done = subprocess.run(
            [str(BIN / "skyflowctl"), command, "-o", "json", *words],
            env={**clean_environ(), **self.server.env()},
            cwd=self.path,
            text=True,
            capture_output=True,
            timeout=90,
            check=False,
            **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
        )
        assert self.key["privateKey"] not in done.stdout + done.stderr
        return json.loads(done.stdout), done.stderr

    def planned_key(self, envelope: dict) -> str:
        fields = {
            change["field"]: change["after"]
            for action in envelope["data"]["actions"]
            if action["kind"] == "config"
            for change in action["changes"]
        }
        return fields.get("key_id", "")


@pytest.fixture
def folder(kv: BaoServer, tmp_path: Path) -> Folder:
    folder = tmp_path / "manifests"
    folder.mkdir()
    return Folder(kv, folder)


def test_a_plan_with_a_secret_of_the_server(kv, folder):
    body = {"data": {"credential": json.dumps(folder.key)}}
    assert kv.api("POST", "refs-two/data/credential", body)[0] == 200
    reference = "{vault: {path: refs-two/credential, field: credential}}"
    refused, _ = folder.plan(reference)
    assert [one["code"] for one in refused["errors"]] == ["reference-not-allowed"]
    assert "add --allow-ref" in refused["errors"][0]["fix"]
    planned, said = folder.plan(reference, "--allow-ref=refs-two/*")
    assert folder.planned_key(planned) == folder.key["keyID"]
    assert f"reading a secret: vault: refs-two/credential, credential ({kv.address}" in said
    dry, _ = folder.plan(reference, "--allow-ref=refs-two/*", "--dry-run", command="apply")
    assert any("refs-two/credential" in one["for"] for one in dry["data"]["dry_run"]["connections"])


def test_a_plan_with_a_program(folder, tmp_path):
    (tmp_path / "key.json").write_text(json.dumps(folder.key))
    tool = tmp_path / "tool"
    tool.write_text(f'#!/bin/sh\necho >> {tmp_path}/runs\nexec cat "$1"\n')
    tool.chmod(0o700)
    reference = f"{{exec: [{tool}, {tmp_path}/key.json]}}"
    refused, _ = folder.plan(reference)
    assert [one["code"] for one in refused["errors"]] == ["reference-not-allowed"]
    assert refused["status"] == "refused"
    assert not (tmp_path / "runs").exists()
    planned, said = folder.plan(reference, f"--allow-exec={tool}")
    assert folder.planned_key(planned) == folder.key["keyID"]
    assert f"reading a secret: exec: {tool} and 1 argument" in said
    assert (tmp_path / "runs").read_text() == "\n"
    relative, _ = folder.plan(reference, "--allow-exec=tool")
    assert relative["errors"][0]["code"] == "bad-program"
    validated, _ = folder.plan(reference, command="validate")
    assert validated["status"] == "ok"
    assert (tmp_path / "runs").read_text() == "\n"


def test_a_plan_with_standard_input(folder):
    planned, _ = folder.plan("{stdin: true}", stdin=json.dumps(folder.key))
    assert folder.planned_key(planned) == folder.key["keyID"]
    empty, _ = folder.plan("{stdin: true}", stdin="")
    assert folder.planned_key(empty) == ""
    assert "standard input gave nothing" in json.dumps(empty)


def test_the_dev_stack_resolves_none_of_them(stack: Stack, tmp_path):
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    tool.chmod(0o700)
    folder = tmp_path / "manifests"
    folder.mkdir()
    for reference in (f"{{exec: [{tool}]}}", "{vault: {path: kv/a, field: b}}", "{stdin: true}"):
        (folder / "mounts.yaml").write_text(MANIFEST % reference)
        done = stack.cli(
            *("plan", "-f", str(folder / "mounts.yaml"), f"--allow-exec={tool}"),
            *("--allow-ref=*", "-o", "json"),
            exported=True,
        )
        assert "reading a secret" not in done.stderr
        assert json.loads(done.stdout)["data"]["summary"]["create"]
    assert not (tmp_path / "ran").exists()
