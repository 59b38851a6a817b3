"""A drifted server is never "no changes": every drift is in the plan, counted, and exit 2."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest
from support import planning as p
from support.cli import checked_data, checked_envelope, invoke
from support.reached import MANIFEST, reached

from skyflowctl.planner.diff import make_plan, mounts_to_search
from skyflowctl.planner.plan import DriftKind
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import Request

REPO = Path(__file__).parents[3]


@pytest.fixture
def applied(tmp_path, monkeypatch):
    server = reached(tmp_path, monkeypatch)
    assert invoke("apply", "-y").exit_code == 0
    server.log.clear()
    return server


def cut_off(server):
    Gateway(server).transport.send(Request("DELETE", "skyflow/pay/config", idempotent=True))


def undeclared_role(server):
    server.roles["skyflow/pay"]["old"] = {"role_ids": ["x"], "version": 1, "tags": []}


def undeclared_mount(server):
    server.mounts["skyflow/gone"] = dict(server.mounts["skyflow/pay"])


def open_rotation(server):
    server.configs["skyflow/pay"]["rotation"] = {
        "id": "run-1",
        "from": "k",
        "to": "",
        "state": "open",
        "started": "2026-11-20T08:00:00Z",
        "by": "ada",
    }


def moved(server):
    for kept in (server.mounts, server.roles, server.configs):
        kept["skyflow/elsewhere"] = kept.pop("skyflow/pay")


DRIFTS = [
    ("revoked", cut_off, "skyflow/pay"),
    ("undeclared", undeclared_role, "skyflow/pay/roles/old"),
    ("undeclared", undeclared_mount, "skyflow/gone"),
    ("open_rotation", open_rotation, "skyflow/pay"),
    ("moved", moved, "skyflow/elsewhere"),
]


@pytest.mark.parametrize(
    ("kind", "make", "path"), [pytest.param(*one, id=one[1].__name__) for one in DRIFTS]
)
class TestDriftAlone:
    def test_plan_counts_it_and_is_2(self, applied, kind, make, path):
        make(applied)
        done = invoke("plan", "--detailed-exitcode", "-o", "json")
        whole = checked_envelope(done.stdout)
        assert (done.exit_code, whole["status"], whole["errors"]) == (2, "changes", [])
        data = checked_data(done.stdout)
        assert [(one["kind"], one["path"]) for one in data["drift"]] == [(kind, path)]
        assert data["drift"][0]["fix"]
        assert (data["actions"], data["summary"]["drift"]) == ([], 1)
        assert invoke("plan").exit_code == 0

    def test_plan_and_apply_never_say_no_changes(self, applied, kind, make, path):
        make(applied)
        shown = invoke("plan").stdout
        assert f"! {path} " in shown
        assert "1 drifted" in shown
        done = invoke("apply", "-y")
        assert f"{path} " in done.stdout + done.stderr
        assert "No changes" not in shown + done.stdout + done.stderr

    def test_apply_returns_the_same_drift(self, applied, kind, make, path):
        make(applied)
        planned = checked_data(invoke("plan", "-o", "json").stdout)["drift"]
        done = invoke("apply", "-y", "-o", "json")
        assert checked_data(done.stdout)["drift"] == planned
        assert done.exit_code == (3 if kind in {"revoked", "moved"} else 0)


def test_a_mount_that_is_cut_off_is_skipped_and_the_others_are_applied(applied):
    cut_off(applied)
    applied.roles["skyflow/order"]["writer"]["description"] = "changed"
    applied.roles["skyflow/pay"]["reader"]["description"] = "changed"
    applied.log.clear()
    done = invoke("apply", "-y", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["status"]) == (3, "partial")
    assert [one["code"] for one in whole["errors"]] == ["cut-off-credential"]
    assert "pay is skipped" in whole["errors"][0]["summary"]
    assert applied.writes()[0] == ("POST", "skyflow/order/roles/writer")
    assert applied.roles["skyflow/pay"]["reader"]["description"] == "changed"


def test_the_objects_of_a_skipped_mount_are_counted_and_named(applied):
    cut_off(applied)
    planned = checked_data(invoke("plan", "-o", "json").stdout)
    (left,) = planned["not_compared"]
    assert left["mount"] == "pay"
    assert planned["summary"]["not_compared"] == left["objects"] == 3
    told = "1 drifted, 3 not compared (pay)."
    assert told in invoke("plan").stdout
    done = invoke("apply", "-y")
    assert "Nothing was changed: " in done.stdout
    assert "right, 3 not compared (pay)." in done.stdout
    applied.roles["skyflow/order"]["writer"]["description"] = "changed"
    done = invoke("apply", "-y")
    assert told in done.stderr
    assert "Applied 1 of 1 changes, 3 not compared (pay)." in done.stdout
    assert checked_data(invoke("apply", "-y", "-o", "json").stdout)["not_compared"] == [left]


def test_an_apply_of_nothing_but_cut_off_mounts_is_refused(applied, tmp_path):
    cut_off(applied)
    alone = MANIFEST[: MANIFEST.index("  order:")] + MANIFEST[MANIFEST.index("  pay:") :]
    (tmp_path / "mounts.yaml").write_text(alone)
    applied.log.clear()
    done = invoke("apply", "-y", "-o", "json")
    assert (done.exit_code, applied.writes()) == (5, [])
    assert checked_envelope(done.stdout)["status"] == "refused"


def test_a_revoked_key_is_not_written_back_by_replace_credential(applied):
    cut_off(applied)
    applied.log.clear()
    done = invoke("apply", "-y", "--replace-credential", "pay", "-o", "json")
    (error,) = checked_envelope(done.stdout)["errors"]
    assert (done.exit_code, error["code"], applied.writes()) == (5, "revoked-key", [])
    flag = error["fix"].rpartition(" ")[2]
    assert flag.startswith("--allow-revoked-key=")
    assert invoke("apply", "-y", flag).exit_code == 0
    assert applied.configs["skyflow/pay"]["credentials_configured"]


def test_a_revoked_key_that_no_mount_has_is_wrong_usage(applied):
    assert invoke("plan", "--allow-revoked-key=nobody").exit_code == 64


class TestMountMovedByHand:
    """The case "mount-moved-by-hand": `bao secrets move skyflow/d/a3 skyflow/d/moved`."""

    WHAT = p.manifest(p.mount("a1"), p.mount("a3"))

    def live(self, *names):
        live = p.converged(self.WHAT)
        mounts, engines = dict(live.mounts), dict(live.engines)
        for name in names:
            there = f"skyflow/moved-{name}"
            mounts[there] = dataclasses.replace(mounts.pop(f"skyflow/{name}"), path=there)
            engines[there] = engines.pop(f"skyflow/{name}")
        return dataclasses.replace(live, mounts=mounts, engines=engines)

    def test_it_is_said_and_nothing_is_mounted_at_the_old_path(self):
        live = self.live("a3")
        assert mounts_to_search(self.WHAT, live) == ("skyflow/moved-a3",)
        made = make_plan(self.WHAT, live, p.identities(self.WHAT))
        (one,) = made.drift
        assert (made.empty, one.kind, one.mount, one.path) == (
            True,
            "moved",
            "a3",
            "skyflow/moved-a3",
        )
        assert "skyflow/a3" in one.reason
        assert "path: skyflow/moved-a3" in one.fix
        assert "`moved: [{from: skyflow/moved-a3, to: skyflow/a3}]`" in one.fix

    def test_two_that_share_a_key_are_told_apart_by_their_description(self):
        live = self.live("a1", "a3")
        shared = dict.fromkeys(("a1", "a3"), p.identity("a1"))
        live = p.with_config(live, "skyflow/moved-a3", key_id="key-a1-1")
        made = make_plan(self.WHAT, live, shared)
        found = {one.mount: one.path for one in made.drift}
        assert found == {"a1": "skyflow/moved-a1", "a3": "skyflow/moved-a3"}

    def test_where_nothing_is_absent_nothing_is_searched(self):
        assert mounts_to_search(self.WHAT, p.converged(self.WHAT)) == ()


@pytest.mark.parametrize(("code", "told"), [(0, (0, "")), (2, (0, "drift\n")), (4, (1, ""))])
def test_the_help_tells_drift_from_an_error(code, told):
    shown = invoke("plan", "--help").stdout
    (line,) = [one.strip() for one in shown.splitlines() if "echo drift" in one]
    plan = f"skyflowctl() {{ return {code}; }}; {line}"
    done = subprocess.run(["bash", "-c", plan], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == told


def test_the_schema_names_every_kind():
    schema = json.loads((REPO / "schemas/output/plan.schema.json").read_text())
    kinds = schema["properties"]["drift"]["items"]["properties"]["kind"]["enum"]
    assert kinds == [kind.value for kind in DriftKind]
