"""H2: what a cloned repository or another user has planted is neither followed nor used."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest
from support.cli import checked_envelope, invoke

from skyflowctl.devstack.layout import DevLayout
from skyflowctl.devstack.logs import path_of, tail
from skyflowctl.devstack.processes import alive, start_detached, stop
from skyflowctl.devstack.state import DevState, load_state, locked, save_state
from skyflowctl.errors import RefusedError
from skyflowctl.private_files import (
    is_private_folder,
    make_private_folder,
    open_private,
    read_private,
    write_private,
)
from skyflowctl.rotation.owner_file import OwnerFile

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")

# Every file that a start of the stack writes, appends to, or locks.
WRITTEN = [
    ".gitignore", "openbao.hcl", "lock", "dev.json", "logs/openbao.log", "logs/audit.log",
    "logs/emulator.log", "secrets/operator.token", "secrets/unseal.key", "tls/ca.pem",
    "tls/bundle.pem", "tls/server.key", "emulator/accounts.json", "credentials/order.json",
    "plugins/skyflow",
]  # fmt: skip
FOLDERS = ["logs", "secrets", "tls", "emulator", "credentials", "plugins", "run"]


@pytest.fixture
def target(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    precious.chmod(0o644)
    return precious


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / "clone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SKYFLOWCTL_DEV_DIR", raising=False)
    return folder


def dev_of(project: Path) -> DevLayout:
    return DevLayout(project / ".skyflowctl" / "dev")


def untouched(target: Path) -> bool:
    return (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == ("mine", 0o644)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("made", ["by a clone", "by dev up"])
def test_a_planted_file_link_is_refused_by_a_reading_command(project, target, name, made):
    layout = dev_of(project)
    if made == "by dev up":
        layout.create()
    link = layout.root / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    (project / "mounts.yaml").write_text("version: 1\nmanifest: t\nmounts: {}\n")
    done = invoke("plan", "--dev", "-o", "json")
    error = checked_envelope(done.stdout)["errors"][0]
    code = "planted-path" if made == "by dev up" else "foreign-folder"
    assert (done.exit_code, error["code"]) == (5, code)
    assert untouched(target)
    assert str(layout.root) in error["summary"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_planted_folder_link_is_refused_and_its_target_not_closed(project, tmp_path, name):
    layout = dev_of(project)
    layout.create()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    if (layout.root / name).exists():
        (layout.root / name).rmdir()
    (layout.root / name).symlink_to(elsewhere)
    with pytest.raises(RefusedError) as refused:
        layout.create()
    assert refused.value.problems[0].code == "planted-path"
    assert (list(elsewhere.iterdir()), stat.S_IMODE(elsewhere.stat().st_mode)) == ([], 0o755)


@pytest.mark.parametrize("what", [".skyflowctl", ".skyflowctl/dev"])
def test_a_link_in_the_place_of_the_folder_itself_is_refused(project, tmp_path, what):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (project / what).parent.mkdir(exist_ok=True)
    (project / what).symlink_to(elsewhere)
    stack = [["up"], ["down"], ["status"], ["reset", "-y"], ["env"]]
    for args in (["dev", *words] for words in stack):
        done = invoke(*args, "-o", "json")
        assert (done.exit_code, checked_envelope(done.stdout)["errors"][0]["code"]) == (
            5,
            "planted-path",
        )
    assert (list(elsewhere.iterdir()), stat.S_IMODE(elsewhere.stat().st_mode)) == ([], 0o755)


def test_the_fix_that_is_printed_makes_the_folder_usable_again(project, target):
    layout = dev_of(project)
    layout.create()
    (layout.root / "lock").symlink_to(target)
    with pytest.raises(RefusedError) as refused:
        layout.create()
    command = refused.value.problems[0].fix.partition(": ")[2]
    assert os.system(command) == 0  # noqa: S605 - what the reader would type
    layout.create()
    assert untouched(target)


def test_a_dev_folder_that_came_with_a_clone_is_not_ours(project, tmp_path):
    """All of its files are regular and this user's, and its marker says what ours says."""
    made = DevLayout(tmp_path / "attacker")
    made.create()
    save_state(made, DevState(cluster_id="the-real-cluster"))
    assert load_state(made).cluster_id == "the-real-cluster"
    layout = dev_of(project)
    shutil.copytree(made.root, layout.root, copy_function=shutil.copy2)
    assert not layout.ours
    assert load_state(layout) == DevState()
    (project / "mounts.yaml").write_text("version: 1\nmanifest: t\nmounts: {}\n")
    for args in (["dev", "up"], ["dev", "status"], ["dev", "reset", "-y"], ["plan", "--dev"]):
        done = invoke(*args, "-o", "json")
        assert (done.exit_code, checked_envelope(done.stdout)["errors"][0]["code"]) == (
            5,
            "foreign-folder",
        )
    assert (layout.root / "dev.json").exists()


