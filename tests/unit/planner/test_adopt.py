"""What this manifest did not make is changed only with leave, object by object."""

from __future__ import annotations

import dataclasses
import re

import pytest
from support import planning as p
from support.cli import checked_data, checked_envelope, invoke
from support.reached import reached

from skyflowctl.cli.context import credential_sources
from skyflowctl.cli.runner import CommandRun
from skyflowctl.planner.diff import make_plan
from skyflowctl.planner.plan import PlanOptions

PATH = "skyflow/pay"
ROLE, CONFIG = f"{PATH}/roles/reader", f"{PATH}/config"
ALL = (PATH, ROLE, CONFIG)


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = reached(tmp_path, monkeypatch)
    assert invoke("apply", "-y").exit_code == 0
    return server


def by_hand(server):
    server.mounts[PATH]["options"] = {}
    server.roles[PATH]["reader"] |= {"tags": [], "role_ids": ["theirs"], "ctx_pattern": "a:*"}
    server.configs[PATH]["tags"] = []
    server.log.clear()


def of_another(server):
    server.mounts[PATH]["options"] = {"manifest": "theirs", "managed_by": "skyflowctl"}
    tags = ["managed-by:skyflowctl/theirs", "adopted-by:skyflowctl/theirs"]
    server.roles[PATH]["reader"] |= {"tags": tags, "role_ids": ["theirs"]}
    server.configs[PATH]["tags"] = tags
    server.log.clear()


def adopting(*paths):
    return [f"--adopt={path}" for path in paths]


def test_apply_names_every_object_and_writes_nothing(server):
    by_hand(server)
    done = invoke("apply", "-y", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["status"], server.writes()) == (5, "refused", [])
    assert {one["code"] for one in whole["errors"]} == {"needs-adoption"}
    assert [one["summary"].split()[0] for one in whole["errors"]] == list(ALL)
    role = whole["errors"][1]["why"]
    assert 'role_ids: ["theirs"] -> ["skyflow-reader"]' in role
    assert 'ctx_pattern: "a:*" -> ""' in role
    assert "key_id" in whole["errors"][2]["why"]


@pytest.mark.parametrize("left_out", ALL)
def test_each_object_is_named_by_itself(server, left_out):
    by_hand(server)
    named = [path for path in ALL if path != left_out]
    done = invoke("apply", "-y", "-o", "json", *adopting(*named))
    (error,) = checked_envelope(done.stdout)["errors"]
    assert (done.exit_code, server.writes()) == (5, [])
    assert error["summary"].startswith(f"{left_out} ")


def test_the_fixes_together_are_the_command_that_works(server):
    by_hand(server)
    errors = checked_envelope(invoke("apply", "-y", "-o", "json").stdout)["errors"]
    flags = [word for one in errors for word in re.findall(r"--adopt\S+", one["fix"])]
    done = invoke("apply", "-y", "-o", "json", *flags)
    assert done.exit_code == 0
    warnings = checked_data(done.stdout)["warnings"]
    assert [one["code"] for one in warnings] == ["takes-over"] * 3
    assert server.mounts[PATH]["options"] == {
        "managed_by": "skyflowctl",
        "manifest": "shop",
        "files": "mounts.yaml",
        "adopted": "true",
    }
    mark = "adopted-by:skyflowctl/shop"
    assert mark in server.roles[PATH]["reader"]["tags"]
    assert mark in server.configs[PATH]["tags"]
    again = invoke("plan", "--detailed-exitcode", "-o", "json")
    assert (again.exit_code, checked_data(again.stdout)["warnings"]) == (0, [])


def test_the_mark_stays_when_something_else_is_changed(server):
    by_hand(server)
    assert invoke("apply", "-y", *adopting(*ALL)).exit_code == 0
    server.roles[PATH]["reader"]["description"] = "changed"
    assert invoke("apply", "-y").exit_code == 0
    assert "adopted-by:skyflowctl/shop" in server.roles[PATH]["reader"]["tags"]


def test_a_killed_adoption_is_finished_by_the_same_command(server):
    by_hand(server)

    def hook(method, path):
        if (method, path) == ("POST", CONFIG):
            raise KeyboardInterrupt

    server.hook = hook
    flags = adopting(*ALL)
    assert invoke("apply", "-y", *flags).exit_code != 0
    server.hook = lambda method, path: None
    assert invoke("apply", "-y", *flags).exit_code == 0
    assert invoke("plan", "--detailed-exitcode").exit_code == 0


