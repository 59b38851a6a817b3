"""Every managed field, changed behind skyflowctl's back on a real server, one at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
from support.plugin import build_from, copy_source
from support.stack import EXAMPLE, REPO, Stack, running_stack

from skyflowctl.manifest.load import load_manifest
from skyflowctl.operations.upgrade.model import UPGRADED_FROM
from skyflowctl.planner import fields as planner_fields
from skyflowctl.version import semver

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

MOUNT = "skyflow/order"
ROLE = f"{MOUNT}/roles/order-producer"
TUNE = f"sys/mounts/{MOUNT}/tune"
HEADERS = "sys/config/auditing/request-headers"
MARK = "managed-by:skyflowctl/shop-platform"
NEXT = "v99.0.0"
# What counts or tells when, and so differs after a change and its mending.
MOVING = {"version", "last_updated"}


@dataclass(frozen=True)
class Drift:
    """One change behind skyflowctl's back.

    Args:
        covers: the property of the manifest whose live value it changes.
        kind: what holds the field: ``mount``, ``role``, ``config``, ``header`` or ``plugin``.
        field: the field that the plan must name, and it alone.
        path: where the change is written.
        body: what is written there; None: it is deleted.
    """

    covers: str
    kind: str
    field: str
    path: str
    body: dict[str, Any] | None = field(default_factory=dict)


DRIFTS = [
    Drift("mount.description", "mount", "description", TUNE, {"description": "other"}),
    Drift("mount.audit.plain_ctx", "mount", "audit_non_hmac_request_keys", TUNE,
          {"audit_non_hmac_request_keys": ["ctx"]}),
    Drift("defaults.audit.plain_ctx", "mount", "audit_non_hmac_request_keys", TUNE,
          {"audit_non_hmac_request_keys": ["ctx", "other"]}),
    Drift("", "mount", "audit_non_hmac_response_keys", TUNE,
          {"audit_non_hmac_response_keys": ["key_id", "access_token"]}),
    Drift("", "mount", "passthrough_request_headers", TUNE,
          {"passthrough_request_headers": ["X-Other"]}),
    Drift("", "mount", "options.managed_by", TUNE, {"options": {"managed_by": ""}}),
    Drift("manifest", "mount", "options.manifest", TUNE, {"options": {"manifest": ""}}),
    Drift("mount.protect", "mount", "options.protect", TUNE, {"options": {"protect": ""}}),
    Drift("mount.description", "config", "description", f"{MOUNT}/config",
          {"description": "other"}),
    Drift("mount.tags", "config", "tags", f"{MOUNT}/config", {"tags": ["env:prod", MARK]}),
    Drift("defaults.tags", "config", "tags", f"{MOUNT}/config",
          {"tags": ["product:order", MARK]}),
    Drift("manifest", "config", "tags", f"{MOUNT}/config",
          {"tags": ["env:prod", "product:order"]}),
    Drift("role.role_ids", "role", "role_ids", ROLE, {"role_ids": ["another-role"]}),
    Drift("role.description", "role", "description", ROLE, {"description": "other"}),
    Drift("role.tags", "role", "tags", ROLE, {"tags": ["other", MARK]}),
    Drift("manifest", "role", "tags", ROLE, {"tags": []}),
    Drift("role.ctx.required", "role", "ctx_required", ROLE, {"ctx_required": False}),
    Drift("role.ctx.pattern", "role", "ctx_pattern", ROLE, {"ctx_pattern": "order:p*"}),
    Drift("role.sign_max_ttl", "role", "sign_max_ttl", ROLE, {"sign_max_ttl": 60}),
    Drift("role.reuse.min_ttl", "role", "reuse_min_ttl", ROLE, {"reuse_min_ttl": 300}),
    Drift("role.ctx.probe", "role", "ctx_probe", ROLE, {"ctx_probe": "order:other"}),
    *(Drift("", "header", "hmac", f"{HEADERS}/{name}", body)
      for name in planner_fields.AUDITED_HEADERS
      for body in ({"hmac": True}, None)),
    Drift("plugin.version", "plugin", "plugin_version", TUNE, {"plugin_version": NEXT}),
]  # fmt: skip
# Properties that say how skyflowctl works, not what the server holds.
NOT_LIVE = {
    "version",  # of the format
    "plugin.name",  # another type is another engine: a mount is left out, never changed
    "mount.path",  # which mount it is
    "defaults.path_prefix",
    "moved",  # where mounts and roles were
    "mount.credentials",  # an identity, never written back: tests/scenarios/plan
    *(f"{at}.rotation.{name}" for at in ("mount", "defaults")
      for name in ("max_age", "renew_before", "retire_margin")),
    *(f"mount.rotation.{name}" for name in ("source", "operator_token", "account_id")),
    "servers",  # where it may be applied: unit/cli/test_bound_manifests.py
    # Rules of the operators' policy: test_control_groups.py.
    *(f"control_groups.{name}" for name in ("approvals", "approvers", "ttl")),
    "role.sign",  # a rule of a policy: test_access.py
    "role.reuse.per",  # alone it changes nothing: unit/planner/test_drift.py
    "role.consumers",  # OTHER_OBJECTS below; quotas: test_quotas.py; the last two are refused
    *("engines", "auth", "policies", "groups", "audit_devices", "quotas", "namespaces"),
}  # fmt: skip


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(EXAMPLE, apply=True) as stack:
        register_next(stack, tmp_path_factory.mktemp("next"))
        yield stack


def register_next(stack: Stack, folder: Path) -> None:
    """A later version of the plugin in the catalog, so that a mount can be moved to it."""
    source = copy_source(folder)
    version = source / "skyflowctl" / "version.py"
    text = re.sub(r'__version__ = "[^"]+"', f'__version__ = "{NEXT[1:]}"', version.read_text())
    version.write_text(text)
    sha256 = build_from(source, stack.dev / "plugins", "skyflow-next")
    path = "sys/plugins/catalog/secret/skyflow"
    args = stack.api("GET", f"{path}?version={semver()}")["data"]["args"]
    entry = {"sha256": sha256, "command": "skyflow-next", "version": NEXT, "args": args}
    stack.api("POST", path, entry)


def snapshot(stack: Stack) -> dict[str, dict[str, Any]]:
    """Everything that an apply could touch, of every mount; lists without their order."""
    mounts = stack.api("GET", "sys/mounts")["data"]
    seen = {HEADERS: stack.api("GET", HEADERS)["data"]["headers"]}
    for path, entry in mounts.items():
        seen[f"sys/mounts/{path}"] = entry
        if entry["type"] != "skyflow":
            continue
        seen[f"{path}config"] = stack.api("GET", f"{path}config")["data"]
        for role in stack.api("GET", f"{path}roles?list=true")["data"]["keys"]:
            seen[f"{path}roles/{role}"] = stack.api("GET", f"{path}roles/{role}")["data"]
    return {path: plain(value) for path, value in seen.items()}


def plain(value: Any) -> Any:
    """Order and emptiness mean nothing in these: a list left out is an empty one."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if inner not in ([], None)}
    return sorted(value) if isinstance(value, list) else value


