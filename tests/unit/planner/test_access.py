"""Plans of consumers, login methods and policies."""

from __future__ import annotations

import dataclasses

import pytest
from support import planning as p

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import (
    Consumer,
    DeclaredCtx,
    DeclaredEngine,
    DeclaredObject,
    DeclaredPolicy,
    LoginMethod,
)
from skyflowctl.planner.access import live_object
from skyflowctl.planner.desired import access_needed, desired_access, role_policy
from skyflowctl.planner.diff import make_plan
from skyflowctl.planner.plan import ActionType, ObjectKind, PlanOptions, PruneOptions
from skyflowctl.planner.policy_text import policy_fields, policy_mark
from skyflowctl.vault.live import LiveAccess, LiveLoginMethod, LiveMount, LivePolicy

SETTINGS = {"bind_secret_id": True, "token_ttl": 1200, "token_bound_cidrs": ["10.0.0.0/8"]}
GRANTS = (("order", "writer"), ("payment", "writer"))
MANIFEST = dataclasses.replace(
    p.manifest(p.mount(), p.mount("payment")),
    consumers=(
        Consumer("app", "approle", SETTINGS, GRANTS, p.HERE),
        Consumer("payer", "approle", SETTINGS, GRANTS[1:], p.HERE),
    ),
    login_methods=(LoginMethod("approle", "approle", "apps", p.HERE),),
    policies=(DeclaredPolicy("backend", 'path "a" { capabilities = ["read"] }', p.HERE),),
)
ROLE = "auth/approle/role/app"
POLICY = "sys/policies/acl/skyflow.skyflow.order.writer"


APPLIED = p.converged(MANIFEST)


def planned(access: LiveAccess, manifest=MANIFEST, **options):
    live = dataclasses.replace(APPLIED, access=access)
    return make_plan(manifest, live, p.identities(manifest), PlanOptions(**options))


def changed(**parts) -> LiveAccess:
    return p.with_access(APPLIED, **parts).access


def test_everything_is_made_in_the_order_of_its_needs():
    actions = planned(LiveAccess()).actions
    assert [(one.kind, one.path.rpartition("/")[2]) for one in actions] == [
        (ObjectKind.POLICY, "backend"),
        (ObjectKind.POLICY, "skyflow.skyflow.order.writer"),
        (ObjectKind.POLICY, "skyflow.skyflow.payment.writer"),
        (ObjectKind.LOGIN_METHOD, "approle"),
        (ObjectKind.LOGIN_ROLE, "app"),
        (ObjectKind.LOGIN_ROLE, "payer"),
    ]
    assert {one.action for one in actions} == {ActionType.CREATE}
    order, payment = (
        (f"sys/mounts/skyflow/{one}", f"skyflow/{one}/roles/writer") for one in ("order", "payment")
    )
    assert (actions[1].after, actions[2].after) == (order, payment)
    assert actions[4].after == ("sys/auth/approle", POLICY, actions[2].path, *order, *payment)
    assert actions[5].after == ("sys/auth/approle", actions[2].path, *payment)
    assert [one.body.get("cas") for one in actions[:3]] == [-1, -1, -1]


def test_one_login_has_the_policies_of_all_its_roles_and_the_mark():
    (app, _) = planned(LiveAccess()).actions[-2:]
    assert app.body["token_policies"] == [
        "skyflow.skyflow.order.writer",
        "skyflow.skyflow.payment.writer",
        "skyflowctl.owner.shop",
    ]


def test_what_was_applied_needs_nothing():
    plan = planned(APPLIED.access)
    assert (plan.actions, plan.warnings) == ((), ())
    assert plan.unchanged == 2 + 2 * 3 + 6


def test_a_list_in_another_order_and_an_unmanaged_field_are_no_change():
    role = APPLIED.access.login_roles[ROLE]
    other = {**role, "token_policies": role["token_policies"][::-1], "token_type": "service"}
    assert planned(changed(objects={ROLE: other})).actions == ()


