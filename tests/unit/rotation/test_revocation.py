"""The cut-off, on the real engine in memory and the emulator in process."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from support.faulty_emulator import Fault, FaultKind
from support.rotating import empty_rig, job, quick_keys, unreachable  # noqa: F401 - a fixture

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.engine.rotations import NODES_LEARN
from skyflowctl.errors import ExitCode, UsageError
from skyflowctl.rotation.model import StepName
from skyflowctl.rotation.revocation.model import AtSkyflow
from skyflowctl.rotation.revocation.revoke import revoke_mount
from skyflowctl.vault.errors import BadRequestError, ForbiddenError, NotAnEngineError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.live import way_out
from skyflowctl.vault.responses import ClusterNode


class Killed(BaseException):
    """The process ends here."""


def join_workers():
    """What was being asked when the process was killed gets its answer, for the loop's sake."""
    for thread in threading.enumerate():
        if "_serve" in thread.name:
            thread.join(10)


pytestmark = pytest.mark.usefixtures("quick_keys")


@pytest.fixture
def rig():
    with empty_rig() as made:
        yield made


def revoke(rig, path, *, delete_keys=False, **world):
    return revoke_mount(
        job(path), rig.dependencies(**world), reason=" key leaked ", delete_keys=delete_keys
    )


def codes(outcome):
    return [problem.code for problem in outcome.problems]


def silence(rig):
    """The token service takes exchanges and answers none."""
    rig.tokens.state.faults.add(Fault(FaultKind.RESET, count=10_000))


def creds_fail(rig, path):
    with pytest.raises(BadRequestError, match="refused") as caught:
        rig.gateway.engine(path).creds("reader", "a:1")
    return caught.value.says("mount not configured")


def test_everything_goes_and_it_is_proved(rig):
    path, old, new = rig.rotated()
    other = rig.mount()
    done = revoke(rig, path)
    assert (done.exit_code, done.problems) == (ExitCode.OK, ())
    assert (done.cut_off, done.done_before, done.live_key_id) == (True, False, new)
    assert creds_fail(rig, path)
    assert not any(entry.kept for entry in rig.gateway.engine(path).history().values())
    assert [(key.key_id, key.was, key.versions) for key in done.keys] == [
        (new, "live", (2,)),
        (old, "kept", (1,)),
    ]
    (node,) = done.nodes
    assert node.proved
    assert {(cut.role, cut.ok) for cut in node.roles} == {("reader", True), ("writer", True)}
    assert [(one.path, one.before, one.after) for one in done.others] == [(other, "ok", "ok")]
    assert (done.reason, done.run_id) == ("key leaked", "run-1")
    assert [step.name for step in done.steps] == [
        StepName.LOOK,
        StepName.CUT_OFF,
        StepName.KEYS_AT_SKYFLOW,
        StepName.PROVE_CUT_OFF,
        StepName.PROVE_OTHERS,
    ]
    # No operator was named: the keys may be valid at Skyflow, and no tick says otherwise.
    assert [step.name for step in done.steps if not step.ok] == [StepName.KEYS_AT_SKYFLOW]
    assert "2 may still be valid" in done.steps[2].detail


