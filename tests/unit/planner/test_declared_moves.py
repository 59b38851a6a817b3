"""A mount that the manifest says was moved is moved, and then compared like every other."""

from __future__ import annotations

import dataclasses

import pytest
from support import planning as p

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import Consumer, LoginMethod, Manifest, Moved, Reference
from skyflowctl.planner.diff import (
    make_plan,
    mounts_to_ask_history,
    mounts_to_search,
)
from skyflowctl.planner.plan import PlanOptions
from skyflowctl.vault.live import LiveState

OLD, NEW = "skyflow/orders", "skyflow/order"
MOVE = Moved("mount", OLD, NEW, p.HERE)
ALLOWED = PlanOptions(allow_move=frozenset({OLD}))


def manifest(*mounts, moved=(MOVE,), **changes) -> Manifest:
    return dataclasses.replace(p.manifest(*mounts), moved=moved, **changes)


WHAT = manifest()


def before(what: Manifest = WHAT, **changes) -> LiveState:
    """All as the manifest says, but the mount is at its former path."""
    live = p.converged(dataclasses.replace(what, moved=()))
    mounts, engines = dict(live.mounts), dict(live.engines)
    mounts[OLD] = dataclasses.replace(mounts.pop(NEW), path=OLD, **changes)
    engines[OLD] = engines.pop(NEW)
    return dataclasses.replace(live, mounts=mounts, engines=engines)


def told(live: LiveState, what: Manifest = WHAT, options: PlanOptions = ALLOWED):
    return make_plan(what, live, p.identities(what), options)


def steps(made) -> list[tuple[str, str, str]]:
    return [(one.action.value, one.kind.value, one.path) for one in made.actions]


def codes(made) -> list[str]:
    return [one.code for one in made.warnings]


def test_a_mount_at_its_former_path_is_moved_and_nothing_else():
    made = told(before())
    (one,) = made.actions
    assert (one.action, one.kind, one.mount, one.path) == ("move", "mount", "order", "sys/remount")
    assert [(c.field, c.before, c.after) for c in one.changes] == [("path", OLD, NEW)]
    assert one.body == {"from": OLD, "to": NEW}
    assert (made.drift, made.unmoved, codes(made)) == ((), (), ["moves-mount"])


def test_its_other_differences_follow_the_move():
    live = before(description="another")
    live = p.with_role(live, OLD, "writer", description="another")
    live = p.with_config(live, OLD, description="another")
    made = told(live)
    assert steps(made) == [
        ("move", "mount", "sys/remount"),
        ("update", "mount", f"sys/mounts/{NEW}/tune"),
        ("update", "role", f"{NEW}/roles/writer"),
        ("update", "config", f"{NEW}/config"),
    ]
    assert len({one.path for one in made.actions}) - 1 + made.unchanged == 2 + 3
    after = p.simulate(made.actions, live, p.identities(WHAT))
    again = told(after)
    assert (again.actions, again.drift, again.warnings) == ((), (), ())


@pytest.mark.parametrize("done", range(5))
def test_a_run_that_was_killed_between_the_steps_is_finished_by_the_next(done):
    live = p.with_role(before(description="another"), OLD, "writer", description="another")
    first = told(live)
    halfway = p.simulate(first.actions[:done], live, p.identities(WHAT))
    rest = told(halfway)
    assert rest.actions == first.actions[done:]
    assert told(p.simulate(rest.actions, halfway, p.identities(WHAT))).clean


def test_a_mount_that_was_moved_already_is_left_alone():
    made = told(p.converged(p.manifest()), options=PlanOptions())
    assert (made.actions, made.drift, made.warnings) == ((), (), ())


def test_neither_path_is_a_new_mount():
    made = told(p.empty_live(), options=PlanOptions())
    assert ("create", "mount", f"sys/mounts/{NEW}") in steps(made)
    assert made.unmoved == ()


def test_two_live_mounts_are_refused_by_name():
    live = before()
    both = dataclasses.replace(
        live, mounts={**live.mounts, NEW: dataclasses.replace(live.mounts[OLD], path=NEW)}
    )
    made = told(both)
    (one,) = made.left_out
    assert one.code == "moved-both-live"
    assert f"{NEW} and {OLD} are both mounted" in one.summary
    assert made.actions == ()


@pytest.mark.parametrize("path", [OLD, NEW])
def test_either_path_permits_it(path):
    assert told(before(), options=PlanOptions(allow_move=frozenset({path}))).unmoved == ()


