"""The drift, due date and cut-off that ``status`` shows, over the real engine in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.cli import checked_data, invoke
from support.gateways import memory_rig
from support.reached import reach_gateway

from skyflowctl.cli.context import gateways

MANIFEST = """version: 1
manifest: shop
plugin: {{name: skyflow}}
mounts:
  order:
    path: {path}
    credentials: {{env: NOT_SET}}
    rotation: {{max_age: {age}}}
    roles:
      reader: {{role_ids: [r-read], description: Reads}}
"""


@pytest.fixture(scope="module")
def rig():
    made = memory_rig()
    yield made
    made.gateway.close()


@pytest.fixture
def place(rig, monkeypatch, tmp_path):
    """A mount that its manifest has adopted, and a way to read its row."""
    reach_gateway(rig.gateway, monkeypatch)
    monkeypatch.setattr(gateways, "connect_node", lambda _: lambda _: rig.gateway)
    monkeypatch.chdir(tmp_path)
    path = rig.configured("reader")
    rig.gateway.engine(path).write_config({"tags": ["managed-by:skyflowctl/shop"]})
    mark = ["managed-by:skyflowctl/shop"]
    rig.gateway.engine(path).write_role("reader", {"tags": mark, "description": "Reads"})

    def row(age="90d"):
        (tmp_path / "mounts.yaml").write_text(MANIFEST.format(path=path, age=age))
        (one,) = checked_data(invoke("status", "-o", "json").stdout)["mounts"]
        return one

    row.path, row.engine, row.folder = path, rig.gateway.engine(path), tmp_path
    return row


def of_roles(row):
    return [(one["kind"], one["path"].rpartition("/")[2]) for one in row["drift"]
            if "/roles/" in one["path"]]  # fmt: skip


def test_what_differs_is_absent_or_undeclared_is_named(place):
    assert of_roles(place()) == []
    place.engine.write_role("reader", {"description": "by hand"})
    place.engine.write_role("stray", {"role_ids": ["r-read"]})
    found = place()
    assert of_roles(found) == [("differs", "reader"), ("undeclared", "stray")]
    assert [one["fields"] for one in found["drift"] if one["kind"] == "differs"][-1] == [
        "description"
    ]
    shown = invoke("status").stdout
    assert f"! {place.path}/roles/reader differs: description" in shown
    assert "1 drifted" in shown
    place.engine.delete_role("reader")
    assert ("absent", "reader") in of_roles(place())


def test_without_a_manifest_nothing_is_compared_and_that_is_said(place):
    place()
    (place.folder / "mounts.yaml").unlink()
    done = invoke("status", place.path, "-o", "json")
    data = checked_data(done.stdout)
    assert (data["manifest"], data["mounts"][0]["drift"]) == (None, None)
    shown = invoke("status", place.path)
    assert "drift is not compared" in shown.stderr
    assert shown.stdout.splitlines()[1].endswith("?")
    assert "drifted" not in shown.stdout


def test_a_key_has_its_due_date_before_and_after_it(place):
    live = place.engine.config()
    since = live.key_valid_after or live.credential_updated
    due = datetime.fromisoformat(place()["credential"]["due_at"])
    assert abs(due - since - timedelta(days=90)) < timedelta(seconds=1)
    assert "1 due" not in invoke("status").stdout
    key = place("1m")["credential"]
    past = datetime.fromisoformat(key["due_at"]) <= datetime.now(UTC)
    assert key["due"] is past
    line = invoke("status").stdout.splitlines()[1]
    assert f"{key['due_at'][:10]} {'due' if past else 'in'} " in line


def test_a_cut_off_is_said_in_the_row_and_its_drift_is_not_compared(place):
    place()
    place.engine.cut_off("leaked", "run")
    found = place()
    assert (found["drift"], found["credential"]) == (None, None)
    assert found["revoked"]["reason"] == "leaked"
    shown = invoke("status").stdout
    assert " cut off " in shown.splitlines()[1]
    assert "1 cut off" in shown.splitlines()[-1]