@pytest.mark.parametrize("field", ["token_bound_cidrs", "secret_id_bound_cidrs"])
@pytest.mark.parametrize(
    ("wanted", "live", "same"),
    [
        (["10.0.0.5/32", "fd00::5/128"], ["fd00::5", "10.0.0.5"], True),
        (["10.0.0.0/8"], ["10.0.0.0"], False),
        (["10.0.0.5/32"], [], False),
        (["no network"], ["no network"], True),
        (["no network"], ["other"], False),
    ],
)
def test_an_address_and_its_network_of_one_are_the_same(field, wanted, live, same):
    consumer = dataclasses.replace(MANIFEST.consumers[0], settings={field: wanted})
    manifest = dataclasses.replace(MANIFEST, consumers=(consumer, *MANIFEST.consumers[1:]))
    role = {**APPLIED.access.login_roles[ROLE], field: live}
    actions = planned(changed(objects={ROLE: role}), manifest).actions
    assert [one.path for one in actions] == ([] if same else [ROLE])


def test_a_policy_is_updated_with_the_version_that_was_compared():
    text = '# managed-by:skyflowctl/shop\npath "b" { capabilities = ["read"] }'
    (action,) = planned(changed(policies={"backend": LivePolicy("backend", text, 7)})).actions
    assert action.body["cas"] == 7
    assert {(one.field, one.before, one.after) for one in action.changes} == {
        ('path "a"', None, "read"),
        ('path "b"', "read", None),
    }


UNMARKED = [
    ("sys/policies/acl/backend", {"policies": {"backend": LivePolicy("backend", 'path "a" {}')}}),
    (ROLE, {"objects": {ROLE: {**SETTINGS, "token_policies": []}}}),
    (
        "sys/auth/approle",
        {"login_methods": {"approle": LiveLoginMethod("approle", "approle", "", {})}},
    ),
]


@pytest.mark.parametrize(("path", "parts"), UNMARKED)
def test_what_others_made_is_taken_over_only_by_its_path_and_marked(path, parts):
    refused = planned(changed(**parts))
    assert [one.code for one in refused.unadopted] == ["needs-adoption"]
    taken = planned(changed(**parts), adopt=frozenset({path}))
    assert [one.code for one in taken.warnings] == ["takes-over"]
    (action,) = taken.actions
    assert "adopted" in str(action.changes)


def test_a_mark_of_another_manifest_needs_its_id():
    text = '# managed-by:skyflowctl/other\npath "a" { capabilities = ["read"] }'
    parts = {"policies": {"backend": LivePolicy("backend", text)}}
    path = frozenset({"sys/policies/acl/backend"})
    assert planned(changed(**parts), adopt=path).unadopted
    assert not planned(changed(**parts), adopt=path, adopt_from=frozenset({"other"})).unadopted


def test_a_login_method_of_another_type_is_left_alone():
    other = {"approle": LiveLoginMethod("approle", "userpass", "", {})}
    plan = planned(changed(login_methods=other))
    assert {one.code for one in plan.left_out} == {"type-differs"}
    assert plan.actions == ()


def test_a_login_without_its_method_is_refused():
    manifest = dataclasses.replace(MANIFEST, login_methods=())
    plan = planned(dataclasses.replace(APPLIED.access, login_methods={}), manifest)
    assert [one.code for one in plan.left_out] == ["login-method-missing"] * 2


@pytest.mark.parametrize("path", ["sys/policies/acl", "sys/auth", ROLE])
def test_what_cannot_be_read_is_said_and_not_changed(path):
    unread = {path: Problem("forbidden", "403", "not permitted", "grant it")}
    plan = planned(dataclasses.replace(LiveAccess(), unread=unread))
    about = [one for one in plan.unreadable if one.code == "access-unreadable"]
    assert about
    assert not [one for one in plan.actions if one.path.startswith(path)]
    assert plan.summary()["not_compared"] == len(about)
    assert not plan.clean


def test_a_chosen_mount_brings_only_what_its_consumers_need():
    needed = access_needed(desired_access(MANIFEST, PlanOptions(only=frozenset({"payment"}))))
    assert needed.policies == {"skyflow.skyflow.payment.writer"}
    assert needed.objects == {
        "auth/approle/role/app": "sys/auth/approle",
        "auth/approle/role/payer": "sys/auth/approle",
    }
    assert access_needed(desired_access(MANIFEST, PlanOptions(only=frozenset()))).policies == set()


