"""``plugin upgrade`` and ``plugin rollback`` on a real server: forward, refused, and back."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.approvals import ALL, free, guarded
from support.bao import running_bao
from support.emulator import running_emulator
from support.site import Site
from support.upgrading import (
    NEW,
    OLD,
    build_version,
    mount_with_role,
    register_version,
    running_version,
    version_source,
)

pytestmark = [pytest.mark.real_server, pytest.mark.slow, pytest.mark.timeout(180)]
BROKEN, MISSING, DEAD, ONCE, BUILT = "v1.0.2", "v1.0.3", "v1.0.4", "v1.0.5", "v1.0.6"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with the old, the new and a broken version, and two mounts with the old one."""
    folder = tmp_path_factory.mktemp("site")
    with running_emulator() as emulator, running_bao() as server:
        made = Site(server, emulator, folder)
        for version in (OLD, NEW, BROKEN):
            source = version_source(folder, version, broken=version == BROKEN)
            entry = build_version(source, [server.plugin_dir], version)
            register_version(made, entry)
        for name in ("order", "payment"):
            mount_with_role(made, f"skyflow/{name}")
        yield made


@pytest.fixture(autouse=True)
def _on_the_old_version(site: Site) -> Iterator[None]:
    yield
    site.cli("plugin", "rollback", "--to", OLD, "-y")


def results(envelope: dict) -> dict[str, str]:
    return {one["name"]: one["result"] for one in envelope["data"]["mounts"]}


def codes(envelope: dict) -> list[str]:
    return [one["code"] for one in envelope["errors"]]


def options(site: Site, name: str) -> dict[str, str]:
    data = site.server.api("GET", f"sys/mounts/skyflow/{name}")[1]["data"]
    return data["options"] or {}


def test_one_mount_after_the_other_the_canary_first_and_back(site: Site) -> None:
    preview = site.cli("plugin", "upgrade", "--to", NEW, "--dry-run")
    assert results(preview) == dict.fromkeys(("order", "payment"), "would_change")
    assert running_version(site, "skyflow/order") == OLD

    command = ("plugin", "upgrade", "--to", NEW, "--canary", "payment", "--soak", "1s")
    assert codes(site.cli(*command, code=5)) == ["needs-confirmation"]
    done = site.cli(*command, "-y")
    assert list(results(done).items()) == [("payment", "upgraded"), ("order", "upgraded")]
    steps = {one["name"]: [step["name"] for step in one["steps"]] for one in done["data"]["mounts"]}
    assert steps["payment"] == ["tune", "reload", "verify", "soak"]
    assert steps["order"] == ["tune", "reload", "verify"]
    for name in ("order", "payment"):
        assert running_version(site, f"skyflow/{name}") == NEW
        assert options(site, name) == {"upgraded_from": OLD}

    again = site.cli("plugin", "upgrade", "--to", NEW, "-y")
    assert set(results(again).values()) == {"unchanged"}

    back = site.cli("plugin", "rollback", "order", "-y")
    assert results(back) == {"order": "rolled_back"}
    assert running_version(site, "skyflow/order") == OLD
    assert running_version(site, "skyflow/payment") == NEW
    assert options(site, "order") == {"upgraded_from": OLD}
    assert results(site.cli("plugin", "rollback", "order", "-y")) == {"order": "unchanged"}


def test_a_version_that_cannot_mint_goes_back_and_stops_before_the_next_mount(site: Site) -> None:
    failed = site.cli("plugin", "upgrade", "--to", BROKEN, "-y", code=3)
    assert results(failed) == {"order": "rolled_back", "payment": "not_started"}
    assert codes(failed) == ["upgrade-lost-roles"]
    assert "this version cannot mint" in failed["errors"][0]["why"]
    assert running_version(site, "skyflow/order") == OLD
    assert site.server.api("GET", "skyflow/order/creds/reader")[0] == 200
    assert options(site, "order") == {"upgraded_from": OLD}