class TestOfAnotherManifest:
    def test_adopt_alone_is_not_enough(self, server):
        of_another(server)
        done = invoke("apply", "-y", "-o", "json", *adopting(*ALL))
        (error,) = checked_envelope(done.stdout)["errors"]
        assert (done.exit_code, error["code"], server.writes()) == (5, "owned-by-other", [])
        assert f"--adopt={PATH} --adopt-from=theirs" in error["fix"]

    def test_from_a_third_one_is_not_either(self, server):
        of_another(server)
        done = invoke("apply", "-y", *adopting(*ALL), "--adopt-from=third")
        assert (done.exit_code, server.writes()) == (5, [])

    def test_each_object_is_still_named(self, server):
        of_another(server)
        done = invoke("apply", "-y", "-o", "json", "--adopt-from=theirs")
        errors = checked_envelope(done.stdout)["errors"]
        assert [one["summary"].split()[0] for one in errors] == list(ALL)
        assert all("'theirs' made it" in one["why"] for one in errors)
        assert all("--adopt-from=theirs" in one["fix"] for one in errors)
        assert (done.exit_code, server.writes()) == (5, [])

    def test_with_both_it_is_taken_over_and_their_mark_goes(self, server):
        of_another(server)
        done = invoke("apply", "-y", *adopting(*ALL), "--adopt-from=theirs")
        assert done.exit_code == 0
        assert "theirs" not in repr(server.roles[PATH]["reader"]["tags"])
        assert server.mounts[PATH]["options"]["manifest"] == "shop"
        assert invoke("plan", "--detailed-exitcode").exit_code == 0


def test_the_confirmation_lists_what_is_taken_over(server, monkeypatch):
    by_hand(server)
    asked = []
    monkeypatch.setattr(CommandRun, "confirm", lambda _, question, **__: asked.append(question))
    done = invoke("apply", *adopting(*ALL))
    assert done.exit_code == 0
    assert "taking over 3 objects" in asked[0]
    for path in ALL:
        assert f"{path} is taken over" in done.stderr
    assert 'role_ids: ["theirs"] -> ["skyflow-reader"]' in done.stderr


def test_a_refused_confirmation_says_each_object_once(server):
    by_hand(server)
    done = invoke("apply", "--no-input", *adopting(*ALL))
    assert done.exit_code == 5
    assert [done.stderr.count(f"{path} is taken over") for path in ALL] == [1, 1, 1]


def test_plan_says_it_as_well(server):
    by_hand(server)
    done = invoke("plan", "--detailed-exitcode", "-o", "json")
    codes = [one["code"] for one in checked_data(done.stdout)["warnings"]]
    assert (done.exit_code, codes) == (2, ["needs-adoption"] * 3)


def test_a_dry_run_promises_no_apply_that_would_be_refused(server, monkeypatch):
    by_hand(server)
    from support.fake_server import FakeCredentials

    nobody = FakeCredentials(missing=frozenset({"order", "pay"}))
    monkeypatch.setattr(credential_sources, "credentials_for", lambda *_: nobody)
    done = invoke("apply", "--dry-run", "-o", "json")
    assert done.exit_code == 5
    assert "needs-adoption" in [one["code"] for one in checked_envelope(done.stdout)["errors"]]


def test_a_path_that_the_manifest_lacks_is_wrong_usage(server):
    assert invoke("apply", "-y", "--adopt=skyflow/nobody").exit_code == 64


def test_what_this_manifest_made_needs_no_leave():
    what = p.manifest()
    live = p.with_role(p.converged(what), "skyflow/order", "writer", description="x")
    assert make_plan(what, live, p.identities(what)).unadopted == ()


def test_a_new_credential_is_in_the_list():
    what = p.manifest()
    live = p.with_history(p.converged(what), "skyflow/order", {1: "key-order-1"})
    live = p.with_config(live, "skyflow/order", tags=())
    made = make_plan(what, live, p.identities(what, 2), PlanOptions())
    (one,) = made.unadopted
    assert '"key-order-1" -> "key-order-2"' in one.why
    named = dataclasses.replace(PlanOptions(), adopt=frozenset({"skyflow/order/config"}))
    assert make_plan(what, live, p.identities(what, 2), named).unadopted == ()