@pytest.mark.parametrize(
    ("ctx", "lines"),
    [
        (DeclaredCtx(), []),
        (DeclaredCtx(required=True), ['required_parameters = ["ctx"]', '"ctx" = []']),
        (
            DeclaredCtx(required=True, pattern='a"b:*'),
            ['required_parameters = ["ctx"]', r'"ctx" = ["a\"b:*"]'],
        ),
        (DeclaredCtx(required=False, pattern="a*"), ['"ctx" = ["a*"]']),
    ],
)
def test_the_policy_of_a_role_holds_its_ctx_rule(ctx, lines):
    text = role_policy("skyflow/order", p.role(ctx=ctx))
    assert [one for one in lines if one not in text] == []
    assert ("required_parameters" in text) == ctx.required
    assert "not valid" not in str(policy_fields(text))


def test_two_texts_of_one_meaning_are_the_same_policy():
    left = '# managed-by:skyflowctl/a\npath "x" {capabilities=["read","list"]}'
    right = '#managed-by:skyflowctl/a \n# c\npath "x" {\n capabilities = ["list", "read"]\n}\n'
    assert policy_fields(left) == policy_fields(right)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("# managed-by:skyflowctl/shop\npath", ("shop", False)),
        ("# managed-by:skyflowctl/shop adopted\npath", ("shop", True)),
        ("\n# managed-by:skyflowctl/shop\npath", ("shop", False)),
        ('path "a" {}\n# managed-by:skyflowctl/shop\n', ("", False)),
        ("# managed-by:skyflowctl/Shop\n", ("", False)),
        ("", ("", False)),
    ],
)
def test_only_the_first_line_is_a_mark(text, mark):
    assert policy_mark(text) == mark


def test_an_unparsable_live_policy_is_a_change_and_no_failure():
    plan = planned(changed(policies={"backend": LivePolicy("backend", 'path "a" {', 1)}))
    assert [one.path for one in plan.actions] == ["sys/policies/acl/backend"]
    assert live_object(ObjectKind.POLICY, "sys/policies/acl/none", APPLIED.access) is None


def without_consumers():
    return dataclasses.replace(MANIFEST, consumers=MANIFEST.consumers[1:], policies=())


GONE = {ROLE, POLICY, "sys/policies/acl/backend"}


def test_what_was_taken_out_is_drift_that_names_the_prune():
    plan = planned(APPLIED.access, without_consumers())
    assert {one.path for one in plan.drift} == GONE
    assert all("--prune'" in one.fix for one in plan.drift)
    assert plan.actions == ()


def test_a_prune_deletes_it_and_nothing_else():
    plan = planned(APPLIED.access, without_consumers(), prune=PruneOptions())
    assert {one.path for one in plan.deletes} == GONE
    assert [one for one in plan.drift if one.path in GONE] == []
    assert plan.prune_refused == ()


def test_a_login_method_goes_only_if_it_is_named():
    manifest = dataclasses.replace(MANIFEST, consumers=(), login_methods=(), policies=())
    large = PruneOptions(allow_large=True)
    left = planned(APPLIED.access, manifest, prune=large)
    assert "sys/auth/approle" not in {one.path for one in left.deletes}
    assert [one.path for one in left.drift] == ["sys/auth/approle"]
    named = dataclasses.replace(large, allow_destroy=frozenset({"sys/auth/approle"}))
    assert "sys/auth/approle" in {
        one.path for one in planned(APPLIED.access, manifest, prune=named).deletes
    }


def test_all_of_a_kind_is_too_many():
    manifest = dataclasses.replace(MANIFEST, consumers=(), policies=())
    refused = planned(APPLIED.access, manifest, prune=PruneOptions()).prune_refused
    assert {one.code for one in refused} == {"prune-too-many"}


OTHERS = {
    "policies": {"theirs": LivePolicy("theirs", '# managed-by:skyflowctl/other\npath "a" {}')},
    "objects": {"auth/approle/role/theirs": {"token_policies": ["skyflowctl.owner.other"]}},
    "login_methods": {"userpass": LiveLoginMethod("userpass", "userpass", "", {})},
}


def test_what_others_made_is_neither_drift_nor_deleted():
    plan = planned(changed(**OTHERS), prune=PruneOptions())
    assert (plan.deletes, plan.drift) == ((), ())