def test_what_cannot_start_is_refused_before_the_first_write(site: Site) -> None:
    unknown = site.cli("plugin", "upgrade", "--to", "v9.9.9", "-y", code=5)
    assert codes(unknown) == ["plugin-not-registered"]

    launcher = site.server.plugin_dir / f"skyflow-{MISSING}"
    launcher.write_bytes((site.server.plugin_dir / f"skyflow-{OLD}").read_bytes())
    launcher.chmod(0o755)
    register_by_hand(site, launcher, MISSING, "ab" * 32)
    launcher.unlink()
    missing = site.cli("plugin", "upgrade", "--to", MISSING, "-y", code=5)
    assert codes(missing) == ["plugin-file-missing"]

    dead = site.server.plugin_dir / f"skyflow-{DEAD}"
    dead.write_text("#!/bin/sh\nexit 3\n")
    dead.chmod(0o755)
    register_by_hand(site, dead, DEAD, digest(dead))
    assert codes(site.cli("plugin", "upgrade", "--to", DEAD, "-y", code=5)) == [
        "plugin-does-not-start"
    ]
    register_by_hand(site, dead, DEAD, "cd" * 32)
    wrong = site.cli("plugin", "upgrade", "--to", DEAD, "-y", code=5)
    assert codes(wrong) == ["plugin-does-not-start"]
    for name in ("order", "payment"):
        assert running_version(site, f"skyflow/{name}") == OLD
        assert "upgrade_open" not in options(site, name)


def test_a_version_that_starts_once_and_not_again_goes_back(site: Site) -> None:
    """The proof before the first write is passed; the reload is what fails."""
    entry = build_version(version_source(site.folder, ONCE), [site.server.plugin_dir], ONCE)
    real = site.server.plugin_dir / entry["command"]
    launcher = real.with_name(f"{real.name}-once")
    launcher.write_text(f'#!/bin/sh\nmkdir {site.folder}/started && exec {real} "$@"\n')
    launcher.chmod(0o755)
    register_by_hand(site, launcher, ONCE, digest(launcher))
    (site.folder / "started").rmdir()  # a registration starts it as well
    failed = site.cli("plugin", "upgrade", "--to", ONCE, "-y", code=3)
    assert results(failed) == {"order": "rolled_back", "payment": "not_started"}
    steps = [(step["name"], step["ok"]) for step in failed["data"]["mounts"][0]["steps"]]
    assert steps == [("tune", True), ("reload", False), ("rollback", True)]
    assert running_version(site, "skyflow/order") == OLD
    assert site.server.api("GET", "skyflow/order/creds/reader")[0] == 200
    assert site.server.api("GET", "skyflow/payment/creds/reader")[0] == 200


def test_without_a_version_to_go_back_to_it_is_refused_unless_it_is_allowed(site: Site) -> None:
    where = f"sys/plugins/catalog/secret/skyflow?version={OLD}"
    entry = site.server.api("GET", where)[1]["data"]
    site.server.api("DELETE", where)
    try:
        refused = site.cli("plugin", "upgrade", "order", "--to", NEW, "-y", code=5)
        assert codes(refused) == ["no-version-before"]
        assert running_version(site, "skyflow/order") == OLD
        site.cli("plugin", "upgrade", "order", "--to", NEW, "-y", "--no-rollback")
        assert running_version(site, "skyflow/order") == NEW
    finally:
        register_version(site, {name: entry[name] for name in ("command", "sha256", "version")})


def test_a_tune_that_a_control_group_guards_is_refused_before_the_first_write(site: Site) -> None:
    text = free("*", *ALL, "sudo") + guarded("sys/mounts/skyflow/payment/tune")
    policy = {"policy": text}
    assert site.server.api("POST", "sys/policies/acl/guarded", policy)[0] == 204
    login = site.server.api("POST", "auth/token/create", {"policies": ["guarded"]})[1]["auth"]
    command = ("plugin", "upgrade", "--to", NEW, "-y")
    refused = site.cli(*command, code=5, token=login["client_token"])
    assert codes(refused) == ["approval-needed"]
    assert "sys/mounts/skyflow/payment/tune" in refused["errors"][0]["summary"]
    for name in ("order", "payment"):
        assert running_version(site, f"skyflow/{name}") == OLD
        assert "upgrade_open" not in options(site, name)


