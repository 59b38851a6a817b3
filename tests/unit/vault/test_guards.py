"""Guard probes: each path once a run, several at a time, and never an answer that was not given."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from support import planning as p
from support.fake_server import FakeCredentials, FakeReplacer, FakeServer
from support.transports import FakeTransport

from skyflowctl.concurrency import Workers
from skyflowctl.engine.contract import MemoryStorage
from skyflowctl.engine.engine import Engine
from skyflowctl.engine.fields import FieldType
from skyflowctl.errors import ExitCode, RefusedError
from skyflowctl.operations.apply import apply
from skyflowctl.operations.plan import plan
from skyflowctl.skyflow.http.on_demand import TokenServiceOnDemand
from skyflowctl.vault import parked
from skyflowctl.vault.errors import ForbiddenError, GuardedError, ServerUnreachableError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.guards import Guards, guard_probe, secret_paths
from skyflowctl.vault.transport import Reply, Request

FREE = error_for(400, ("unknown field",), method="POST", path="m/config")
PARKED = parked.withdrawn("POST", "m/config", writes=True, gone=True)
NEVER = parked.never_runs("POST", "m/config", Reply(200))


class Server(FakeTransport):
    """Answers each probe with what ``answer(path)`` returns or raises."""

    def __init__(self, answer: Callable[[str], Exception | None]) -> None:
        self.answer = answer
        self.probes: list[str] = []

    def send(self, request: Request) -> Reply:
        path = request.path
        probes = (guard_probe(path), {"skyflowctl_guard_probe": True})
        assert request in [Request("POST", path, body=one, idempotent=True) for one in probes]
        self.probes.append(path)
        error = self.answer(path)
        if error is not None:
            raise error
        return Reply(204)


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (FREE, False),
        (error_for(404, (), method="POST", path="m/config"), False),
        (None, False),
        (PARKED, True),
    ],
)
def test_a_path_is_probed_once_and_its_answer_holds_for_the_run(answer, refused):
    server = Server(lambda _path: answer)
    guards = Guards(server)
    for _ in range(3):
        if refused:
            with pytest.raises(GuardedError) as told:
                guards.refuse("POST", "m/config")
            assert told.value.problems[0].code == "guarded_secret"
        else:
            guards.refuse("POST", "m/config")
    assert server.probes == ["m/config"]


@pytest.mark.parametrize("error", [NEVER, ServerUnreachableError("gone", why="w", fix="f")])
def test_a_probe_without_an_answer_is_said_and_sent_again(error):
    server = Server(lambda _path: error)
    guards = Guards(server)
    for _ in range(2):
        with pytest.raises(type(error)) as told:
            guards.refuse("POST", "m/config")
        assert told.value is error
    assert server.probes == ["m/config"] * 2


class NamesParameters(Server):
    """Forbids the probe, and says which capabilities the login has there."""

    def __init__(self, *held: str) -> None:
        super().__init__(lambda _path: error_for(403, (), method="POST", path="m/config"))
        self.held = list(held)

    def send(self, request: Request) -> Reply:
        if request.path == "sys/capabilities-self":
            return Reply(200, data=dict.fromkeys((request.body or {})["paths"], self.held))
        return super().send(request)


@pytest.mark.parametrize("held", [("update",), ("create", "read")])
def test_a_forbidden_probe_of_a_path_that_may_be_written_is_a_warning(held):
    guards = Guards(NamesParameters(*held))
    warning = guards.refuse("POST", "m/config")
    assert warning is not None
    assert (warning.code, "skyflowctl_guard_probe" in warning.fix) == ("guard-unknown", True)


def test_where_a_policy_denies_keys_the_probe_without_one_finds_the_guard():
    class DeniesKeys(NamesParameters):
        def send(self, request: Request) -> Reply:
            if request.path.startswith("sys/") or "credentials_json" in (request.body or {}):
                return super().send(request)
            raise PARKED if request.path == "m/config" else FREE

    with pytest.raises(GuardedError) as told:
        Guards(DeniesKeys("update")).refuse("POST", "m/config")
    assert told.value.problems[0].code == "guarded_secret"
    assert Guards(DeniesKeys("update")).refuse("POST", "n/config") is None


@pytest.mark.parametrize("held", [("deny",), ("read",), ()])
def test_a_forbidden_probe_of_a_path_that_may_not_be_written_is_the_servers_no(held):
    with pytest.raises(ForbiddenError):
        Guards(NamesParameters(*held)).refuse("POST", "m/config")


def test_several_paths_are_probed_at_once_and_one_path_by_one_thread():
    together = threading.Barrier(3, timeout=20)

    def wait_for_the_others(_path: str) -> Exception:
        together.wait()
        return FREE

    server = Server(wait_for_the_others)
    guards = Guards(server)
    with Workers(9) as pool:
        pool.map(lambda path: guards.refuse("POST", path), ["a/config", "b/config", "c/config"] * 3)
    assert sorted(server.probes) == ["a/config", "b/config", "c/config"]


def test_every_secret_field_of_the_schema_is_sent_to_a_path_that_is_probed():
    router = Engine(MemoryStorage(), TokenServiceOnDemand())._router  # noqa: SLF001
    takes = {
        f"m/{route.template}"
        for route in router.routes
        for action in route.actions.values()
        if any(field.kind is FieldType.SECRET for field in action.fields)
    }
    assert takes == set(secret_paths("m", verified=True))


THREE = p.manifest(p.mount("order"), p.mount("pay"), p.mount("stock"))


class GuardedServer(FakeServer):
    """A server whose guards are asked for together, or not at all."""

    def __init__(self, *guarded: str) -> None:
        super().__init__()
        self.guarded = guarded
        self.together = threading.Barrier(3, timeout=20)

    def refuse_guarded(self, method: str, path: str) -> None:
        self.together.wait()
        if path in self.guarded:
            raise parked.secret_refused(method, path)


def applied(server: FakeServer, number: int = 1):
    gateway, source = Gateway(server), FakeCredentials(number)
    return apply(plan(THREE, gateway, source), gateway, source, FakeReplacer())


def test_an_apply_probes_the_configs_of_several_mounts_at_once():
    assert applied(GuardedServer()).status == "ok"


def test_an_apply_names_every_guarded_config_and_applies_the_other_mounts():
    server = GuardedServer("skyflow/order/config", "skyflow/stock/config")
    done = applied(server)
    assert (done.status, done.exit_code) == ("partial", ExitCode.PARTIAL)
    assert [one.code for one in done.problems] == ["guarded_secret"] * 2
    assert ["order" in one.summary for one in done.problems] == [True, False]
    assert all("server_file" in one.fix for one in done.problems)
    assert {one.mount for one in done.verified} == {"pay"}
    results = {one.action.path: one.result for one in done.outcome.results}
    assert results["skyflow/pay/config"] == "done"
    for name in ("order", "stock"):
        assert results[f"skyflow/{name}/config"] == "failed"
        assert results[f"sys/mounts/skyflow/{name}"] == "skipped"
    assert [path for _, path in server.writes() if "order" in path or "stock" in path] == []


def test_an_apply_that_replaces_keys_names_every_guarded_proof_and_replaces_the_other():
    server = GuardedServer("skyflow/order/config/verify", "skyflow/stock/config/verify")
    assert applied(server).status == "ok"
    before = server.writes()
    done = applied(server, 2)
    assert (done.status, done.exit_code) == ("partial", ExitCode.PARTIAL)
    assert [one.code for one in done.problems] == ["guarded_secret"] * 2
    assert {path for _, path in server.writes()[len(before) :]} == {"skyflow/pay/config"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (parked.secret_refused("POST", "m/config"), RefusedError),
        (error_for(403, ("permission denied",), method="POST", path="m/config"), ForbiddenError),
    ],
)
def test_an_apply_of_mounts_that_take_no_key_writes_nothing(error, kind):
    """Nothing else was asked, so it is refused as a whole."""

    class Closed(FakeServer):
        def refuse_guarded(self, method: str, path: str) -> None:
            raise error

    server = Closed()
    with pytest.raises(kind) as told:
        applied(server)
    assert len(told.value.problems) == 3
    assert server.writes() == []


def test_a_config_that_this_login_may_not_write_stops_no_other_mount():
    class Closed(FakeServer):
        def refuse_guarded(self, method: str, path: str) -> None:
            if path == "skyflow/order/config":
                raise error_for(403, ("permission denied",), method=method, path=path)

    server = Closed()
    done = applied(server)
    assert (done.exit_code, [one.code for one in done.problems]) == (3, ["forbidden"])
    results = {one.action.path: one.result for one in done.outcome.results}
    assert (results["skyflow/pay/config"], results["skyflow/order/config"]) == ("done", "failed")
    assert [path for _, path in server.writes() if "order" in path] == []


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        ("skyflow/order/config", "server_file"),
        ("secret/data/backend", "no control group on secret/data/backend"),
    ],
)
def test_only_a_config_can_take_its_key_from_the_server(path, fix):
    assert fix in parked.secret_refused("POST", path).problems[0].fix
