"""Laws of planning, over generated manifests and servers."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st
from support import planning as p

from skyflowctl.manifest.model import DeclaredCtx
from skyflowctl.planner.diff import make_plan
from skyflowctl.planner.plan import ActionType, DriftKind, ObjectKind

_names = st.sampled_from(["order", "purchase", "payment", "refund"])
_roles = st.sampled_from(["reader", "writer", "auditor"])
_words = st.sampled_from(["", "a", "b c"])
_tags = st.lists(st.sampled_from(["env:prod", "team:a", "team:b"]), unique=True).map(tuple)
_rules = st.one_of(
    st.just(DeclaredCtx()),
    st.just(DeclaredCtx(required=True, probe="order:probe")),
    st.just(DeclaredCtx(required=True, pattern="order:*", probe="order:probe")),
    st.just(DeclaredCtx(required=False, pattern="order:*", probe="order:probe")),
    st.just(DeclaredCtx(probe={"n": 1, "yes": True})),
)


@st.composite
def roles(draw):
    names = draw(st.lists(_roles, unique=True, max_size=3))
    return tuple(
        p.role(name, description=draw(_words), tags=draw(_tags), ctx=draw(_rules)) for name in names
    )


@st.composite
def manifests(draw):
    names = draw(st.lists(_names, unique=True, min_size=1, max_size=4))
    mounts = [
        p.mount(
            name,
            description=draw(_words),
            tags=draw(_tags),
            plain_ctx=draw(st.booleans()),
            roles=draw(roles()),
            credentials=draw(st.sampled_from([None, p.reference(name)])),
        )
        for name in names
    ]
    return p.manifest(*mounts, version=draw(st.sampled_from([None, "v1.0.0", "v1.1.0"])))


@st.composite
def servers(draw):
    """A server on which some other manifest of the same id was applied once."""
    before = draw(manifests())
    headers = draw(st.sampled_from([{}, p.HEADERS, {"x-skyflowctl-run": True}]))
    live = dataclasses.replace(p.converged(before), audited_headers=headers)
    for path, engine in live.engines.items():
        known = {1: engine.config.key_id} if draw(st.booleans()) else None
        live = p.with_history(live, path, known)
        if engine.config.configured and draw(st.booleans()):
            live = p.with_config(live, path, configured=False, client_id="", key_id="")
    return live


@given(manifests(), servers(), st.integers(1, 2))
@settings(max_examples=200, deadline=None)
def test_the_second_plan_is_empty(manifest, live, number):
    keys = p.identities(manifest, number)
    first = make_plan(manifest, live, keys)
    after = p.simulate(first.actions, live, keys)
    second = make_plan(manifest, after, keys)
    assert second.actions == ()
    assert second.unchanged >= first.unchanged


@given(manifests(), servers())
@settings(max_examples=60, deadline=None)
def test_the_same_arguments_give_the_same_plan(manifest, live):
    keys = p.identities(manifest, 2)
    turned = dataclasses.replace(
        live,
        mounts=dict(reversed(live.mounts.items())),
        engines=dict(reversed(live.engines.items())),
    )
    assert make_plan(manifest, live, keys) == make_plan(manifest, turned, keys)


@given(manifests(), servers(), st.sets(_names))
@settings(max_examples=200, deadline=None)
def test_every_object_is_counted_once(manifest, live, unresolved):
    """Each is to be changed, is right, or was not compared: nothing is left out in silence."""
    keys = {**p.identities(manifest), **dict.fromkeys(unresolved)}
    made = make_plan(manifest, live, keys)
    changed = {(one.kind, one.mount, one.path) for one in made.actions}
    objects = 2 + sum(len(mount.roles) + 2 for mount in manifest.mounts)
    assert len(changed) + made.unchanged + sum(made.not_compared.values()) == objects
    skipped = {one.mount for one in made.skipped}
    by_name = {mount.name: len(mount.roles) + 2 for mount in manifest.mounts}
    assert all(made.not_compared[name] == by_name[name] for name in skipped)


@given(manifests(), servers(), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_an_apply_cut_off_anywhere_is_finished_by_the_next(manifest, live, done):
    keys = p.identities(manifest)
    first = make_plan(manifest, live, keys)
    halfway = p.simulate(first.actions[:done], live, keys)
    rest = make_plan(manifest, halfway, keys)
    assert len(rest.actions) == max(0, len(first.actions) - done)
    after = p.simulate(rest.actions, halfway, keys)
    assert make_plan(manifest, after, keys).actions == ()


@given(manifests(), servers())
@settings(max_examples=60, deadline=None)
def test_nothing_is_deleted_and_only_whole_mounts_are_new(manifest, live):
    made = make_plan(manifest, live, p.identities(manifest, 2))
    assert all(action.action is not ActionType.DELETE for action in made.actions)
    created = {
        a.path
        for a in made.actions
        if a.kind is ObjectKind.MOUNT and a.cas is None and a.body.get("type")
    }
    moved = {one.mount for one in made.drift if one.kind is DriftKind.MOVED}
    expected = {
        f"sys/mounts/{m.path}"
        for m in manifest.mounts
        if m.path not in live.mounts and m.name not in moved
    }
    assert created == expected


@given(manifests(), servers(), st.integers(1, 2))
@settings(max_examples=100, deadline=None)
def test_no_key_is_written_that_is_known_to_have_been_live(manifest, live, number):
    keys = p.identities(manifest, number)
    for action in make_plan(manifest, live, keys).actions:
        if not action.needs_credential:
            continue
        engine = live.engines.get(action.path.removesuffix("/config"))
        if engine and engine.config.configured:
            assert engine.history is not None
        if engine and engine.history is not None:
            assert keys[action.mount].key_id not in engine.history.values()
