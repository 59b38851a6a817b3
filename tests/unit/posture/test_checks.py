"""Each check: silent on a server in order, and right about one thing that is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from support.posture import (
    ADDRESS,
    DIGEST,
    NOW,
    ago,
    ahead,
    declared,
    device,
    facts,
    found,
    history,
    live_config,
    live_mount,
    login,
    manifest,
    mount,
    reading,
    rotation,
)

from skyflowctl.operations.init import least_policies
from skyflowctl.operations.list_plugins import running_mounts, running_problems
from skyflowctl.posture.checks.registry import CHECKS, run_checks
from skyflowctl.posture.facts import (
    Certificate,
    Down,
    Entity,
    EntityAlias,
    Exercised,
    Identities,
    IdentityGroup,
    LiveToken,
    Login,
    NodeFacts,
    NotRead,
    ServerLogins,
    TcpListener,
    Tokens,
)
from skyflowctl.posture.model import CheckStatus, Severity
from skyflowctl.vault.live import LiveRevocation, way_out
from skyflowctl.vault.responses import CatalogEntry

CREDS = "skyflow/order/creds"
NO_AUDIT = NotRead("sys/audit", ("read", "sudo"))


def one(given, check):
    """The only finding of a check, as (grade, subject's name, summary)."""
    (finding,) = found(given, check)
    return finding.grade.value, finding.subject.name, finding.summary


def test_a_server_in_order_has_nothing_but_what_is_told():
    whole = facts(
        mount("order", "writer", declared=declared("order", "writer")),
        manifest=manifest(declared("order", "writer")),
        exercised=used("writer"),
        policies={**least_policies(), "application": reading("skyflow/order/creds/writer")},
        least_policies=least_policies(),
    )
    report = run_checks(whole)
    assert [one.check for one in report.findings] == ["seal-wrap"]
    assert not report.failing(Severity.LOW)
    assert {one.result for one in report.checks} == {CheckStatus.OK, CheckStatus.FINDINGS}


def used(*roles, days=90):
    names = frozenset(("skyflow/order", role) for role in roles)
    return Exercised(names, NOW - timedelta(days=days), NOW, ("audit.log",))


def test_what_was_not_given_is_said_and_not_asked():
    skipped = {
        one.check.id: one.wants
        for one in run_checks(facts()).checks
        if one.result is CheckStatus.SKIPPED
    }
    assert sorted(skipped) == ["least-policies", "undeclared", "unused-roles"]
    assert "operator" in skipped["least-policies"]
    assert "-f" in skipped["undeclared"]
    assert "--log" in skipped["unused-roles"]


def test_a_server_that_is_down_is_the_only_finding():
    given = facts(server=replace(facts().server, down="the server is sealed"), audit_devices=())
    report = run_checks(given)
    assert [(one.check, one.grade) for one in report.findings] == [("server", Severity.CRITICAL)]
    assert {one.result for one in report.checks} == {CheckStatus.FINDINGS, CheckStatus.SKIPPED}


@pytest.mark.parametrize(
    ("kind", "word", "other"),
    [
        (Down.SEALED, "unseal", "address"),
        (Down.NEW, "operator init", "address"),
        (Down.SILENT, "address", "unseal"),
    ],
)
def test_each_way_to_be_down_has_its_own_fix(kind, word, other):
    given = facts(server=replace(facts().server, down="it is down", down_kind=kind))
    (finding,) = found(given, "server")
    assert word in finding.fix
    assert other not in finding.fix


def test_ids_are_unique_and_every_check_explains_itself():
    ids = [check.id for check in CHECKS]
    assert len(set(ids)) == len(ids)
    assert all(check.title and check.explains.endswith(".") for check in CHECKS)


# The audit trail -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "grade"),
    [
        ([], "critical"),
        ([device("one")], "medium"),
        ([device("one", file_path="/dev/null")], "critical"),
        ([device("one"), device("two", file_path="/dev/null")], "medium"),
        ([device("one", file_path="/x"), device("two", file_path="/x")], "medium"),
    ],
)
def test_fewer_than_two_audit_devices_that_keep_anything(devices, grade):
    assert one(facts(audit_devices=tuple(devices)), "audit-devices")[0] == grade


def test_an_audit_device_that_writes_secrets():
    given = facts(audit_devices=(device("one", log_raw="true"), device("two")))
    assert one(given, "audit-raw")[:2] == ("critical", "one")
    given = facts(audit_devices=(device("one", hmac_accessor="false"), device("two")))
    assert one(given, "audit-raw")[:2] == ("low", "one")


