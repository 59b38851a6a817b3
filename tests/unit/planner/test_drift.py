"""Drift: every managed field, changed behind our back one at a time, is found and named.

The list of fields comes from the schema: a property that is neither in the table of
drifts nor among those that live nowhere on the server fails the first test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import planning as p

from skyflowctl.manifest.model import DeclaredCtx
from skyflowctl.planner.diff import make_plan
from skyflowctl.planner.plan import ActionType, ObjectKind
from skyflowctl.vault.live import LiveState

SCHEMA = json.loads((Path(__file__).parents[3] / "schemas" / "mounts.schema.json").read_text())
PATH = "skyflow/order"
NOT_ON_THE_SERVER = {
    "mount.path": "the mount's identity, not a field of it",
    "mount.protect": "a rule for commands",
    "mount.rotation": "a rule for commands",
    "mount.roles": "objects of their own",
    "role.consumers": "objects of their own: test_access",
    "role.sign": "a rule of a policy: test_access",
}

MANIFEST = p.manifest(
    p.mount(
        plain_ctx=True,
        tags=("env:prod",),
        roles=(
            p.role("writer", tags=("a",), ctx=DeclaredCtx(True, "order:*", "order:probe")),
            p.role("reader"),
        ),
    ),
    p.mount("payment"),
    version="v1.0.0",
)


def mount(**changes) -> Callable[[LiveState], LiveState]:
    return lambda live: p.with_mount(live, PATH, **changes)


def role(**changes) -> Callable[[LiveState], LiveState]:
    return lambda live: p.with_role(live, PATH, "writer", **changes)


def config(**changes) -> Callable[[LiveState], LiveState]:
    return lambda live: p.with_config(live, PATH, **changes)


def other_key(live: LiveState) -> LiveState:
    return p.with_history(p.with_config(live, PATH, key_id="new"), PATH, {1: "older", 2: "new"})


DRIFTS = {
    "mount.description": [
        (ObjectKind.MOUNT, "description", mount(description="x")),
        (ObjectKind.CONFIG, "description", config(description="x")),
    ],
    "mount.tags": [
        (ObjectKind.CONFIG, "tags", config(tags=())),
        (ObjectKind.CONFIG, "tags", config(tags=("env:prod",))),
        (ObjectKind.CONFIG, "tags", config(tags=("env:prod", "managed-by:skyflowctl/shop", "x"))),
    ],
    "mount.audit.plain_ctx": [
        (ObjectKind.MOUNT, "audit_non_hmac_request_keys", mount(audit_non_hmac_request_keys=())),
    ],
    "mount.credentials": [(ObjectKind.CONFIG, "key_id", other_key)],
    "role.role_ids": [(ObjectKind.ROLE, "role_ids", role(role_ids=("other",)))],
    "role.description": [(ObjectKind.ROLE, "description", role(description="x"))],
    "role.tags": [(ObjectKind.ROLE, "tags", role(tags=("a",)))],
    "role.ctx.required": [(ObjectKind.ROLE, "ctx_required", role(ctx_required=False))],
    "role.ctx.pattern": [(ObjectKind.ROLE, "ctx_pattern", role(ctx_pattern="*"))],
    "role.sign_max_ttl": [(ObjectKind.ROLE, "sign_max_ttl", role(sign_max_ttl=60))],
    "role.reuse": [(ObjectKind.ROLE, "reuse_min_ttl", role(reuse_min_ttl=300))],
    "role.ctx.probe": [(ObjectKind.ROLE, "ctx_probe", role(ctx_probe="order:x"))],
    "plugin.version": [
        (ObjectKind.MOUNT, "plugin_version", mount(plugin_version="v0.9.0")),
        (ObjectKind.MOUNT, "running_plugin_version", mount(running_plugin_version="v0.9.0")),
    ],
    # What the schema does not name because it is the same for every mount.
    "always": [
        (ObjectKind.MOUNT, "passthrough_request_headers", mount(passthrough_request_headers=())),
        (
            ObjectKind.MOUNT,
            "audit_non_hmac_response_keys",
            mount(audit_non_hmac_response_keys=("x",)),
        ),
        (ObjectKind.MOUNT, "options.managed_by", mount(options={"manifest": "shop"})),
        (ObjectKind.MOUNT, "options.manifest", mount(options={"managed_by": "skyflowctl"})),
    ],
}


def fields_of(kind: str) -> set[str]:
    """The schema's leaves below a definition."""
    found = set()
    for name, value in SCHEMA["$defs"][kind]["properties"].items():
        reference = value.get("$ref", "").rpartition("/")[2]
        target = SCHEMA["$defs"].get(reference, value)
        inner = target.get("properties") if name in ("ctx", "audit") else None
        found |= {f"{kind}.{name}.{leaf}" for leaf in inner} if inner else {f"{kind}.{name}"}
    return found