class TestWhatCannotBeRevoked:
    def test_tokens_live_as_long_as_the_last_ones_seen(self, rig):
        path = rig.mount()
        rig.tokens.state.token_lifetime = 7_200
        done = revoke(rig, path)
        ends = rfc3339(rig.clock.now() + timedelta(seconds=7_200) + NODES_LEARN)
        assert [one.until for one in done.cannot_revoke[:2]] == [ends, ends]
        assert "bearer" in done.cannot_revoke[0].what
        assert "wrapped" in done.cannot_revoke[1].what

    def test_tokens_of_a_key_that_was_replaced_count_too(self, rig):
        path = rig.mount()
        rig.tokens.state.token_lifetime = 7_200
        rig.gateway.engine(path).creds("writer")
        rig.tokens.state.token_lifetime = 60
        rig.write(path)
        rig.gateway.engine(path).commit("rot")
        until = rig.gateway.engine(path).config().rotation.old_tokens_valid_until
        assert revoke(rig, path).cannot_revoke[0].until == until

    def test_a_token_service_that_is_down_holds_back_nothing(self, rig):
        path = rig.mount()
        silence(rig)
        done = revoke(rig, path)
        assert (done.cut_off, done.exit_code) == (True, ExitCode.OK)
        assert creds_fail(rig, path)
        left = parse_rfc3339(done.cannot_revoke[0].until) - rig.clock.now()
        assert left == timedelta(minutes=60) + NODES_LEARN

    def test_keys_that_are_valid_at_skyflow_and_snapshots(self, rig):
        path, old, new = rig.rotated()
        end = rig.gateway.engine(path).config().key_valid_before
        done = revoke(rig, path)
        whats = [one.what for one in done.cannot_revoke]
        assert [new in whats[2], old in whats[3], "snapshots" in whats[4]] == [True] * 3
        assert done.cannot_revoke[2].until == rfc3339(end)
        assert {key.at_skyflow for key in done.keys} == {AtSkyflow.LEFT}

    def test_without_an_operator_a_key_counts_as_valid(self, rig):
        done = revoke(rig, rig.mount(), operator=None)
        assert [key.at_skyflow for key in done.keys] == [AtSkyflow.UNKNOWN]
        assert "perhaps valid" in done.cannot_revoke[2].what
        assert done.exit_code == ExitCode.OK


class TestKeysAtSkyflow:
    def test_they_are_deleted_when_told_to(self, rig):
        path, old, new = rig.rotated()
        done = revoke(rig, path, delete_keys=True)
        assert rig.keys.deleted == [new, old]
        assert {key.at_skyflow for key in done.keys} == {AtSkyflow.DELETED}
        assert (len(done.cannot_revoke), done.exit_code) == (2, ExitCode.OK)
        again = revoke(rig, path, delete_keys=True)
        assert {key.at_skyflow for key in again.keys} == {AtSkyflow.ABSENT}
        assert (again.done_before, again.live_key_id, again.exit_code) == (True, new, ExitCode.OK)


@pytest.mark.parametrize("again", ["key leaked", "another"])
def test_run_again_it_keeps_the_first_reason_run_time_and_end_of_the_tokens(rig, again):
    path = rig.mount()
    rig.tokens.state.token_lifetime = 7_200
    first = revoke(rig, path)
    rig.clock.pass_seconds(300)
    second = revoke_mount(job(path), rig.dependencies(run_id="run-2"), reason=again)
    kept = [
        (one.reason, one.run_id, one.cut_off_at, one.cannot_revoke[:2]) for one in (first, second)
    ]
    assert kept[0] == kept[1]
    assert (second.done_before, second.cut_off) == (True, True)
    (warning,) = [one for one in second.warnings if one.code == "cut-off-before"]
    assert "was cut off already: it is cut off since" in warning.summary
    assert "because key leaked (run run-1)" in warning.summary
    assert ("given now is not stored" in warning.why) is (again == "another")
    assert warning.fix == way_out(job(path).name)


def test_a_first_cut_off_without_a_reason_takes_the_next_ones(rig):
    path = rig.mount()
    rig.gateway.engine(path).cut_off()
    first = rig.gateway.engine(path).config().revoked
    done = revoke(rig, path)
    assert (done.reason, done.run_id, done.cut_off_at) == ("key leaked", "run-1", first.at)

    def test_not_one_by_which_another_mount_lives(self, rig):
        shared = rig.new_secret()
        path, other = rig.mount(credential=shared), rig.mount(credential=shared)
        done = revoke(rig, path, delete_keys=True)
        assert rig.keys.deleted == []
        assert (codes(done), done.exit_code) == (["key-left"], ExitCode.PARTIAL)
        assert other in done.problems[0].why
        assert rig.gateway.engine(other).verify().ok

    def test_a_failure_is_told_and_the_next_run_finishes(self, rig):
        path = rig.mount()
        key = rig.gateway.engine(path).config().key_id
        rig.keys.broken = unreachable()
        done = revoke(rig, path, delete_keys=True)
        assert (done.cut_off, done.exit_code) == (True, ExitCode.PARTIAL)
        assert codes(done) == ["unreachable", "key-left"]
        rig.keys.broken = None
        again = revoke(rig, path, delete_keys=True)
        assert (rig.keys.deleted, again.exit_code) == ([key], ExitCode.OK)

    def test_one_that_a_rotation_created_and_did_not_write_is_not_forgotten(self, rig):
        path = rig.mount()
        live = rig.gateway.engine(path).config()
        fields = {"rotation_id": "r", "rotation_to": "new-key", "rotation_keys": [live.key_id]}
        rig.gateway.engine(path).write_config(fields, cas=live.version)
        done = revoke(rig, path, operator=None)
        assert [(key.key_id, key.was) for key in done.keys] == [
            (live.key_id, "live"),
            ("new-key", "unwritten"),
        ]