@pytest.mark.parametrize(
    ("plain", "wanted", "grade"), [(True, False, "high"), (False, True, "low")]
)
def test_ctx_is_as_the_manifest_declares(plain, wanted, grade):
    keys = ("ctx",) if plain else ()
    mounted = live_mount("skyflow/order", audit_non_hmac_request_keys=keys)
    given = facts(mount("order", mount=mounted, declared=declared("order", plain_ctx=wanted)))
    (finding,) = found(given, "audit-ctx")
    assert finding.grade.value == grade
    assert finding.where.line == 7
    right = facts(mount("order", mount=mounted, declared=declared("order", plain_ctx=plain)))
    assert found(right, "audit-ctx") == []


def test_a_plain_ctx_that_nobody_declared_is_only_told():
    mounted = live_mount("skyflow/order", audit_non_hmac_request_keys=("ctx",))
    given = facts(mount("order", mount=mounted))
    assert [
        finding.grade for finding in run_checks(given).findings if finding.check == "audit-ctx"
    ] == [Severity.INFO]


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("audit_non_hmac_response_keys", "access_token"),
        ("audit_non_hmac_request_keys", "credentials_json"),
    ],
)
def test_a_secret_in_clear_in_the_audit_log(field, key):
    mounted = live_mount("skyflow/order", **{field: (key,)})
    grade, _, summary = one(facts(mount("order", mount=mounted)), "audit-ctx")
    assert grade == "critical"
    assert key in summary


@pytest.mark.parametrize("headers", [{}, {"x-skyflowctl-run": True, "application-source": False}])
def test_headers_that_are_not_readable_in_the_audit_log(headers):
    findings = found(facts(audited_headers=headers), "audited-headers")
    assert len(findings) == 2 - sum(hashed is False for hashed in headers.values())
    assert {finding.grade for finding in findings} == {Severity.LOW}


# The server ------------------------------------------------------------------------------


def served(**changes):
    return facts(server=replace(facts().server, **changes))


@pytest.mark.parametrize(
    ("address", "grade"),
    [
        ("http://bao.example.com", "critical"),
        ("http://10.0.0.1:8200", "critical"),
        ("http://127.0.0.1:8200", "medium"),
        ("http://[::1]:8200", "medium"),
    ],
)
def test_a_plain_address(address, grade):
    assert one(served(address=address), "tls")[0] == grade


@pytest.mark.parametrize("address", ["https://x:1", "unix:///run/bao.sock"])
def test_an_address_that_is_not_plain(address):
    assert found(served(address=address), "tls") == []


def test_a_certificate_that_is_not_checked():
    assert one(served(skip_verify=True), "tls")[0] == "high"


@pytest.mark.parametrize(
    ("left", "grade", "words"),
    [
        (timedelta(days=-2), "critical", "expired 2 days ago"),
        (timedelta(hours=5), "high", "expires in 5 hours"),
        (timedelta(days=20), "medium", "expires in 20 days"),
    ],
)
def test_a_certificate_near_its_end(left, grade, words):
    found_grade, subject, summary = one(
        served(certificates=(Certificate(ADDRESS, NOW + left),)), "tls"
    )
    assert (found_grade, subject) == (grade, ADDRESS)
    assert words in summary


@pytest.mark.parametrize(
    ("listener", "grades"),
    [
        (TcpListener("0.0.0.0:8200", tls=False), ["high"]),
        (TcpListener("127.0.0.1:8200", tls=False), []),
        (TcpListener("0.0.0.0:8200", tls=True, tls_min_version="tls10"), ["medium"]),
        (TcpListener("0.0.0.0:8200", tls=True, tls_min_version="tls13"), []),
    ],
)
def test_listeners(listener, grades):
    assert [one.grade for one in found(served(listeners=(listener,)), "tls")] == grades


def test_seal_wrap_is_what_the_server_makes_of_it():
    flagged = mount("order", mount=live_mount("skyflow/order", seal_wrap=True))
    openbao = facts(flagged)
    assert one(openbao, "seal-wrap")[0] == "low"
    assert "does nothing" in one(openbao, "seal-wrap")[2]
    enterprise = replace(openbao, server=replace(openbao.server, version="1.19.0+ent"))
    assert found(enterprise, "seal-wrap") == []
    plain = replace(enterprise, mounts=(mount("order"),))
    assert one(plain, "seal-wrap")[0] == "low"


def token(name="root", *, expires="", policies=("root",), own=False):
    return LiveToken(f"acc-{name}", name, policies, expires, "auth/token/root", own)


def test_live_root_tokens():
    tokens = Tokens((token("boot", own=True), token("app", policies=("x",))), 2)
    assert one(facts(tokens=tokens), "root-tokens")[:2] == ("high", "boot")
    brief = Tokens((token("brief", expires=ahead(hours=1)),), 1)
    assert one(facts(tokens=brief), "root-tokens")[0] == "medium"


def test_a_root_token_of_another_namespace_is_told():
    given = facts(tokens=Tokens((token("app", policies=("x",)),), 1), own_policies=("root",))
    assert one(given, "root-tokens")[:2] == ("high", "this login")