def touched_by(drift: Drift) -> str:
    """The object of the snapshot that a change is made to."""
    if drift.kind == "header":
        return HEADERS
    return f"sys/mounts/{MOUNT}/" if drift.path == TUNE else drift.path


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, set[str]]:
    """The names that differ, by object; an object that is there only once differs whole."""
    found = {}
    for path in before.keys() | after.keys():
        left, right = before.get(path, {}), after.get(path, {})
        names = {name for name in left.keys() | right.keys() if left.get(name) != right.get(name)}
        if names:
            found[path] = names
    return found


# Objects besides the mounts: test_access.py and test_service_platform.py change them.
OTHER_OBJECTS = (
    "role.consumers",
    *("engines", "auth", "policies", "groups", "audit_devices", "quotas", "namespaces"),
)


def leaves(schema: dict[str, Any], node: dict[str, Any], at: str) -> Iterator[str]:
    """Every property that a manifest can hold, as a dotted name; references are one each."""
    if at in OTHER_OBJECTS:
        yield at
        return
    while "$ref" in node:
        at = "mount" if node["$ref"].endswith("/mount") else at
        at = "role" if node["$ref"].endswith("/role") else at
        if node["$ref"].endswith("/reference"):
            yield at
            return
        node = reduce(getitem, node["$ref"].removeprefix("#/").split("/"), schema)
    inner = node.get("properties", {})
    anything = node.get("additionalProperties")
    if isinstance(anything, dict):
        yield from leaves(schema, anything, at)
    for name, child in inner.items():
        yield from leaves(schema, child, f"{at}.{name}".lstrip("."))
    if not inner and not isinstance(anything, dict):
        yield at


