"""The plan: what it contains, in which order, and what it leaves alone."""

from __future__ import annotations

import dataclasses

import pytest
from support import planning as p

from skyflowctl.errors import Problem, Where
from skyflowctl.manifest.model import DeclaredCtx, Reference
from skyflowctl.planner.diff import make_plan, mounts_to_ask_history
from skyflowctl.planner.plan import ActionType, ObjectKind
from skyflowctl.vault.live import way_out

PATH = "skyflow/order"


def plan(what=None, live=None, keys=None, **more):
    what = what or p.manifest()
    live = p.converged(what) if live is None else live
    return make_plan(what, live, p.identities(what) if keys is None else keys, **more)


def codes(result):
    return [warning.code for warning in result.warnings]


def only(result):
    assert len(result.actions) == 1, result.actions
    return result.actions[0]


def test_from_nothing_every_stage_comes_in_order():
    what = p.manifest(p.mount("order"), p.mount("payment"))
    made = plan(what, p.empty_live())
    assert [(a.kind.value, a.mount) for a in made.actions] == [
        ("audited_header", ""),
        ("audited_header", ""),
        ("mount", "order"),
        ("mount", "payment"),
        ("role", "order"),
        ("role", "payment"),
        ("config", "order"),
        ("config", "payment"),
    ]
    assert made.summary() == {
        "create": 8, "update": 0, "delete": 0, "unchanged": 0, "drift": 0, "not_compared": 0,
    }  # fmt: skip
    assert not made.warnings


def test_a_new_mount_is_created_with_everything_it_needs():
    what = p.manifest(p.mount(plain_ctx=True), version="v1.0.0")
    made = plan(what, p.empty_live(p.HEADERS))
    create = made.actions[0]
    assert create.path == "sys/mounts/skyflow/order"
    assert create.body == {
        "type": "skyflow",
        "description": "order line",
        "options": {"managed_by": "skyflowctl", "manifest": "shop"},
        "passthrough_request_headers": ["X-Skyflowctl-Run", "Application-Source", "Traceparent"],
        "audit_non_hmac_request_keys": ["ctx"],
        "audit_non_hmac_response_keys": ["credential_version", "expires_at", "key_id"],
        "plugin_version": "v1.0.0",
    }


def test_a_new_role_and_config_must_not_exist_yet():
    made = plan(live=p.empty_live(p.HEADERS))
    role, config = made.actions[1:]
    assert (role.cas, role.path) == (0, "skyflow/order/roles/writer")
    assert role.body["tags"] == ["managed-by:skyflowctl/shop"]
    assert (config.cas, config.needs_credential) == (0, True)
    assert config.body == {
        "description": "order line",
        "tags": ["env:prod", "managed-by:skyflowctl/shop"],
    }
    assert {c.field: c.after for c in config.changes}["key_id"] == "key-order-1"


def test_what_is_as_declared_needs_nothing():
    made = plan()
    assert made.empty
    assert made.summary()["unchanged"] == 5


def test_lists_are_sets_and_header_names_have_no_case():
    live = p.with_mount(
        p.converged(p.manifest()),
        PATH,
        passthrough_request_headers=("traceparent", "application-source", "x-skyflowctl-run"),
        audit_non_hmac_response_keys=("key_id", "expires_at", "credential_version"),
    )
    live = p.with_config(live, PATH, tags=("managed-by:skyflowctl/shop", "env:prod"))
    assert plan(live=live).empty


def test_only_changed_fields_are_sent_with_the_live_version():
    live = p.with_role(p.converged(p.manifest()), PATH, "writer", description="x", version=7)
    action = only(plan(live=live))
    assert (action.action, action.body, action.cas) == (
        ActionType.UPDATE,
        {"description": "the writer"},
        7,
    )
    assert [(c.field, c.before, c.after) for c in action.changes] == [
        ("description", "x", "the writer")
    ]