def test_tokens_past_the_limit_are_said_not_to_be_looked_at():
    (finding,) = found(facts(tokens=Tokens((token("a", policies=()),), 1500)), "root-tokens")
    assert finding.unchecked
    assert "1499 were not checked" in finding.reason


def test_the_own_root_token_is_told_although_others_cannot_be_listed():
    given = facts(tokens=NotRead("auth/token/accessors/", ("list", "sudo")), own_policies=("root",))
    assert [one.grade.value for one in found(given, "root-tokens")] == ["high", "low"]


# The engine ------------------------------------------------------------------------------


def entry(version, sha256):
    return CatalogEntry("skyflow", version, builtin=False, sha256=sha256)


def test_a_mount_that_runs_another_file_than_the_registered():
    given = facts(mount("order"), catalog=(entry("v1.0.0", "cd" * 32),))
    grade, subject, summary = one(given, "engine-digest")
    assert (grade, subject) == ("critical", "skyflow/order")
    assert "another file" in summary


def test_a_mount_whose_version_is_not_registered_any_more():
    given = facts(mount("order"), catalog=(entry("v2.0.0", DIGEST),))
    assert "not in the catalog" in one(given, "engine-digest")[2]


@pytest.mark.parametrize("registered", [entry("v1.0.0", "cd" * 32), entry("v2.0.0", DIGEST)])
def test_posture_and_plugin_list_tell_a_running_fault_alike(registered):
    given = facts(mount("order"), catalog=(registered,))
    (finding,) = found(given, "engine-digest")
    mounts = running_mounts([given.ours[0].mount], "skyflow", [registered])
    (problem,) = running_problems(mounts)
    assert (finding.summary, finding.fix) == (problem.summary, problem.fix)


@pytest.mark.parametrize(
    ("name", "grade", "says"),
    [
        ("core_dumps", "medium", "core dump"),
        ("dumpable", "medium", "other processes of its user"),
        ("swappable", "low", "swapped"),
    ],
)
def test_h6_a_way_out_of_the_engines_memory_is_told_and_only_that(name, grade, says):
    closed = dict.fromkeys(("core_dumps", "dumpable", "swappable"), False)
    told = replace(mount("order"), config=replace(live_config("order"), process=closed))
    assert not found(facts(told), "engine-process")
    opened = replace(live_config("order"), process={**closed, name: True})
    given = facts(replace(told, config=opened))
    assert one(given, "engine-process")[:2] == (grade, "skyflow/order")
    assert says in one(given, "engine-process")[2]


def test_h6_a_process_that_does_not_report_its_protection_is_not_taken_for_closed():
    half = {"core_dumps": False, "swappable": False}
    for process, unknown in ((None, "core_dumps, dumpable"), (half, "dumpable")):
        config = replace(live_config("order"), process=process)
        (finding,) = found(facts(replace(mount("order"), config=config)), "engine-process")
        assert finding.unchecked
        assert finding.subject.name == "skyflow/order"
        assert unknown in finding.evidence[0]


def test_h6_the_processes_of_every_node_are_looked_at():
    closed = dict.fromkeys(("core_dumps", "dumpable", "swappable"), False)
    nodes = (
        NodeFacts("https://n1", True, processes={"skyflow/order": {**closed, "dumpable": True}}),
        NodeFacts("https://n2", True, processes={"skyflow/order": None}),
        NodeFacts("https://n3", True, processes={"skyflow/order": closed}),
        NodeFacts("https://n4", asked=False),
        NodeFacts("https://n5", True, problem="gone"),
    )
    told = {
        one.subject.name: one.unchecked
        for one in found(facts(mount("order"), nodes=nodes), "engine-process")
    }
    assert told == {
        "https://n1": False,
        "https://n2": True,
        "https://n4": True,
        "https://n5": True,
    }


def test_c2_a_catalog_entry_that_cannot_be_read_is_said():
    unread = NotRead("sys/plugins/catalog/secret/skyflow", ("read",))
    (finding,) = found(facts(mount("order"), catalog_unread=(unread,)), "engine-digest")
    assert (finding.unchecked, unread.path in finding.fix) == (True, True)


def test_a_mount_that_a_node_did_not_answer_for_is_said():
    node = NodeFacts("https://n2", True, not_read=(NotRead("skyflow/order/config", why="500"),))
    (finding,) = found(facts(mount("order"), nodes=(node,)), "engine-digest")
    assert (finding.unchecked, finding.subject.name) == (True, "https://n2")


def test_a_node_without_the_plugin():
    nodes = (
        NodeFacts("https://n1", asked=True, digests={"skyflow/order": DIGEST}),
        NodeFacts("https://n2", asked=True, missing=("skyflow/order",)),
    )
    assert one(facts(mount("order"), nodes=nodes), "engine-digest")[:2] == (
        "critical",
        "https://n2",
    )


