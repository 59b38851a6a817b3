"""Laws of a prune of namespaces: only ours, only by name, only known to be empty."""

from __future__ import annotations

import dataclasses

import pytest
from support import planning as p

from skyflowctl.errors import Problem
from skyflowctl.planner.diff import make_plan
from skyflowctl.planner.plan import Plan, PlanOptions, PruneOptions
from skyflowctl.vault.access_api import NAMESPACE_ID
from skyflowctl.vault.live import LiveAccess

MARKS = {"managed_by": "skyflowctl", "manifest": "shop"}
LAB, TEAM = "sys/namespaces/lab", "sys/namespaces/team"
QUOTA = "sys/quotas/rate-limit/skyflowctl.shop.lab"
UNREAD = Problem("forbidden", "permission denied: GET v1/lab/sys/mounts", "policies", "allow it")


def namespace(marks: dict[str, str]) -> dict[str, str]:
    return {**marks, NAMESPACE_ID: "abc"}


def pruned(contents, *named: str, marks=MARKS, **objects) -> Plan:
    found = {LAB: namespace(marks), TEAM: namespace(MARKS), **objects}
    access = LiveAccess(objects=found, contents=contents)
    state = dataclasses.replace(p.empty_live(p.HEADERS), access=access)
    prune = PruneOptions(allow_destroy=frozenset(named), allow_large=True)
    what = dataclasses.replace(p.manifest(), mounts=())
    return make_plan(what, state, {}, PlanOptions(prune=prune))


def test_one_is_drift_until_it_is_named():
    plan = pruned({})
    assert [one.path for one in plan.drift] == [LAB, TEAM]
    assert f"--allow-destroy={LAB}' deletes it if it is empty" in plan.drift[0].fix
    assert plan.deletes == ()


def test_a_named_empty_one_goes():
    plan = pruned({LAB: ()}, LAB)
    assert [one.path for one in plan.deletes] == [LAB]
    assert plan.prune_refused == ()


@pytest.mark.parametrize(
    ("contents", "code", "why"),
    [
        (("lab/sys/auth/x",), "prune-not-empty", "would delete lab/sys/auth/x"),
        (UNREAD, "prune-contents-unknown", "GET v1/lab/sys/mounts"),
    ],
)
def test_one_with_contents_or_unknown_contents_is_refused(contents, code, why):
    plan = pruned({LAB: contents}, LAB)
    assert plan.deletes == ()
    (refused,) = plan.prune_refused
    assert (refused.code, why in refused.why) == (code, True)


@pytest.mark.parametrize("marks", [{}, {"manifest": "shop"}, {**MARKS, "manifest": "other"}])
def test_one_without_this_manifests_whole_mark_is_refused(marks):
    plan = pruned({LAB: ()}, LAB, marks=marks)
    assert plan.deletes == ()
    assert [one.code for one in plan.prune_refused] == ["prune-not-made-here"]


def test_a_quota_that_goes_with_this_plan_is_gone_before_its_namespace():
    quota = {"type": "rate-limit", "name": "skyflowctl.shop.lab", "path": "lab"}
    plan = pruned({LAB: (QUOTA,)}, LAB, QUOTA, **{QUOTA: quota})
    assert [one.path for one in plan.deletes] == [QUOTA, LAB]
    kept = pruned({LAB: (QUOTA,)}, LAB, **{QUOTA: quota})
    assert [one.code for one in kept.prune_refused] == ["prune-not-empty"]