def test_an_engine_that_counts_no_versions_gets_no_cas():
    live = p.with_role(p.converged(p.manifest()), PATH, "writer", description="x", version=0)
    live = p.with_config(live, PATH, description="x", version=0)
    assert [action.cas for action in plan(live=live).actions] == [None, None]


def test_a_changed_pattern_brings_required_along():
    rule = DeclaredCtx(required=True, pattern="order:*", probe="order:probe")
    what = p.manifest(p.mount(roles=(p.role(ctx=rule),)))
    live = p.with_role(p.converged(what), PATH, "writer", ctx_pattern="other:*")
    action = only(plan(what, live))
    assert action.body == {"ctx_pattern": "order:*", "ctx_required": True}
    assert [change.field for change in action.changes] == ["ctx_pattern"]


def test_true_and_one_are_two_values_of_a_probe_and_one_and_one_point_zero_are_not():
    what = p.manifest(p.mount(roles=(p.role(ctx=DeclaredCtx(probe={"n": 1})),)))
    live = p.converged(what)
    assert plan(what, p.with_role(live, PATH, "writer", ctx_probe={"n": 1.0})).empty
    changed = only(plan(what, p.with_role(live, PATH, "writer", ctx_probe={"n": True})))
    assert changed.body == {"ctx_probe": {"n": 1}}


@pytest.mark.parametrize(("hashed", "kind"), [(None, "create"), (True, "update")])
def test_audited_headers_are_planned_one_by_one(hashed, kind):
    headers = dict(p.HEADERS)
    if hashed is None:
        del headers["application-source"]
    else:
        headers["application-source"] = hashed
    live = dataclasses.replace(p.converged(p.manifest()), audited_headers=headers)
    action = only(plan(live=live))
    assert (action.action.value, action.kind, action.body) == (
        kind,
        ObjectKind.AUDITED_HEADER,
        {"hmac": False},
    )
    assert action.path == "sys/config/auditing/request-headers/Application-Source"


def test_unreadable_audited_headers_are_a_warning():
    live = dataclasses.replace(p.converged(p.manifest()), audited_headers=None)
    made = plan(live=live)
    assert made.empty
    assert codes(made) == ["audited-headers-unreadable"]


class TestOwnership:
    def test_an_unmarked_mount_of_our_type_is_adopted_as_shown_changes(self):
        live = p.with_mount(p.converged(p.manifest()), PATH, options={"x": "y"})
        action = only(plan(live=live))
        assert {c.field for c in action.changes} == {
            "options.managed_by",
            "options.manifest",
            "options.adopted",
        }
        marks = {"managed_by": "skyflowctl", "manifest": "shop", "adopted": "true"}
        assert action.body == {"options": marks}
        assert action.path == "sys/mounts/skyflow/order/tune"

    def test_another_manifests_mount_is_left_alone(self):
        options = {"managed_by": "skyflowctl", "manifest": "other"}
        live = p.with_mount(p.converged(p.manifest()), PATH, options=options, description="x")
        live = p.with_config(live, PATH, description="x")
        made = plan(live=live)
        assert made.empty
        assert codes(made) == ["owned-by-other"]

    def test_another_type_is_never_recreated(self):
        made = plan(live=p.with_mount(p.converged(p.manifest()), PATH, type="kv"))
        assert made.empty
        assert codes(made) == ["type-differs"]

    @pytest.mark.parametrize("other", ["skyflow", "skyflow/order/sub"])
    def test_no_mount_above_or_below_another(self, other):
        live = p.live_from_json({"mounts": {other: {"type": "kv"}}})
        made = plan(live=live)
        assert made.empty
        assert codes(made) == ["path-in-use"]

    def test_a_neighbour_with_the_same_beginning_is_no_obstacle(self):
        live = p.live_from_json({"mounts": {"skyflow/ord": {"type": "kv"}}})
        assert plan(live=live).summary()["create"] == 3

    def test_roles_and_mounts_that_are_not_declared_are_drift_and_stay(self):
        what = p.manifest(p.mount("order"), p.mount("payment"))
        live = p.with_role(p.converged(what), PATH, "stranger", created="2026-11-20T08:00:00Z")
        made = plan(p.manifest(p.mount("order")), live)
        assert (made.empty, made.clean, made.summary()["drift"]) == (True, False, 2)
        assert [(one.kind, one.mount, one.path, one.since) for one in made.drift] == [
            ("undeclared", "order", f"{PATH}/roles/stranger", "2026-11-20T08:00:00Z"),
            ("undeclared", "", "skyflow/payment", ""),
        ]

    def test_an_unreadable_engine_still_gets_its_mount_mended(self):
        live = p.with_mount(p.converged(p.manifest()), PATH, description="x")
        live = p.with_config(live, PATH, description="x")
        problem = Problem("forbidden", "may not read", "policy", "log in")
        made = plan(live=dataclasses.replace(live, problems={PATH: problem}))
        assert only(made).kind is ObjectKind.MOUNT
        assert codes(made) == ["engine-unreadable"]


