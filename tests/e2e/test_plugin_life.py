"""How plugin processes start and end: crashes, reloads, lost servers, one or many mounts."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from support.bao import BaoServer, running_bao
from support.gateways import target_of
from support.plugin import (
    copy_source,
    mounted,
    processes_of,
    register,
    wait_for,
    write_probe,
)

from skyflowctl.operations.list_plugins import list_plugins, reload_mounts
from skyflowctl.operations.plugins import Registration, file_digest, register_plugin
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.version import semver

pytestmark = pytest.mark.real_server


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return copy_source(tmp_path_factory.mktemp("src"))


@pytest.fixture(scope="module")
def life(bao: BaoServer, source: Path) -> BaoServer:
    """A server with the tiny engine registered as ``life``, and as ``together`` shared."""
    for name, args in (("life", []), ("together", ["--shared"])):
        sha256 = write_probe(source, bao.plugin_dir, name)
        assert register(bao, name, sha256, args=args)[0] == 204
    wait_for(lambda: not processes_of(bao, "life") and not processes_of(bao, "together"))
    return bao


def _pid_of(server: BaoServer, mount: str) -> int:
    return server.api("GET", f"{mount}/env/x")[1]["data"]["pid"]


def test_each_mount_has_its_own_process(life: BaoServer):
    with mounted(life, "one", "life"), mounted(life, "two", "life"):
        assert len(processes_of(life, "life")) == 2
        assert _pid_of(life, "one") != _pid_of(life, "two")
    wait_for(lambda: not processes_of(life, "life"))


def test_shared_mounts_have_one_process_and_their_own_storage(life: BaoServer):
    with mounted(life, "one", "together"), mounted(life, "two", "together"):
        assert len(processes_of(life, "together")) == 1
        assert _pid_of(life, "one") == _pid_of(life, "two")
        life.api("POST", "one/kv/a", {"value": "1"})
        assert life.api("GET", "one/kv/a")[0] == 200
        assert life.api("GET", "two/kv/a")[0] == 404
    wait_for(lambda: not processes_of(life, "together"))


def test_one_shared_mount_can_go_while_the_other_serves(life: BaoServer):
    with mounted(life, "one", "together"):
        with mounted(life, "two", "together"):
            pid = _pid_of(life, "two")
        assert _pid_of(life, "one") == pid


def test_a_killed_plugin_serves_again_by_itself(life: BaoServer):
    with mounted(life, "one", "life"):
        life.api("POST", "one/kv/a", {"value": "kept"})
        first = _pid_of(life, "one")
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: life.api("GET", "one/kv/a")[0] == 200)
        assert _pid_of(life, "one") != first
        assert life.api("GET", "one/kv/a")[1]["data"] == {"value": "kept"}


def test_a_new_process_removes_the_socket_of_a_killed_one(life: BaoServer):
    folder = life.folder / "s"
    with mounted(life, "one", "life"):
        first = _pid_of(life, "one")
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: life.api("GET", "one/nothing/x")[0] == 404)
        names = [path.name for path in folder.glob("sky*")]
        assert any(name.startswith(f"sky{_pid_of(life, 'one')}-") for name in names)
        assert not any(name.startswith(f"sky{first}-") for name in names)


def test_sigterm_ends_it_and_sigint_does_not(life: BaoServer):
    with mounted(life, "one", "life"):
        pid = _pid_of(life, "one")
        os.kill(pid, signal.SIGINT)
        assert _pid_of(life, "one") == pid
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not Path(f"/proc/{pid}/fd").exists())
        assert not list((life.folder / "s").glob(f"sky{pid}-*"))


@pytest.mark.parametrize("how", ["kill", "reload"])
def test_trouble_on_one_mount_loses_nothing_on_another(life: BaoServer, how: str):
    answers: list[int] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(life.api("GET", "calm/echo/x")[0])

    with mounted(life, "calm", "life"), mounted(life, "hit", "life"):
        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            before = len(answers)
            _hit(life, how)
            wait_for(lambda: life.api("GET", "hit/echo/x")[0] == 200)
            wait_for(lambda before=before: len(answers) > before + 5)
        stop.set()
        for thread in threads:
            thread.join(20)
    assert len(answers) > 15
    assert set(answers) == {200}


def _hit(server: BaoServer, how: str) -> None:
    if how == "kill":
        os.kill(_pid_of(server, "hit"), signal.SIGKILL)
    else:
        server.api("PUT", "sys/plugins/reload/backend", {"mounts": ["hit/"]})


def test_a_reload_loses_nothing_on_the_mount_itself(life: BaoServer):
    answers: list[int] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(life.api("GET", "hit/echo/x")[0])

    with mounted(life, "hit", "life"):
        thread = threading.Thread(target=load)
        thread.start()
        wait_for(lambda: len(answers) > 5)
        _hit(life, "reload")
        done = len(answers)
        wait_for(lambda: len(answers) > done + 5)
        stop.set()
        thread.join(20)
    assert set(answers) == {200}


@pytest.mark.slow
def test_a_failed_mount_leaves_no_process(bao: BaoServer, source: Path):
    sha256 = write_probe(source, bao.plugin_dir, "failing")
    assert register(bao, "failing", sha256, env=["PROBE_FAILS=1"])[0] == 204
    status, body = bao.api("POST", "sys/mounts/failing", {"type": "failing"})
    assert status == 400
    assert "could not be set up" in body["errors"][0]
    # The server forgets the process; that it is there proves that the next line can fail.
    assert len(processes_of(bao, "failing")) == 1
    wait_for(lambda: not processes_of(bao, "failing"))


@pytest.mark.slow
def test_a_server_whose_sockets_cannot_be_made_is_told_so(source: Path, tmp_path: Path):
    long = tmp_path / ("x" * 130)
    long.mkdir()
    with running_bao(environ={"TMPDIR": str(long)}) as server:
        register(server, "homeless", write_probe(source, server.plugin_dir, "homeless"))
        status, body = server.api("POST", "sys/mounts/one", {"type": "homeless"})
        assert status == 400
        assert "TMPDIR" in body["errors"][0]


def test_a_wrong_version_is_found_by_registering(bao: BaoServer, source: Path):
    sha256 = write_probe(source, bao.plugin_dir, "versioned")
    status, body = register(bao, "versioned", sha256, version="v9.9.9")
    assert status == 400
    assert "did not match" in body["errors"][0]
    assert bao.api("GET", "sys/plugins/catalog/secret/versioned")[0] == 404
    wait_for(lambda: not processes_of(bao, "versioned"))


def test_a_killed_server_leaves_no_process_and_no_socket(source: Path, tmp_path: Path):
    with running_bao() as server:
        sha256 = write_probe(source, server.plugin_dir, "orphan")
        register(server, "orphan", sha256)
        server.api("POST", "sys/mounts/one", {"type": "orphan"})
        server.api("POST", "sys/mounts/two", {"type": "orphan"})
        assert len(processes_of(server, "orphan")) == 2
        server.process.kill()
        server.process.wait(10)
        wait_for(lambda: not processes_of(server, "orphan"), seconds=5)
        assert list((server.folder / "s").iterdir()) == []
        # The server's own listeners for its plugins' brokers are in its TMPDIR.
        left = [path for path in (server.folder / "t").iterdir() if path.is_socket()]
        assert left == []


def test_a_registered_file_that_is_gone_is_told_before_the_restart_and_registered_anew(
    life: BaoServer, source: Path
):
    """The server answers 500 for such an entry, and still lists it."""
    gateway = Gateway(HttpTransport(target_of(life), run_id="gone"))
    sha256 = write_probe(source, life.plugin_dir, "gone")
    assert register(life, "gone", sha256)[0] == 204
    with mounted(life, "one", "gone"):
        (life.plugin_dir / "gone").rename(life.plugin_dir / "moved")
        found = list_plugins(gateway, "gone")
        assert [(one.entry.command, one.state) for one in found.catalog] == [("gone", "missing")]
        (problem,) = found.problems(None)
        assert problem.code == "plugin-file-missing"
        assert "the next restart or reload" in problem.why
        wanted = Registration("gone", semver(), "moved", file_digest(life.plugin_dir / "moved"))
        register_plugin(gateway, wanted)
        done = reload_mounts(gateway, wanted, lambda _: None)
        assert [one.path for one in done] == ["one"]
        assert list_plugins(gateway, "gone", life.plugin_dir).problems(life.plugin_dir) == ()
    wait_for(lambda: not processes_of(life, "moved"))