def test_what_was_adopted_is_deleted_only_by_its_path():
    text = '# managed-by:skyflowctl/shop adopted\npath "a" {}'
    access = changed(policies={"old": LivePolicy("old", text)})
    path = "sys/policies/acl/old"
    assert planned(access, prune=PruneOptions()).deletes == ()
    named = PruneOptions(allow_destroy=frozenset({path}))
    assert [one.path for one in planned(access, prune=named).deletes] == [path]


def test_a_prune_of_chosen_mounts_leaves_access_alone():
    plan = planned(
        APPLIED.access, without_consumers(), prune=PruneOptions(below=frozenset({"skyflow/order"}))
    )
    assert plan.deletes == ()


@pytest.mark.parametrize("path", ["sys/auth", "auth/theirs/role/", "auth/approle/role/other"])
def test_a_prune_says_where_it_could_not_look(path):
    unread = {path: Problem("forbidden", "403", "not permitted", "grant it")}
    access = dataclasses.replace(APPLIED.access, unread=unread)
    manifest = dataclasses.replace(MANIFEST, login_methods=())
    assert planned(access, manifest).unreadable == ()
    plan = planned(access, manifest, prune=PruneOptions())
    (warning,) = plan.unreadable
    assert f"could not look for objects at {path}: 403" in warning.summary
    assert not plan.clean


def test_what_was_not_compared_is_said_once():
    unread = {ROLE: Problem("forbidden", "403", "not permitted", "grant it")}
    plan = planned(dataclasses.replace(APPLIED.access, unread=unread), prune=PruneOptions())
    assert [one.summary for one in plan.unreadable] == [f"{ROLE} was not compared: 403"]


def test_one_name_that_begins_like_another_is_not_unread():
    unread = {ROLE: Problem("forbidden", "403", "not permitted", "grant it")}
    longer = dataclasses.replace(MANIFEST.consumers[0], name="app2")
    manifest = dataclasses.replace(MANIFEST, consumers=(longer,))
    plan = planned(dataclasses.replace(APPLIED.access, unread=unread), manifest)
    assert [one.path for one in plan.actions] == [f"{ROLE}2"]


def test_a_login_method_with_logins_of_others_is_kept():
    manifest = dataclasses.replace(MANIFEST, consumers=(), login_methods=(), policies=())
    named = PruneOptions(allow_large=True, allow_destroy=frozenset({"sys/auth/approle"}))
    theirs = {"auth/approle/role/theirs": {"token_policies": ["by-hand"]}}
    plan = planned(changed(objects=theirs), manifest, prune=named)
    assert "sys/auth/approle" not in {one.path for one in plan.deletes}
    assert ["auth/approle/role/theirs" in one.why for one in plan.prune_refused] == [True]


def test_what_a_skipped_mount_needs_is_left_as_it_is():
    """A mount that was moved by hand is drift; its consumers keep what they have."""
    renamed = dataclasses.replace(MANIFEST.mounts[1], name="pay", path="skyflow/pay")
    grants = (("order", "writer"), ("pay", "writer"))
    consumers = tuple(
        dataclasses.replace(one, grants=tuple(grants[-len(one.grants) :]))
        for one in MANIFEST.consumers
    )
    manifest = dataclasses.replace(
        MANIFEST, mounts=(MANIFEST.mounts[0], renamed), consumers=consumers
    )
    keys = {**p.identities(MANIFEST), "pay": p.identities(MANIFEST)["payment"]}
    plan = make_plan(manifest, APPLIED, keys, PlanOptions())
    assert [one.kind.value for one in plan.drift if one.mount == "pay"] == ["moved"]
    assert plan.actions == ()
    assert sum("/" in one for one in plan.not_compared) == 3


def test_an_engine_that_was_taken_out_is_no_mount_of_ours():
    engine = dataclasses.replace(
        APPLIED.mounts["skyflow/order"],
        path="secret",
        type="kv",
        options={"managed_by": "skyflowctl", "manifest": "shop", "version": "2"},
    )
    mounts = {**APPLIED.mounts, "secret": engine}
    access = dataclasses.replace(APPLIED.access, engines=mounts)
    live = dataclasses.replace(APPLIED, mounts=mounts, access=access)
    plan = make_plan(MANIFEST, live, p.identities(MANIFEST), PlanOptions())
    assert [(one.path, "--allow-destroy=sys/mounts/secret" in one.fix) for one in plan.drift] == [
        ("secret", True)
    ]