def test_every_property_of_the_schema_is_changed_here_or_not_live() -> None:
    schema = json.loads((REPO / "schemas" / "mounts.schema.json").read_text())
    covered = {drift.covers for drift in DRIFTS} - {""}
    assert not covered & NOT_LIVE
    assert set(leaves(schema, schema, "")) == covered | NOT_LIVE


def test_every_field_that_the_planner_manages_is_changed_here() -> None:
    manifest = load_manifest([str(EXAMPLE)], environ={}).manifest
    mount = manifest.mounts[0]
    managed = {
        "mount": planner_fields.wanted_mount(manifest, mount).keys(),
        # The defaults are not sent: an older engine refuses the fields.
        "role": planner_fields.wanted_role(
            manifest, replace(mount.roles[0], sign_max_ttl=60, reuse_min_ttl=300)
        ).keys()
        - {"reuse_per"},
        "config": planner_fields.wanted_config(manifest, mount).keys(),
    }
    for kind, names in managed.items():
        assert {drift.field for drift in DRIFTS if drift.kind == kind} == set(names)


def test_the_snapshot_sees_every_change(applied: Stack) -> None:
    """Else "and nothing else" below would prove nothing."""
    before = snapshot(applied)
    assert len([path for path in before if path.endswith("/config")]) == 3
    assert len([path for path in before if "/roles/" in path]) >= 9
    for path in before:
        changed = before | {path: before[path] | {"description": "x", "new": 1}}
        assert set(difference(before, changed)) == {path}


@pytest.mark.parametrize(
    "drift",
    DRIFTS,
    ids=lambda drift: f"{drift.kind}-{drift.field}-{drift.covers or drift.path[-6:]}-{drift.body}",
)
def test_a_changed_field_is_one_action_and_apply_mends_it_alone(
    applied: Stack, drift: Drift
) -> None:
    before = snapshot(applied)
    applied.api("DELETE" if drift.body is None else "POST", drift.path, drift.body)
    assert set(difference(before, snapshot(applied))) == {touched_by(drift)}
    mended_alone(applied, drift.field, before, touched_by(drift), adopt=drift.covers == "manifest")


def test_a_running_version_that_differs_is_one_action_and_apply_mends_it_alone(
    applied: Stack,
) -> None:
    """Tuned by hand to the next version, reloaded, and tuned back without a reload."""
    before = snapshot(applied)
    applied.api("POST", TUNE, {"plugin_version": NEXT})
    applied.api("PUT", "sys/plugins/reload/backend", {"mounts": [f"{MOUNT}/"]})
    applied.api("POST", TUNE, {"plugin_version": semver()})
    changed = difference(before, snapshot(applied))
    assert changed[f"sys/mounts/{MOUNT}/"] == {"running_plugin_version", "running_sha256"}
    mended_alone(applied, "running_plugin_version", before, f"sys/mounts/{MOUNT}/")


def mended_alone(
    stack: Stack, name: str, before: dict[str, Any], touched: str, *, adopt: bool = False
) -> None:
    plan = stack.json("plan", "--detailed-exitcode", check=2)
    assert plan["status"] == "changes"
    [action] = plan["data"]["actions"]
    named = [change["field"] for change in action["changes"]]
    assert [one for one in named if one != "options.adopted"] == [name]
    flags = ()
    if adopt:
        [error] = stack.json("apply", "-y", check=5)["errors"]
        flags = tuple(re.findall(r"--adopt=\S+", error["fix"]))
    done = stack.json("apply", "-y", *flags)["data"]
    assert [item["result"] for item in done["actions"]] == ["done"]
    if adopt:
        without_adopted_mark(stack, touched)
    if name == "plugin_version":  # the version before, for plugin rollback
        stack.api("POST", TUNE, {"options": {UPGRADED_FROM: ""}})
    left = difference(before, snapshot(stack))
    assert left.keys() <= {touched}
    assert left.get(touched, set()) <= MOVING
    again = stack.json("plan", "--detailed-exitcode", check=0)
    assert again["data"]["actions"] == []


def without_adopted_mark(stack: Stack, touched: str) -> None:
    """Take away the mark that tells what was adopted."""
    if touched.startswith("sys/mounts/"):
        stack.api("POST", TUNE, {"options": {"adopted": ""}})
        return
    tags = stack.api("GET", touched)["data"]["tags"]
    kept = [tag for tag in tags if not tag.startswith("adopted-by:")]
    assert len(kept) == len(tags) - 1
    stack.api("POST", touched, {"tags": kept})


