"""What every transport's server answers to the typed calls, the in-process one included."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest
from support.emulator import running_emulator
from support.gateways import ROLE_IDS, Rig, identity, memory_rig, real_rig
from support.keys import credential_text
from support.plugin import copy_source

from skyflowctl.clock import parse_rfc3339
from skyflowctl.secret import Secret
from skyflowctl.vault import system_api
from skyflowctl.vault.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    NotMountedError,
    OutcomeUnknownError,
    PathInUseError,
    RedirectRefusedError,
    RevokedKeyError,
    TokenServiceFailedError,
    VaultError,
)
from skyflowctl.vault.health_states import health_state
from skyflowctl.vault.transport import Reply, Request, TransportWrapper

FIELDS = {
    "description": "Order orchestration",
    "options": {"managed_by": "skyflowctl", "manifest": "shop"},
    "passthrough_request_headers": ["Application-Source"],
    "audit_non_hmac_request_keys": ["ctx"],
    "audit_non_hmac_response_keys": ["expires_at", "key_id"],
}


@pytest.fixture(scope="module", params=["memory", "real"])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """One rig of each kind for a module; tests use mounts of their own."""
    if request.param == "memory":
        made = memory_rig()
        yield made
        made.gateway.close()
        return
    bao = request.getfixturevalue("bao")
    with running_emulator() as emulator:
        made = real_rig(bao, emulator, copy_source(tmp_path_factory.mktemp("src")))
        yield made
        made.gateway.close()


def test_a_mount_is_what_was_asked_for(rig: Rig):
    path = rig.mount(**FIELDS)
    live = rig.gateway.sys.mount(path)
    assert live == rig.gateway.sys.mounts()[path]
    assert (live.path, live.type, live.description) == (path, "skyflow", "Order orchestration")
    assert live.options == {"managed_by": "skyflowctl", "manifest": "shop"}
    assert live.passthrough_request_headers == ("Application-Source",)
    assert live.audit_non_hmac_request_keys == ("ctx",)
    assert set(live.audit_non_hmac_response_keys) == {"expires_at", "key_id"}
    assert live.running_plugin_version.startswith("v")


def test_a_free_path_takes_a_secret_and_its_probe_changes_nothing(rig: Rig):
    path = rig.configured("reader")
    before = rig.gateway.engine(path).config()
    rig.transport.refuse_guarded("POST", f"{path}/config")
    assert rig.gateway.engine(path).config() == before


def test_a_node_that_nobody_named_gets_no_token(rig: Rig):
    with pytest.raises(RedirectRefusedError):
        rig.transport.at_node("https://elsewhere:8200")


def test_a_transport_names_its_server(rig: Rig):
    server = rig.transport.server
    assert server.name.startswith(server.address)
    assert bool(server.addresses) is rig.real
    assert rig.transport.newest_index == "" or rig.real


def test_tune_changes_what_it_names_and_merges_options(rig: Rig):
    path = rig.mount(**FIELDS)
    live = rig.gateway.sys.tune_mount(
        path,
        {
            "description": "new",
            "options": {"manifest": "other", "managed_by": ""},
            "audit_non_hmac_request_keys": [],
        },
    )
    assert live.description == "new"
    assert live.options == {"manifest": "other"}
    assert live.audit_non_hmac_request_keys == ()
    assert live.passthrough_request_headers == ("Application-Source",)


def test_what_is_not_mounted_is_none(rig: Rig):
    assert rig.gateway.sys.mount("contract/none") is None
    path = rig.mount()
    rig.gateway.sys.disable_mount(path)
    assert rig.gateway.sys.mount(path) is None
    rig.gateway.sys.disable_mount(path)


def test_a_path_that_somebody_mounted_alike_meanwhile_is_done(rig: Rig):
    path = rig.mount(description="ours", options={"manifest": "shop"})
    wanted = {"type": rig.plugin, "description": "ours", "options": {"manifest": "shop"}}
    assert rig.gateway.sys.enable_mount(path, wanted) == rig.gateway.sys.mount(path)


def test_a_path_in_use_and_an_unknown_type_are_refused(rig: Rig):
    path = rig.mount()
    for taken in (path, f"{path}/below"):
        with pytest.raises(PathInUseError) as caught:
            rig.gateway.sys.enable_mount(taken, {"type": rig.plugin, "description": "other"})
        assert caught.value.says("path is already in use")
    with pytest.raises(BadRequestError) as caught:
        rig.gateway.sys.enable_mount("contract/other", {"type": "nope"})
    assert caught.value.says("plugin not found in the catalog")


def test_a_mount_is_moved_with_all_it_stores(rig: Rig):
    path, new = rig.configured("reader"), f"contract/moved-{secrets.token_hex(4)}"
    rig.gateway.sys.tune_mount(path, {"description": "d", "options": {"manifest": "shop"}})
    mount, config = rig.gateway.sys.mount(path), rig.gateway.engine(path).config()
    roles, history = rig.gateway.engine(path).roles(), rig.gateway.engine(path).history()
    for _ in range(2):  # a second run finds it moved
        rig.gateway.sys.move_mount(path, new)
        assert rig.gateway.sys.mount(path) is None
        assert rig.gateway.sys.mount(new) == replace(mount, path=new)
    assert rig.gateway.engine(new).config() == config
    assert rig.gateway.engine(new).roles() == roles
    assert rig.gateway.engine(new).history() == history
    assert rig.gateway.engine(new).health(refresh=True).state == "ok"
    assert rig.gateway.engine(new).creds("reader").key_id == config.key_id
    with pytest.raises(NotMountedError):
        rig.gateway.engine(path).creds("reader")


def test_a_move_to_a_path_in_use_or_of_nothing_is_refused(rig: Rig):
    path, other = rig.mount(), rig.mount()
    for taken in (other, f"{other}/below", f"{path}/below", "contract"):
        with pytest.raises(PathInUseError) as caught:
            rig.gateway.sys.move_mount(path, taken)
        assert caught.value.says("path already in use")
    with pytest.raises(BadRequestError) as caught:
        rig.gateway.sys.move_mount(path, "sys/below")
    assert caught.value.says("cannot remount to destination")
    with pytest.raises(BadRequestError) as caught:
        rig.gateway.sys.move_mount("contract/none", f"contract/{secrets.token_hex(4)}")
    assert caught.value.says("no matching mount")
    assert rig.gateway.sys.mount(path) is not None


class LosesReplies(TransportWrapper):
    """Sends every move, or drops it, and loses the first replies to moves."""

    def __init__(self, inner, *, arrive: bool, lost: int = 1) -> None:
        super().__init__(inner)
        self.arrive, self.lost, self.sent = arrive, lost, 0

    def send(self, request: Request) -> Reply:
        if request.path != "sys/remount":
            return super().send(request)
        self.sent += 1
        if self.sent > self.lost:
            return super().send(request)
        if self.arrive:
            super().send(request)
        raise OutcomeUnknownError("lost")


@pytest.mark.parametrize("arrive", [True, False])
def test_a_lost_reply_to_a_move_is_settled_by_reading(rig: Rig, monkeypatch, arrive):
    monkeypatch.setattr(system_api, "_SETTLED_SECONDS", 0.3)
    path, new = rig.mount(), f"contract/moved-{secrets.token_hex(4)}"
    loses = LosesReplies(rig.transport, arrive=arrive)
    system_api.SystemApi(loses).move_mount(path, new)
    assert loses.sent == (1 if arrive else 2)
    assert rig.gateway.sys.mount(path) is None
    assert rig.gateway.sys.mount(new) is not None


def test_a_move_of_which_nothing_is_known_is_no_success(rig: Rig, monkeypatch):
    monkeypatch.setattr(system_api, "_SETTLED_SECONDS", 0.1)
    path, new = rig.mount(), f"contract/moved-{secrets.token_hex(4)}"
    with pytest.raises(OutcomeUnknownError):
        system_api.SystemApi(LosesReplies(rig.transport, arrive=False, lost=9)).move_mount(
            path, new
        )
    assert rig.gateway.sys.mount(path) is not None


class Tells(TransportWrapper):
    """Answers a question for the status of a move: a status, or an error."""

    def __init__(self, inner, answer) -> None:
        super().__init__(inner)
        self.answer = answer

    def send(self, request: Request) -> Reply:
        if not request.path.startswith("sys/remount/status/"):
            return super().send(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return Reply(200, data={"migration_info": {"status": self.answer}})


@pytest.mark.parametrize("error", [ForbiddenError("no"), NotFoundError("another node")])
def test_a_status_that_may_not_be_read_is_found_by_reading_both_paths(rig: Rig, error):
    path, new = rig.mount(), f"contract/moved-{secrets.token_hex(4)}"
    system_api.SystemApi(Tells(rig.transport, error)).move_mount(path, new)
    assert rig.gateway.sys.mount(new) is not None


@pytest.mark.parametrize("status", ["failure", "in-progress"])
def test_a_move_that_fails_or_does_not_end_is_an_error(rig: Rig, monkeypatch, status):
    monkeypatch.setattr(system_api, "_MOVED_SECONDS", 0.1)
    path, new = rig.mount(), f"contract/moved-{secrets.token_hex(4)}"
    with pytest.raises(VaultError) as caught:
        system_api.SystemApi(Tells(rig.transport, status)).move_mount(path, new)
    assert caught.value.problems[0].code == "move-unfinished"
    assert f"status is {status}" in caught.value.problems[0].summary


def test_a_new_mount_is_unconfigured_and_empty(rig: Rig):
    path = rig.mount()
    config = rig.gateway.engine(path).config()
    assert (config.configured, config.version, config.key_id) == (False, 0, "")
    assert rig.gateway.engine(path).roles() == {}
    assert rig.gateway.engine(path).role("none") is None
    assert rig.gateway.engine(path).health().state == "unconfigured"
    with pytest.raises(BadRequestError) as caught:
        rig.gateway.engine(path).creds("none")
    assert health_state(caught.value) in {"unconfigured", "unreachable"}


def test_config_and_credential_versions(rig: Rig):
    path = rig.configured("reader")
    first = rig.gateway.engine(path).config()
    assert (first.configured, first.version, first.credential_version) == (True, 1, 1)
    written = rig.gateway.engine(path).write_config({"description": "d", "tags": ["a:b"]}, cas=1)
    assert (written["version"], written["credential_version"]) == (2, 1)
    live = rig.gateway.engine(path).config()
    assert (live.description, live.tags, live.key_id) == ("d", ("a:b",), first.key_id)
    replacement = rig.new_credential()
    assert (
        rig.gateway.engine(path).write_config({"credentials_json": replacement}, cas=2)["version"]
        == 3
    )
    assert (
        rig.gateway.engine(path).config().client_id,
        rig.gateway.engine(path).config().key_id,
    ) == (identity(replacement))


def test_a_lost_check_is_ours_only_when_the_live_state_is_what_we_sent(rig: Rig):
    path = rig.configured("reader")
    rig.gateway.engine(path).write_config({"description": "mine"}, cas=1)
    assert rig.gateway.engine(path).write_config({"description": "mine"}, cas=1)["version"] == 2
    with pytest.raises(ConflictError):
        rig.gateway.engine(path).write_config({"description": "other"}, cas=1)
    rig.gateway.engine(path).write_role("reader", {"description": "mine"}, cas=1)
    assert (
        rig.gateway.engine(path).write_role("reader", {"description": "mine"}, cas=1)["version"]
        == 2
    )
    with pytest.raises(ConflictError):
        rig.gateway.engine(path).write_role("reader", {"description": "other"}, cas=1)
    credential = rig.new_credential()
    rig.gateway.engine(path).write_config({"credentials_json": credential}, cas=2)
    rig.gateway.engine(path).write_config({"credentials_json": credential}, cas=2)
    with pytest.raises(ConflictError):
        rig.gateway.engine(path).write_config({"credentials_json": rig.new_credential()}, cas=2)


def test_roles_come_and_go(rig: Rig):
    path = rig.mount()
    fields = {
        "role_ids": [ROLE_IDS[1]],
        "description": "writer",
        "tags": ["t:1"],
        "ctx_pattern": "order:*",
        "ctx_probe": "order:probe",
    }
    rig.gateway.engine(path).write_role("writer", fields, cas=0)
    role = rig.gateway.engine(path).role("writer")
    assert rig.gateway.engine(path).roles() == {"writer": role}
    assert (role.role_ids, role.tags, role.version) == ((ROLE_IDS[1],), ("t:1",), 1)
    assert (role.ctx_required, role.ctx_pattern, role.ctx_probe) == (
        True,
        "order:*",
        "order:probe",
    )
    rig.gateway.engine(path).delete_role("writer")
    rig.gateway.engine(path).delete_role("writer")
    assert rig.gateway.engine(path).roles() == {}


def test_tokens_with_each_form_of_ctx(rig: Rig):
    path = rig.configured("reader")
    for ctx in (None, "order:1", {"order": "1", "rush": True}):
        creds = rig.gateway.engine(path).creds("reader", ctx)
        assert creds.access_token.reveal().count(".") == 2
        assert creds.key_id == rig.gateway.engine(path).config().key_id
        assert 0 < creds.ttl <= 3600
        assert creds.request_id
        assert creds.access_token.reveal() not in repr(creds)


def test_a_wrapped_token_comes_out_once(rig: Rig):
    path = rig.configured("reader")
    wrapped = rig.gateway.engine(path).wrapped_creds("reader", None, "2m")
    assert (wrapped.ttl, wrapped.creation_path) == (120, f"{path}/creds/reader")

    def unwrap() -> Reply:
        body = {"token": wrapped.token}
        return rig.transport.send(Request("POST", "sys/wrapping/unwrap", body=body))

    assert unwrap().data["access_token"].count(".") == 2
    with pytest.raises(BadRequestError):
        unwrap()


def test_a_broken_ctx_rule_is_said_and_not_echoed(rig: Rig):
    path = rig.configured("reader")
    rig.gateway.engine(path).write_role(
        "reader", {"ctx_pattern": "order:*", "ctx_probe": "order:p"}
    )
    with pytest.raises(BadRequestError) as caught:
        rig.gateway.engine(path).creds("reader", "wrong-ctx-value")
    problem = caught.value.problems[0]
    assert "400" in problem.why
    assert "wrong-ctx-value" not in str(problem)
    with pytest.raises(BadRequestError):
        rig.gateway.engine(path).creds("unknown-role")


def test_verify_proves_each_role_and_a_candidate(rig: Rig):
    path = rig.configured("one", "two")
    report = rig.gateway.engine(path).verify()
    assert set(report.roles) == {"one", "two"}
    assert report.ok
    assert report.key_id == rig.gateway.engine(path).config().key_id
    candidate = rig.new_credential()
    assert (
        rig.gateway.engine(path).verify({"credentials_json": candidate}).key_id
        == identity(candidate)[1]
    )
    assert rig.gateway.engine(path).config().version == 1


def test_a_credential_that_does_not_mint_is_refused_and_health_says_so(rig: Rig):
    path = rig.configured("reader")
    rig.gateway.engine(path).write_role("reader", {"role_ids": ["r-unassigned"]})
    health = rig.gateway.engine(path).health(refresh=True)
    assert (health.healthy, health.state, health.reachable) == (False, "refused", True)
    with pytest.raises(TokenServiceFailedError) as caught:
        rig.gateway.engine(path).creds("reader")
    assert caught.value.refused
    assert health_state(caught.value) == "refused"


def test_a_healthy_mount(rig: Rig):
    path = rig.configured("reader")
    health = rig.gateway.engine(path).health()
    assert (health.state, health.reachable) == ("ok", True)
    assert health.latency_ms is not None


def test_a_malformed_credential_is_a_bad_request_without_its_text(rig: Rig):
    path = rig.mount()
    text = credential_text(tokenURI="https://evil.example.com/v1/auth/sa/oauth/token")
    with pytest.raises(BadRequestError) as caught:
        rig.gateway.engine(path).write_config({"credentials_json": Secret(text)})
    assert "PRIVATE KEY" not in str(caught.value.problems)
    assert not rig.gateway.engine(path).config().configured


def test_history_is_read_or_none(rig: Rig):
    path = rig.configured("reader")
    history = rig.gateway.engine(path).history()
    live = rig.gateway.engine(path).config()
    assert set(history) == {1}
    entry = history[1]
    assert (entry.client_id, entry.key_id) == (live.client_id, live.key_id)
    assert (entry.credential_version, entry.description, entry.kept) == (1, "", True)
    assert parse_rfc3339(entry.written_at) == live.credential_updated
    kv = f"{path}-kv"
    rig.gateway.sys.enable_mount(kv, {"type": "kv"})
    assert not rig.gateway.engine(kv).history()
    rig.gateway.sys.disable_mount(kv)


def rotated(rig: Rig) -> tuple[str, str, str]:
    """A mount whose rotation rot-1 has written its credential; the old and the new key."""
    path = rig.configured("reader")
    old, new = rig.gateway.engine(path).config().key_id, rig.new_credential()
    rig.gateway.engine(path).write_config({"rotation_id": "rot-1", "rotation_keys": [old]}, cas=1)
    fields = {"rotation_id": "rot-1", "credentials_json": new}
    rig.gateway.engine(path).write_config(fields, cas=2)
    # A lost check is the rotation's own success.
    assert rig.gateway.engine(path).write_config(fields, cas=2)["version"] == 3
    return path, old, identity(new)[1]


def test_a_rotation_is_committed_and_retired(rig: Rig):
    path, old, new = rotated(rig)
    opened = rig.gateway.engine(path).config().rotation
    assert (opened.id, opened.from_key, opened.to_key, opened.keys) == ("rot-1", old, new, (old,))
    assert (opened.state, opened.cut_over_at) == ("open", None)
    done = rig.gateway.engine(path).commit("rot-1")
    assert done == rig.gateway.engine(path).commit("rot-1")
    assert done == rig.gateway.engine(path).config().rotation
    assert done.state == "committed"
    assert done.cut_over_at < done.old_tokens_valid_until
    for _ in range(2):
        rig.gateway.engine(path).delete_kept_credential(1)
    assert rig.gateway.engine(path).config().rotation.state == "retired"
    history = rig.gateway.engine(path).history()
    assert {number: one.kept for number, one in history.items()} == {1: False, 2: True}
    with pytest.raises(ConflictError) as caught:
        rig.gateway.engine(path).rollback(cas_credential_version=2)
    assert caught.value.says("destroyed")


def test_a_rotation_of_somebody_else_is_a_conflict(rig: Rig):
    path, _, _ = rotated(rig)
    with pytest.raises(ConflictError):
        rig.gateway.engine(path).commit("rot-2")
    with pytest.raises(ConflictError):
        rig.gateway.engine(path).write_config({"rotation_id": "rot-2"}, cas=3)
    for version in (1, 2):
        with pytest.raises(ConflictError):
            rig.gateway.engine(path).delete_kept_credential(version)
    with pytest.raises(BadRequestError):
        rig.gateway.engine(path).delete_kept_credential(9)


def test_a_rollback_goes_back_once(rig: Rig):
    path, old, new = rotated(rig)
    with pytest.raises(ConflictError):
        rig.gateway.engine(path).rollback(cas_credential_version=1)
    first = rig.gateway.engine(path).rollback(cas_credential_version=2)
    assert (first.credential_version, first.key_id, first.warnings) == (3, old, ())
    assert first.old_tokens_valid_until
    # Sent again after a lost reply: what it was to do is live.
    again = rig.gateway.engine(path).rollback(cas_credential_version=2)
    assert (again.credential_version, again.key_id) == (3, old)
    named = rig.gateway.engine(path).rollback(cas_credential_version=2, credential_version=1)
    assert named == again
    assert rig.gateway.engine(path).creds("reader").key_id == old
    assert rig.gateway.engine(path).config().rotation.to_key == new
    with pytest.raises(ConflictError):
        rig.gateway.engine(path).rollback(cas_credential_version=2, credential_version=2)


def test_a_cut_off_says_since_when_by_whom_and_why(rig: Rig):
    path, old, new = rotated(rig)
    first = rig.gateway.engine(path).cut_off("INC-1042: key in a log, umlaut \u00e4", "run-7")
    config = rig.gateway.engine(path).config()
    found = config.revoked
    assert not config.configured
    assert found is not None
    assert (found.reason, found.run, found.key_id) == (
        "INC-1042: key in a log, umlaut \u00e4",
        "run-7",
        new,
    )
    assert found.by == ("token" if rig.real else "root")
    assert parse_rfc3339(found.at) == config.credential_updated
    # Sent again, also with other words: the first cut-off is the one.
    assert rig.gateway.engine(path).cut_off("another", "run-8") == first
    assert first.words_kept
    assert first.tokens_valid_until > found.at
    assert rig.gateway.engine(path).config().revoked == found
    history = rig.gateway.engine(path).history()
    assert {one.key_id: one.revoked for one in history.values()} == {old: found, new: found}


def test_a_revoked_key_is_not_written_back_unless_it_is_named(rig: Rig):
    path = rig.mount()
    first, second = rig.new_credential(), rig.new_credential()
    rig.gateway.engine(path).write_role("reader", {"role_ids": [ROLE_IDS[0]]})
    rig.gateway.engine(path).write_config({"credentials_json": first}, cas=0)
    rig.gateway.engine(path).cut_off("INC-1", "run-1")
    for fields in ({}, {"allow_revoked_key": identity(second)[1]}, {"validate_credentials": False}):
        with pytest.raises(RevokedKeyError):
            rig.gateway.engine(path).write_config({"credentials_json": first, **fields})
    assert not rig.gateway.engine(path).config().configured
    # A new key is the way out, and ends the mark; the old key stays revoked.
    rig.gateway.engine(path).write_config({"credentials_json": second}, cas=0)
    assert rig.gateway.engine(path).config().revoked is None
    with pytest.raises(RevokedKeyError):
        rig.gateway.engine(path).write_config({"credentials_json": first})
    rig.gateway.engine(path).cut_off("INC-2", "run-2")
    allowed = {"credentials_json": first, "allow_revoked_key": identity(first)[1]}
    rig.gateway.engine(path).write_config(allowed)
    assert rig.gateway.engine(path).config().key_id == identity(first)[1]
    # It is live by permission now: the same content again is no question.
    rig.gateway.engine(path).write_config({"credentials_json": first, "description": "again"})
    third = rig.new_credential()
    rig.gateway.engine(path).write_config({"credentials_json": third})
    live = rig.gateway.engine(path).config().credential_version
    with pytest.raises(RevokedKeyError):
        rig.gateway.engine(path).rollback(cas_credential_version=live)
    back = rig.gateway.engine(path).rollback(
        cas_credential_version=live, allow_revoked_key=identity(first)[1]
    )
    assert back.key_id == identity(first)[1]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_live_state_costs_two_requests_and_two_for_each_mount(rig: Rig, count: int):
    paths = [rig.configured("a", "b", "c") for _ in range(count)]
    foreign = f"contract/kv{count}"
    rig.gateway.sys.enable_mount(foreign, {"type": "kv"})
    before = rig.gateway.requests_made
    state = rig.gateway.read_live_state([*paths, "contract/none", foreign], rig.plugin)
    assert rig.gateway.requests_made - before == 2 + 2 * count
    assert set(state.engines) == set(paths)
    assert not state.problems
    for path in paths:
        assert set(state.engines[path].roles) == {"a", "b", "c"}
        assert state.engines[path].config == rig.gateway.engine(path).config()
        assert state.engines[path].roles == rig.gateway.engine(path).roles()
    rig.gateway.sys.disable_mount(foreign)


def test_history_is_asked_only_where_it_is_wanted(rig: Rig):
    paths = [rig.configured("a") for _ in range(2)]
    state = rig.gateway.read_live_state(paths, rig.plugin)
    before = rig.gateway.requests_made
    more = rig.gateway.with_history(state, paths[:1])
    assert rig.gateway.requests_made - before == 1
    assert more.engines[paths[1]] == state.engines[paths[1]]


def test_audited_headers(rig: Rig):
    rig.gateway.sys.put_audited_header("X-Contract-Run", hmac=False)
    rig.gateway.sys.put_audited_header("X-Contract-Source", hmac=True)
    headers = rig.gateway.sys.audited_headers()
    assert headers["x-contract-run"] is False
    assert headers["x-contract-source"] is True
    assert rig.gateway.read_live_state([], rig.plugin).audited_headers == headers


def test_nothing_is_served_where_nothing_is_mounted(rig: Rig):
    with pytest.raises(NotMountedError) as caught:
        rig.gateway.engine("contract/nowhere").health()
    assert health_state(caught.value) == "not_mounted"


def test_the_server_says_who_it_is(rig: Rig):
    health = rig.gateway.sys.health()
    assert health.initialized
    assert not health.sealed
    assert rig.gateway.sys.cluster_id() == health.cluster_id != ""
    assert rig.gateway.sys.capabilities(["a/b", "c"]) == {"a/b": ("root",), "c": ("root",)}


def test_the_catalog(rig: Rig):
    catalog = rig.gateway.sys.catalog
    entry = next(entry for entry in catalog.list() if entry.name == rig.plugin)
    assert not entry.builtin
    assert catalog.read(rig.plugin, entry.version).command == rig.plugin
    assert catalog.read("nope", "v1.0.0") is None
    catalog.register(
        "other", sha256="a" * 64, command=rig.plugin, version="v0.1.0", args=["--shared"]
    )
    assert catalog.read("other", "v0.1.0").args == ("--shared",)
    assert catalog.delete("other", "v0.1.0")
    assert catalog.read("other", "v0.1.0") is None