def test_a_node_that_runs_another_file():
    nodes = (NodeFacts("https://n2", asked=True, digests={"skyflow/order": "ee" * 32}),)
    assert one(facts(mount("order"), nodes=nodes), "engine-digest")[:2] == ("high", "https://n2")


@pytest.mark.parametrize(
    "node", [NodeFacts("https://n2", asked=False), NodeFacts("https://n2", True, problem="gone")]
)
def test_a_node_that_was_not_asked_is_not_called_well(node):
    (finding,) = found(facts(nodes=(node,)), "engine-digest")
    assert finding.unchecked
    assert finding.subject.name == "https://n2"


# Credentials -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "grade", "words"),
    [
        ({"key_valid_before": ago(days=1)}, "critical", "expired 1 day ago"),
        ({"key_valid_before": ahead(days=3)}, "high", "expires in 3 days"),
        ({"key_valid_after": ago(days=400)}, "medium", "is 400 days old"),
        (
            {"key_valid_after": None, "credential_updated": ago(days=500)},
            "medium",
            "is 500 days old",
        ),
        ({"configured": False}, "low", "has no credential"),
    ],
)
def test_ages_of_credentials(raw, grade, words):
    given = facts(mount("order", config=live_config("order", **raw)))
    found_grade, _, summary = one(given, "credential-age")
    assert found_grade == grade
    assert words in summary


NEW_KEY = way_out("order")


@pytest.mark.parametrize(
    ("past", "fix"),
    [
        ({}, "skyflowctl apply"),
        (history(("old", 9, False)), NEW_KEY),
        (None, f"skyflowctl apply; if it was cut off, {NEW_KEY}"),
    ],
)
def test_a_mount_that_was_cut_off_is_not_configured_by_a_plain_apply(past, fix):
    empty = live_config("order", configured=False)
    given = facts(mount("order", config=empty, history=past, declared=declared("order")))
    (finding,) = found(given, "credential-age")
    assert finding.fix == fix
    assert ("it was cut off" in finding.reason) is bool(past)


def test_a_mount_that_was_cut_off_says_since_when_and_why():
    revoked = LiveRevocation("2026-11-28T05:00:00Z", "token-ops", "INC-1042", "run-7", "old")
    empty = replace(live_config("order", configured=False), revoked=revoked)
    given = facts(mount("order", config=empty, declared=declared("order")))
    (finding,) = found(given, "credential-age")
    assert finding.reason == (
        "it issues no token: it has been cut off since 2026-11-28T05:00:00Z by token-ops because "
        "INC-1042 (run run-7)"
    )
    assert finding.fix == NEW_KEY


def test_a_credential_that_is_due_says_why():
    (finding,) = found(facts(mount("order", due="max_age is 90d")), "credential-age")
    assert (finding.grade.value, finding.reason) == ("medium", "max_age is 90d")


def test_times_in_another_form_are_no_failure():
    config = live_config("order", key_valid_before="tomorrow", key_valid_after=17)
    assert found(facts(mount("order", config=config)), "credential-age") == []


@pytest.mark.parametrize(("started", "grades"), [(ago(hours=5), ["high"]), (ago(minutes=5), [])])
def test_a_rotation_that_was_left_open(started, grades):
    config = live_config("order", rotation=rotation(state="open", started=started))
    assert [one.grade for one in found(facts(mount("order", config=config)), "kept-keys")] == grades


def kept(past, **changes):
    config = live_config("order", key_id="key-order", rotation=rotation(**changes))
    return found(facts(mount("order", config=config, history=past)), "kept-keys")


OLD_THEN_LIVE = history(("key-old", 90, True), ("key-order", 3, True))


def test_an_old_key_is_to_be_retired_when_its_tokens_have_ended():
    (finding,) = kept(OLD_THEN_LIVE, old_tokens_valid_until=ago(days=2))
    assert finding.grade is Severity.MEDIUM
    assert finding.fix == "skyflowctl rotate --retire skyflow/order"


def test_an_old_key_may_be_kept_while_its_tokens_live():
    assert kept(OLD_THEN_LIVE, old_tokens_valid_until=ago(hours=2)) == []
    assert kept(OLD_THEN_LIVE, old_tokens_valid_until=ahead(hours=1)) == []


def test_what_is_destroyed_or_live_or_the_way_back_is_no_old_key():
    assert kept(history(("key-old", 90, False), ("key-order", 3, True))) == []
    assert kept(history(("key-order", 90, True), ("key-order", 3, True))) == []
    assert kept(OLD_THEN_LIVE, state="open", started=ago(minutes=1)) == []


def test_a_key_from_before_any_rotation_is_to_be_destroyed_by_its_version():
    past = history(("key-a", 90, True), ("key-b", 30, True), ("key-order", 2, True))
    (finding,) = kept(past, from_key="", to_key="")
    assert finding.fix == "bao delete skyflow/order/config/history/1"
    assert len(finding.evidence) == 1


