"""``plugin upgrade`` and ``register`` from the command line on."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import checked_data, checked_envelope, invoke
from support.reached import reach_gateway
from support.upgrade_server import OLD, UpgradeServer, mount_entry

from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import RefusedError

ORDER = "skyflow/order"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> UpgradeServer:
    made = UpgradeServer({ORDER: mount_entry()})
    reach_gateway(made.gateway(), monkeypatch)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    path = tmp_path / "skyflow-v1.2.0"
    path.write_text("#!/bin/sh\n")
    return path


@pytest.mark.parametrize(
    ("pair", "code"),
    [
        ("SKYFLOW_API_TOKEN=s3cr3t", "secret-env"),
        ("NOEQUALS", "usage"),
        ("bad name=1", "usage"),
    ],
)
def test_an_env_that_register_refuses_is_refused_before_any_request(there, launcher, pair, code):
    words = ("plugin", "upgrade", "--to", "v1.2.0", "--launcher", str(launcher), "--env", pair)
    done = invoke(*words, "-y", "-o", "json")
    assert done.exit_code == 64
    assert [one["code"] for one in checked_envelope(done.stdout)["errors"]] == [code]
    assert there.requests == 0


def test_an_env_without_a_launcher_is_a_wrong_command_line(there):
    done = invoke("plugin", "upgrade", "--to", "v1.0.1", "--env", "A=b", "-y", "-o", "json")
    assert done.exit_code == 64
    assert "--launcher" in checked_envelope(done.stdout)["errors"][0]["fix"]
    assert there.requests == 0


def test_a_variable_that_the_launcher_removes_is_a_warning(there, launcher):
    launcher.write_text("#!/bin/sh\n# a launcher made by `skyflowctl plugin build`\n")
    words = ("plugin", "upgrade", "--to", "v1.2.0", "--launcher", str(launcher), "--dry-run")
    done = invoke(*words, "--env", "LOG_LEVEL=debug")
    assert "the engine will not get LOG_LEVEL" in done.stderr


def test_a_dry_run_shows_what_it_would_register_and_writes_nothing(there, launcher):
    words = ("plugin", "upgrade", "--to", "v1.2.0", "--launcher", str(launcher), "--dry-run")
    data = checked_data(invoke(*words, "--env", "A=b", "-o", "json").stdout)
    entry = data["registration"]
    assert (entry["version"], entry["command"], entry["env"]) == ("v1.2.0", launcher.name, ["A"])
    assert [(one["from"], one["to"], one["result"]) for one in data["mounts"]] == [
        (OLD, "v1.2.0", "would_change")
    ]
    assert [one["code"] for one in data["warnings"]] == ["start-not-proved"]
    assert "would register skyflow v1.2.0" in invoke(*words).stdout
    writes = {(method, path) for _, method, path in there.log}
    assert writes <= {("POST", "sys/capabilities-self")}


def test_a_no_to_the_upgrade_removes_the_entry_again(there, launcher, monkeypatch):
    def confirm(_: CommandRun, question: str, **__: bool) -> None:
        if question.startswith("Upgrade"):
            assert list(there.registered) == ["v1.2.0"]
            raise RefusedError("not confirmed", code="not-confirmed")

    monkeypatch.setattr(CommandRun, "confirm", confirm)
    done = invoke("plugin", "upgrade", "--to", "v1.2.0", "--launcher", str(launcher))
    assert done.exit_code == 5
    assert there.registered == {}
    assert "skyflow v1.2.0 is not registered any more" in done.stderr
    assert there.versions(ORDER) == {OLD}


@pytest.mark.parametrize(
    ("name", "which"),
    [("skyflow", ""), ("skyflow-next", " those of a manifest with plugin.name skyflow-next")],
)
def test_the_note_says_whose_mounts_an_upgrade_switches(there, launcher, name, which):
    words = ("plugin", "register", str(launcher), "--name", name, "--version", "v1.2.0", "-y")
    done = invoke(*words)
    assert done.exit_code == 0, done.stderr
    command = "skyflowctl plugin upgrade --to v1.2.0"
    assert f"running mounts keep the old one; to switch{which}: {command}\n" in done.stderr