class TestOtherMounts:
    def test_one_that_was_ill_before_is_not_blamed(self, rig):
        path, ill = rig.mount(), rig.mount()
        config = rig.gateway.engine(ill).config()
        rig.tokens.state.delete_key(config.client_id, config.key_id)
        done = revoke(rig, path)
        assert [(one.before, one.after) for one in done.others] == [("refused", "refused")]
        assert done.exit_code == ExitCode.OK

    def test_one_that_has_no_credential_is_not_said_to_serve(self, rig):
        path, ill, _ = rig.mount(), rig.mount(), rig.mount()
        rig.gateway.engine(ill).cut_off()
        done = revoke_mount(job(path), rig.dependencies(), reason="a test")
        (step,) = (one for one in done.steps if one.name is StepName.PROVE_OTHERS)
        assert (step.ok, step.detail) == (True, "1 of 2 serve")

    def test_the_mounts_are_listed_once(self, rig):
        path, _ = rig.mount(), rig.mount()
        sent = len(rig.line.sent)
        revoke_mount(job(path), rig.dependencies(), reason="a test")
        assert rig.line.sent[sent:].count("GET sys/mounts") == 1

    def test_one_that_breaks_meanwhile_is_exit_6(self, rig):
        path, other = rig.mount(), rig.mount()
        config = rig.gateway.engine(other).config()

        def break_other(_number, method, where):
            if method == "DELETE" and where == f"{path}/config":
                rig.tokens.state.delete_key(config.client_id, config.key_id)

        rig.line.after = break_other
        done = revoke(rig, path)
        assert (done.cut_off, done.exit_code) == (True, ExitCode.UNHEALTHY)
        assert codes(done) == ["other-mount-broken"]
        assert other in done.problems[0].summary

    def test_a_trouble_that_passes_is_none(self, rig):
        path, _ = rig.mount(), rig.mount()

        def trouble(_number, method, where):
            if method == "DELETE":
                rig.tokens.state.faults.add(Fault(FaultKind.RESET, count=1))

        rig.line.after = trouble
        assert revoke(rig, path).exit_code == ExitCode.OK

    def test_what_may_not_be_listed_is_not_proved(self, rig):
        path = rig.mount()

        def forbid(_number, method, where):
            if where == "sys/mounts":
                raise error_for(403, ("permission denied",), method=method, path=where)

        rig.line.before = forbid
        done = revoke(rig, path)
        assert (done.cut_off, done.exit_code) == (True, ExitCode.PARTIAL)
        assert codes(done) == ["others-unknown"]


class TestWriters:
    def writer(self, rig, path, times):
        """Somebody who writes a credential each time it is gone, so often."""
        left = [times]

        def write(_number, method, where):
            if method == "DELETE" and where == f"{path}/config" and left[0]:
                left[0] -= 1
                rig.gateway.engine(path).write_config({"credentials_json": rig.new_secret()})

        rig.line.after = write

    def test_the_cut_off_wins_and_names_their_keys(self, rig):
        path = rig.mount()
        self.writer(rig, path, 2)
        done = revoke(rig, path)
        assert (done.cut_off, done.exit_code) == (True, ExitCode.OK)
        assert [(key.versions, key.was) for key in done.keys] == [
            ((3,), "live"),
            ((2,), "live"),
            ((1,), "live"),
        ]
        assert creds_fail(rig, path)

    def test_one_who_never_stops_is_told_of(self, rig):
        path = rig.mount()
        self.writer(rig, path, 1000)
        done = revoke(rig, path)
        assert (done.cut_off, done.exit_code) == (False, ExitCode.PARTIAL)
        assert "written-again" in codes(done)

    def test_one_who_writes_during_the_proof_is_seen(self, rig):
        path = rig.mount()
        cuts, written = [], []

        def write_once(_number, _method, where):
            # The last role that is asked: what is proved by then is proved no more.
            if where == f"{path}/creds/writer" and not written:
                written.append(where)
                rig.gateway.engine(path).write_config({"credentials_json": rig.new_secret()})

        def count(_number, method, _where):
            cuts.extend([method] if method == "DELETE" else [])

        rig.line.before, rig.line.after = write_once, count
        done = revoke(rig, path)
        assert (len(cuts), done.cut_off, done.exit_code) == (2, True, ExitCode.OK)
        assert creds_fail(rig, path)