def test_a_mount_that_was_moved_by_hand_is_said_and_moved_back(applied: Stack) -> None:
    """The case "mount-moved-by-hand": nothing is mounted at the old path, and the fix works."""
    before = snapshot(applied)
    applied.bao("secrets", "move", MOUNT, "skyflow/moved")
    plan = applied.json("plan", "--detailed-exitcode", check=2)
    (drift,) = plan["data"]["drift"]
    assert (plan["data"]["actions"], drift["kind"]) == ([], "moved")
    assert (drift["mount"], drift["path"]) == ("order", "skyflow/moved")
    done = applied.json("apply", "-y", check=3)
    assert [one["code"] for one in done["errors"]] == ["moved-mount"]
    assert done["data"]["drift"] == [drift]
    (declared,) = re.findall(r"add `(moved: [^`]+)`", drift["fix"])
    (applied.folder / "moved.yaml").write_text(f"{declared}\n")
    files = ("-f", "mounts.yaml", "-f", "moved.yaml")
    applied.json("apply", "-y", *files, "--allow-move=skyflow/moved")
    # A run with a further file is recorded, for the next prune.
    changed = difference(before, snapshot(applied))
    assert set().union(*changed.values()) == {"options"}
    for path in changed:
        options = applied.api("GET", path.strip("/"))["data"]["options"]
        assert options["files"] == "mounts.yaml,moved.yaml"
        applied.api("POST", f"{path.strip('/')}/tune", {"options": {"files": "mounts.yaml"}})
    assert applied.json("plan", "--detailed-exitcode", check=0)["data"]["drift"] == []
    assert difference(before, snapshot(applied)) == {}


def test_what_the_manifest_does_not_name_is_drift(applied: Stack) -> None:
    made = f"{MOUNT}/roles/by-hand"
    applied.bao("write", made, "role_ids=somebodys-role")
    try:
        plan = applied.json("plan", "--detailed-exitcode", check=2)
        (drift,) = plan["data"]["drift"]
        created = applied.api("GET", made)["data"]["created"]
        assert (drift["kind"], drift["path"], drift["since"]) == ("undeclared", made, created)
        done = applied.cli("apply", "-y", exported=True)
        assert f"! {made}, created {created}, is not in the manifest" in done.stdout
        assert "No changes" not in done.stdout + done.stderr
    finally:
        applied.bao("delete", made)
    applied.json("plan", "--detailed-exitcode", check=0)


def test_a_rotation_that_was_left_open_is_drift(applied: Stack) -> None:
    applied.bao("write", f"{MOUNT}/config", "rotation_id=left-open")
    try:
        plan = applied.json("plan", "--detailed-exitcode", check=2)
        (drift,) = plan["data"]["drift"]
        assert (drift["kind"], drift["path"]) == ("open_rotation", MOUNT)
        assert drift["since"]
        assert "No changes" not in applied.cli("apply", "-y", exported=True).stdout
    finally:
        applied.bao("write", f"{MOUNT}/config", "rotation_id=")
    applied.json("plan", "--detailed-exitcode", check=0)


def test_a_mount_of_another_manifest_is_left_alone(applied: Stack) -> None:
    """Its mark decides: plan says so, and apply refuses before it writes anything."""
    drifted = f"{MOUNT}/roles/order-consumer-support"
    before = snapshot(applied)
    applied.api("POST", TUNE, {"options": {"manifest": "another"}})
    applied.api("POST", "skyflow/payment/config", {"description": "a change to be mended"})
    applied.api("POST", drifted, {"description": "theirs now"})
    try:
        theirs = snapshot(applied)
        plan = applied.json("plan", "--detailed-exitcode", check=2)
        codes = [warning["code"] for warning in plan["data"]["warnings"]]
        assert codes == ["owned-by-other"]
        assert {action["mount"] for action in plan["data"]["actions"]} == {"payment"}
        refused = applied.json("apply", "-y", check=5)
        assert [error["code"] for error in refused["errors"]] == ["owned-by-other"]
        assert difference(theirs, snapshot(applied)) == {}
    finally:
        applied.api("POST", TUNE, {"options": {"manifest": "shop-platform"}})
        applied.cli("apply", "-y", exported=True)
    left = difference(before, snapshot(applied))
    assert left.keys() <= {drifted, "skyflow/payment/config"}
    assert all(names <= MOVING for names in left.values())
