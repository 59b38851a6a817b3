"""Two applies at one mount: never A's settings with B's roles without a word."""

from __future__ import annotations

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import planning as p
from support.fake_server import FakeCredentials, FakeReplacer, FakeServer
from support.gateways import memory_rig

from skyflowctl.errors import ExitCode
from skyflowctl.operations.apply import apply
from skyflowctl.operations.plan import plan
from skyflowctl.vault.gateway import Gateway

PATH = "skyflow/order"
TUNE = ("POST", f"sys/mounts/{PATH}/tune")
ROLE = ("POST", f"{PATH}/roles/writer")


def manifest(word: str):
    """The same manifest in two versions: each field tells whose it is."""
    return p.manifest(p.mount(description=word, roles=(p.role(description=word),)))


@pytest.fixture
def server():
    server = FakeServer()
    run(server, manifest("first"))
    server.log.clear()
    return server


def run(server, what, **more):
    gateway, source = Gateway(server), FakeCredentials()
    return apply(plan(what, gateway, source), gateway, source, FakeReplacer(), **more)


def whose(server):
    return server.mounts[PATH]["description"], server.roles[PATH]["writer"]["description"]


def once(server, when, what, *, after=False, number=1):
    """Let another apply run in full at one moment of this one."""
    others, seen = [], []

    def hook(method, path):
        seen.extend([None] * ((method, path) == when))
        if len(seen) == number and not others:
            others.append(None)
            others[0] = run(server, what)

    setattr(server, "after" if after else "hook", hook)
    return others


def test_one_that_came_between_the_plan_and_the_write_is_not_overwritten(server):
    gateway, source = Gateway(server), FakeCredentials()
    planned = plan(manifest("ours"), gateway, source)
    assert run(server, manifest("theirs")).exit_code is ExitCode.OK
    done = apply(planned, gateway, source, FakeReplacer())
    assert done.exit_code is ExitCode.REFUSED
    assert [one.code for one in done.problems] == ["mount-moved"]
    assert whose(server) == ("theirs", "theirs")


def test_one_that_came_between_the_write_and_its_read_back_wins(server):
    others = once(server, TUNE, manifest("theirs"), after=True)
    done = run(server, manifest("ours"))
    assert done.exit_code is ExitCode.REFUSED
    (problem,) = done.problems
    assert (problem.code, "right after" in problem.why) == ("mount-moved", True)
    assert others[0].exit_code is ExitCode.OK
    assert whose(server) == ("theirs", "theirs")


def test_one_that_tuned_meanwhile_keeps_the_roles(server):
    """Ours has tuned and read that back; before its roles, the other one runs in full."""
    others = once(server, ("GET", "sys/mounts"), manifest("theirs"), number=2)
    done = run(server, manifest("ours"))
    assert (done.status, done.exit_code) == ("partial", ExitCode.PARTIAL)
    (problem,) = done.problems
    assert (problem.code, "description" in problem.summary) == ("mount-overwritten", True)
    assert others[0].exit_code is ExitCode.OK
    assert whose(server) == ("theirs", "theirs")
    assert [one.result for one in done.outcome.results if one.action.kind.value == "role"] == [
        "skipped"
    ]


def test_settings_that_were_changed_after_the_roles_are_said(server):
    def hook(method, path):
        if (method, path) == ("POST", f"{PATH}/config"):
            server.mounts[PATH]["description"] = "by hand"

    server.after = hook
    done = run(server, manifest("ours"))
    assert [one.code for one in done.problems] == ["mount-overwritten"]
    assert (done.status, done.exit_code) == ("partial", ExitCode.PARTIAL)
    server.after = lambda method, path: None
    assert run(server, manifest("ours")).exit_code is ExitCode.OK


def test_a_mount_that_was_removed_meanwhile_is_said(server):
    def hook(method, path):
        if (method, path) == ROLE:
            del server.mounts[PATH]

    server.after = hook
    done = run(server, manifest("ours"))
    assert done.exit_code is ExitCode.PARTIAL
    assert "mount-overwritten" in [one.code for one in done.problems] or done.outcome.failures


def test_the_roles_of_the_other_are_not_overwritten(server):
    """The other one runs in full just before our first role is written."""
    others = once(server, ROLE, manifest("theirs"))
    done = run(server, manifest("ours"))
    assert done.exit_code is not ExitCode.OK
    assert others[0].exit_code is ExitCode.OK
    assert whose(server) == ("theirs", "theirs")


def test_a_run_that_was_killed_after_its_tune_goes_on(server):
    gateway, source = Gateway(server), FakeCredentials()
    planned = plan(manifest("ours"), gateway, source)
    gateway.sys.tune_mount(PATH, {"description": "ours"})
    assert apply(planned, gateway, source, FakeReplacer()).exit_code is ExitCode.OK


def test_settings_that_cannot_be_read_back_are_no_success(server):
    from skyflowctl.vault.failed_answers import error_for

    def hook(method, path):
        if path == "sys/mounts" and (*ROLE, None) in [(*one[:2], None) for one in server.log]:
            raise error_for(403, ("no",), method=method, path=path)

    server.hook = hook
    done = run(server, manifest("ours"))
    assert [one.code for one in done.problems] == ["mount-not-read-back"]
    assert done.exit_code is ExitCode.PARTIAL


@pytest.mark.parametrize("round_", range(12))
def test_at_once_on_the_real_engine_every_mixture_is_said(round_):
    """Threads, as they come: what is mixed in the end somebody has called a failure."""
    rig = memory_rig()
    try:
        gateway, source = rig.gateway, FakeCredentials()
        what = {
            word: dataclasses.replace(
                manifest(word),
                mounts=tuple(
                    dataclasses.replace(one, credentials=None) for one in manifest(word).mounts
                ),
            )
            for word in ("first", "ours", "theirs")
        }

        def go(word):
            return apply(plan(what[word], gateway, source), gateway, source, FakeReplacer())

        assert go("first").exit_code is ExitCode.OK
        with ThreadPoolExecutor(2) as pool:
            ours, theirs = pool.map(go, ("ours", "theirs"))
        live = (
            gateway.sys.mount(PATH).description,
            gateway.engine(PATH).roles()["writer"].description,
        )
        mixed = live[0] != live[1]
        both_ok = {ours.exit_code, theirs.exit_code} == {ExitCode.OK}
        assert not (mixed and both_ok), live
        if not mixed and both_ok:
            assert live[0] in {"ours", "theirs"}
        again = itertools.islice((go(live[0]) for _ in range(2)), 2)
        assert [one.exit_code for one in again][-1] is ExitCode.OK
    finally:
        rig.gateway.close()