def spoil(layout: DevLayout, how: str) -> None:
    if how == "its anchor was changed":
        (layout.root / ".skyflowctl-dev-anchor").chmod(0o644)
    elif how == "the marker is an earlier release's":
        layout.marker.write_text("")
    elif how == "the folder was removed":
        shutil.rmtree(layout.root)


@pytest.mark.parametrize(
    "how",
    [
        "its anchor was changed",
        "the marker is an earlier release's",
        "the folder was removed",
        "untouched",
    ],
)
def test_dev_down_ends_what_runs_whatever_became_of_the_folder(project, how):
    layout = dev_of(project)
    layout.create()
    waits = "import time; time.sleep(600)"
    plugin = start_detached(
        [sys.executable, "-I", "-c", waits, f"{layout.plugins}/skyflow"],
        log=layout.server_log,
        environ={},
        cwd=project,
    )
    spoil(layout, how)
    files = sorted(layout.root.rglob("*"))
    try:
        done = invoke("dev", "down", "-o", "json")
        assert done.exit_code == 0, done.stdout
        assert checked_envelope(done.stdout)["data"]["stopped"]
        assert not alive(plugin)
        assert how == "untouched" or sorted(layout.root.rglob("*")) == files
        again = invoke("dev", "down", "-o", "json")
        assert checked_envelope(again.stdout)["data"]["stopped"] == []
    finally:
        stop([plugin])


def test_dev_status_of_a_changed_folder_names_the_command_that_ends_its_processes(project):
    layout = dev_of(project)
    layout.create()
    spoil(layout, "its anchor was changed")
    done = invoke("dev", "status", "-o", "json")
    error = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, error["code"]) == (5, "foreign-folder")
    assert "was restored or changed" in error["why"]
    assert "skyflowctl dev down" in error["fix"]


def test_a_moved_folder_and_a_killed_first_start_stay_ours(project):
    layout = dev_of(project)
    layout.create()
    layout.marker.unlink()  # killed between the anchor and the marker
    for entry in [one for one in layout.root.iterdir() if "skyflowctl-dev" not in one.name]:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    layout.create()
    moved = layout.root.with_name("other")
    layout.root.rename(moved)
    assert DevLayout(moved).ours


@as_root
@pytest.mark.parametrize("name", ["", "logs", "tls/server.key"])
def test_what_belongs_to_another_user_is_refused(project, name):
    layout = dev_of(project)
    layout.create()
    write_private(layout.private_key, "a key")
    os.chown(layout.root / name, NOBODY, NOBODY)
    with pytest.raises(RefusedError) as refused:
        layout.create()
    problem = refused.value.problems[0]
    assert problem.code == "planted-path"
    assert "another user" in problem.why


def test_no_open_below_follows_a_link(tmp_path, target):
    layout = DevLayout(tmp_path / "dev")
    layout.create()
    for path in (layout.lock, layout.server_log, layout.state, layout.server_config):
        path.symlink_to(target)
    with pytest.raises(RefusedError), locked(layout):
        pass
    with pytest.raises(RefusedError):
        tail(path_of(layout, "openbao"), 3)
    with pytest.raises(OSError, match="it is a link"):
        start_detached(["true"], log=layout.server_log, environ={}, cwd=tmp_path)
    with pytest.raises(OSError, match="it is a link"):
        read_private(layout.server_config)
    assert load_state(layout) == DevState()
    write_private(layout.server_config, "ours")  # replaces the link, not its target
    assert not layout.server_config.is_symlink()
    assert untouched(target)


