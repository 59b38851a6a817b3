"""``doctor --idempotence``: a scratch mount is applied twice, and removed whatever happens."""

from __future__ import annotations

import pytest
from support.fake_server import FakeServer

from skyflowctl.doctor.model import Grade
from skyflowctl.manifest.model import Plugin
from skyflowctl.operations.doctor.idempotence import IdempotenceCheck, scratch_manifest
from skyflowctl.operations.doctor.server import removal_command
from skyflowctl.vault.errors import ServerUnreachableError
from skyflowctl.vault.gateway import Gateway

OTHER = {"type": "skyflow", "options": {"manifest": "shop"}, "description": "Order"}


class Deleting(FakeServer):
    """A server that deletes mounts, and ends where a test says so."""

    gone = ""

    def __init__(self) -> None:
        super().__init__()
        self.mounts["skyflow/order"] = dict(OTHER)
        self.roles["skyflow/order"], self.configs["skyflow/order"] = {}, {}

    def send(self, request):
        if self.gone and request.method != "GET" and request.path.endswith(self.gone):
            self.hook = self.silent  # from now on nothing is answered
        return super().send(request)

    def silent(self, _method: str, _path: str) -> None:
        raise ServerUnreachableError("the server does not answer", fix="start it")

    def _mount(self, method, path, body):
        if method == "DELETE":
            self.mounts.pop(path, None)
            return 204, None
        return super()._mount(method, path, body)


@pytest.fixture
def server():
    return Deleting()


class Run:
    def __init__(self, server: FakeServer) -> None:
        self.manifest = scratch_manifest(Plugin(), "skyflow")
        self.path = self.manifest.mounts[0].path
        self.told = []
        self.check = IdempotenceCheck(Gateway(server), self.manifest, self.told.append)


def scratch(server: FakeServer) -> list[str]:
    return [path for path in server.mounts if path != "skyflow/order"]


def test_the_second_plan_is_empty_and_nothing_is_left(server):
    run = Run(server)
    (found,) = run.check.findings()
    assert (found.grade, found.summary) == (Grade.OK, "applied twice: 4 actions, then none")
    assert not scratch(server)
    assert not run.told
    written = {path for _, path in server.writes()}
    assert written
    assert all(run.path in path for path in written), "nothing else is written"
    assert server.mounts == {"skyflow/order": OTHER}
    assert not server.headers, "audited headers are the server's"


def test_the_key_is_not_one_that_the_engine_tries(server):
    Run(server).check.findings()
    (body,) = [body for method, path, body in server.log if path.endswith("/config") and body]
    assert body["validate_credentials"] is False


def test_two_runs_have_two_names():
    assert Run(FakeServer()).path != Run(FakeServer()).path


def test_a_second_plan_that_is_not_empty_is_bad_and_names_the_field(server):
    def rewrite(method: str, path: str) -> None:
        if method != "GET" and path.endswith("/config"):
            mount = path.removesuffix("/config")
            server.roles[mount]["bound"]["description"] = "another"

    server.after = rewrite
    (found,) = Run(server).check.findings()
    assert (found.grade, found.summary) == (Grade.BAD, "the second plan is not empty")
    assert found.detail.endswith("/roles/bound: description")
    assert not scratch(server)


def test_without_a_permission_nothing_is_written(server):
    server.rights = ["create", "update", "read"]  # no delete: the mount would stay
    (found,) = Run(server).check.findings()
    assert found.grade is Grade.UNKNOWN
    assert "delete" in found.fix
    assert not server.writes()


@pytest.mark.parametrize("part", ["/roles/plain", "/config"])
def test_a_signal_removes_the_mount_first(server, part):
    def stop(method: str, path: str) -> None:
        if method != "GET" and path.endswith(part):
            server.hook = lambda *_: None
            raise KeyboardInterrupt

    server.hook = stop
    run = Run(server)
    with pytest.raises(KeyboardInterrupt):
        run.check.findings()
    assert not scratch(server)
    assert not run.told


def test_a_second_signal_says_what_is_left(server):
    def stop(method: str, path: str) -> None:
        if path.endswith("/config") and method != "GET":
            raise KeyboardInterrupt
        if method == "DELETE":
            raise KeyboardInterrupt

    server.hook = stop
    run = Run(server)
    with pytest.raises(KeyboardInterrupt):
        run.check.findings()
    assert scratch(server) == [run.path]
    assert [one.fix for one in run.told] == [removal_command(run.path)]


def test_a_server_that_ends_is_told_with_what_is_left(server):
    server.gone = "/config"
    run = Run(server)
    failed, left = run.check.findings()
    assert failed.grade is left.grade is Grade.BAD
    assert scratch(server) == [run.path]
    assert left.fix == removal_command(run.path)
    assert [one.fix for one in run.told] == [left.fix]


def test_a_server_that_cannot_be_planned_for_leaves_nothing_to_tell(server):
    server.hook = server.silent
    run = Run(server)
    (found,) = run.check.findings()
    assert found.grade is Grade.BAD
    assert not run.told


def test_a_mount_of_someone_else_at_that_path_is_never_removed(server):
    run = Run(server)
    server.mounts[run.path] = dict(OTHER)
    server.roles[run.path], server.configs[run.path] = {}, {}
    (found,) = run.check.findings()
    assert found.grade is Grade.BAD
    assert server.mounts[run.path] == OTHER
    assert not server.writes()