def test_a_launcher_that_is_not_registered_is_registered_first(site: Site) -> None:
    build_version(version_source(site.folder, BUILT), [site.server.plugin_dir], BUILT)
    launcher = site.server.plugin_dir / f"skyflow-{BUILT}"
    command = ("plugin", "upgrade", "order", "--launcher", str(launcher), "-y")
    env = ("--env", f"SSL_CERT_FILE={site.emulator.ca}")
    elsewhere = launcher.rename(site.folder / launcher.name)
    away = site.cli("plugin", "upgrade", "--launcher", str(elsewhere), "-y", *env, code=5)
    assert codes(away) == ["not-in-plugin-directory"]
    elsewhere.rename(launcher)
    where = f"sys/plugins/catalog/secret/skyflow?version={BUILT}"
    assert site.server.api("GET", where)[0] == 404
    assert results(site.cli(*command, *env)) == {"order": "upgraded"}
    entry = site.server.api("GET", where)[1]["data"]
    assert entry["sha256"] == digest(launcher)
    assert entry["args"] == [f"--allow-host={site.emulator.host}", "--env-names=SSL_CERT_FILE"]
    assert running_version(site, "skyflow/order") == BUILT
    assert results(site.cli(*command)) == {"order": "unchanged"}


def test_a_signal_during_the_soak_ends_with_its_exit_code(site: Site) -> None:
    words = ("plugin", "upgrade", "--to", NEW, "--canary", "order", "--soak", "60s", "-y")
    with site.started(*words, "-o", "json") as process:
        for line in process.stderr:
            if "order: verified" in line:
                break
        process.send_signal(signal.SIGTERM)
        stopped = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 128 + signal.SIGTERM
    assert results(stopped) == {"order": "upgraded", "payment": "not_started"}
    assert [one["ok"] for one in stopped["data"]["mounts"][0]["steps"]][-1] is False
    assert codes(stopped) == ["stopped"]


@pytest.mark.parametrize(
    # After the tune, the reload, and, of what cannot mint, the verification and the way back.
    ("version", "kills", "wanted"),
    [(NEW, (3, 4), NEW), (BROKEN, (4, 6), OLD)],
)
def test_killed_between_two_steps_the_same_command_finishes(
    site: Site, version: str, kills: tuple[int, ...], wanted: str
) -> None:
    command = ("plugin", "upgrade", "order", "--to", version, "-y")
    for writes in kills:
        assert site.killed(writes, *command) == -signal.SIGKILL
        done = site.cli(*command, code=0 if wanted == NEW else 3)
        assert results(done)["order"] == ("upgraded" if wanted == NEW else "rolled_back")
        assert running_version(site, "skyflow/order") == wanted
        assert site.server.api("GET", "skyflow/order/creds/reader")[0] == 200
        assert options(site, "order") == {"upgraded_from": OLD}
        site.cli("plugin", "rollback", "order", "-y")


def test_a_killed_rollback_is_finished_by_the_same_command(site: Site) -> None:
    site.cli("plugin", "upgrade", "order", "--to", NEW, "-y")
    assert site.killed(3, "plugin", "rollback", "order", "-y") == -signal.SIGKILL
    site.cli("plugin", "rollback", "order", "-y")
    assert running_version(site, "skyflow/order") == OLD
    assert options(site, "order") == {"upgraded_from": OLD}


def register_by_hand(site: Site, launcher: Path, version: str, sha256: str) -> None:
    register_version(site, {"command": launcher.name, "sha256": sha256, "version": version})


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
