"""``logout`` and parked requests, and the login that a command makes for itself."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from support.cli import checked_data, checked_envelope, invoke

from skyflowctl.cli.context import logins
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import ForbiddenError, ServerUnreachableError
from skyflowctl.vault.login_store import LoginRecord
from skyflowctl.vault.pending_store import FileStore, StoredRequest
from skyflowctl.vault.transport import Reply

END = "2099-01-01T00:00:00Z"
RECORD = LoginRecord(
    "prod", "https://a:8200", "", "c1", "acc-1", "ann", ("default",), "oidc", True, True, 1200, END
)
PARKED = StoredRequest(
    Secret("wrapping-token"), "acc-parked", "POST", "skyflow/order/config", "", "", "d", "b",
    "run-7", "", "c1", END,
)  # fmt: skip


class Transport:
    """Answers every request; ``error``: with this one."""

    cluster_id = "c1"

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.error: Exception | None = None

    def send(self, request: Any) -> Reply:
        self.sent.append(request.path)
        if self.error:
            raise self.error
        return Reply(204)

    def close(self) -> None:
        pass


class Store:
    def __init__(self) -> None:
        self.records = [RECORD]

    def find(self, _context: Any) -> LoginRecord | None:
        return self.records[0] if self.records else None

    def token(self, _record: Any) -> Secret:
        return Secret("token-of-ann")

    def forget(self, record: Any) -> None:
        self.records.remove(record)


@pytest.fixture
def rig(tmp_path, monkeypatch) -> Any:
    made = SimpleNamespace(
        store=Store(), transport=Transport(), parked=[],
        env={"XDG_CONFIG_HOME": str(tmp_path), "BAO_AGENT_ADDR": None},
    )  # fmt: skip
    monkeypatch.setattr(logins, "login_store", lambda: made.store)
    monkeypatch.setattr(logins, "connector", lambda _run: lambda _target: made.transport)
    monkeypatch.setattr(logins, "parked_requests", lambda _cluster: made.parked)
    invoke("context", "add", "prod", "--address", "https://a:8200", env=made.env)
    return made


def logout(rig: Any, *words: str) -> Any:
    return invoke("logout", "-o", "json", *words, env=rig.env)


def test_logout_revokes_and_forgets(rig):
    data = checked_data(logout(rig).stdout)
    assert (data["revoked"], data["parked"]) == ("yes", [])
    assert rig.transport.sent == ["auth/token/revoke-self"]
    assert rig.store.records == []


def test_parked_requests_are_named_before_they_die(rig):
    rig.parked = [PARKED]
    asked = logout(rig)
    assert (asked.exit_code, rig.transport.sent, rig.store.records) == (5, [], [RECORD])
    assert checked_envelope(asked.stdout)["errors"][0]["code"] == "needs-confirmation"
    assert "acc-parked" in asked.stderr
    assert "run-7" in asked.stderr
    data = checked_data(logout(rig, "-y").stdout)
    assert [one["accessor"] for one in data["parked"]] == ["acc-parked"]
    assert "wrapping-token" not in asked.output + str(data)


def test_parked_requests_in_files_are_named_too(rig, tmp_path):
    rig.env["XDG_STATE_HOME"] = str(tmp_path / "state")
    marks = tmp_path / "state" / "skyflowctl" / "pending-files"
    ours, theirs = PARKED, replace(PARKED, accessor="acc-other", cluster="c2")
    for name, entries in (("a.json", [ours]), ("b.json", [theirs]), ("damaged.json", [ours])):
        FileStore(tmp_path / name, marks).change(lambda _, entries=entries: entries)
    (tmp_path / "damaged.json").write_text("{")
    asked = logout(rig)
    assert (asked.exit_code, rig.store.records) == (5, [RECORD])
    assert "acc-parked" in asked.stderr
    assert "acc-other" not in asked.stderr
    data = checked_data(logout(rig, "-y").stdout)
    assert [one["accessor"] for one in data["parked"]] == ["acc-parked"]
    assert "damaged.json are unknown" in asked.stderr


def test_forgetting_asks_no_server_and_kills_no_parked_request(rig):
    rig.parked = [PARKED]
    data = checked_data(logout(rig, "--forget").stdout)
    assert (data["revoked"], data["parked"], rig.transport.sent) == ("no", [], [])
    text = "is valid until " + END
    rig.store.records = [RECORD]
    assert text in invoke("logout", "--forget", env=rig.env).stdout


def test_a_login_that_had_ended_is_only_removed(rig):
    rig.transport.error = ForbiddenError("no", status=403)
    assert checked_data(logout(rig).stdout)["revoked"] == "ended"
    assert rig.store.records == []


def test_a_server_that_does_not_answer_leaves_all_as_it_is(rig):
    rig.transport.error = ServerUnreachableError("no answer", why="it is down")
    done = logout(rig)
    problem = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, problem["code"]) == (69, "not-logged-out")
    assert END in problem["why"]
    assert rig.store.records == [RECORD]


@pytest.mark.parametrize("words", [["login"], ["logout"], ["login", "--status"]])
def test_without_a_context_each_cause_has_its_fix(rig, tmp_path, words):
    def problem(**env: str | None) -> dict[str, Any]:
        done = invoke(*words, "-o", "json", env={**rig.env, **env})
        (found,) = checked_envelope(done.stdout)["errors"]
        assert (done.exit_code, found["code"]) == (64, "no-context")
        return found

    both = {"BAO_ADDR": "https://b:8200", "VAULT_ADDR": "https://b:8200"}
    hidden = problem(**both)
    assert "BAO_ADDR, VAULT_ADDR are set and hide the current one" in hidden["why"]
    assert hidden["fix"] == "unset BAO_ADDR VAULT_ADDR, or give --context prod"
    assert problem(BAO_AGENT_ADDR="https://b")["fix"].startswith("unset BAO_AGENT_ADDR, or")
    file = tmp_path / "skyflowctl" / "contexts.json"
    file.write_text(file.read_text().replace('"current": "prod"', '"current": ""'))
    none = {"BAO_ADDR": None, "VAULT_ADDR": None}
    assert "'skyflowctl context use NAME'" in problem(**none)["fix"]
    file.unlink()
    for env in (none, both):
        assert "'skyflowctl context add NAME --address URL'" in problem(**env)["fix"]


@pytest.mark.parametrize(
    ("is_own", "parked", "sent"),
    [(True, False, ["auth/token/revoke-self"]), (True, True, []), (False, False, [])],
)
def test_a_commands_own_login_ends_with_it_unless_a_request_is_parked(is_own, parked, sent):
    transport = Transport()
    target: Any = SimpleNamespace(login=SimpleNamespace(is_own=is_own))
    gateway: Any = SimpleNamespace(transport=transport)
    logins.end_own_login(target, gateway, None, lambda cluster: parked and cluster == "c1")  # type: ignore[arg-type]  # it warns of nothing here
    assert transport.sent == sent