def test_one_service_account_on_two_mounts():
    same = live_config("x", client_id="c1", key_id="k1")
    other = live_config("x", client_id="c1", key_id="k2")
    two = facts(mount("order", config=same), mount("payment", config=other))
    assert one(two, "shared-account")[0] == "high"
    three = facts(*two.mounts, mount("purchase", config=same))
    grade, _, summary = one(three, "shared-account")
    assert grade == "critical"
    assert "serves 3 mounts" in summary


def test_mounts_without_a_credential_share_none():
    empty = live_config("x", client_id="", key_id="", configured=False)
    given = facts(mount("order", config=empty), mount("payment", config=empty))
    assert found(given, "shared-account") == []


# Who can read what -----------------------------------------------------------------------


def readable(limit, *logins, **policies):
    return facts(policies=policies, logins=ServerLogins(tuple(logins)), max_readers=limit)


def test_a_role_that_too_many_can_read_is_told_once_a_mount():
    logins = [login(f"app-{n}", "order") for n in range(3)]
    given = readable(2, *logins, order=reading(f"{CREDS}/writer", f"{CREDS}/reader"))
    (finding,) = found(given, "creds-readers")
    assert finding.grade is Severity.MEDIUM
    assert finding.summary == "3 logins can read tokens of reader, writer on skyflow/order"
    assert "approle role approle/app-1" in finding.evidence[0]
    assert found(replace(given, max_readers=3), "creds-readers") == []


@pytest.mark.parametrize(
    ("per", "logins", "told"), [("role", 2, True), ("role", 1, False), ("entity", 2, False)]
)
def test_a_role_whose_tokens_several_logins_share(per, logins, told):
    found_logins = tuple(login(f"app-{n}", "order") for n in range(logins))
    order = mount("order", "writer", "reader")
    shared = replace(order.roles["writer"], reuse_min_ttl=300, reuse_per=per)
    order = replace(order, roles={**order.roles, "writer": shared})
    policies = {"order": reading(f"{CREDS}/writer", f"{CREDS}/reader")}
    given = facts(order, policies=policies, logins=ServerLogins(found_logins))
    findings = found(given, "shared-tokens")
    assert [one.subject.name for one in findings] == [f"{CREDS}/writer"] * told


def test_root_and_logins_that_are_denied_are_no_readers():
    denies = f'path "{CREDS}/writer" {{ capabilities = ["deny"] }}'
    logins = (login("a", "order", "no"), Login("live token", "boot", ("root",)))
    assert (
        found(readable(0, *logins, order=reading(f"{CREDS}/writer"), no=denies), "creds-readers")
        == []
    )


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        (reading("skyflow/*"), "high"),
        (reading("*"), "high"),
        (reading("skyflow/+/creds/+"), "high"),
        (reading(f"{CREDS}/*"), "medium"),
        (reading("skyflow/payment/creds/*"), "low"),
        (f'path "{CREDS}/*" {{ capabilities = ["read", "sudo"] }}', "high"),
    ],
)
def test_wildcards_over_creds(text, grade):
    given = facts(policies={"wide": text})
    found_grade, subject, _ = one(given, "creds-wildcards")
    assert (found_grade, subject) == (grade, "wide")


@pytest.mark.parametrize(
    "text",
    [
        reading(f"{CREDS}/writer", f"{CREDS}/reader", "skyflow/payment/creds/gateway"),
        reading("skyflow/+/config", "secret/*", "sys/*"),
        f'path "{CREDS}/*" {{ capabilities = ["list"] }}',
        reading("skyflow/*") + ' path "skyflow/+/creds/+" { capabilities = ["deny"] }',
        "",
    ],
)
def test_policies_that_reach_no_more_than_they_name(text):
    assert found(facts(policies={"fine": text}), "creds-wildcards") == []


def test_a_deny_that_does_not_win_is_not_believed():
    text = reading("skyflow/*") + ' path "skyflow/+/creds/*" { capabilities = ["deny"] }'
    assert one(facts(policies={"wide": text}), "creds-wildcards")[0] == "high"


def test_a_wildcard_names_who_carries_it():
    logins = ServerLogins((login("a", "wide"), *[Login("live token", "t", ("wide",))] * 3))
    (finding,) = found(
        facts(policies={"wide": reading("skyflow/*")}, logins=logins), "creds-wildcards"
    )
    assert finding.evidence[-1] == "attached to approle role approle/a, 3 x live token t"


def test_the_default_policy_must_reach_none():
    assert one(facts(policies={"default": reading(f"{CREDS}/writer")}), "creds-wildcards")[0] == (
        "critical"
    )