def test_the_table_knows_every_field_of_the_schema():
    fields = fields_of("mount") | fields_of("role") | {"plugin.version"}
    assert fields == (set(DRIFTS) - {"always"}) | set(NOT_ON_THE_SERVER)


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        pytest.param(*drift, id=f"{source}-{number}")
        for source, drifts in DRIFTS.items()
        for number, drift in enumerate(drifts)
    ],
)
def test_one_change_is_one_action_that_names_it(kind, name, change):
    keys = p.identities(MANIFEST)
    live = p.converged(MANIFEST)
    drifted = change(live)
    plan = make_plan(MANIFEST, drifted, keys)
    assert len(plan.actions) == 1
    (action,) = plan.actions
    assert (action.kind, action.mount) == (kind, "order")
    assert [c.field for c in action.changes if c.field != "options.adopted"] == [name]
    assert action.action in (
        ActionType.UPDATE,
        ActionType.REPLACE_CREDENTIAL,
        ActionType.PLUGIN_UPGRADE,
    )
    mended = p.simulate(plan.actions, drifted, keys)
    assert make_plan(MANIFEST, mended, keys).empty
    assert mended.mounts["skyflow/payment"] == live.mounts["skyflow/payment"]
    assert mended.engines["skyflow/payment"] == live.engines["skyflow/payment"]
    assert mended.engines[PATH].roles["reader"] == live.engines[PATH].roles["reader"]


@pytest.mark.parametrize("header", ["X-Skyflowctl-Run", "Application-Source"])
def test_a_header_that_is_hashed_again_is_one_action(header):
    import dataclasses

    live = p.converged(MANIFEST)
    headers = {**live.audited_headers, header.lower(): True}
    plan = make_plan(
        MANIFEST, dataclasses.replace(live, audited_headers=headers), p.identities(MANIFEST)
    )
    assert [(a.kind, a.path.rpartition("/")[2]) for a in plan.actions] == [
        (ObjectKind.AUDITED_HEADER, header)
    ]


def test_who_shares_a_token_is_a_change_of_its_own():
    manifest = p.manifest(p.mount("order", roles=(p.role("writer", reuse_min_ttl=300),)))
    live = p.with_role(p.converged(manifest), PATH, "writer", reuse_per="role")
    (action,) = make_plan(manifest, live, p.identities(manifest)).actions
    assert [(one.field, one.before, one.after) for one in action.changes] == [
        ("reuse_per", "role", "entity")
    ]


def test_an_engine_that_reuses_no_tokens_is_a_warning_and_is_not_asked_to():
    before = p.manifest(p.mount("order"))
    live = p.with_role(p.converged(before), PATH, "writer", reuse_per="")
    roles = (p.role("writer", reuse_min_ttl=300), p.role("reader", reuse_min_ttl=300))
    plan = make_plan(p.manifest(p.mount("order", roles=roles)), live, p.identities(before))
    assert [warning.code for warning in plan.warnings] == ["cannot-reuse"]
    assert "writer, reader" in plan.warnings[0].summary
    (action,) = plan.actions
    assert (action.path.rpartition("/")[2], "reuse_min_ttl" in action.body) == ("reader", False)


@pytest.mark.parametrize(("longest", "codes"), [(0, ["cannot-sign"]), (900, [])])
def test_an_engine_that_cannot_sign_is_a_warning(longest, codes):
    mount = p.mount("order", roles=(p.role("writer", sign=True),))
    manifest = p.manifest(mount)
    live = p.with_role(p.converged(manifest), mount.path, "writer", sign_max_ttl=longest)
    plan = make_plan(manifest, live, p.identities(manifest))
    assert [one.code for one in plan.warnings] == codes
    assert plan.empty