class TestNodes:
    def test_unnamed_nodes_do_not_hold_back_the_cut_off(self, rig, monkeypatch):
        addresses = ["https://a:8200", "https://b:8200"]
        nodes = tuple(ClusterNode("", one, one == addresses[0], "", "") for one in addresses)
        monkeypatch.setattr(rig.gateway.sys, "nodes", lambda: nodes)
        path = rig.mount()
        done = revoke(rig, path, connect=lambda _node: None)
        assert (done.cut_off, done.exit_code) == (True, ExitCode.PARTIAL)
        assert creds_fail(rig, path)
        assert [node.node for node in done.nodes if not node.proved] == addresses
        assert codes(done) == ["not-proved", "not-proved"]
        assert any("https://b:8200" in one.what for one in done.cannot_revoke)

    def test_a_list_of_nodes_that_may_not_be_read(self, rig, monkeypatch):
        def forbidden():
            raise error_for(403, ("permission denied",), method="GET", path="sys/ha-status")

        monkeypatch.setattr(rig.gateway.sys, "nodes", forbidden)
        path = rig.mount()
        done = revoke(rig, path, connect=lambda _node: None)
        assert (done.cut_off, done.exit_code) == (True, ExitCode.PARTIAL)
        assert creds_fail(rig, path)
        assert "other nodes" in {node.node for node in done.nodes if not node.proved}


class TestRefused:
    @pytest.mark.parametrize("reason", ["", "  \n"])
    def test_without_a_reason(self, rig, reason):
        path = rig.mount()
        with pytest.raises(UsageError, match="reason"):
            revoke_mount(job(path), rig.dependencies(), reason=reason)
        assert rig.gateway.engine(path).config().configured

    def test_what_is_no_engine(self, rig):
        rig.gateway.sys.enable_mount("secret/kv", {"type": "kv"})
        with pytest.raises(NotAnEngineError):
            revoke(rig, "secret/kv")
        assert "DELETE secret/kv/config" not in rig.line.sent

    def test_by_the_server(self, rig):
        path = rig.mount()

        def forbid(_number, method, where):
            if method == "DELETE":
                raise error_for(403, ("permission denied",), method=method, path=where)

        rig.line.before = forbid
        with pytest.raises(ForbiddenError):
            revoke(rig, path)


class TestAgain:
    def test_a_mount_that_never_had_a_credential(self, rig):
        rig.gateway.sys.enable_mount("skyflow/new", {"type": "skyflow"})
        done = revoke(rig, "skyflow/new")
        assert (done.keys, done.cannot_revoke, done.exit_code) == ((), (), ExitCode.OK)

    @pytest.mark.parametrize("boundary", range(1, 16))
    def test_killed_after_any_request_the_next_run_ends_well(self, rig, boundary):
        path, old, new = rig.rotated()
        rig.mount()
        made = len(rig.line.sent)

        def kill(*_):
            if len(rig.line.sent) - made >= boundary:
                raise Killed

        rig.line.after = kill
        with pytest.raises(Killed):
            revoke(rig, path, delete_keys=True)
        join_workers()
        rig.line.after = lambda *_: None
        done = revoke(rig, path, delete_keys=True)
        assert (done.cut_off, done.exit_code) == (True, ExitCode.OK)
        assert (done.live_key_id, {key.key_id for key in done.keys}) == (new, {old, new})
        assert all(node.proved for node in done.nodes)
        assert sorted(rig.keys.deleted) == sorted([old, new])
        assert parse_rfc3339(done.cut_off_at) <= rig.clock.now()
        assert creds_fail(rig, path)