class TestUpgrade:
    def test_the_named_version_is_an_action_of_its_own(self):
        live = p.with_mount(p.converged(p.manifest(version="v1.0.0")), PATH, description="x")
        made = plan(p.manifest(version="v1.1.0"), live)
        assert [a.action.value for a in made.actions] == ["update", "plugin_upgrade"]
        assert made.actions[1].body == {"plugin_version": "v1.1.0"}
        assert made.summary()["unchanged"] == 4

    def test_a_version_that_was_tuned_and_not_reloaded_is_finished(self):
        live = p.converged(p.manifest(version="v1.1.0"))
        live = p.with_mount(live, PATH, running_plugin_version="v1.0.0")
        action = only(plan(p.manifest(version="v1.1.0"), live))
        assert action.action is ActionType.PLUGIN_UPGRADE
        assert action.changes[0].field == "running_plugin_version"

    def test_without_a_named_version_any_will_do(self):
        assert plan(live=p.converged(p.manifest(version="v9.0.0"))).empty


class TestCredential:
    """Promise 1 of the design."""

    def rotated(self, history):
        return p.with_history(p.converged(p.manifest()), PATH, history)

    def test_a_key_that_was_never_there_replaces_the_live_one(self):
        live = p.with_config(self.rotated({1: "key-order-1"}), PATH, version=4)
        what = p.manifest()
        action = only(plan(what, live, p.identities(what, 2)))
        assert (action.action, action.needs_credential, action.cas) == (
            ActionType.REPLACE_CREDENTIAL,
            True,
            4,
        )
        assert [(c.field, c.before, c.after) for c in action.changes] == [
            ("key_id", "key-order-1", "key-order-2")
        ]
        assert dict(action.body) == {}

    def test_a_key_from_before_a_rotation_is_never_written_back(self):
        live = self.rotated({1: "key-order-0", 2: "key-order-1"})
        what = p.manifest()
        made = plan(what, live, p.identities(what, 0), options=p.replacing("order"))
        assert made.empty
        assert codes(made) == ["rotated-past"]

    @pytest.mark.parametrize("kept", [frozenset({1}), frozenset()])
    def test_a_way_back_is_offered_only_to_a_version_that_is_kept(self, kept):
        live = self.rotated({1: "key-order-0", 2: "key-order-1"})
        ((path, engine),) = live.engines.items()
        live = dataclasses.replace(live, engines={path: dataclasses.replace(engine, kept=kept)})
        what = p.manifest()
        (warning,) = make_plan(what, live, p.identities(what, 0)).warnings
        assert ("'skyflowctl rotate --rollback order --to 1'" in warning.fix) == bool(kept)

    def test_without_a_history_only_if_insisted(self):
        what = p.manifest()
        made = plan(what, self.rotated(None), p.identities(what, 2))
        assert made.empty
        assert codes(made) == ["replacement-withheld"]
        assert "--replace-credential order" in made.warnings[0].fix
        forced = plan(what, self.rotated(None), p.identities(what, 2), options=p.replacing("order"))
        assert only(forced).action is ActionType.REPLACE_CREDENTIAL

    def cut_off(self, history):
        live = p.with_config(
            self.rotated(history), PATH, configured=False, client_id="", key_id="", version=3
        )
        live = p.with_config(live, PATH, description="", tags=())
        last = {history[max(history)]} if history else set()
        return p.with_revoked(live, PATH, *last)

    def test_a_key_that_was_cut_off_is_never_written_back(self):
        made = plan(live=self.cut_off({1: "key-order-1"}))
        assert made.empty
        (drift,) = made.drift
        assert (drift.kind, drift.mount, drift.path) == ("revoked", "order", PATH)
        assert drift.fix == way_out("order")

    def test_nor_by_replace_credential(self):
        made = plan(live=self.cut_off({1: "key-order-1"}), options=p.replacing("order"))
        assert (made.empty, made.clean) == (True, False)
        (problem,) = made.left_out
        assert problem.code == "revoked-key"
        assert problem.fix.startswith(way_out("order"))
        assert "--allow-revoked-key=key-order-1" in problem.fix

    def test_unless_the_caller_names_that_very_key(self):
        allowed = p.replacing(allow=("key-order-1",))
        action = only(plan(live=self.cut_off({1: "key-order-1"}), options=allowed))
        assert (action.action, action.needs_credential, action.cas) == (ActionType.CREATE, True, 3)

    def test_a_key_that_was_retired_before_the_cut_off_was_not_revoked(self):
        live = self.cut_off({1: "key-order-1", 2: "key-order-2"})
        (drift,) = plan(live=live).drift
        assert drift.fix == way_out("order")
        told = only(plan(live=live, options=p.replacing("order")))
        assert (told.action, told.needs_credential) == (ActionType.CREATE, True)

    def ended(self):
        """Key 1 was revoked, and key 2 has ended the cut-off."""
        live = p.with_config(p.converged(p.manifest()), PATH, key_id="key-order-2")
        live = p.with_history(live, PATH, {1: "key-order-1", 2: "key-order-2"})
        return p.with_revoked(live, PATH, "key-order-1")

    def test_replace_credential_refuses_a_revoked_key_after_another_ended_the_cut_off(self):
        made = plan(live=self.ended(), options=p.replacing("order"))
        (problem,) = made.left_out
        assert (made.empty, problem.code) == (True, "revoked-key")
        assert "stays on key key-order-2" in problem.summary
        assert "--allow-revoked-key=key-order-1" in problem.fix

    def test_without_it_the_advice_is_what_works(self):
        made = plan(live=self.ended(), options=p.replacing(allow=("key-order-1",)))
        (problem,) = made.warnings
        assert (made.empty, problem.code) == (True, "rotated-past")
        assert "was revoked" in problem.summary
        assert "--rollback" not in problem.fix
        assert "--replace-credential order --allow-revoked-key=key-order-1" in problem.fix

    def test_a_revoked_key_that_the_caller_names_replaces_the_live_one(self):
        both = p.replacing("order", allow=("key-order-1",))
        action = only(plan(live=self.ended(), options=both))
        assert action.action is ActionType.REPLACE_CREDENTIAL
        assert (action.needs_credential, action.allow_revoked) == (True, True)

    def test_another_key_does_not_end_a_cut_off_unasked(self):
        live = self.cut_off({1: "key-order-0"})
        made = plan(live=live)
        assert (made.empty, [one.kind for one in made.drift]) == (True, ["revoked"])
        assert made.drift[0].fix == way_out("order")
        told = only(plan(live=live, options=p.replacing("order")))
        assert (told.action, told.cas) == (ActionType.CREATE, 3)

    @pytest.mark.parametrize("history", [{}, None])
    def test_a_mount_that_never_had_a_key_is_given_one(self, history):
        action = only(plan(live=self.cut_off(history)))
        assert (action.action, action.cas) == (ActionType.CREATE, 3)

    def test_the_history_of_a_mount_that_was_cut_off_is_asked_for(self):
        what = p.manifest()
        live = self.cut_off(None)
        assert mounts_to_ask_history(what, live, p.identities(what)) == (PATH,)
        fresh = p.with_config(live, PATH, version=0)
        assert mounts_to_ask_history(what, fresh, p.identities(what)) == ()
        assert mounts_to_ask_history(what, live, {"order": None}) == (PATH,)

    def test_an_engine_that_names_no_client_is_known_by_its_key(self):
        assert plan(live=p.with_config(p.converged(p.manifest()), PATH, client_id="")).empty

    def test_same_key_id_of_another_client_is_another_credential(self):
        live = p.with_config(self.rotated({1: "x"}), PATH, client_id="someone")
        assert only(plan(live=live)).action is ActionType.REPLACE_CREDENTIAL

    def test_replacing_and_other_fields_are_one_action(self):
        live = p.with_config(self.rotated({1: "key-order-1"}), PATH, description="x")
        what = p.manifest()
        action = only(plan(what, live, p.identities(what, 2)))
        assert [c.field for c in action.changes] == ["key_id", "description"]
        assert action.body == {"description": "order line"}

    def test_an_unresolved_reference_touches_no_configured_credential(self):
        made = plan(keys={"order": None}, reasons={"order": "no such file"})
        assert made.empty
        assert codes(made) == ["credential-unresolved"]
        assert made.warnings[0].why == "no such file"

    def test_an_unresolved_reference_of_a_new_mount_is_planned_and_warned_about(self):
        made = plan(live=p.empty_live(p.HEADERS), keys={})
        assert made.actions[-1].needs_credential
        assert codes(made) == ["credential-unresolved"]

    def test_no_reference_leaves_a_mount_unconfigured(self):
        what = p.manifest(p.mount(credentials=None))
        made = plan(what, p.empty_live(p.HEADERS), {})
        assert ObjectKind.CONFIG not in {a.kind for a in made.actions}
        assert codes(made) == ["no-credential"]

    def test_no_reference_keeps_the_other_fields_managed(self):
        live = p.with_config(p.converged(p.manifest()), PATH, tags=("managed-by:skyflowctl/shop",))
        action = only(plan(p.manifest(p.mount(credentials=None)), live, {}))
        assert action.body == {"tags": ["env:prod", "managed-by:skyflowctl/shop"]}
        assert not action.needs_credential

    def test_history_is_asked_only_where_the_key_is_another(self):
        what = p.manifest(p.mount("order"), p.mount("payment"), p.mount("new"))
        live = p.converged(p.manifest(*what.mounts[:2]))
        keys = p.identities(what)
        assert mounts_to_ask_history(what, live, keys) == ()
        keys["payment"] = p.identity("payment", 2)
        assert mounts_to_ask_history(what, live, keys) == ("skyflow/payment",)


def test_a_server_file_is_written_by_its_path_and_never_compared():
    on_server = Reference("server_file", ("/keys/a.json",), "server_file: /keys/a.json", Where())
    what = p.manifest(p.mount(credentials=on_server))
    (config,) = [one for one in make_plan(what, p.empty_live(), {}).actions if one.kind == "config"]
    assert config.body["credentials_file_path"] == "/keys/a.json"
    assert (config.needs_credential, config.brings_credential) == (False, True)
    made = make_plan(what, p.converged(what), {"order": None})
    assert made.actions == ()
    assert [one.code for one in made.warnings] == ["server-file-unread"]
    # The dev stack resolves no reference: there an identity decides as for any other.
    known = p.identities(what)
    assert make_plan(what, p.converged(what), known).warnings == ()
    (config,) = [
        one for one in make_plan(what, p.empty_live(), known).actions if one.kind == "config"
    ]
    assert "credentials_file_path" not in config.body
