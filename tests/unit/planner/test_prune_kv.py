"""Laws of a prune of engines and secrets, and of a manifest without mounts."""

from __future__ import annotations

import dataclasses

import pytest
from support import planning as p

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import DeclaredEngine, DeclaredPolicy, DeclaredSecret
from skyflowctl.planner.diff import make_plan
from skyflowctl.planner.plan import Plan, PlanOptions, PruneOptions
from skyflowctl.planner.policy_text import mark_line
from skyflowctl.vault.live import LiveAccess, LiveMount, LivePolicy, LiveSecret

MARKS = {"managed_by": "skyflowctl", "manifest": "shop"}
NAMES = ("backend", "airflow", "old", "dir/older")
OLD = "secret/data/old"
MINE = LiveSecret(2, MARKS, frozenset({"user"}))
BACKEND = {"secret/data/backend": MINE}
THEIRS = LiveSecret(1, {"manifest": "other"}, frozenset({"user"}))


def manifest(*secrets: str, engine: bool = True):
    declared = tuple(DeclaredSecret(name, {"user": "app"}, 0, p.HERE) for name in secrets)
    engines = (DeclaredEngine("secret", "kv", "", declared, p.HERE),) if engine else ()
    return dataclasses.replace(p.manifest(), mounts=(), engines=engines)


def kv(path: str, **options: str) -> LiveMount:
    marks = {"version": "2", **MARKS, **options}
    return LiveMount(path, "kv", "", marks, (), (), (), "", "", "")


def access(secrets: dict[str, LiveSecret] | None = None, *engines: LiveMount, **more) -> LiveAccess:
    mounts = {one.path: one for one in engines or (kv("secret"),)}
    found = secrets if secrets is not None else {f"secret/data/{name}": MINE for name in NAMES}
    return LiveAccess(engines=mounts, secrets=found, **more)


def pruned(what, live: LiveAccess, *named: str, **options) -> Plan:
    state = dataclasses.replace(p.empty_live(p.HEADERS), mounts=live.engines, access=live)
    prune = PruneOptions(allow_destroy=frozenset(named), **options)
    return make_plan(what, state, {}, PlanOptions(prune=prune))


def deleted(plan: Plan) -> list[str]:
    return [one.path for one in plan.deletes]


def refused(plan: Plan) -> list[str]:
    return [one.code for one in plan.prune_refused]


class TestSecrets:
    left = manifest("backend", "airflow")

    def test_one_that_left_the_manifest_is_drift_until_it_is_named(self):
        plan = pruned(self.left, access())
        assert (plan.actions, refused(plan)) == ((), [])
        assert [one.path for one in plan.drift] == [OLD, "secret/data/dir/older"]
        assert f"--allow-destroy={OLD}' deletes it with all of its versions" in plan.drift[0].fix

    def test_a_named_one_is_deleted_at_the_version_that_was_seen(self):
        plan = pruned(self.left, access(), OLD)
        (action,) = plan.deletes
        assert (action.path, action.cas) == (OLD, 2)
        assert action.body == {"engine": "secret", "path": "old"}
        assert [one.path for one in plan.drift] == ["secret/data/dir/older"]

    def test_one_of_others_is_refused(self):
        live = access({**access().secrets, OLD: THEIRS})
        plan = pruned(self.left, live, OLD)
        assert (deleted(plan), refused(plan)) == ([], ["prune-not-made-here"])

    def test_all_of_them_need_a_large_prune(self):
        paths = [f"secret/data/{name}" for name in NAMES]
        plan = pruned(manifest(), access(), *paths)
        assert (sorted(deleted(plan)), refused(plan)) == (sorted(paths), ["prune-too-many"])
        assert refused(pruned(manifest(), access(), *paths, allow_large=True)) == []

    def test_those_of_an_engine_that_stays_undeclared_are_kept(self):
        plan = pruned(manifest(engine=False), access(), OLD)
        assert (plan.actions, [one.path for one in plan.drift]) == ((), ["secret"])


class TestEngines:
    gone = manifest("backend")
    attic = kv("attic")
    engines = (kv("secret"), attic)

    def plan(self, secrets: dict[str, LiveSecret], *named: str, **more) -> Plan:
        return pruned(self.gone, access({**BACKEND, **secrets}, *self.engines, **more), *named)

    def test_one_that_left_the_manifest_is_drift_until_it_is_named(self):
        plan = self.plan({})
        assert (plan.actions, [one.path for one in plan.drift]) == ((), ["attic"])
        assert "--allow-destroy=sys/mounts/attic" in plan.drift[0].fix

    def test_a_named_one_is_deleted_and_its_secrets_are_shown(self):
        plan = self.plan({"attic/data/a/b": MINE}, "sys/mounts/attic")
        (action,) = plan.deletes
        assert action.path == "sys/mounts/attic"
        shown = {change.field: change.before for change in action.changes}
        assert shown["secrets"] == ["attic/data/a/b"]
        assert (plan.drift, refused(plan)) == ((), [])

    def test_one_with_secrets_of_others_is_refused(self):
        plan = self.plan({"attic/data/a": MINE, "attic/data/b": THEIRS}, "sys/mounts/attic")
        assert (deleted(plan), refused(plan)) == ([], ["prune-not-made-here"])
        assert "attic/data/b" in plan.prune_refused[0].why

    def test_one_whose_secrets_cannot_be_listed_is_refused(self):
        unread = {"attic/metadata/": Problem("x", "no", "why", "fix")}
        plan = self.plan({}, "sys/mounts/attic", unread=unread)
        assert (deleted(plan), refused(plan)) == ([], ["prune-not-made-here"])
        assert "attic/*" in plan.prune_refused[0].why

    @pytest.mark.parametrize("options", [{"manifest": "other"}, {"manifest": ""}])
    def test_one_of_others_is_refused(self, options):
        live = access(BACKEND, kv("secret"), kv("attic", **options))
        plan = pruned(self.gone, live, "sys/mounts/attic")
        assert (plan.actions, refused(plan)) == ((), ["prune-not-made-here"])


