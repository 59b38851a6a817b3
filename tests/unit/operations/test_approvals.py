"""What an approver is shown of a request, and what is never read or shown."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from skyflowctl.operations import approvals
from skyflowctl.operations.approvals import review_request
from skyflowctl.vault.control_groups import ParkedRequest, Requester
from skyflowctl.vault.errors import NotFoundError
from skyflowctl.vault.transport import Request

MOUNT = {"path": "m/", "type": "skyflow"}
CONFIG = {"key_id": "k3", "credentials_configured": True, "description": "d"}
HISTORY = {"key_info": {
    "1": {"key_id": "k1", "kept": True}, "2": {"key_id": "k2", "kept": True},
    "3": {"key_id": "k3", "kept": True},
}}  # fmt: skip


@pytest.fixture
def review(monkeypatch):
    def reviewed(
        path: str, fields: dict[str, Any], answers: dict[str, Any], operation: str = "update"
    ) -> tuple[dict[str, Any], list[str]]:
        asked: list[str] = []

        def send(request: Request) -> SimpleNamespace:
            asked.append(f"{request.method} {request.path}")
            if request.path.startswith("sys/internal/ui/mounts/"):
                return SimpleNamespace(data=answers.get("mount", MOUNT))
            if request.path not in answers:
                raise NotFoundError("nothing there", why="w", fix="f")
            return SimpleNamespace(data=answers[request.path])

        who = Requester(entity="e", name="ana", logins=())
        held = ParkedRequest("a", path, operation, fields, who, False, {})
        monkeypatch.setattr(approvals, "read_parked_request", lambda *_: held)
        monkeypatch.setattr(approvals, "lifetime_of", lambda *_: None)
        gateway = cast("Any", SimpleNamespace(transport=SimpleNamespace(send=send)))
        return review_request(gateway, "a").to_json(datetime.now(UTC)), asked

    return reviewed


def test_a_rollback_shows_the_key_that_becomes_live(review):
    answers = {"m/config": CONFIG, "m/config/history": HISTORY}
    seen, _ = review("m/config/rollback", {}, answers)
    assert seen["changes"] == [{"field": "key_id", "before": "k3", "after": "k2"}]
    seen, _ = review("m/config/rollback", {}, {"m/config": CONFIG})
    assert (seen["compared"], seen["changes"]) == (False, [])
    assert "which key becomes live is not shown" in seen["effect"]


def test_only_a_compared_update_may_be_called_the_same(review):
    seen, _ = review("m/config", {"description": "d"}, {"m/config": CONFIG})
    assert (seen["compared"], seen["effect"], seen["changes"]) == (True, "", [])
    seen, _ = review("other/thing", {}, {}, "delete")
    assert (seen["compared"], seen["changes"]) == (False, [])
    assert seen["effect"] == "deletes other/thing; its content was not read"


@pytest.mark.parametrize(
    "path", ["m/creds/r", "m/sign/r", "m/creds/roles/r", "db/thing", "auth/ldap/config"]
)
def test_no_path_is_read_that_is_no_known_object(review, path):
    _, asked = review(path, {"bindpass": "x"}, {path: {"access_token": "x"}})
    assert [one for one in asked if "internal/ui/mounts" not in one] == []


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("auth/ldap/config", {"bindpass": "S3", "client_tls_key": "S3"}),
        ("identity/entity", {"metadata": {"client_secret": "S3"}}),
        ("sys/mounts/kv", {"options": {"key": "S3"}, "config": {"unknown": "S3"}}),
        ("m/config", {"credentials_json": "S3"}),
    ],
)
def test_a_field_that_is_not_known_to_be_harmless_is_hidden(review, path, fields):
    seen, _ = review(path, fields, {path: fields})
    assert "S3" not in str(seen)
    assert "(hidden)" in str(seen)


def test_a_config_of_another_engine_is_neither_read_nor_shown(review):
    answers = {"mount": {"path": "m/", "type": "ldap"}, "m/config": CONFIG}
    seen, asked = review("m/config", {"description": "S3"}, answers)
    assert "S3" not in str(seen)
    assert "GET m/config" not in asked


def test_the_policies_of_a_login_role_are_shown(review):
    path = "auth/approle/role/app"
    fields = {"token_policies": ["root"], "token_type": "batch", "token_ttl": 60}
    seen, _ = review(path, fields, {path: {"token_policies": ["read"]}})
    assert seen["fields"] == fields
    assert seen["changes"][0] == {"field": "token_policies", "before": ["read"], "after": ["root"]}


def test_the_deletion_of_one_kept_credential_shows_that_one(review):
    seen, _ = review("m/config/history/1", {}, {"m/config/history": HISTORY}, "delete")
    assert {one["field"]: one["before"] for one in seen["changes"]} == {
        "key_id": "k1",
        "kept": True,
    }
