"""Laws of a prune: only what this manifest made, within limits, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest
from support.planning import converged, identities, manifest, mount, role, simulate, with_mount

from skyflowctl.manifest.files import file_set
from skyflowctl.manifest.model import Moved
from skyflowctl.planner.diff import make_plan
from skyflowctl.planner.plan import ActionType, PlanOptions, PruneOptions
from skyflowctl.planner.policy_text import mark_line
from skyflowctl.vault.live import LiveAccess, LivePolicy

OLD = "skyflow/old"


def roles(*names):
    return tuple(role(name) for name in names)


def shop(*mounts):
    return manifest(*(mounts or (mount("order", roles=roles("a", "b", "c")),)))


def with_role_tags(live, path, name, *tags):
    engine = live.engines[path]
    changed = dataclasses.replace(engine.roles[name], tags=tags)
    engine = dataclasses.replace(engine, roles={**engine.roles, name: changed})
    return dataclasses.replace(live, engines={**live.engines, path: engine})


def pruned(what, live, only=None, **options):
    given = PlanOptions(only=only, prune=PruneOptions(**options))
    return make_plan(what, live, identities(what), given)


def refused(plan):
    return [one.code for one in plan.prune_refused]


def deleted(plan):
    assert {one.action for one in plan.actions} <= {ActionType.DELETE}
    return [one.path for one in plan.actions]


def with_old_mount(**changes):
    """The manifest without the mount ``old``, and a server that still has it."""
    before = shop(mount("order", roles=roles("a", "b")), mount("old", roles=roles("x"), **changes))
    return manifest(before.mounts[0]), converged(before)


class TestRoles:
    left = shop(mount("order", roles=roles("a", "b")))

    def test_one_that_left_the_manifest_is_deleted(self):
        live = converged(shop())
        plan = pruned(self.left, live)
        (action,) = plan.actions
        assert (action.action, action.path, action.cas) == ("delete", "skyflow/order/roles/c", 1)
        assert ("role_ids", ["skyflow-c"], None) in [
            (one.field, one.before, one.after) for one in action.changes
        ]
        assert (plan.drift, plan.summary()["delete"]) == ((), 1)
        again = pruned(self.left, simulate(plan.actions, live, identities(self.left)))
        assert again.clean

    def test_without_prune_it_is_drift_and_the_fix_prunes(self):
        plan = make_plan(self.left, converged(shop()), identities(self.left))
        assert plan.actions == ()
        assert "skyflowctl apply --prune" in plan.drift[0].fix

    @pytest.mark.parametrize("tags", [(), ("env:prod",), ("managed-by:skyflowctl/other",)])
    def test_one_of_others_stays_and_is_drift(self, tags):
        live = with_role_tags(converged(shop()), "skyflow/order", "c", *tags)
        plan = pruned(self.left, live)
        assert (plan.actions, [one.path for one in plan.drift]) == ((), ["skyflow/order/roles/c"])
        named = pruned(self.left, live, allow_destroy=frozenset({"skyflow/order/roles/c"}))
        assert (named.actions, refused(named)) == ((), ["prune-not-made-here"])

    def test_an_adopted_one_is_deleted_only_if_named(self):
        marks = ("managed-by:skyflowctl/shop", "adopted-by:skyflowctl/shop")
        live = with_role_tags(converged(shop()), "skyflow/order", "c", *marks)
        plan = pruned(self.left, live)
        assert plan.actions == ()
        (flag,) = (word for word in plan.drift[0].fix.split() if "allow-destroy" in word)
        named = pruned(self.left, live, allow_destroy=frozenset({flag.split("=")[1].strip("'")}))
        assert deleted(named) == ["skyflow/order/roles/c"]


class TestMounts:
    def test_one_stays_until_its_path_is_named(self):
        what, live = with_old_mount()
        plan = pruned(what, live)
        assert (plan.actions, [one.path for one in plan.drift]) == ((), [OLD])
        assert f"--prune --allow-destroy={OLD}" in plan.drift[0].fix

    def test_its_api_path_names_it_too(self):
        what, live = with_old_mount()
        plan = pruned(what, live, allow_destroy=frozenset({f"sys/mounts/{OLD}"}))
        assert (deleted(plan), plan.warnings) == ([f"sys/mounts/{OLD}"], ())

    def test_a_named_one_is_deleted_with_what_it_holds(self):
        what, live = with_old_mount()
        plan = pruned(what, live, allow_destroy=frozenset({OLD}))
        (action,) = plan.actions
        assert (action.path, action.mount) == (f"sys/mounts/{OLD}", "")
        shown = {one.field: one.before for one in action.changes}
        assert (shown["roles"], shown["key_id"]) == (["x"], "key-old-1")
        left = simulate(plan.actions, live, identities(what))
        assert pruned(what, left, allow_destroy=frozenset({OLD})).clean

    def test_a_protected_one_is_refused_although_it_is_named(self):
        what, live = with_old_mount(protect=True)
        assert live.mounts[OLD].options["protect"] == "true"
        plan = pruned(what, live, allow_destroy=frozenset({OLD}))
        assert (plan.actions, refused(plan)) == ((), ["prune-protected"])

    def test_protection_can_be_taken_away_again(self):
        before = shop(mount("order", protect=True))
        what = shop(mount("order"))
        plan = make_plan(what, converged(before), identities(what))
        (action,) = plan.actions
        assert dict(action.body) == {"options": {"protect": ""}}

    @pytest.mark.parametrize("options", [{}, {"managed_by": "skyflowctl", "manifest": "other"}])
    def test_one_of_others_is_refused_although_it_is_named(self, options):
        what, live = with_old_mount()
        plan = pruned(what, with_mount(live, OLD, options=options), allow_destroy=frozenset({OLD}))
        assert (plan.actions, refused(plan)) == ((), ["prune-not-made-here"])

    def test_a_mount_of_another_type_is_never_deleted(self):
        what, live = with_old_mount()
        live = with_mount(live, OLD, type="kv")
        plan = pruned(what, live, allow_destroy=frozenset({OLD}))
        assert (plan.actions, refused(plan)) == ((), ["prune-not-made-here"])

    def test_one_with_roles_of_others_is_deleted_only_if_they_are_named_too(self):
        what, live = with_old_mount()
        live = with_role_tags(live, OLD, "x")
        plan = pruned(what, live, allow_destroy=frozenset({OLD}))
        assert (plan.actions, refused(plan)) == ((), ["prune-not-made-here"])
        named = frozenset({OLD, f"{OLD}/roles/x"})
        assert deleted(pruned(what, live, allow_destroy=named)) == [f"sys/mounts/{OLD}"]

    def test_one_that_cannot_be_read_is_refused(self):
        what, live = with_old_mount()
        live = dataclasses.replace(live, engines={"skyflow/order": live.engines["skyflow/order"]})
        plan = pruned(what, live, allow_destroy=frozenset({OLD}))
        assert (plan.actions, refused(plan)) == ((), ["prune-contents-unknown"])

    def test_the_former_path_of_a_move_is_not_deleted(self):
        what, live = with_old_mount()
        moved = Moved("mount", OLD, "skyflow/order", what.mounts[0].where)
        what = dataclasses.replace(what, moved=(moved,))
        assert pruned(what, live, allow_destroy=frozenset({OLD})).actions == ()


class TestLimits:
    @pytest.mark.parametrize(
        ("made", "gone", "codes"),
        [
            (1, 1, ["prune-too-many"]),
            (2, 1, []),
            (2, 2, ["prune-too-many"]),
            (3, 2, []),
            (9, 3, ["prune-too-many"]),
            (10, 3, []),
            (10, 4, ["prune-too-many"]),
            (20, 6, []),
            (20, 7, ["prune-too-many"]),
        ],
    )
    def test_of_one_kind(self, made, gone, codes):
        names = [f"r{number:02}" for number in range(made)]
        live = converged(shop(mount("order", roles=roles(*names))))
        what = shop(mount("order", roles=roles(*names[gone:])))
        plan = pruned(what, live)
        assert refused(plan) == codes
        assert len(deleted(plan)) == gone  # the plan is shown all the same
        assert refused(pruned(what, live, allow_large=True)) == []

    def test_objects_of_others_do_not_raise_the_limit(self):
        names = [f"r{number:02}" for number in range(20)]
        live = converged(shop(mount("order", roles=roles(*names))))
        for name in names[10:]:
            live = with_role_tags(live, "skyflow/order", name)
        what = shop(mount("order", roles=roles(*names[4:10])))
        assert refused(pruned(what, live)) == ["prune-too-many"]

    def test_an_empty_manifest_deletes_nothing(self):
        what = dataclasses.replace(shop(), mounts=())
        plan = pruned(what, converged(shop()), allow_large=True)
        assert (plan.actions, refused(plan)) == ((), ["prune-empty-manifest"])

    def test_an_empty_manifest_never_prints_a_prune_of_its_mounts(self):
        what, live = dataclasses.replace(shop(), mounts=()), converged(shop(mount("a"), mount("b")))
        options = {**live.mounts["skyflow/b"].options, "protect": "true"}
        live = with_mount(live, "skyflow/b", options=options)
        plan = make_plan(what, live, {})
        flag = "--allow-destroy=skyflow/a"
        free, held = (one.fix for one in plan.drift)
        assert free.endswith(f"or 'skyflowctl mount disable skyflow/a {flag}' deletes it")
        assert "it is protected: apply it with `protect: false`" in held
        (problem,) = pruned(what, live).prune_refused
        assert problem.fix == (
            "declare and apply skyflow/b with `protect: false`; "
            f"'skyflowctl mount disable skyflow/a {flag}'; then run this again"
        )

    def test_an_empty_manifest_says_that_its_mounts_go_before_its_policies(self):
        what, live = dataclasses.replace(shop(), mounts=()), converged(shop(mount("a")))
        policy = LivePolicy("old", f'{mark_line(what.id)}\npath "x" {{}}\n')
        live = dataclasses.replace(live, access=LiveAccess(policies={"old": policy}))
        (found,) = [one for one in make_plan(what, live, {}).drift if "acl" in one.path]
        assert found.fix == (
            "put it back into the manifest, or once none of this manifest's mounts is left, "
            "'skyflowctl apply --prune --allow-large-prune' deletes it"
        )


class TestScope:
    def test_only_below_the_named_mounts(self):
        full = [mount(name, roles=roles("a", "b", "c")) for name in ("order", "pay")]
        left = [mount(name, roles=roles("a", "b")) for name in ("order", "pay")]
        live, what = converged(shop(*full)), shop(*left)
        plan = pruned(what, live, only=frozenset({"order"}), below=frozenset({"skyflow/order"}))
        assert deleted(plan) == ["skyflow/order/roles/c"]

    def test_an_undeclared_mount_can_be_named(self):
        what, live = with_old_mount()
        named = frozenset({OLD})
        plan = pruned(what, live, only=frozenset(), below=named, allow_destroy=named)
        assert deleted(plan) == [f"sys/mounts/{OLD}"]


class TestFiles:
    what = dataclasses.replace(shop(), file_set="base.yaml,prod.yaml")

    def test_the_set_is_recorded_when_a_mount_is_made(self):
        live = converged(self.what)
        assert live.mounts["skyflow/order"].options["files"] == "base.yaml,prod.yaml"

    def test_another_set_is_refused_until_it_is_allowed(self):
        live = converged(self.what)
        what = dataclasses.replace(
            shop(mount("order", roles=roles("a", "b"))), file_set="base.yaml"
        )
        assert refused(pruned(what, live)) == ["prune-other-files"]
        plan = pruned(what, live, allow_other_files=True)
        assert refused(plan) == []
        assert [(one.action, one.path) for one in plan.actions] == [
            ("update", "sys/mounts/skyflow/order/tune"),
            ("delete", "skyflow/order/roles/c"),
        ]
        left = simulate(plan.actions, live, identities(what))
        assert pruned(what, left).clean

    def test_without_prune_another_set_changes_nothing(self):
        what = dataclasses.replace(shop(), file_set="base.yaml")
        assert make_plan(what, converged(self.what), identities(what)).clean

    def test_an_unknown_set_is_refused(self):
        assert refused(pruned(self.what, converged(shop()))) == ["prune-other-files"]

    @pytest.mark.parametrize(
        ("names", "mark"),
        [
            (["mounts.yaml"], "mounts.yaml"),
            (["/srv/a/mounts.yaml"], "mounts.yaml"),
            (["b/x.yaml", "b/y.yaml"], "x.yaml,y.yaml"),
            (["/r/prod/m.yaml", "/r/base/m.yaml"], "base/m.yaml,prod/m.yaml"),
            (["/r/base.yaml", "/r/envs/prod.yaml"], "base.yaml,envs/prod.yaml"),
            (["-"], "-"),
            ([], ""),
        ],
    )
    def test_a_set_is_the_same_in_every_checkout(self, names, mark):
        assert file_set(names) == mark
