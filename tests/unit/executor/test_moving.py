"""A move is proved: what is not the same at the new path, or cannot be read there, is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from support.gateways import Rig, memory_rig

from skyflowctl.errors import ExitCode, PartlyDoneError
from skyflowctl.executor.moving import move_mount
from skyflowctl.executor.run import execute
from skyflowctl.operations.dry_run.sandbox import SandboxCredentials
from skyflowctl.planner.plan import Action, ActionType, Change, ObjectKind, Plan
from skyflowctl.vault.errors import ForbiddenError, PathInUseError, SealedError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.parked import PendingError
from skyflowctl.vault.transport import Reply, Request, TransportWrapper

NEW = "skyflow/new"


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = memory_rig()
    yield made
    made.gateway.close()


class Meddles(TransportWrapper):
    """Calls a function with each request before it is sent; its reply is the answer."""

    def __init__(self, inner, meddle: Callable[[Request], Reply | None]) -> None:
        super().__init__(inner)
        self.meddle = meddle

    def send(self, request: Request) -> Reply:
        return self.meddle(request) or super().send(request)


def meddled(rig: Rig, meddle: Callable[[Request], Reply | None]) -> Gateway:
    return Gateway(Meddles(rig.transport, meddle))


def test_a_mount_that_is_the_same_afterwards_needs_no_word(rig):
    path = rig.configured("reader")
    assert move_mount(path, NEW, rig.gateway) == ()
    assert rig.gateway.engine(NEW).creds("reader").access_token
    assert move_mount(path, NEW, rig.gateway) == ()


def test_an_unconfigured_mount_has_no_health_to_ask_for(rig):
    assert move_mount(rig.mount(), NEW, rig.gateway) == ()


def test_what_cannot_be_read_at_the_new_path_is_moved_but_not_done(rig):
    path = rig.configured("reader")

    def meddle(request: Request) -> None:
        if request.path == f"{NEW}/config":
            raise ForbiddenError("403", why="no policy allows it")

    with pytest.raises(PartlyDoneError) as caught:
        move_mount(path, NEW, meddled(rig, meddle))
    (problem,) = caught.value.problems
    assert (problem.code, caught.value.exit_code) == ("moved-unread", ExitCode.PARTIAL)
    assert "no policy allows it" in problem.why
    assert rig.gateway.engine(NEW).config().configured


def test_what_is_not_the_same_is_named(rig):
    path = rig.configured("reader")

    def meddle(request: Request) -> None:
        if request.path == f"sys/mounts/{NEW}":
            rig.gateway.sys.tune_mount(NEW, {"description": "another"})
        if request.path == f"{NEW}/roles":
            rig.gateway.engine(NEW).delete_role("reader")

    with pytest.raises(PartlyDoneError) as caught:
        move_mount(path, NEW, meddled(rig, meddle))
    (problem,) = caught.value.problems
    assert problem.code == "moved-changed"
    assert problem.summary.endswith("is not the same there: description, roles")


@pytest.mark.parametrize("fails", [True, False])
def test_a_mount_that_is_not_healthy_is_a_warning(rig, fails):
    path = rig.configured("reader")

    def meddle(request: Request) -> Reply | None:
        if request.path != f"{NEW}/health":
            return None
        if fails:
            raise SealedError("the server is sealed")
        service = {"reachable": True, "status": 401, "error": "disabled"}
        return Reply(200, data={"healthy": False, "token_service": service})

    (warning,) = move_mount(path, NEW, meddled(rig, meddle))
    assert warning.code == "moved-unhealthy"
    assert warning.summary.endswith("the server is sealed" if fails else "refused")


def test_a_path_that_is_taken_meanwhile_moves_nothing(rig):
    path = rig.configured("reader")
    rig.gateway.sys.enable_mount(NEW, {"type": rig.plugin})
    with pytest.raises(PathInUseError) as caught:
        move_mount(path, NEW, rig.gateway)
    assert caught.value.exit_code is ExitCode.REFUSED
    assert rig.gateway.engine(path).config().configured


POLICY = "sys/policies/acl/skyflow.skyflow.new.reader"
ROLE = f"{NEW}/roles/reader"
LOGIN_ROLE = "auth/approle/role/app"


def actions(path: str) -> tuple[Action, ...]:
    """The policy for the new path, the move, a change of a role there, and its login role."""
    text = f'path "{NEW}/creds/reader" {{\n  capabilities = ["read"]\n}}\n'
    return (
        Action(ActionType.CREATE, ObjectKind.POLICY, "", POLICY, (), {"policy": text}),
        Action(
            ActionType.MOVE,
            ObjectKind.MOUNT,
            "new",
            "sys/remount",
            (Change("path", path, NEW),),
            {"from": path, "to": NEW},
            after=(POLICY,),
        ),
        Action(
            ActionType.UPDATE,
            ObjectKind.ROLE,
            "new",
            ROLE,
            (Change("description", "", "d"),),
            {"description": "d"},
        ),
        Action(
            ActionType.CREATE,
            ObjectKind.LOGIN_ROLE,
            "",
            LOGIN_ROLE,
            (Change("token_ttl", None, 60),),
            {"token_ttl": 60},
            after=(POLICY, f"sys/mounts/{NEW}", ROLE),
        ),
    )


def run(path: str, gateway: Gateway, *, without: str = "") -> dict[str, str]:
    """The result of each action, by path."""
    nothing = SandboxCredentials({}, {}, {}, ())
    steps = tuple(one for one in actions(path) if one.path != without)
    outcome = execute(Plan(steps, (), 0), gateway, nothing, None)
    return {one.action.path: one.result for one in outcome.results}


def test_the_policy_is_written_before_the_move_and_the_role_after_it(rig):
    path, writes = rig.configured("reader"), []
    rig.gateway.sys.access.write("sys/auth/approle", {"type": "approle"})

    def meddle(request: Request) -> None:
        if not request.reads:
            writes.append(request.path)

    assert set(run(path, meddled(rig, meddle)).values()) == {"done"}
    assert writes == [POLICY, "sys/remount", ROLE, LOGIN_ROLE]
    assert rig.gateway.engine(NEW).roles()["reader"].description == "d"


@pytest.mark.parametrize("failing", [POLICY, "sys/remount", ROLE])
def test_where_one_step_fails_the_later_ones_are_not_begun(rig, failing):
    path = rig.configured("reader")

    def meddle(request: Request) -> None:
        if request.path == failing and not request.reads:
            raise ForbiddenError("403")

    results = run(path, meddled(rig, meddle))
    steps = list(results)
    number = steps.index(failing)
    done, later = steps[:number], steps[number + 1 :]
    expected = {**dict.fromkeys(done, "done"), failing: "failed", **dict.fromkeys(later, "skipped")}
    assert results == expected
    moved = "sys/remount" in done
    assert (rig.gateway.sys.mount(path) is None) == moved
    assert (rig.gateway.sys.mount(NEW) is not None) == moved


@pytest.mark.parametrize("result", ["failed", "pending"])
def test_a_login_role_waits_for_the_move_alone(rig, result):
    path = rig.configured("reader")

    def meddle(request: Request) -> None:
        if request.path == "sys/remount" and not request.reads:
            if result == "failed":
                raise ForbiddenError("403")
            parked = SimpleNamespace(method=request.method, path=request.path)
            words = {"why": "a control group", "fix": "have it approved"}
            raise PendingError("the move waits", **words, request=parked, stored="none")

    results = run(path, meddled(rig, meddle), without=ROLE)
    held = "skipped" if result == "failed" else "waiting"
    assert results == {POLICY: "done", "sys/remount": result, LOGIN_ROLE: held}