def test_without_permission_the_plan_is_shown_and_refused():
    made = told(before(), options=PlanOptions())
    assert steps(made) == [("move", "mount", "sys/remount")]
    (one,) = made.unmoved
    assert one.code == "needs-allow-move"
    assert one.fix == f"to move it: --allow-move={OLD}"
    assert f"{OLD} answers 404" in one.why


def consumer(name: str, *mounts: str) -> Consumer:
    return Consumer(name, "approle", {}, tuple((one, "writer") for one in mounts), p.HERE)


def test_the_consumers_that_read_the_former_path_are_named():
    what = manifest(
        p.mount("order"),
        p.mount("payment"),
        consumers=(consumer("till", "order"), consumer("ledger", "payment")),
    )
    (one,) = [one for one in told(before(what), what).warnings if one.code == "moves-mount"]
    assert "consumers log in again: till" in one.why
    assert "ledger" not in one.why


def test_protection_and_server_files_are_named():
    reference = Reference("server_file", ("/keys/k.json",), "server_file: /keys/k.json", p.HERE)
    what = manifest(p.mount(protect=True, credentials=reference))
    live = before(manifest(p.mount(protect=True)))
    (one,) = [one for one in told(live, what).warnings if one.code == "moves-mount"]
    assert one.summary.endswith("although it is protected")
    assert f"only below DIRECTORY/{NEW}/" in one.why


def test_new_policies_precede_the_move_and_it_depends_on_them():
    approle = LoginMethod("approle", "approle", "", p.HERE)
    what = manifest(consumers=(consumer("till", "order"),), login_methods=(approle,))
    made = told(before(), what)
    kinds = [(one.action.value, one.kind.value) for one in made.actions]
    assert kinds == [
        ("create", "policy"),
        ("move", "mount"),
        ("create", "login_method"),
        ("create", "login_role"),
    ]
    policy, move, *_ = made.actions
    assert move.after == (policy.path,)


def test_without_a_move_the_order_of_the_stages_is_as_ever():
    what = manifest(p.mount(description="new"), consumers=(consumer("till", "order"),))
    made = told(p.converged(p.manifest()), what)
    kinds = [one.kind.value for one in made.actions]
    assert kinds.index("mount") < kinds.index("policy")


REFUSED = {
    "another type": (before(type="kv"), "type-differs"),
    "another manifest's": (
        before(options={"managed_by": "skyflowctl", "manifest": "x"}),
        "owned-by-other",
    ),
}


@pytest.mark.parametrize(("live", "code"), REFUSED.values(), ids=REFUSED)
def test_what_may_not_be_changed_is_not_moved(live, code):
    made = told(live)
    assert (made.actions, [one.code for one in made.left_out]) == ((), [code])


def test_another_mount_above_or_below_the_new_path_is_in_the_way():
    live = before()
    other = dataclasses.replace(live.mounts[OLD], path=f"{NEW}/eu", type="kv", options={})
    made = told(dataclasses.replace(live, mounts={**live.mounts, f"{NEW}/eu": other}))
    assert (made.actions, [one.code for one in made.left_out]) == ((), ["path-in-use"])


def test_an_unmarked_mount_is_moved_only_when_it_is_adopted():
    live = before(options={})
    assert [one.summary for one in told(live).unadopted] == [f"{NEW} was not made by this manifest"]
    named = dataclasses.replace(ALLOWED, adopt=frozenset({NEW}))
    made = told(live, options=named)
    assert made.unadopted == ()
    assert steps(made)[0] == ("move", "mount", "sys/remount")
    assert told(p.simulate(made.actions, live, p.identities(WHAT)), options=named).empty


def test_a_mount_that_was_cut_off_stays_until_it_has_a_key_again():
    live = p.with_config(before(), OLD, configured=False, key_id="", client_id="")
    live = p.with_revoked(p.with_history(live, OLD, {1: "key-order-1"}), OLD, "key-order-1")
    made = told(live)
    (one,) = made.drift
    assert (made.actions, one.kind, one.path) == ((), "revoked", OLD)
    assert f"skyflowctl rotate {OLD}" in one.fix


def test_a_mount_that_cannot_be_read_is_not_moved():
    live = before()
    problem = Problem("forbidden", "no", "no", "ask")
    live = dataclasses.replace(live, engines={}, problems={OLD: problem})
    made = told(live)
    assert (made.actions, codes(made)) == ((), ["engine-unreadable"])
    assert made.not_compared == {"order": 3}


