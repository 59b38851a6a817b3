"""Carrying out a plan: stages, failures, resumption, interruption."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from concurrent.futures import Future

import pytest
from support import planning as p
from support.fake_server import FakeCredentials, FakeReplacer, FakeServer

from skyflowctl.errors import ExitCode, Problem
from skyflowctl.executor.events import ActionDone, ActionFailed, ActionSkipped, ActionStarted
from skyflowctl.executor.outcome import ActionResult, ApplyOutcome
from skyflowctl.executor.run import execute
from skyflowctl.executor.stop import Stop, stop_on_signals
from skyflowctl.planner.diff import make_plan, mounts_to_ask_history
from skyflowctl.planner.plan import ObjectKind
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.gateway import Gateway


@pytest.fixture
def server():
    return FakeServer()


def plan_for(server, what, number=1):
    gateway = Gateway(server)
    live = gateway.read_live_state([m.path for m in what.mounts], "skyflow")
    keys = p.identities(what, number)
    live = gateway.with_history(live, mounts_to_ask_history(what, live, keys))
    return make_plan(what, live, keys)


def apply(server, what, number=1, **more):
    plan = plan_for(server, what, number)
    return execute(plan, Gateway(server), FakeCredentials(number), FakeReplacer(), **more)


THREE = p.manifest(*(p.mount(n, roles=(p.role("a"), p.role("b"))) for n in ("order", "pay", "buy")))


def refuse(server, path, status=403, message="permission denied"):
    def hook(method, asked):
        if method == "POST" and asked == path:
            raise error_for(status, (message,), method=method, path=asked, request_id="rX")

    server.hook = hook


def test_everything_is_written_once_and_the_next_plan_is_empty(server):
    outcome = apply(server, THREE)
    assert (outcome.status, outcome.exit_code) == ("ok", ExitCode.OK)
    assert len(server.writes()) == 2 + 3 + 6 + 3
    assert plan_for(server, THREE).empty


def test_results_stand_in_the_plans_order_whatever_ran_first(server):
    plan = plan_for(server, THREE)
    outcome = execute(plan, Gateway(server), FakeCredentials(), FakeReplacer(), parallelism=7)
    assert tuple(result.action for result in outcome.results) == plan.actions


def test_a_stage_begins_when_the_one_before_has_ended(server):
    apply(server, THREE, parallelism=8)
    kinds = [
        "header" if "auditing" in path else "role" if "/roles/" in path else path.rpartition("/")[2]
        for _, path in server.writes()
    ]
    mounts = [kind for kind in kinds if kind in ("order", "pay", "buy")]
    assert kinds == ["header"] * 2 + mounts + ["role"] * 6 + ["config"] * 3
    assert len(mounts) == 3


class TestMountByMount:
    """As many mounts as may run at once, or more: no mount waits for the others."""

    def test_each_new_mount_is_written_with_its_roles_and_its_config(self, server):
        apply(server, THREE, parallelism=1)
        written = [path for _, path in server.writes()][2:]
        assert written == [
            path
            for name in ("order", "pay", "buy")
            for path in (
                f"sys/mounts/skyflow/{name}",
                f"skyflow/{name}/roles/a",
                f"skyflow/{name}/roles/b",
                f"skyflow/{name}/config",
            )
        ]

    def test_a_mount_is_done_while_another_is_still_being_enabled(self, server):
        done = threading.Event()

        def hook(method, path):
            if (method, path) == ("POST", "sys/mounts/skyflow/order"):
                assert done.wait(20)

        def after(method, path):
            if (method, path) == ("POST", "skyflow/pay/config"):
                done.set()

        server.hook, server.after = hook, after
        assert apply(server, THREE, parallelism=2).status == "ok"

    def test_a_mount_that_exists_is_changed_and_compared_before_any_role(self, server):
        """One list of the mounts before the roles, one at the end, whatever their number."""
        apply(server, THREE)
        for name in ("order", "pay", "buy"):
            server.mounts[f"skyflow/{name}"]["description"] = "x"
            server.roles[f"skyflow/{name}"]["a"]["description"] = "x"
        plan = plan_for(server, THREE)
        server.log.clear()
        outcome = execute(plan, Gateway(server), FakeCredentials(), FakeReplacer(), parallelism=2)
        assert outcome.status == "ok"
        asked = [(method, path) for method, path, _ in server.log]
        lists = [index for index, one in enumerate(asked) if one == ("GET", "sys/mounts")]
        tunes = [index for index, (_, path) in enumerate(asked) if path.endswith("/tune")]
        roles = [index for index, (_, path) in enumerate(asked) if "/roles/" in path]
        assert (len(lists), len(tunes), len(roles)) == (2, 3, 3)
        assert max(tunes) < lists[0] < min(roles)
        assert lists[1] == len(asked) - 1

    def test_new_mounts_are_listed_once_after_the_last_write(self, server):
        plan = plan_for(server, THREE)
        server.log.clear()
        execute(plan, Gateway(server), FakeCredentials(), FakeReplacer(), parallelism=3)
        asked = [path for _, path, _ in server.log]
        assert [index for index, path in enumerate(asked) if path == "sys/mounts"] == [
            len(asked) - 1
        ]
        assert len(asked) == 2 + 3 * (1 + 1 + 2 + 1) + 1


def test_an_action_that_ended_is_looked_at_once_while_others_run(server, monkeypatch):
    """Else every wait costs time for each action, and an apply grows with their square."""
    waits, looked, slow = [0], Counter(), threading.Event()

    class Counted(Future):
        def done(self):
            ended = super().done()
            if ended:
                looked[self] += 1
            else:
                waits[0] += 1
                if waits[0] > 5:
                    slow.set()
            return ended

    def hook(method, path):
        if path == "skyflow/order/roles/a":
            assert slow.wait(20)

    monkeypatch.setattr("skyflowctl.concurrency.Future", Counted)
    server.hook = hook
    outcome = apply(server, THREE, parallelism=8)
    assert outcome.status == "ok"
    assert len(looked) == len(outcome.results)
    assert set(looked.values()) == {1}


def test_parallelism_is_used_and_is_a_limit(server):
    together, most, lock = set(), [0], threading.Lock()
    meeting = threading.Barrier(3, timeout=20)

    def hook(method, path):
        if "/roles/" in path and method == "POST":
            with lock:
                together.add(path)
                most[0] = max(most[0], len(together))
            meeting.wait()
            with lock:
                together.discard(path)

    server.hook = hook
    assert apply(server, THREE, parallelism=3).status == "ok"
    assert most[0] == 3


def test_a_failed_mount_stops_only_its_own_later_stages(server):
    refuse(server, "skyflow/pay/roles/a")
    outcome = apply(server, THREE)
    by_path = {result.action.path: result for result in outcome.results}
    assert by_path["skyflow/pay/roles/a"].result == "failed"
    assert by_path["skyflow/pay/roles/a"].request_id == "rX"
    assert by_path["skyflow/pay/roles/b"].result == "done"
    assert by_path["skyflow/pay/config"].result == "skipped"
    assert by_path["skyflow/pay/config"].problem.code == "mount-failed"
    assert by_path["skyflow/order/config"].result == "done"
    assert (outcome.status, outcome.exit_code) == ("partial", ExitCode.PARTIAL)


def test_the_same_command_finishes_what_failed(server):
    refuse(server, "skyflow/pay")
    refuse(server, "sys/mounts/skyflow/pay")
    assert apply(server, THREE).status == "partial"
    server.hook = lambda method, path: None
    rest = apply(server, THREE)
    assert rest.status == "ok"
    assert {result.action.mount for result in rest.results} == {"pay"}
    assert plan_for(server, THREE).empty


@pytest.mark.parametrize("number", range(1, 15))
def test_killed_after_each_write_in_turn_the_next_run_finishes(server, number):
    """What a killed process leaves is what had been written; nothing else is kept."""

    class Killed(BaseException):
        pass

    left = [number]

    def after(method, path):
        if method not in ("GET", "LIST"):
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    server.after = after
    with pytest.raises(Killed):
        apply(server, THREE, parallelism=1)
    server.after = lambda method, path: None
    assert apply(server, THREE).status == "ok"
    assert plan_for(server, THREE).empty
    assert all(role["version"] == 1 for roles in server.roles.values() for role in roles.values())
    assert all(config["version"] == 1 for config in server.configs.values())


def test_when_nothing_is_done_the_failures_own_code_counts(server):
    apply(server, p.manifest())
    server.mounts["skyflow/order"]["description"] = "x"
    refuse(server, "sys/mounts/skyflow/order/tune")
    outcome = apply(server, p.manifest())
    assert (outcome.status, outcome.exit_code) == ("error", ExitCode.NOT_PERMITTED)


def test_request_ids_of_writes_are_kept(server):
    outcome = apply(server, p.manifest())
    assert all(result.request_id.startswith("r") for result in outcome.results)
    assert len({result.request_id for result in outcome.results}) == len(outcome.results)


class TestWarnings:
    """Of writes that were taken: the server's own, and the engine's in its data."""

    def warn(self, server, path, *texts, data=()):
        answer = server.send

        def send(request):
            reply = answer(request)
            if (request.method, request.path) != ("POST", path):
                return reply
            known = {**(reply.data or {}), **({"warnings": list(data)} if data else {})}
            return dataclasses.replace(reply, warnings=texts, data=known)

        server.send = send

    @pytest.mark.parametrize(
        ("texts", "data"),
        [(("reader: it does not mint",), ()), ((), ("reader: it does not mint",))],
    )
    def test_they_are_in_the_actions_result_wherever_they_stand(self, server, texts, data):
        self.warn(server, "skyflow/pay/config", *texts, data=data)
        outcome = apply(server, THREE)
        assert outcome.status == "ok"
        (told,) = outcome.warnings
        assert (told.code, told.summary) == (
            "engine-warning",
            "skyflow/pay: reader: it does not mint",
        )
        assert told.why
        assert told.fix
        (result,) = [one for one in outcome.results if one.warnings]
        assert result.action.path == "skyflow/pay/config"

    def test_one_that_stands_in_both_places_is_told_once_in_one_line(self, server):
        self.warn(server, "skyflow/pay/roles/a", "two\n lines", data=("two lines",))
        assert [one.summary for one in apply(server, THREE).warnings] == ["skyflow/pay: two lines"]

    def test_those_about_mounts_are_the_servers(self, server):
        self.warn(server, "sys/mounts/skyflow/pay", "careful")
        (told,) = apply(server, THREE).warnings
        assert (told.code, told.summary) == ("server-warning", "skyflow/pay: careful")


class TestUnexpected:
    """A defect of ours in one action must not hide what became of the others."""

    def test_it_is_a_failed_action_and_its_text_is_not_shown(self, server):
        def hook(method, path):
            if method == "POST" and path == "skyflow/pay/roles/a":
                raise ZeroDivisionError("hidden-thing")

        server.hook = hook
        events = []
        outcome = apply(server, THREE, on_event=events.append)
        (failed,) = outcome.failures
        assert failed.action.path == "skyflow/pay/roles/a"
        assert (failed.problem.code, failed.exit_code) == ("unexpected", ExitCode.UNEXPECTED)
        assert "ZeroDivisionError" in failed.problem.why
        assert "hidden-thing" not in repr(failed.problem)
        assert outcome.exit_code is ExitCode.PARTIAL
        assert [e.action.path for e in events if isinstance(e, ActionFailed)] == [
            "skyflow/pay/roles/a"
        ]


class TestCredential:
    def test_it_is_resolved_only_where_it_is_written(self, server):
        apply(server, THREE)
        server.configs["skyflow/pay"]["description"] = "x"
        source = FakeCredentials()
        outcome = execute(plan_for(server, THREE), Gateway(server), source, FakeReplacer())
        assert outcome.status == "ok"
        assert source.resolved == []

    def test_one_that_moved_since_the_plan_is_refused_and_not_sent(self, server):
        plan = plan_for(server, p.manifest())
        outcome = execute(plan, Gateway(server), FakeCredentials(number=2), FakeReplacer())
        (failed,) = outcome.failures
        assert failed.problem.code == "credential-moved"
        assert failed.exit_code is ExitCode.REFUSED
        assert ("POST", "skyflow/order/config") not in server.writes()

    def test_one_that_the_plan_could_not_see_is_refused(self, server):
        live = Gateway(server).read_live_state(["skyflow/order"], "skyflow")
        plan = make_plan(p.manifest(), live, {})
        outcome = execute(plan, Gateway(server), FakeCredentials(), FakeReplacer())
        assert [result.problem.code for result in outcome.failures] == ["credential-moved"]

    def test_one_that_cannot_be_resolved_fails_its_mount_only(self, server):
        plan = plan_for(server, THREE)
        outcome = execute(
            plan, Gateway(server), FakeCredentials(missing=frozenset({"pay"})), FakeReplacer()
        )
        assert [result.action.path for result in outcome.failures] == ["skyflow/pay/config"]
        assert server.configs["skyflow/order"]["key_id"] == "key-order-1"

    def test_a_new_key_replaces_the_live_one(self, server):
        apply(server, p.manifest())
        outcome = apply(server, p.manifest(), 2)
        assert [r.action.action.value for r in outcome.results] == ["replace_credential"]
        assert server.configs["skyflow/order"]["key_id"] == "key-order-2"
        assert plan_for(server, p.manifest(), 2).empty


class TestReplacing:
    def carry_out(self, server, plan, **more):
        replacer = FakeReplacer()
        replacer.says = (Problem("said", "the old key lives on", "it does", "retire it"),)
        return replacer, execute(plan, Gateway(server), FakeCredentials(2), replacer, **more)

    def test_the_replacer_gets_the_credential_and_its_words_are_in_the_outcome(self, server):
        apply(server, p.manifest())
        replacer, outcome = self.carry_out(server, plan_for(server, p.manifest(), 2))
        assert replacer.calls == [("replace", "order", "skyflow/order", "key-order-2")]
        assert [one.code for one in outcome.warnings] == ["said"]

    def test_a_first_credential_is_none_of_its_business(self, server):
        replacer, outcome = self.carry_out(server, plan_for(server, p.manifest(), 2))
        assert (outcome.status, replacer.calls) == ("ok", [])

    def test_other_fields_are_written_before_it_and_without_the_credential(self, server):
        apply(server, p.manifest())
        server.configs["skyflow/order"]["description"] = "x"
        plan = plan_for(server, p.manifest(), 2)
        before = len(server.log)
        self.carry_out(server, plan)
        sent = [body for method, path, body in server.log[before:] if method == "POST"]
        assert [sorted(body) for body in sent] == [["cas", "description"], ["credentials_json"]]

    def test_a_config_that_was_written_after_the_plan_is_refused(self, server):
        apply(server, p.manifest())
        plan = plan_for(server, p.manifest(), 2)
        server.configs["skyflow/order"]["version"] += 1
        replacer, outcome = self.carry_out(server, plan)
        assert outcome.failures[0].exit_code is ExitCode.REFUSED
        assert outcome.failures[0].problem.code == "config-moved"
        assert replacer.calls == []

    def test_an_open_rotation_to_the_manifests_key_is_finished(self, server):
        apply(server, p.manifest(), 2)
        live = Gateway(server).read_live_state(["skyflow/order"], "skyflow")
        rotation = p.open_rotation("key-order-1", "key-order-2")
        plan = make_plan(
            p.manifest(),
            p.with_config(live, "skyflow/order", rotation=rotation),
            p.identities(p.manifest(), 2),
        )
        replacer, outcome = self.carry_out(server, plan)
        assert replacer.calls == [("finish", "order", "skyflow/order", "")]
        assert outcome.status == "ok"


class TestCheckAndSet:
    def change_before_write(self, server, **fields):
        apply(server, p.manifest())
        server.roles["skyflow/order"]["writer"]["description"] = "x"
        plan = plan_for(server, p.manifest())
        server.roles["skyflow/order"]["writer"] |= {"version": 9, **fields}
        return execute(plan, Gateway(server), FakeCredentials(), FakeReplacer())

    def test_a_lost_one_is_refused(self, server):
        outcome = self.change_before_write(server, description="somebody else's")
        assert outcome.failures[0].exit_code is ExitCode.REFUSED
        assert server.roles["skyflow/order"]["writer"]["description"] == "somebody else's"

    def test_one_that_was_lost_to_the_same_values_is_done(self, server):
        outcome = self.change_before_write(server, description="the writer")
        assert outcome.status == "ok"


class TestUpgrade:
    def test_the_mount_is_tuned_reloaded_and_read_back(self, server):
        apply(server, p.manifest(version="v1.0.0"))
        outcome = apply(server, p.manifest(version="v1.1.0"))
        assert outcome.status == "ok"
        assert ("PUT", "sys/plugins/reload/backend") in server.writes()
        assert server.mounts["skyflow/order"]["running_plugin_version"] == "v1.1.0"

    def test_it_waits_for_the_mounts_other_fields(self, server):
        apply(server, p.manifest(version="v1.0.0"))
        server.mounts["skyflow/order"]["description"] = "x"
        refuse(server, "sys/mounts/skyflow/order/tune")
        outcome = apply(server, p.manifest(version="v1.1.0"))
        assert [result.result for result in outcome.results] == ["failed", "skipped"]

    def test_a_reload_that_changes_nothing_is_a_failure(self, server):
        apply(server, p.manifest(version="v1.0.0"))

        def after(method, path):
            if path == "sys/plugins/reload/backend":
                server.mounts["skyflow/order"]["running_plugin_version"] = "v1.0.0"

        server.after = after
        outcome = apply(server, p.manifest(version="v1.1.0"))
        assert [r.problem.code for r in outcome.failures] == ["upgrade-not-running"]
        assert not plan_for(server, p.manifest(version="v1.1.0")).empty


class TestEvents:
    def test_every_action_is_told_from_start_to_end(self, server):
        refuse(server, "skyflow/pay/roles/a")
        events = []
        outcome = apply(server, THREE, on_event=events.append)
        kinds = {
            kind: [e.action for e in events if isinstance(e, kind)]
            for kind in (ActionStarted, ActionDone, ActionFailed, ActionSkipped)
        }
        assert len(kinds[ActionStarted]) == len(kinds[ActionDone]) + len(kinds[ActionFailed])
        assert [a.path for a in kinds[ActionFailed]] == ["skyflow/pay/roles/a"]
        assert [a.path for a in kinds[ActionSkipped]] == ["skyflow/pay/config"]
        assert len(kinds[ActionDone]) == sum(r.result == "done" for r in outcome.results)

    def test_they_come_one_at_a_time(self, server):
        inside = threading.Lock()

        def listen(event):
            assert inside.acquire(blocking=False)
            inside.release()

        assert apply(server, THREE, parallelism=8, on_event=listen).status == "ok"


class TestTwoAppliesAtOnce:
    def test_a_plan_that_another_apply_has_carried_out_is_done(self, server):
        late = plan_for(server, THREE)
        assert apply(server, THREE).status == "ok"
        outcome = execute(late, Gateway(server), FakeCredentials(), FakeReplacer())
        assert (outcome.status, outcome.failures) == ("ok", ())

    def test_a_mount_of_another_kind_is_told_with_what_to_do(self, server):
        late = plan_for(server, THREE)
        server.mounts["skyflow/pay"] = {"type": "kv"}
        outcome = execute(late, Gateway(server), FakeCredentials(), FakeReplacer())
        (failed,) = outcome.failures
        assert (failed.action.mount, failed.problem.code) == ("pay", "path-in-use")
        assert "another apply" in failed.problem.fix


class TestInterruption:
    def test_what_has_begun_is_finished_and_the_rest_is_reported(self, server):
        stop = Stop()

        def after(method, path):
            if path == "sys/mounts/skyflow/order" and method == "POST":
                stop.ask(signal.SIGTERM)

        server.after = after
        outcome = apply(server, THREE, parallelism=1, stop=stop)
        done = [r.action.path for r in outcome.results if r.result == "done"]
        assert done[-1] == "sys/mounts/skyflow/order"
        assert outcome.interrupted
        skipped = [r for r in outcome.results if r.result == "skipped"]
        assert {r.problem.code for r in skipped} == {"interrupted"}
        assert len(done) + len(skipped) == len(outcome.results)
        server.after = lambda method, path: None
        assert apply(server, THREE).status == "ok"

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_asks_to_stop(self, number):
        before = signal.getsignal(number)
        with stop_on_signals() as stop:
            assert not stop.asked
            os.kill(os.getpid(), number)
            assert stop.asked
            assert stop.signal == number
        assert signal.getsignal(number) is before

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_second_signal_waits_for_nothing(self, number):
        """Not even for a worker thread that a hanging server holds."""
        script = textwrap.dedent(
            """
            import threading, time
            from skyflowctl.executor.stop import stop_on_signals
            with stop_on_signals() as stop:
                threading.Thread(target=time.sleep, args=(60,)).start()
                print("ready", flush=True)
                while not stop.asked:
                    time.sleep(0.01)
                print("asked", flush=True)
                time.sleep(60)
            """
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
            for line in (b"ready\n", b"asked\n"):
                assert child.stdout.readline() == line
                child.send_signal(number)
            assert child.wait(20) == -number


def test_an_empty_plan_asks_for_nothing(server):
    apply(server, THREE)
    plan = plan_for(server, THREE)
    before = server.requests_made
    outcome = execute(plan, Gateway(server), FakeCredentials(), FakeReplacer())
    assert (outcome.status, outcome.results) == ("ok", ())
    assert server.requests_made == before


def test_the_order_of_kinds_is_the_order_of_stages():
    assert list(ObjectKind) == [
        ObjectKind.AUDIT_DEVICE,
        ObjectKind.AUDITED_HEADER,
        ObjectKind.NAMESPACE,
        ObjectKind.MOUNT,
        ObjectKind.ROLE,
        ObjectKind.CONFIG,
        ObjectKind.ENGINE,
        ObjectKind.OBJECT,
        ObjectKind.SECRET,
        ObjectKind.POLICY,
        ObjectKind.LOGIN_METHOD,
        ObjectKind.LOGIN_CONFIG,
        ObjectKind.LOGIN_ROLE,
        ObjectKind.GROUP,
        ObjectKind.QUOTA,
    ]


@pytest.mark.parametrize(
    ("results", "overwritten", "expected"),
    [
        (("done", "pending"), False, ("pending", ExitCode.PENDING)),
        (("done", "pending", "waiting"), False, ("pending", ExitCode.PENDING)),
        (("done", "pending"), True, ("partial", ExitCode.PARTIAL)),
        (("done", "done"), True, ("partial", ExitCode.PARTIAL)),
        (("pending", "failed"), False, ("partial", ExitCode.PARTIAL)),
        ((), False, ("ok", ExitCode.OK)),
    ],
)
def test_a_run_is_pending_only_if_nothing_else_is_wrong(server, results, overwritten, expected):
    action = plan_for(server, THREE).actions[0]
    problem = Problem("mount-overwritten", "skyflow/order changed", "why", "fix")
    outcome = ApplyOutcome(
        tuple(ActionResult(action, one) for one in results), overwritten=(problem,) * overwritten
    )
    assert (outcome.status, outcome.exit_code) == expected


class TestUpgradeOfSeveral:
    """One mount after the other; the first that loses a role ends it."""

    def upgraded(self, server, *, lost=""):
        """Apply an upgrade; after the reload of one mount its roles do not mint."""
        old = p.manifest(*THREE.mounts, version="v1.0.0")
        assert apply(server, old).status == "ok"

        def after(method, path):
            if path == "sys/plugins/reload/backend":
                (mount,) = server.log[-1][2]["mounts"]
                reloaded.append(mount.rstrip("/").rpartition("/")[2])
                if reloaded[-1] == lost:
                    proof = {"ok": False, "status": 0, "message": "no way"}
                    server.proofs[f"skyflow/{lost}"] = dict.fromkeys("ab", proof)

        reloaded = []
        server.after = after
        new = p.manifest(*THREE.mounts, version="v1.0.1")
        return apply(server, new, parallelism=8), reloaded

    def test_it_goes_on_while_every_role_mints(self, server):
        outcome, reloaded = self.upgraded(server)
        assert (outcome.status, len(reloaded)) == ("ok", 3)

    def test_it_stops_after_the_first_mount_whose_roles_do_not_mint(self, server):
        first = THREE.mounts[0].name
        outcome, reloaded = self.upgraded(server, lost=first)
        assert reloaded == [first]
        assert outcome.exit_code is ExitCode.PARTIAL
        by_mount = {one.action.mount: one for one in outcome.results}
        (lost,) = by_mount[first].problems
        assert (lost.code, lost.why) == ("upgrade-lost-roles", "role a: no way")
        assert "2 of 2 roles that minted before" in lost.summary
        others = [one for name, one in by_mount.items() if name != first]
        assert [(one.result, one.problem.code) for one in others] == [
            ("skipped", "upgrade-stopped")
        ] * 2

    def test_a_role_that_did_not_mint_before_stops_nothing(self, server):
        proof = {"ok": False, "status": 401, "message": "no"}
        server.proofs["skyflow/pay"] = dict.fromkeys("ab", proof)
        outcome, reloaded = self.upgraded(server)
        assert (outcome.status, len(reloaded)) == ("ok", 3)
