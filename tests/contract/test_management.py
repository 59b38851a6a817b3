"""The Management API: our client against the emulator, over TLS on a real socket."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime

import pytest
from support.emulator import Caller, RunningEmulator
from support.faulty_emulator import Fault, FaultKind, FaultTarget

from skyflowctl.errors import (
    ExitCode,
    InvalidInputError,
    NotPermittedError,
    RefusedError,
    UnreachableError,
    UsageError,
)
from skyflowctl.retry import Backoff
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.keys import public_pem, read_private_key
from skyflowctl.skyflow.management import client as management_client
from skyflowctl.skyflow.management.api import MANAGEMENT_HOSTS, ManagementApi, host_for
from skyflowctl.skyflow.service_account import parse_service_account

OPERATOR = Secret("opaque-0123456789abcdef")


@pytest.fixture
def account(emulator):
    """A service account of its own with one key: its credentials as a mapping."""
    return json.loads(emulator.new_account("role-read"))


@pytest.fixture
def client_id(account):
    return account["clientID"]


@pytest.fixture
def api(emulator):
    return emulator.management()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(management_client, "_BACKOFF", Backoff(0.01, 0.08))


def ids(api, client_id):
    return [key.key_id for key in api.list_keys(client_id)]


def calls(emulator: RunningEmulator, client_id: str) -> list[tuple[str, int, bool]]:
    log = emulator.control.management_log()
    mine = [one for one in log if one["client_id"] == client_id]
    return [(one["operation"], one["status"], one["applied"]) for one in mine]


def fault(emulator, client_id, target, kind=FaultKind.STATUS, **options):
    emulator.control.add_fault(Fault(kind, client_id=client_id, target=target, **options))


def problem(caught):
    """The one problem of an error; it has three lines and shows no token."""
    (found,) = caught.value.problems
    assert found.summary
    assert found.why
    assert found.fix
    assert "opaque-" not in f"{found} {caught.value!r} {caught.value.__context__!r}"
    return found


class TestKeys:
    def test_a_created_key_is_a_credential_that_mints(self, emulator, api, client_id):
        text = api.create_key(client_id).reveal()
        found, warnings = parse_service_account(
            text, allowed_hosts=frozenset({emulator.host}), now=datetime.now(UTC)
        )
        assert (found.client_id, warnings) == (client_id, ())
        with Caller(emulator) as caller:
            assert caller.mint(text, "role:role-read")[0] == 200

    def test_its_fields_are_those_of_the_public_document(self, api, client_id):
        fields = json.loads(api.create_key(client_id).reveal())
        assert set(fields) == {
            "clientID",
            "clientName",
            "tokenURI",
            "keyID",
            "privateKey",
            "keyValidAfterTime",
            "keyValidBeforeTime",
            "keyAlgorithm",
        }

    def test_listed_keys_have_their_validity(self, api, account, client_id):
        new = json.loads(api.create_key(client_id).reveal())
        first, second = api.list_keys(client_id)
        assert [first.key_id, second.key_id] == [account["keyID"], new["keyID"]]
        assert second.algorithm == "KEY_ALG_RSA_2048"
        assert second.valid_after == new["keyValidAfterTime"]
        assert second.valid_before == new["keyValidBeforeTime"]

    def test_a_deleted_key_mints_no_more_and_can_be_deleted_again(
        self, emulator, api, account, client_id
    ):
        new = json.loads(api.create_key(client_id).reveal())
        api.delete_key(client_id, account["keyID"])
        api.delete_key(client_id, account["keyID"])
        assert ids(api, client_id) == [new["keyID"]]
        with Caller(emulator) as caller:
            assert caller.mint(json.dumps(account))[0] == 401
            assert caller.mint(json.dumps(new))[0] == 200

    def test_an_account_without_keys_lists_none(self, api, account, client_id):
        api.delete_key(client_id, account["keyID"])
        assert api.list_keys(client_id) == ()

    def test_the_log_proves_what_was_done_when(self, emulator, api, account, client_id):
        started = datetime.now(UTC)
        new = json.loads(api.create_key(client_id).reveal())
        api.delete_key(client_id, account["keyID"])
        log = [one for one in emulator.control.management_log() if one["client_id"] == client_id]
        assert [(one["operation"], one["key_id"]) for one in log] == [
            ("create_key", new["keyID"]),
            ("delete_key", account["keyID"]),
        ]
        assert all(one["applied"] and one["status"] == 200 for one in log)
        times = [datetime.fromisoformat(one["time"]) for one in log]
        assert times == sorted(times)
        assert (times[0] - started).total_seconds() > -0.01
        assert "PRIVATE" not in json.dumps(log)


class TestRefusals:
    def test_a_wrong_token_is_not_permitted(self, emulator, client_id):
        for call in _calls_of(emulator.management(OPERATOR), client_id):
            with pytest.raises(NotPermittedError) as caught:
                call()
            assert problem(caught).code == "operator-token-refused"
            assert "401" in problem(caught).why
        assert {status for _, status, _ in calls(emulator, client_id)} == {401}

    def test_a_wrong_account_is_not_permitted(self, emulator, client_id):
        for call in _calls_of(emulator.management(account_id="another"), client_id):
            with pytest.raises(NotPermittedError) as caught:
                call()
            assert problem(caught).code == "operator-not-permitted"

    def test_an_unknown_account_is_said_also_when_a_key_is_deleted(self, api):
        for call in _calls_of(api, "nobody"):
            with pytest.raises(RefusedError) as caught:
                call()
            assert problem(caught).code == "unknown-service-account"
            assert "request " in problem(caught).why

    @pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a?b", "a b", "a\r\nb", "ä"])
    def test_an_id_that_is_no_path_segment_is_not_sent(self, emulator, api, name):
        before = len(emulator.control.management_log())
        for call in (*_calls_of(api, name), lambda: api.delete_key("c", name)):
            with pytest.raises(InvalidInputError) as caught:
                call()
            assert problem(caught).code == "management-value"
        assert len(emulator.control.management_log()) == before

    @pytest.mark.parametrize("token", ["", " ", "opaque-a b", "opaque-a\r\nx: y", "opaque-ä"])
    def test_a_token_that_is_no_header_is_refused_unseen(self, token):
        with pytest.raises(InvalidInputError) as caught:
            ManagementApi("127.0.0.1:1", Secret(token), "acc")
        assert problem(caught)

    @pytest.mark.parametrize("account_id", ["", "a b", "a\nb"])
    def test_an_account_id_that_is_no_header_is_refused(self, account_id):
        with pytest.raises(InvalidInputError) as caught:
            ManagementApi("127.0.0.1:1", OPERATOR, account_id)
        assert problem(caught)

    def test_a_token_file_may_end_with_a_newline(self, emulator, client_id):
        token = Secret(f"{emulator.operator_token.reveal()}\n")
        assert emulator.management(token).list_keys(client_id)


def _calls_of(api, client_id):
    return (
        lambda: api.list_keys(client_id),
        lambda: api.create_key(client_id),
        lambda: api.delete_key(client_id, "some-key"),
    )


class TestFaults:
    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_listing_and_deleting_outlast_a_passing_fault(
        self, emulator, api, account, client_id, status
    ):
        for target in (FaultTarget.LIST_KEYS, FaultTarget.DELETE_KEY):
            fault(emulator, client_id, target, status=status, count=2)
        assert ids(api, client_id) == [account["keyID"]]
        api.delete_key(client_id, account["keyID"])
        assert ids(api, client_id) == []

    def test_a_lasting_fault_is_said(self, emulator, api, client_id):
        expected = {429: "management-busy", 500: "management-unreachable"}
        for status, code in expected.items():
            fault(emulator, client_id, FaultTarget.LIST_KEYS, status=status, count=4)
            with pytest.raises(UnreachableError) as caught:
                api.list_keys(client_id)
            assert problem(caught).code == code
            assert f"answered {status}: fault injected" in problem(caught).why
        assert len(calls(emulator, client_id)) == 8

    def test_the_wait_that_is_asked_for_is_kept_or_not_begun(self, emulator, api, client_id):
        short, long = {"retry-after": "1"}, {"retry-after": "900"}
        fault(emulator, client_id, FaultTarget.LIST_KEYS, status=429, headers=short)
        started = time.monotonic()
        assert api.list_keys(client_id)
        assert time.monotonic() - started >= 1
        fault(emulator, client_id, FaultTarget.LIST_KEYS, status=429, headers=long)
        with pytest.raises(UnreachableError):
            api.list_keys(client_id)

    @pytest.mark.parametrize("applied", [True, False])
    @pytest.mark.parametrize("kind", [FaultKind.RESET, FaultKind.STATUS])
    def test_a_deletion_whose_answer_is_lost_is_finished(
        self, emulator, api, account, client_id, kind, applied
    ):
        fault(emulator, client_id, FaultTarget.DELETE_KEY, kind, applied=applied)
        api.delete_key(client_id, account["keyID"])
        assert ids(api, client_id) == []

    @pytest.mark.parametrize("applied", [True, False])
    @pytest.mark.parametrize(
        "kind", [FaultKind.RESET, FaultKind.STATUS, FaultKind.EMPTY, FaultKind.HTML]
    )
    def test_a_creation_is_sent_once_and_its_doubt_is_said(
        self, emulator, api, account, client_id, kind, applied
    ):
        fault(emulator, client_id, FaultTarget.CREATE_KEY, kind, applied=applied)
        with pytest.raises(UnreachableError) as caught:
            api.create_key(client_id)
        assert problem(caught).code == "key-may-exist"
        assert "may have been created" in problem(caught).summary
        assert "lists the account's keys" in problem(caught).fix
        assert [one[::2] for one in calls(emulator, client_id)] == [("create_key", applied)]
        assert len(ids(api, client_id)) == 1 + applied

    def test_a_creation_that_was_too_much_made_no_key(self, emulator, api, client_id):
        fault(emulator, client_id, FaultTarget.CREATE_KEY, status=429)
        with pytest.raises(UnreachableError) as caught:
            api.create_key(client_id)
        assert problem(caught).code == "management-busy"
        assert len(calls(emulator, client_id)) == 1

    @pytest.mark.parametrize("applied", [True, False])
    def test_a_creation_that_hangs_ends_in_doubt(self, emulator, client_id, applied):
        fault(emulator, client_id, FaultTarget.CREATE_KEY, FaultKind.HANG, applied=applied)
        with pytest.raises(UnreachableError) as caught:
            emulator.management(deadline=1.5).create_key(client_id)
        assert problem(caught).code == "key-may-exist"
        assert "within 1.5 s" in problem(caught).why

    def test_a_listing_that_hangs_is_tried_again(self, emulator, api, client_id, monkeypatch):
        monkeypatch.setattr(management_client, "_ATTEMPT_SECONDS", 0.5)
        fault(emulator, client_id, FaultTarget.LIST_KEYS, FaultKind.HANG)
        assert api.list_keys(client_id)

    def test_a_page_in_the_place_of_a_list_is_none(self, emulator, api, client_id):
        fault(emulator, client_id, FaultTarget.LIST_KEYS, FaultKind.HTML)
        with pytest.raises(UnreachableError) as caught:
            api.list_keys(client_id)
        assert "no list of keys" in problem(caught).why

    def test_a_deletion_that_a_portal_answers_is_not_believed(
        self, emulator, api, account, client_id
    ):
        fault(emulator, client_id, FaultTarget.DELETE_KEY, FaultKind.HTML)
        with pytest.raises(UnreachableError) as caught:
            api.delete_key(client_id, account["keyID"])
        assert "listed still" in problem(caught).why
        assert ids(api, client_id) == [account["keyID"]]

    def test_a_slow_answer_is_waited_for(self, emulator, api, client_id):
        fault(emulator, client_id, FaultTarget.MANAGEMENT, FaultKind.DELAY, seconds=0.3)
        fault(emulator, client_id, FaultTarget.MANAGEMENT, FaultKind.DRIP, seconds=0.001)
        assert ids(api, client_id) == ids(api, client_id)

    def test_faults_of_calls_and_of_exchanges_are_apart(self, emulator, api, account, client_id):
        fault(emulator, client_id, FaultTarget.EXCHANGE, status=500)
        assert api.list_keys(client_id)
        fault(emulator, client_id, FaultTarget.LIST_KEYS, FaultKind.HTML)
        with Caller(emulator) as caller:
            assert caller.mint(json.dumps(account))[0] == 500
            assert caller.mint(json.dumps(account))[0] == 200
        with pytest.raises(UnreachableError):
            api.list_keys(client_id)

    def test_a_redirect_is_refused_and_never_followed(self, emulator, api, client_id):
        where = {"location": "https://elsewhere.invalid/v1"}
        for call in _calls_of(api, client_id):
            fault(emulator, client_id, FaultTarget.MANAGEMENT, status=307, headers=where)
            with pytest.raises(UnreachableError) as caught:
                call()
            assert problem(caught).code == "management-unreachable"
            assert "redirects to elsewhere.invalid" in problem(caught).why


class TestNewKeys:
    def test_a_new_key_takes_its_time_to_be_known(self, emulator, api, client_id):
        emulator.control.set_management(key_delay=1.0)
        try:
            new = api.create_key(client_id).reveal()
        finally:
            emulator.control.set_management(key_delay=0.0)
        assert json.loads(new)["keyID"] in ids(api, client_id)
        with Caller(emulator) as caller:
            assert (
                caller.mint(new)[2]["error"]["message"] == "The key is not known, or was deleted."
            )
            deadline = time.monotonic() + 10
            while caller.mint(new)[0] != 200:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def test_exchanges_go_on_while_keys_are_made(self, emulator, account, client_id):
        done = threading.Event()
        longest = 0.0

        def create() -> None:
            for _ in range(4):
                emulator.management().create_key(client_id)
            done.set()

        with Caller(emulator) as caller:
            caller.mint(json.dumps(account))
            worker = threading.Thread(target=create)
            worker.start()
            minted = 0
            while not done.is_set():
                started = time.monotonic()
                assert caller.mint(json.dumps(account))[0] == 200
                longest = max(longest, time.monotonic() - started)
                minted += 1
            worker.join()
        assert minted >= 4
        assert longest < 5
        assert len(ids(emulator.management(), client_id)) == 5

    def test_many_calls_at_once_all_arrive(self, emulator, api, client_id):
        made: list[str] = []

        def create() -> None:
            made.append(json.loads(api.create_key(client_id).reveal())["keyID"])

        workers = [threading.Thread(target=create) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(set(made)) == 6
        assert set(made) < set(ids(api, client_id))


class TestPlain:
    """What the emulator says to a caller that is not ours."""

    @pytest.fixture
    def call(self, emulator):
        good = {
            "authorization": f"Bearer {emulator.operator_token.reveal()}",
            "X-SKYFLOW-ACCOUNT-ID": emulator.account_id,
        }
        with Caller(emulator) as caller:

            def call(method, path, body=None, **changes):
                headers = {**good, **{k.replace("_", "-"): v for k, v in changes.items()}}
                kept = {name: value for name, value in headers.items() if value is not None}
                return caller.call(method, f"/v1/serviceAccounts/{path}", body, **kept)

            yield call

    def test_headers_are_demanded(self, call, client_id):
        path = f"{client_id}/keys"
        assert call("GET", path)[0] == 200
        assert call("GET", path, authorization=None)[0] == 401
        assert call("GET", path, authorization="Bearer")[0] == 401
        assert call("GET", path, X_SKYFLOW_ACCOUNT_ID=None)[0] == 400
        assert call("GET", path, X_SKYFLOW_ACCOUNT_ID="other")[0] == 403

    def test_errors_have_skyflows_form_and_a_request_id(self, call):
        status, headers, body = call("GET", "nobody/keys")
        assert status == 404
        assert len(headers["x-request-id"]) == 32
        assert body["error"] == {
            "grpc_code": 5,
            "http_code": 404,
            "http_status": "Not Found",
            "message": "There is no such account.",
            "details": [],
        }

    def test_a_key_is_read_with_its_public_half(self, call, account, client_id):
        path = f"{client_id}/keys/{account['keyID']}?publicKeyType=TYPE_X509_PEM_FILE"
        status, _, body = call("GET", path)
        assert (status, body["keyID"]) == (200, account["keyID"])
        private = read_private_key(Secret(account["privateKey"]))
        assert body["publicKeyData"] == public_pem(private)
        assert "PRIVATE" not in json.dumps(body)

    def test_a_deletion_says_what_was_deleted(self, call, account, client_id):
        path = f"{client_id}/keys/{account['keyID']}"
        assert call("DELETE", path)[2] == {"ID": client_id, "keyID": account["keyID"]}
        assert call("DELETE", path)[0] == 404
        assert call("GET", path)[0] == 404

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("GET", "{}/keys?keyTypes=USER_MANAGED", None, 200),
            ("GET", "{}/keys?keyTypes=OTHER", None, 400),
            ("POST", "{}/keys", {}, 200),
            ("POST", "{}/keys", {"keyAlgorithm": "x"}, 400),
            ("POST", "{}/keys", "no json", 400),
            ("PUT", "{}/keys", None, 404),
            ("PUT", "{}/keys/k/rotate", None, 404),
            ("GET", "{}/keys/k", None, 404),
            ("GET", "{}/keys/k?publicKeyType=OTHER", None, 400),
            ("GET", "", None, 404),
        ],
    )
    def test_what_is_not_documented_is_refused(self, call, client_id, method, path, body, status):
        assert call(method, path.format(client_id), body)[0] == status

    def test_operator_and_account_can_be_changed(self, emulator, client_id):
        try:
            emulator.control.set_management(operator_token=OPERATOR, account_id="new")
            assert emulator.management(OPERATOR, account_id="new").list_keys(client_id)
            with pytest.raises(NotPermittedError):
                emulator.management().list_keys(client_id)
            shown = emulator.control.management()
            assert shown["account_id"] == "new"
            assert OPERATOR.reveal() not in json.dumps(shown)
        finally:
            emulator.control.set_management(
                operator_token=emulator.operator_token, account_id=emulator.account_id
            )


class TestHosts:
    PROD = "https://manage.skyflowapis.com/v1/auth/sa/oauth/token"
    PREVIEW = "https://manage.skyflowapis-preview.com/v1/auth/sa/oauth/token"

    def test_skyflows_own_hosts_follow_from_the_token_uri(self):
        assert host_for(self.PROD) == "manage.skyflowapis.com:443"
        assert host_for(self.PREVIEW) == "manage.skyflowapis-preview.com:443"
        assert {host_for(self.PROD), host_for(self.PREVIEW)} == MANAGEMENT_HOSTS

    @pytest.mark.parametrize(
        "uri",
        [
            "",
            "nonsense",
            "https://127.0.0.1:8443/v1/auth/sa/oauth/token",
            "https://manage.skyflowapis.com:8443/v1/auth/sa/oauth/token",
            "https://manage.skyflowapis.com.evil.test/v1/auth/sa/oauth/token",
            "https://manage.skyflowapis.com@evil.test/v1/auth/sa/oauth/token",
        ],
    )
    def test_no_host_that_a_mount_tells_sees_an_operator_token(self, uri):
        with pytest.raises(RefusedError) as caught:
            host_for(uri)
        assert "--management-host" in problem(caught).fix

    def test_a_named_host_wins(self):
        assert host_for(self.PROD, named="Manage.Example.test:8443") == "manage.example.test:8443"

    def test_a_named_host_needs_its_port(self):
        with pytest.raises(UsageError) as caught:
            host_for(self.PROD, named="manage.example.test")
        assert caught.value.exit_code is ExitCode.USAGE
        assert problem(caught)
