"""An upgrade by the letter of the docs, on raft: nothing that runs is touched before its time."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bao import running_bao
from support.emulator import running_emulator
from support.plugin import processes_of, wait_for
from support.site import Site
from support.stack import REPO

pytestmark = [pytest.mark.real_server, pytest.mark.slow, pytest.mark.timeout(900)]

MANIFEST = """\
version: 1
manifest: shop
plugin: {{name: skyflow, version: {version}}}
mounts:
  order:
    credentials: {{file: order.json}}
    roles:
      reader: {{role_ids: [role-order]}}
"""
CREDS = "skyflow/order/creds/reader"


class Upgraded(Site):
    """A server on disk, and installations of two versions beside each other."""

    def want(self, version: str) -> None:
        (self.folder / "mounts.yaml").write_text(MANIFEST.format(version=version))

    def installed(self, version: str, folder: str) -> Path:
        """Install a version by the commands of docs/install.md; the folder."""
        source = self.folder / f"source-{folder}"
        ignored = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".skyflowctl", "artifacts")
        shutil.copytree(REPO, source, ignore=ignored)
        module = source / "src" / "skyflowctl" / "version.py"
        text = re.sub(
            r"^__version__ = .*$",
            f'__version__ = "{version}"',
            module.read_text(),
            flags=re.MULTILINE,
        )
        module.write_text(text)
        target = self.folder / "opt" / folder
        pip = [str(target / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
        for command in (
            [sys.executable, "-m", "venv", str(target)],
            [*pip, "--require-hashes", "-r", "requirements/plugin.txt"],
            [*pip, "--no-deps", "."],
        ):
            subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=200)
        return target

    def built(self, target: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(target / "bin" / "python"), "-m", "skyflowctl.plugin.build", str(self.plugins)],
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
            cwd=self.folder,
        )
        assert done.returncode == code, done.stderr
        return done

    def launcher(self, target: Path) -> Path:
        return Path(json.loads(self.built(target).stdout)["path"])

    def registered(self, launcher: Path, *more: str) -> dict[str, Any]:
        host = ("--allow-host", self.emulator.host, "--env", f"SSL_CERT_FILE={self.emulator.ca}")
        return self.cli("plugin", "register", str(launcher), *host, "-y", *more)["data"]

    @property
    def plugins(self) -> Path:
        return self.server.plugin_dir

    def serves(self) -> bool:
        return self.server.api("GET", CREDS)[0] == 200

    def running(self) -> str:
        return self.server.api("GET", "sys/mounts/skyflow/order")[1]["data"][
            "running_plugin_version"
        ]

    def restore(self, snapshot: Path, version: str) -> None:
        """Go back to a snapshot, and wait until the server has what was in it."""
        self.server.bao("operator", "raft", "snapshot", "restore", str(snapshot))

        def restored() -> bool:
            status, body = self.server.api("GET", "sys/mounts/skyflow/order")
            return status == 200 and body["data"]["plugin_version"] == version

        wait_for(restored)

    def health(self, code: int = 0) -> str:
        (one,) = self.cli("health", "order", code=code)["data"]["mounts"]
        return one["state"]


@pytest.fixture
def site(tmp_path_factory) -> Iterator[Upgraded]:
    with running_emulator() as emulator, running_bao(raft=True) as server:
        folder = tmp_path_factory.mktemp("site")
        made = Upgraded(server, emulator, folder)
        made.write("order.json", emulator.new_account("role-order"))
        yield made


def test_upgrade_roll_back_restart_and_a_snapshot_older_than_the_upgrade(site: Upgraded) -> None:
    old = site.installed("1.0.0", "v1.0.0")
    first = site.launcher(old)
    assert site.registered(first)["version"] == "v1.0.0"
    site.want("v1.0.0")
    site.cli("apply", "-y")
    assert site.serves()
    before = first.read_bytes()

    # The next version, installed beside it; the old process dies and comes back.
    new = site.installed("1.0.1", "v1.0.1")
    site.want("v1.0.1")
    refused = site.cli("plan", code=65)
    assert refused["errors"][0]["code"] == "plugin-not-registered"
    second = site.launcher(new)
    assert second != first
    assert first.read_bytes() == before
    # Without the arguments of the version that runs it is refused, and the command that is
    # printed keeps them.
    without = site.cli("plugin", "register", str(second), code=5)["errors"][0]
    command = shlex.split(without["fix"].partition(";")[0])
    env = ("--env", f"SSL_CERT_FILE={site.emulator.ca}")
    assert "; add --env SSL_CERT_FILE=…" in without["fix"]
    kept = site.cli(*command[1:], *env)["data"]
    assert (kept["version"], kept["args"]) == (
        "v1.0.1",
        [f"--allow-host={site.emulator.host}", "--env-names=SSL_CERT_FILE"],
    )
    (process,) = processes_of(site.server, first.name)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(site.serves)
    site.server.restart()
    wait_for(site.serves)
    assert site.running() == "v1.0.0"
    listed = site.cli("plugin", "list", "--directory", str(site.plugins))["data"]
    assert {one["version"]: one["file"]["state"] for one in listed["catalog"]} == {
        "v1.0.0": "ok",
        "v1.0.1": "ok",
    }
    snapshot = site.folder / "older.snap"
    site.server.bao("operator", "raft", "snapshot", "save", str(snapshot))

    # The switch, the way back, and the switch again.
    for version in ("v1.0.1", "v1.0.0", "v1.0.1"):
        site.want(version)
        plan = site.cli("plan", "--detailed-exitcode", code=2)["data"]
        assert [one["action"] for one in plan["actions"]] == ["plugin_upgrade"]
        site.cli("apply", "-y")
        assert site.running() == version
        assert site.serves()
        assert site.health() == "ok"

    # Registered without the arguments all the same: the upgrade says why it went back.
    site.want("v1.0.0")
    site.cli("apply", "-y")
    dropped = site.cli("plugin", "register", str(second), "-y", *env)
    assert dropped["data"]["loses"][0]["mounts"] == ["skyflow/order"]
    site.want("v1.0.1")
    stopped = site.cli("apply", "-y", code=3)
    assert [one["code"] for one in stopped["errors"]] == ["upgrade-lost-roles"]
    assert "names a host that is not allowed" in stopped["errors"][0]["why"]
    assert (site.running(), site.health()) == ("v1.0.0", "ok")
    site.registered(second, "--reload")
    assert site.health() == "ok"

    # A snapshot of before the upgrade wants the old launcher, which is still there.
    site.server.bao("operator", "raft", "snapshot", "restore", str(snapshot))
    site.server.restart()
    wait_for(site.serves)
    assert site.running() == "v1.0.0"
    site.cli("apply", "-y")
    assert site.running() == "v1.0.1"

    # An environment that is changed after its build: said before the restart, and mended by
    # what is printed.
    (package,) = new.glob("lib/python*/site-packages/skyflowctl")
    with (package / "clock.py").open("a") as module:
        module.write("# changed\n")
    found = site.cli("plugin", "list", "--directory", str(site.plugins), code=6)
    assert [one["code"] for one in found["errors"]] == ["plugin-file-does-not-start"]
    assert "into a new folder of its own" in found["errors"][0]["fix"]
    assert "built from this same installation" in site.built(new, code=5).stderr
    site.server.restart()
    wait_for(lambda: site.server.api("GET", "sys/health")[0] == 200)
    assert site.health(code=6) != "ok"
    mended = site.launcher(site.installed("1.0.1", "v1.0.1-again"))
    told = site.registered(mended, "--reload")
    assert [(one["path"], one["health"]) for one in told["reloaded"]] == [("skyflow/order", "ok")]
    assert site.health() == "ok"

    # Only what nothing names goes.
    removed = site.cli("plugin", "prune", str(site.plugins), "-y")["data"]
    assert removed["removed"] == [second.name]
    assert {one["file"] for one in removed["kept"]} == {first.name, mended.name}


def test_a_snapshot_whose_launcher_was_pruned_since_is_told_and_mended(site: Upgraded) -> None:
    old = site.installed("1.0.0", "v1.0.0")
    first = site.launcher(old)
    site.registered(first)
    site.want("v1.0.0")
    site.cli("apply", "-y")
    snapshot = site.folder / "older.snap"
    site.server.bao("operator", "raft", "snapshot", "save", str(snapshot))
    second = site.launcher(site.installed("1.0.1", "v1.0.1"))
    site.want("v1.0.1")
    _upgraded(site, second)
    site.server.bao("plugin", "deregister", "-version=v1.0.0", "secret", "skyflow")
    pruned = site.cli("plugin", "prune", str(site.plugins), "-y")["data"]
    assert pruned["removed"] == [first.name]

    # Its folder is still there: the printed build writes the same file again.
    site.restore(snapshot, "v1.0.0")
    assert not site.serves()
    command = _mending(site)
    assert _typed(site, command, old) == first

    # Its folder is gone as well: installed into its place again, then the same commands.
    first.unlink()
    shutil.rmtree(old)
    shutil.rmtree(site.folder / "source-v1.0.0")
    site.restore(snapshot, "v1.0.0")
    assert _mending(site) == command
    site.installed("1.0.0", "v1.0.0")
    _typed(site, command, old)

    # The new version is not in the catalog of that time.
    refused = site.cli("plan", code=65)["errors"]
    assert [one["code"] for one in refused] == ["plugin-not-registered"]
    _upgraded(site, second)


def _upgraded(site: Upgraded, launcher: Path) -> None:
    site.registered(launcher)
    site.cli("apply", "-y")
    assert (site.running(), site.health()) == ("v1.0.1", "ok")


def _mending(site: Upgraded) -> tuple[str, str]:
    """What ``plugin list`` prints to build and to register, where every command says it."""
    (down,) = site.cli("health", "order", code=6)["errors"]
    (unread,) = site.cli("status", code=3)["errors"]
    assert down["code"] == unread["code"] == "plugin-missing"
    assert down["fix"] == unread["fix"]
    words = shlex.split(down["fix"].removeprefix("on that node: skyflowctl "))
    words[words.index("PLUGIN_DIRECTORY")] = str(site.plugins)
    (missing,) = site.cli(*words, code=6)["errors"]
    assert missing["code"] == "plugin-file-missing"
    found = re.fullmatch(
        r"in the folder where v1\.0\.0 is installed: (.+); then: (.+), with the file that it "
        r"names and the options that v1\.0\.0 was registered with",
        missing["fix"],
    )
    assert found
    return found[1], found[2]


def _typed(site: Upgraded, command: tuple[str, str], folder: Path) -> Path:
    """Type the two commands: the mount serves again, from the launcher that is returned."""
    build, register = map(shlex.split, command)
    done = subprocess.run(build, cwd=folder, check=True, capture_output=True, timeout=60)
    launcher = Path(json.loads(done.stdout)["path"])
    options = ("--allow-host", site.emulator.host, "--env", f"SSL_CERT_FILE={site.emulator.ca}")
    words = [str(launcher) if word == "FILE" else word for word in register]
    told = site.cli(*words[1:], *options)["data"]
    assert [(one["path"], one["health"]) for one in told["reloaded"]] == [("skyflow/order", "ok")]
    assert site.health() == "ok"
    assert site.running() == "v1.0.0"
    listed = site.cli("plugin", "list", "--directory", str(site.plugins))["data"]
    assert [one["file"]["state"] for one in listed["catalog"]] == ["ok"]
    return launcher
