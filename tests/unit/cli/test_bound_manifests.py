"""A manifest with `servers` works on these alone; commands that only show work anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import checked_envelope, invoke
from support.fake_server import FakeCredentials, FakeServer
from support.reached import MANIFEST

from skyflowctl.cli.context import bound_manifests, credential_sources, gateways
from skyflowctl.operations.doctor import run as doctor
from skyflowctl.vault import http_transport
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.transport import ServerInfo

ADDRESS = "https://bao.shop.example:8200"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server at ADDRESS, in place of the one that a command would connect to."""
    found = FakeServer()
    found.server = ServerInfo(ADDRESS, (ADDRESS,))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(http_transport, "HttpTransport", lambda *_, **__: found)
    monkeypatch.setattr(gateways, "_approving_transport", lambda *_: found)
    monkeypatch.setattr(credential_sources, "credentials_for", lambda *_: FakeCredentials())
    monkeypatch.setattr(bound_manifests, "dev_layout", lambda _: None)
    return found


def run(*args: str):
    return invoke(*args, env={"BAO_ADDR": ADDRESS, "BAO_TOKEN": "t"})


def declare(*servers: str) -> None:
    lines = "".join(f"  - {one}\n" for one in servers)
    Path("mounts.yaml").write_text(f"{MANIFEST}servers:\n{lines}")


@pytest.mark.parametrize("named", ["fake", ADDRESS, f"{ADDRESS}/", ADDRESS.upper().lower()])
def test_its_own_server_is_applied_to(server, named) -> None:
    declare("other", named)
    done = run("apply", "-y")
    assert done.exit_code == 0, done.stderr


def test_an_address_costs_no_request(server) -> None:
    declare(ADDRESS)
    run("apply", "-y")
    bound = [path for _, path, _ in server.log]
    server.log.clear()
    Path("mounts.yaml").write_text(MANIFEST)
    run("apply", "-y")
    assert bound.count("sys/health") == [path for _, path, _ in server.log].count("sys/health")


@pytest.mark.parametrize(
    "command",
    [
        ("plan",),
        ("apply", "-y"),
        ("plan", "--out", "p.json"),
        ("rotate", "--retire", "order", "-y"),
        ("mount", "enable", "order"),
        ("config", "revoke", "order", "--reason", "x", "--allow-destroy=skyflow/order"),
        ("role", "delete", "order", "writer", "-y"),
        ("config", "write", "order", "--description", "x"),
        ("config", "verify", "order"),
        ("config", "rollback", "skyflow/order"),
        ("creds", "order", "writer"),
        ("creds", "skyflow/order", "writer"),
        ("sign", "order", "writer", "token"),
        ("exec", "order", "writer", "--", "true"),
        ("token-file", "order", "writer", "--once", "--path", "token"),
        ("health", "--mint"),
        ("doctor", "--idempotence", "-y"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
@pytest.mark.parametrize("named", ["other", "https://bao.shop.example:8201", "http://x:99999999"])
def test_every_other_server_is_refused_before_anything_is_written(server, command, named) -> None:
    declare(named)
    cut = command.index("--") if "--" in command else len(command)
    done = run(*command[:cut], "-f", "mounts.yaml", "-o", "json", *command[cut:])
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, server.writes()) == (5, []), whole
    (problem,) = whole["errors"]
    assert problem["code"] == "server-not-in-manifest"
    assert named in problem["why"]
    assert "cluster fake" in problem["why"]


@pytest.mark.parametrize(
    "command", [("status",), ("health",), ("mount", "list"), ("role", "list", "order")]
)
def test_what_only_shows_is_not_refused(server, command) -> None:
    run("apply", "-y")
    declare("other")
    assert run(*command).exit_code != 5


def bound_findings(*args: str) -> list[str]:
    """What doctor says of the target, the address itself left out."""
    whole = checked_envelope(run("doctor", *args, "-o", "json").stdout)
    found = [one for one in whole["data"]["findings"] if one["check"] == "target"]
    assert found[0]["summary"].startswith(ADDRESS)
    return [f"{one['grade']}: {one['summary']}" for one in found[1:]]


def test_doctor_tells_that_the_manifest_is_for_other_servers(server, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "check_tls", lambda *_: ())
    declare("other")
    assert bound_findings() == ["bad: the manifest shop is not for this server"]
    declare("other", "fake")
    assert bound_findings() == []
    Path("mounts.yaml").write_text(MANIFEST)
    assert bound_findings() == []


def test_doctor_does_not_call_a_server_right_whose_cluster_id_it_could_not_read(
    server, monkeypatch
) -> None:
    monkeypatch.setattr(doctor, "check_tls", lambda *_: ())
    server.server_health = error_for(500, ["no"], method="GET", path="sys/health", request_id="r")
    server.cluster_id = ""
    declare("fake")
    assert bound_findings() == ["unknown: whether the manifest is for this server is not known"]


def test_the_printed_fix_works(server) -> None:
    declare("other")
    whole = checked_envelope(run("plan", "-o", "json").stdout)
    (problem,) = whole["errors"]
    assert problem["fix"].endswith("add fake to servers")
    declare("other", "fake")
    assert run("plan").exit_code == 0


def test_an_overlay_replaces_the_servers_of_its_base(server) -> None:
    declare(ADDRESS)
    Path("staging.yaml").write_text("version: 1\nmanifest: shop\nservers: [staging]\n")
    assert run("plan", "-f", "mounts.yaml", "-f", "staging.yaml").exit_code == 5


def test_the_dev_stack_is_always_allowed(server, monkeypatch) -> None:
    declare("other")
    monkeypatch.setattr(bound_manifests, "dev_layout", lambda _: object())
    assert run("plan").exit_code == 0