def not_moved(reason: str):
    """A manifest whose consumer reads a mount that stays at its former path, and its plan."""
    approle = LoginMethod("approle", "approle", "", p.HERE)
    what = manifest(
        p.mount("order"),
        p.mount("payment"),
        consumers=(consumer("till", "order", "payment"),),
        login_methods=(approle,),
    )
    live, options = before(what), ALLOWED
    live = p.with_access(live, objects={"auth/approle/role/till": {"token_policies": ["old"]}})
    if reason == "cannot be read":
        engines = {path: one for path, one in live.engines.items() if path != OLD}
        problem = Problem("forbidden", "no", "no", "ask")
        live = dataclasses.replace(live, engines=engines, problems={OLD: problem})
    elif reason == "cut off":
        live = p.with_config(live, OLD, configured=False, key_id="", client_id="")
        live = p.with_revoked(p.with_history(live, OLD, {1: "key-order-1"}), OLD, "key-order-1")
    else:
        options = PlanOptions(only=frozenset({"payment"}))
    return told(live, what, options)


@pytest.mark.parametrize("reason", ["cannot be read", "cut off", "not chosen"])
def test_the_consumers_of_a_mount_that_stays_keep_what_they_have(reason):
    made = not_moved(reason)
    assert [one for one in made.actions if one.kind.value == "login_role"] == []
    assert [one for one in made.not_compared if "/login_role/" in one or "/role/" in one]


def test_the_consumers_of_a_role_that_is_not_created_keep_what_they_have():
    writer, extra = p.role(), p.role("extra")
    approle = LoginMethod("approle", "approle", "", p.HERE)
    what = manifest(
        p.mount(roles=(writer, extra)),
        moved=(),
        consumers=(Consumer("till", "approle", {}, (("order", "extra"),), p.HERE),),
        login_methods=(approle,),
    )
    live = p.converged(manifest(moved=(), login_methods=(approle,)))
    assert [one.kind.value for one in told(live, what).actions] == ["role", "policy", "login_role"]
    live = p.with_config(live, NEW, configured=False, key_id="", client_id="")
    live = p.with_revoked(p.with_history(live, NEW, {1: "key-order-1"}), NEW, "key-order-1")
    made = told(live, what)
    assert (made.actions, sum("/" in one for one in made.not_compared)) == ((), 2)


def test_only_the_chosen_mounts_are_moved():
    what = manifest(p.mount("order"), p.mount("payment"))
    made = told(before(what), what, PlanOptions(only=frozenset({"payment"})))
    assert (made.actions, made.warnings) == ((), ())


def test_history_is_asked_where_the_mount_still_is():
    live = p.with_config(before(), OLD, key_id="another")
    assert mounts_to_ask_history(WHAT, live, p.identities(WHAT)) == (OLD,)
    assert mounts_to_search(WHAT, live) == ()


def test_a_live_key_that_is_not_the_manifests_is_replaced_after_the_move():
    live = p.with_history(p.with_config(before(), OLD, key_id="another"), OLD, {1: "another"})
    assert steps(told(live)) == [
        ("move", "mount", "sys/remount"),
        ("replace_credential", "config", f"{NEW}/config"),
    ]


def test_a_moved_role_is_created_and_the_former_one_is_drift():
    moved = (Moved("role", f"{NEW}/roles/author", f"{NEW}/roles/writer", p.HERE),)
    what = manifest(moved=moved)
    live = p.converged(manifest(p.mount(roles=(p.role("author"),)), moved=()))
    made = told(live, what)
    assert steps(made) == [("create", "role", f"{NEW}/roles/writer")]
    (one,) = made.drift
    assert (one.kind, one.path) == ("undeclared", f"{NEW}/roles/author")
    assert one.reason == f"it was moved to {NEW}/roles/writer"


def test_a_role_may_be_moved_to_another_mount():
    moved = (Moved("role", f"{NEW}/roles/author", "skyflow/payment/roles/writer", p.HERE),)
    mounts = p.mount("order"), p.mount("payment")
    live = p.with_role(p.converged(manifest(*mounts, moved=())), NEW, "author")
    made = told(live, manifest(*mounts, moved=moved))
    (one,) = made.drift
    assert (made.actions, one.mount) == ((), "order")
    assert one.reason == "it was moved to skyflow/payment/roles/writer"
