"""A mount that was moved is told by what it holds, and no second one is made beside it."""

from __future__ import annotations

import dataclasses
import json

import pytest
from support import planning as p
from support.cli import checked_envelope, invoke
from support.gateways import memory_rig
from support.reached import reach_gateway

from skyflowctl.planner.diff import make_plan
from skyflowctl.vault.live import LiveState

HERE, THERE = "skyflow/order", "skyflow/elsewhere"
WHAT = p.manifest()
BARE = p.manifest(p.mount(description=""))


def elsewhere(what=WHAT, **mount) -> LiveState:
    """Everything as the manifest says, but at another path."""
    live = p.converged(what)
    moved = dataclasses.replace(live.mounts[HERE], path=THERE, **mount)
    return dataclasses.replace(live, mounts={THERE: moved}, engines={THERE: live.engines[HERE]})


def with_keys(live: LiveState, *keys: str) -> LiveState:
    """The same after these keys were live one after the other."""
    live = p.with_config(live, THERE, key_id=keys[-1])
    return p.with_history(live, THERE, dict(enumerate(keys, 1)))


def cut_off(live: LiveState, *keys: str) -> LiveState:
    live = p.with_config(live, THERE, configured=False, key_id="", client_id="")
    return p.with_revoked(live, THERE, *keys)


def told(live: LiveState, what=WHAT, *, known: bool = True):
    keys = p.identities(what) if known else dict.fromkeys(p.identities(what))
    return make_plan(what, live, keys)


KEY = "key-order-1"
MOVED = {
    "cut off, without a description": cut_off(elsewhere(BARE), KEY),
    "one more role on the server": p.with_role(elsewhere(BARE), THERE, "another"),
    "one more role in the manifest": dataclasses.replace(
        elsewhere(BARE),
        engines={THERE: dataclasses.replace(elsewhere(BARE).engines[THERE], roles={})},
    ),
    "rotated past the manifest": with_keys(elsewhere(BARE), KEY, "key-order-2"),
}


@pytest.mark.parametrize("live", MOVED.values(), ids=MOVED)
def test_a_key_that_it_has_or_had_or_that_was_revoked_there_is_enough(live):
    made = told(live, BARE)
    (one,) = made.drift
    assert (made.empty, one.kind, one.mount, one.path) == (True, "moved", "order", THERE)
    assert f"the manifest's key {KEY} " in one.reason


def unreadable(live: LiveState) -> LiveState:
    return dataclasses.replace(live, engines={})


IN_DOUBT = {
    "a reference that leads nowhere": (elsewhere(description="x"), False),
    "a history that may not be read": (
        p.with_config(elsewhere(description="x"), THERE, key_id="other"),
        True,
    ),
    "an engine that cannot be read": (unreadable(elsewhere()), True),
}


@pytest.mark.parametrize(("live", "known"), IN_DOUBT.values(), ids=IN_DOUBT)
def test_where_keys_cannot_be_compared_one_likeness_is_enough(live, known):
    assert [one.kind for one in told(live, known=known).drift] == ["moved"]


def test_another_key_with_the_same_description_and_a_same_role_is_the_mount_rotated():
    live = with_keys(elsewhere(), "key-order-8", "key-order-9")
    assert [one.kind for one in told(live).drift] == ["moved"]


LOOK_ALIKES = {
    "equal roles": with_keys(elsewhere(description="another line"), "key-other"),
    "equal descriptions": p.with_role(
        with_keys(elsewhere(), "key-other"), THERE, "writer", role_ids=("another",)
    ),
    "equal roles, cut off": p.with_history(
        cut_off(elsewhere(description=""), "key-other"), THERE, {1: "key-other"}
    ),
}


@pytest.mark.parametrize("live", LOOK_ALIKES.values(), ids=LOOK_ALIKES)
def test_two_lines_with_keys_of_their_own_are_not_mixed_up(live):
    made = told(live)
    assert [one.kind for one in made.drift] == ["undeclared"]
    assert made.summary()["create"] == 3


def test_somebody_elses_mount_is_never_it():
    live = elsewhere(options={"managed_by": "skyflowctl", "manifest": "another"})
    assert (told(live).drift, told(live).summary()["create"]) == ((), 3)


def test_the_advice_names_both_directions_and_claims_no_hand():
    """Also where the manifest's path_prefix was changed: then nobody moved anything."""
    (one,) = told(elsewhere()).drift
    assert "hand" not in one.reason
    assert f"to keep it there, set `path: {THERE}` on order" in one.fix
    assert f"add `moved: [{{from: {THERE}, to: {HERE}}}]`" in one.fix
    assert "back" not in one.fix


@pytest.fixture
def rig(monkeypatch, tmp_path):
    rig = memory_rig()

    reach_gateway(rig.gateway, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    yield rig
    rig.gateway.close()


def applied(rig, tmp_path) -> str:
    """Apply a manifest of one mount without a description, with a key of this rig; its path."""
    (tmp_path / "key.json").write_text(rig.new_credential().reveal())
    (tmp_path / "key.json").chmod(0o600)
    manifest = {
        "version": 1,
        "manifest": "shop",
        "defaults": {"path_prefix": "skyflow"},
        "mounts": {
            "order": {
                "credentials": {"file": "key.json"},
                "roles": {"reader": {"role_ids": ["r-read"]}},
            }
        },
    }
    (tmp_path / "mounts.yaml").write_text(json.dumps(manifest))
    done = invoke("apply", "-y")
    assert done.exit_code == 0, done.output
    return HERE


def move(rig) -> None:
    mounts = rig.transport._server.mounts
    mounts[THERE] = mounts.pop(HERE)


def test_apply_makes_no_second_mount_with_the_revoked_key_of_one_that_was_moved(rig, tmp_path):
    path = applied(rig, tmp_path)
    rig.gateway.engine(path).cut_off("INC-1", "run-1")
    move(rig)
    done = invoke("apply", "-y", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, [one["code"] for one in whole["errors"]]) == (5, ["moved-mount"])
    assert set(rig.gateway.sys.mounts()) & {HERE, THERE} == {THERE}
    assert not rig.gateway.engine(THERE).config().configured


def test_a_mount_without_this_manifests_mark_is_free_again(rig, tmp_path):
    """What the advice's last command does: ``bao secrets tune -options=manifest= PATH``."""
    applied(rig, tmp_path)
    move(rig)
    assert invoke("apply", "-y").exit_code == 5
    rig.gateway.sys.tune_mount(THERE, {"options": {"manifest": ""}})
    assert invoke("apply", "-y").exit_code == 0
    assert set(rig.gateway.sys.mounts()) >= {HERE, THERE}
