"""Quotas of a manifest become objects in the server's units, after what they limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyflowctl.manifest.load import load_manifest
from skyflowctl.planner.quotas import after_moves, quota_owner
from skyflowctl.vault.live import LiveAccess

TEXT = """\
version: 1
manifest: shop
mounts: {}
engines: {team/new: {type: transit}}
auth: {approle: {}}
quotas:
  keys: {path: team/new, rate: 5}
  logins: {path: auth/approle, rate: 60, interval: 1m, block_interval: 5m, role: order}
"""


def built(tmp_path: Path, text: str):
    file = tmp_path / "mounts.yaml"
    file.write_text(text)
    return load_manifest([str(file)], environ={}).manifest


def test_fields_are_those_of_the_server_with_its_defaults(tmp_path):
    keys, logins = built(tmp_path, TEXT).objects
    assert keys.path == "sys/quotas/rate-limit/skyflowctl.shop.keys"
    assert keys.fields == {
        "path": "team/new",
        "rate": 5,
        "interval": 1,
        "block_interval": 0,
        "role": "",
        "inheritable": False,
    }
    assert (logins.fields["interval"], logins.fields["block_interval"]) == (60, 300)
    assert logins.fields["role"] == "order"


def test_it_is_written_after_what_it_limits(tmp_path):
    keys, logins = built(tmp_path, TEXT).objects
    assert "sys/mounts/team/new" in keys.after
    assert "sys/auth/approle" in logins.after


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("skyflowctl.shop.keys", None),
        ("skyflowctl.shop2.keys", "shop2"),
        ("skyflowctl.keys", ""),
        ("keys", ""),
    ],
)
def test_the_mark_is_the_start_of_the_name(name, owner):
    assert quota_owner("shop", {"name": name}) == owner


def test_a_quota_follows_its_mount(tmp_path):
    text = TEXT.replace("mounts: {}", "mounts: {b: {path: s/b, credentials: {env: K}, roles: {}}}")
    manifest = built(tmp_path, text + "moved: [{from: s/a, to: s/b}]\n")
    paths = {"one": "s/a", "two": "s/a/roles", "three": "s/ab"}
    objects = {f"sys/quotas/rate-limit/{name}": {"path": path} for name, path in paths.items()}
    found = after_moves(manifest, LiveAccess(objects=objects)).objects
    assert [one["path"] for one in found.values()] == ["s/b", "s/b/roles", "s/ab"]