def test_a_template_is_told_and_not_computed():
    given = facts(policies={"own": reading("skyflow/order/creds/{{identity.entity.name}}")})
    grade, _, summary = one(given, "creds-wildcards")
    assert grade == "low"
    assert "template" in summary
    other = facts(policies={"own": reading("kv/{{identity.entity.name}}/*")})
    assert found(other, "creds-wildcards") == []


def test_a_policy_that_is_not_understood_is_not_called_fine():
    (finding,) = found(facts(policies={"odd": 'path "a'}), "creds-wildcards")
    assert finding.unchecked
    assert finding.subject.name == "odd"


# Control groups --------------------------------------------------------------------------

GROUP = (
    'control_group = {{ ttl = "1h" factor "ops" {{ controlled_capabilities = {caps}'
    ' identity {{ group_names = ["ops"] approvals = 1 }} }} }}'
)


def guarding(path: str, *more: str, caps: str = '["create", "update"]') -> str:
    words = " ".join(['capabilities = ["create", "update", "read"]', *more])
    return f'path "{path}" {{ {words} {GROUP.format(caps=caps)} }}'


@pytest.mark.parametrize(
    "text",
    [
        guarding("skyflow/order/config"),
        guarding("skyflow/*"),
        guarding("skyflow/+/config/verify"),
        guarding("skyflow/order/config", 'denied_parameters = { "description" = [] }'),
        guarding("skyflow/order/config", 'denied_parameters = { "credentials_json" = ["x"] }'),
        guarding("skyflow/order/config", 'allowed_parameters = { "credentials_json" = [] }'),
        (
            '{"path": {"skyflow/order/config": {"capabilities": ["update"], "control_group": {"ttl":'
            ' "1h", "factor": {"ops": {"controlled_capabilities": ["update"]}}}}}}'
        ),
    ],
)
def test_a_guarded_config_write_whose_approvers_could_read_keys_is_high(text):
    grade, subject, summary = one(facts(policies={"ops-writes": text}), "guarded-keys")
    assert (grade, subject) == ("high", "ops-writes")
    assert "could read keys" in summary


@pytest.mark.parametrize(
    "text",
    [
        guarding("skyflow/order/config", 'denied_parameters = { "credentials_json" = [] }'),
        guarding("skyflow/order/config", 'denied_parameters = { "*" = [] }'),
        guarding("skyflow/order/config", 'allowed_parameters = { "description" = [] }'),
        guarding("skyflow/order/config", caps='["delete", "read"]'),
        guarding("skyflow/order/roles/*"),
        guarding("skyflow/order/config", 'expiration = "2020-01-01T00:00:00Z"'),
        'path "skyflow/order/config" { capabilities = ["update"] }',
    ],
)
def test_a_guard_that_shows_no_key_is_fine(text):
    assert found(facts(policies={"fine": text}), "guarded-keys") == []


def held_by(*policies: str) -> ServerLogins:
    return ServerLogins((Login("userpass user", "ana", (*policies, "default")),))


GUARDED = guarding("skyflow/order/roles/+")
LIFTS = [
    "skyflow/order/roles/+", "skyflow/order/roles/writer", "skyflow/order/roles/w*",
    "skyflow/order/roles/writer*",
]  # fmt: skip


@pytest.mark.parametrize("path", LIFTS)
def test_another_policy_of_a_login_that_lifts_a_guard_is_critical(path):
    texts = {"operator": GUARDED, "helper": f'path "{path}" {{ capabilities = ["update"] }}'}
    alone = facts(policies=texts, logins=held_by("operator"))
    assert found(alone, "lifted-guards") == []
    together = facts(policies=texts, logins=held_by("operator", "helper"))
    grade, subject, summary = one(together, "lifted-guards")
    assert (grade, subject) == ("critical", "operator")
    assert "no effect at 1 path" in summary
    token = LiveToken("a", "ana", ("helper", "operator"), "", "auth/userpass/login/ana")
    by_token = facts(policies=texts, tokens=Tokens((token,), 1))
    assert one(by_token, "lifted-guards")[0] == "critical"


TWO = {"operator": GUARDED, "helper": f'path "{LIFTS[1]}" {{ capabilities = ["update"] }}'}
ANA = Login("userpass user", "userpass/ana", ("default", "operator"))
CI = Login("jwt role", "jwt/ci", ("default", "operator"))


def entity(*policies: str, mount: str = "userpass", alias: str = "ana") -> Entity:
    return Entity("e", frozenset(policies), (EntityAlias(mount, alias),))


def group(name: str, *policies: str, mount: str = "") -> IdentityGroup:
    return IdentityGroup(name, frozenset(policies), mount=mount, external=bool(mount))


def lifted(*logins: Login, **changes):
    """The findings: unchecked or not, and the last line of evidence or, without any, the fix."""
    aliases = {one: "ana" for one in logins if one.kind == "userpass user"}
    known = ServerLogins(logins, **{"aliases": aliases, **changes})
    lines = found(facts(policies=TWO, logins=known), "lifted-guards")
    return [(one.unchecked, one.evidence[-1] if one.evidence else one.fix) for one in lines]