@pytest.mark.parametrize(
    ("recorded", "now", "written"),
    [
        ("mounts.yaml", "mounts.yaml", None),
        ("a.yaml,mounts.yaml", "mounts.yaml", None),
        ("mounts.yaml", "a.yaml,mounts.yaml", "a.yaml,mounts.yaml"),
        ("mounts.yaml", "exported.yaml", None),
        ("", "mounts.yaml", None),
    ],
)
def test_an_apply_of_further_files_is_recorded(recorded, now, written):
    manifest = dataclasses.replace(p.manifest(), file_set=now)
    live = p.converged(manifest)
    options = {**live.mounts["skyflow/order"].options, "files": recorded}
    live = p.with_mount(live, "skyflow/order", options=options)
    actions = make_plan(manifest, live, p.identities(manifest), PlanOptions()).actions
    changes = [(one.field, one.after) for action in actions for one in action.changes]
    assert changes == ([("options.files", written)] if written else [])


@pytest.mark.parametrize(
    ("live", "warned"),
    [((), ["unknown-policy"]), (("operator",), []), (("operater",), ["unknown-policy"])],
)
def test_a_policy_that_nobody_has_is_a_warning(live, warned):
    login = Consumer("oncall", "approle", {}, (), p.HERE, ("operator", "default"))
    what = dataclasses.replace(MANIFEST, consumers=(*MANIFEST.consumers, login))
    policies = {name: LivePolicy(name, "", 1) for name in live}
    plan = make_plan(what, p.with_access(APPLIED, policies=policies), p.identities(what))
    found = [one for one in plan.warnings if one.code == "unknown-policy"]
    assert [one.code for one in found] == warned
    if "operater" in live:
        assert found[0].fix == 'did you mean "operater"?'
    assert "operator" in access_needed(desired_access(what, PlanOptions())).policies


def test_a_login_method_of_another_manifest_is_to_be_left_out_of_one_of_the_two():
    methods = {"approle": LiveLoginMethod("approle", "approle", "", {"manifest": "other"})}
    live = p.with_access(APPLIED, login_methods=methods)
    (warning,) = make_plan(MANIFEST, live, p.identities(MANIFEST)).unadopted
    assert "--adopt-from" not in warning.fix
    assert warning.fix.startswith("leave approle out of `auth` in one of the two manifests")
    options = PlanOptions(adopt=frozenset({"sys/auth/approle"}), adopt_from=frozenset({"other"}))
    assert make_plan(MANIFEST, live, p.identities(MANIFEST), options).unadopted == ()


def test_an_engine_of_another_type_is_named_with_both_types():
    engine = DeclaredEngine("ssh", "sshh", "", (), p.HERE)
    live = LiveMount("ssh", "ssh", "", {}, (), (), (), "", "", "")
    plan = planned(changed(engines={"ssh": live}), dataclasses.replace(MANIFEST, engines=(engine,)))
    (problem,) = plan.left_out
    assert problem.summary.endswith("there is of type 'ssh', the manifest says 'sshh'")
    assert problem.fix == 'did you mean "ssh"?'


class TestSigner:
    """An intermediate certificate needs a pki engine that signs it."""

    made = DeclaredObject(
        "object",
        "web/intermediate/generate/internal",
        {"common_name": "Web", "signed_by": "root"},
        p.HERE,
        "sys/mounts/web",
        once="web/cert/ca",
    )

    def codes(self, *engines: str, **live: str) -> list[str]:
        declared = tuple(DeclaredEngine(one, "pki", "", (), p.HERE) for one in ("web", *engines))
        manifest = dataclasses.replace(MANIFEST, engines=declared, objects=(self.made,))
        mounts = {
            path: LiveMount(path, kind, "", {}, (), (), (), "", "", "")
            for path, kind in live.items()
        }
        plan = planned(changed(engines=mounts), manifest)
        return [one.code for one in plan.left_out if one.code == "signer-missing"]

    def test_one_that_neither_has_is_refused(self):
        assert self.codes() == ["signer-missing"]
        assert self.codes(root="kv") == ["signer-missing"]

    def test_one_of_the_manifest_or_of_the_server_is_used(self):
        assert self.codes("root") == self.codes(root="pki") == []