@pytest.mark.parametrize("kind", ["pipe", "hard link", "folder"])
def test_only_a_regular_file_with_one_name_is_opened(tmp_path, target, kind):
    path = tmp_path / "odd"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.hardlink_to(target)
    with pytest.raises(OSError, match=r"regular file|second name"):
        open_private(path, os.O_RDONLY)


@pytest.mark.parametrize("mode", [0o640, 0o602, 0o610])
def test_a_secret_is_not_read_from_a_file_that_others_may_open(tmp_path, mode):
    path = tmp_path / "secret"
    write_private(path, "a token")
    os.close(open_private(path, os.O_RDONLY, secret=True))
    path.chmod(mode)
    with pytest.raises(OSError, match="others may read or write it"):
        open_private(path, os.O_RDONLY, secret=True)
    os.close(open_private(path, os.O_RDONLY))


def test_a_name_that_no_file_can_have_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="its name cannot be used"):
        open_private(tmp_path / "a\0b", os.O_RDONLY)


@pytest.fixture
def short_of_room(tmp_path, monkeypatch):
    """A dev folder whose path is too long for sockets, and a temporary folder beside it."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(shared))
    return DevLayout(tmp_path / ("long" * 20) / "dev")


def test_a_link_in_the_place_of_the_socket_folder_is_refused(short_of_room, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    short_of_room.sockets.symlink_to(elsewhere)
    with pytest.raises(RefusedError) as refused:
        short_of_room.create()
    assert refused.value.problems[0].code == "dev-sockets"
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755


@as_root
def test_a_socket_folder_of_another_user_is_refused_and_left_alone(short_of_room):
    from skyflowctl.devstack.stack import stop_parts

    short_of_room.create()
    (short_of_room.sockets / "theirs").touch()
    os.chown(short_of_room.sockets, NOBODY, NOBODY)
    with pytest.raises(RefusedError) as refused:
        short_of_room.create()
    assert "another user" in refused.value.problems[0].why
    stop_parts(short_of_room)
    assert (short_of_room.sockets / "theirs").exists()


def test_a_link_in_the_state_folder_is_no_note_and_is_not_followed(tmp_path, target):
    folder = tmp_path / "skyflowctl" / "rotations"
    owners = OwnerFile(folder, "cluster")
    owners.begin("skyflow/order", "run-1")
    (note,) = folder.iterdir()
    note.rename(tmp_path / "real")
    note.symlink_to(tmp_path / "real")
    assert owners.owner_alive("skyflow/order", "run-1") is None
    owners.begin("skyflow/order", "run-2")
    assert not note.is_symlink()
    assert owners.owner_alive("skyflow/order", "run-2") is True


@pytest.mark.parametrize("which", ["skyflowctl", "skyflowctl/rotations"])
def test_a_linked_state_folder_is_left_alone(tmp_path, which):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "rotations").mkdir(parents=True)
    link = tmp_path / which
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(elsewhere)
    owners = OwnerFile(tmp_path / "skyflowctl" / "rotations", "cluster")
    owners.begin("skyflow/order", "run-1")
    assert owners.owner_alive("skyflow/order", "run-1") is None
    assert [path.name for path in elsewhere.rglob("*")] == ["rotations"]


@as_root
def test_a_state_folder_of_another_user_is_refused(tmp_path):
    folder = tmp_path / "skyflowctl" / "rotations"
    owners = OwnerFile(folder, "cluster")
    owners.begin("skyflow/order", "run-1")
    os.chown(folder, NOBODY, NOBODY)
    assert owners.owner_alive("skyflow/order", "run-1") is None
    assert not is_private_folder(folder)
    with pytest.raises(OSError, match="another user"):
        make_private_folder(folder)


def test_a_relative_state_home_does_not_lead_into_the_working_folder(tmp_path, monkeypatch):
    from skyflowctl.cli.context.rotation import owner_folder

    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert owner_folder() == tmp_path / ".local" / "state" / "skyflowctl" / "rotations"
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert owner_folder() == Path("/var/state/skyflowctl/rotations")