def test_a_guard_that_an_entity_or_its_groups_lift_is_critical():
    mine = Identities((entity("helper"),))
    assert lifted(ANA, identities=mine) == [
        (False, "held by userpass user userpass/ana with the entity e")
    ]
    others = Identities((entity("helper", alias="bob"),))
    assert lifted(ANA, identities=others) == []
    alone = Identities((entity("helper", "operator", mount="github"),))
    assert lifted(identities=alone) == [(False, "held by entity e")]
    both = Identities(groups=(group("g", "helper", "operator"),))
    assert lifted(identities=both) == [(False, "held by group g")]


def test_a_guard_that_is_lifted_if_somebody_logs_in_so_is_not_called_checked():
    some = Identities((entity("helper", mount="jwt"),))
    assert lifted(CI, identities=some) == [
        (True, "perhaps held by jwt role jwt/ci, if e logs in through it")
    ]
    external = Identities(groups=(group("g", "helper", mount="jwt"),))
    assert lifted(CI, identities=external) == [
        (True, "perhaps held by jwt role jwt/ci, if groups of jwt come with it")
    ]
    assert lifted(ANA, identities=external) == []
    by_entity = replace(external, entities=(entity("operator", mount="jwt"),))
    assert lifted(identities=by_entity) == [
        (True, "perhaps held by entity e, if groups of jwt come with it")
    ]
    ldap = Login("ldap user", "ldap/ana", ("operator",))
    assert lifted(ldap, Login("ldap group", "ldap/helpers", ("helper",)))[0][0]


def test_what_is_perhaps_held_is_not_repeated_for_what_one_part_lifts_alone():
    both = Identities((entity("helper", "operator", mount="jwt"),))
    assert lifted(CI, identities=both) == [(False, "held by entity e")]


def test_who_holds_what_is_unchecked_where_it_could_not_be_read():
    entities = NotRead("identity/entity/name", ("list",))
    role_id = NotRead("auth/approle/role/+/role-id", ("read",))
    assert lifted(ANA, not_read=(entities,)) == [(True, entities.policy_line)]
    assert lifted(ANA, left_out=3)[0][0]
    app = Login("approle role", "approle/app", ("operator",))
    some = Identities((entity("helper", mount="approle"),))
    assert (True, role_id.policy_line) in lifted(app, aliases={app: role_id}, identities=some)
    none = Identities((entity("other", mount="approle"),))
    assert lifted(app, aliases={app: role_id}, identities=none) == []
    for tokens in (NO_AUDIT, Tokens((), 7)):
        (finding,) = found(facts(policies=TWO, tokens=tokens), "lifted-guards")
        assert (finding.unchecked, finding.grade) == (True, Severity.HIGH)
        assert found(facts(policies={"operator": GUARDED}, tokens=tokens), "lifted-guards") == []


@pytest.mark.parametrize("path", LIFTS[1:])
def test_a_more_exact_path_of_the_same_policy_is_critical_whoever_has_it(path):
    text = f'{GUARDED} path "{path}" {{ capabilities = ["delete"] }}'
    finding = one(facts(policies={"operator": text}), "lifted-guards")
    assert finding[:2] == ("critical", "operator")


@pytest.mark.parametrize(
    "rule",
    [
        '"skyflow/*" { capabilities = ["update"] }',
        '"skyflow/+/roles/writer" { capabilities = ["update"] }',
        '"skyflow/order/roles/writer" { capabilities = ["read"] }',
        '"skyflow/order/roles/writer" { capabilities = ["deny"] }',
        '"skyflow/pay/roles/writer" { capabilities = ["update"] }',
    ],
)
def test_what_the_server_does_not_prefer_lifts_no_guard(rule):
    texts = {"operator": GUARDED, "helper": f"path {rule}"}
    given = facts(policies=texts, logins=held_by("operator", "helper"))
    assert found(given, "lifted-guards") == []


# The manifest and the log ----------------------------------------------------------------


def test_what_the_manifest_does_not_declare_and_what_is_missing():
    given = facts(
        mount("order", "writer", "stray"),
        mount("legacy"),
        mount("theirs", mount=live_mount("skyflow/theirs", options={"manifest": "other"})),
        manifest=manifest(declared("order", "writer", "reader"), declared("payment")),
    )
    assert {(one.grade.value, one.subject.name) for one in found(given, "undeclared")} == {
        ("medium", "skyflow/legacy"),
        ("medium", "skyflow/order/creds/stray"),
        ("low", "skyflow/order/creds/reader"),
        ("low", "skyflow/payment"),
    }
    told = [one for one in run_checks(given).findings if one.grade is Severity.INFO]
    assert "skyflow/theirs" in [one.subject.name for one in told]