class TestWithoutMounts:
    policies = ("a", "b", "c")

    def live(self) -> LiveAccess:
        text = f'{mark_line("shop")}\npath "x" {{\n  capabilities = ["read"]\n}}\n'
        return access(policies={name: LivePolicy(name, text, 1) for name in self.policies})

    def what(self, *names: str):
        text = 'path "x" {\n  capabilities = ["read"]\n}\n'
        declared = tuple(DeclaredPolicy(name, text, p.HERE) for name in names)
        return dataclasses.replace(manifest(*NAMES), policies=declared)

    def test_its_other_objects_are_pruned(self):
        plan = pruned(self.what("a", "b"), self.live())
        assert (deleted(plan), refused(plan)) == (["sys/policies/acl/c"], [])

    def test_an_empty_manifest_reaches_the_limit_of_each_kind(self):
        empty = dataclasses.replace(manifest(engine=False), policies=())
        assert refused(pruned(empty, self.live())) == ["prune-too-many"]

    def test_if_it_has_made_mounts_it_deletes_nothing(self):
        live = self.live()
        mount = dataclasses.replace(kv("skyflow/order"), type="skyflow")
        live = dataclasses.replace(live, engines={**live.engines, mount.path: mount})
        plan = pruned(self.what("a", "b"), live)
        assert (plan.actions, refused(plan)) == ((), ["prune-empty-manifest"])


class TestPathsThatMatchNothing:
    left = manifest("backend", "airflow")

    def warned(self, *named: str) -> list[tuple[str, str]]:
        plan = pruned(self.left, access(), *named)
        assert not plan.prune_refused
        return [(one.code, one.fix) for one in plan.warnings]

    def test_a_misspelled_one_is_a_warning_with_the_likely_path(self):
        fix = f'did you mean "{OLD}"?'
        assert self.warned("secret/data/odl") == [("nothing-to-destroy", fix)]

    def test_one_that_an_earlier_run_deleted_stops_nothing(self):
        ((code, _),) = self.warned("sys/auth/long-gone-login-method")
        assert code == "nothing-to-destroy"

    def test_one_that_exists_is_none(self):
        assert self.warned(OLD) == []

    def test_only_what_this_prune_could_delete_is_suggested(self):
        assert self.warned("secret/data/backendd") != [
            ("nothing-to-destroy", 'did you mean "secret/data/backend"?')
        ]

    def test_the_same_end_counts_more_than_a_similar_path(self):
        fix = 'did you mean "secret/data/dir/older"?'
        assert self.warned("sekret/older") == [("nothing-to-destroy", fix)]


class TestFormsOfAPath:
    @pytest.mark.parametrize("form", ["secret", "sys/mounts/secret"])
    def test_an_engine_is_named_by_both(self, form):
        plan = pruned(manifest(engine=False), access(), form, allow_large=True)
        assert (deleted(plan), plan.warnings) == (["sys/mounts/secret"], ())

    @pytest.mark.parametrize("form", ["secret", "sys/mounts/secret"])
    def test_one_of_others_is_refused_once(self, form):
        live = access({}, kv("secret", manifest="other"))
        plan = pruned(manifest(engine=False), live, form)
        assert (deleted(plan), refused(plan)) == ([], ["prune-not-made-here"])

    @pytest.mark.parametrize("form", ["secret", "sys/mounts/secret"])
    def test_secrets_of_others_keep_it(self, form):
        live = access({"secret/data/theirs": THEIRS})
        plan = pruned(manifest(engine=False), live, form)
        assert (deleted(plan), refused(plan)) == ([], ["prune-not-made-here"])
        assert "secret/data/theirs" in plan.prune_refused[0].why


class TestThePrintedCommand:
    """Its flags are those that it needs, and no other."""

    @staticmethod
    def fixes(*policies: str, left: tuple[str, ...] = ()) -> list[str]:
        case = TestWithoutMounts()
        case.policies = policies
        live = case.live()
        state = dataclasses.replace(p.empty_live(p.HEADERS), mounts=live.engines, access=live)
        return [one.fix for one in make_plan(case.what(*left), state, {}).drift]

    def test_the_only_one_of_a_kind_needs_the_permission_of_a_large_prune(self):
        (fix,) = self.fixes("a")
        assert "'skyflowctl apply --prune --allow-large-prune' deletes it" in fix

    def test_one_of_two_does_not(self):
        (fix,) = self.fixes("a", "b", left=("a",))
        assert "'skyflowctl apply --prune' deletes it" in fix

    def test_the_only_engine_needs_both_flags(self):
        live = access({})
        state = dataclasses.replace(p.empty_live(p.HEADERS), mounts=live.engines, access=live)
        (drift,) = make_plan(manifest(engine=False), state, {}).drift
        flags = "--allow-large-prune --allow-destroy=sys/mounts/secret"
        assert f"'skyflowctl apply --prune {flags}' deletes it" in drift.fix