def test_roles_that_were_not_read_are_not_called_missing():
    unread = mount("order", not_read=(NotRead("skyflow/order/roles", ("list",)),))
    given = facts(unread, manifest=manifest(declared("order", "writer")))
    assert found(given, "undeclared") == []


def test_roles_that_nobody_uses():
    given = facts(mount("order", "writer", "reader"), exercised=used("reader"))
    assert one(given, "unused-roles")[:2] == ("low", f"{CREDS}/writer")


def test_a_short_log_calls_no_role_unused():
    given = facts(mount("order", "writer", "reader"), exercised=used(days=0.2))
    (finding,) = [one for one in run_checks(given).findings if one.check == "unused-roles"]
    assert finding.grade is Severity.INFO
    assert "covers only 4 hours: 2 roles" in finding.summary


# What may not be read --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "checks"),
    [
        ({"audit_devices": NO_AUDIT}, {"audit-devices", "audit-raw"}),
        ({"audited_headers": NO_AUDIT}, {"audited-headers"}),
        ({"catalog": NO_AUDIT}, {"engine-digest"}),
        ({"nodes": NO_AUDIT}, {"engine-digest"}),
        ({"tokens": NO_AUDIT}, {"root-tokens"}),
        (
            {"policies": NO_AUDIT},
            {
                "creds-readers",
                "shared-tokens",
                "creds-wildcards",
                "guarded-keys",
                "least-policies",
                "lifted-guards",
            },
        ),
        ({"logins": ServerLogins((), (NO_AUDIT,), 0)}, {"creds-readers", "shared-tokens"}),
        ({"logins": ServerLogins((), (), 7)}, {"creds-readers", "shared-tokens"}),
        ({"server": replace(facts().server, listeners=NO_AUDIT)}, {"tls"}),
        ({"server": replace(facts().server, certificates=(NO_AUDIT,))}, {"tls"}),
    ],
)
def test_what_may_not_be_read_is_a_finding_and_no_check_that_went_well(part, checks):
    report = run_checks(facts(**part))
    unread = {one.check for one in report.findings if one.unchecked}
    assert unread == checks
    results = {one.check.id: one.result for one in report.checks}
    assert {results[check] for check in checks} == {CheckStatus.NOT_CHECKED}


@pytest.mark.parametrize(
    ("part", "core"),
    [
        ({"mounts": NO_AUDIT}, True),
        ({"mounts": (mount("order", config=None, not_read=(NO_AUDIT,)),)}, True),
        ({"audit_devices": NO_AUDIT}, True),
        ({"policies": NO_AUDIT}, True),
        ({"catalog": NO_AUDIT}, True),
        ({"nodes": (NodeFacts("https://n2", asked=False),)}, False),
        ({"audited_headers": NO_AUDIT}, False),
        ({"tokens": NO_AUDIT}, False),
        ({"logins": ServerLogins((), (NO_AUDIT,), 0)}, False),
    ],
)
def test_a_core_part_that_was_not_read_counts_whatever_the_limit(part, core):
    report = run_checks(facts(**part))
    grades = {one.grade for one in report.findings if one.unchecked}
    assert grades == {Severity.HIGH if core else Severity.LOW}
    assert bool(report.failing(Severity.CRITICAL)) is core
    assert report.failing(Severity.LOW)
    assert not report.failing(Severity.LOW, allow_unchecked=True)
    assert report.not_made() >= 1


def test_what_was_found_counts_also_in_a_partial_look():
    report = run_checks(facts(audit_devices=(), policies=NO_AUDIT))
    (only,) = report.failing(Severity.CRITICAL, allow_unchecked=True)
    assert only.check == "audit-devices"
    assert run_checks(facts()).not_made() == 0


def test_the_policy_line_that_is_needed_is_the_fix():
    (finding,) = found(facts(audit_devices=NO_AUDIT), "audit-devices")
    assert finding.fix == 'path "sys/audit" { capabilities = ["read", "sudo"] }'
    assert finding.fix in finding.summary


@pytest.mark.parametrize(
    "unread",
    [
        {"mounts": NotRead("sys/mounts", ("read",))},
        {"mounts": (mount("order", config=None, not_read=(NO_AUDIT,)),)},
    ],
)
def test_mounts_that_were_not_read_make_no_check_of_mounts_go_well(unread):
    report = run_checks(facts(**unread))
    of_mounts = [one for one in report.checks if one.check.of_mounts]
    assert CheckStatus.OK not in {one.result for one in of_mounts}
    assert [one.check for one in report.findings if one.unchecked] == ["mounts"]


def test_the_worst_comes_first():
    given = facts(
        mount("order", config=live_config("o", key_valid_before=ago(days=1))), audit_devices=()
    )
    grades = [one.grade.rank for one in run_checks(given).findings]
    assert grades == sorted(grades)
    assert grades[0] == 0
