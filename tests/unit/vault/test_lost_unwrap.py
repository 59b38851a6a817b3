"""What a lost reply to an approved request has done, by reading what it was to change."""

from __future__ import annotations

from typing import Any

import pytest

from skyflowctl.vault.approvals import is_probe, shows
from skyflowctl.vault.call import OutgoingRequest
from skyflowctl.vault.guards import guard_probe
from skyflowctl.vault.transport import encode_body

CONFIG = {
    "credentials_configured": True,
    "credential_version": 2,
    "rotation": {"id": "r", "state": "open"},
}
HEADER = "sys/config/auditing/request-headers/X-Skyflowctl-Run"
MOUNT = {"description": "", "config": {"audit_non_hmac_request_keys": ["ctx"]}}


def call(method: str, path: str, body: dict[str, Any]) -> OutgoingRequest:
    return OutgoingRequest(method, path, None, encode_body(body), {}, False, False)


@pytest.mark.parametrize(
    ("path", "body", "before", "after"),
    [
        ("m/config", {"description": "n"}, {**CONFIG, "description": "o"}, {**CONFIG, "description": "n"}),
        (
            "m/config/rollback", {"credential_version": 1, "cas_credential_version": 2},
            CONFIG, {**CONFIG, "credential_version": 3},
        ),
        (
            "m/config/commit", {"rotation_id": "r"},
            CONFIG, {**CONFIG, "rotation": {"id": "r", "state": "committed"}},
        ),
        (HEADER, {"hmac": False}, {}, {"X-Skyflowctl-Run": {"hmac": False}}),
        (HEADER, {"hmac": False}, {"x-skyflowctl-run": {"hmac": True}}, {"x-skyflowctl-run": {"hmac": False}}),
        (
            "sys/mounts/m/tune", {"audit_non_hmac_request_keys": []},
            MOUNT, {**MOUNT, "config": {"audit_non_hmac_request_keys": []}},
        ),
    ],
)  # fmt: skip
def test_a_write_that_ran_is_told_from_one_that_did_not(path, body, before, after):
    assert shows(after, call("POST", path, body)) is True
    assert not shows(before, call("POST", path, body))


def test_another_ones_commit_is_not_ours():
    other = {**CONFIG, "rotation": {"id": "other", "state": "committed"}}
    assert shows(other, call("POST", "m/config/commit", {"rotation_id": "r"})) is False


def test_a_kept_credential_that_was_destroyed_is_told_by_the_history():
    asked = call("DELETE", "m/config/history/1", {})
    assert shows({"key_info": {"1": {"kept": False}}}, asked) is True
    assert shows({"key_info": {"1": {"kept": True}}}, asked) is False


@pytest.mark.parametrize(
    "body", [{"credentials_file_path": "/k"}, {"credentials_file_path": "/k", "description": "d"}]
)
def test_where_the_object_does_not_tell_nothing_is_said(body):
    assert shows({**CONFIG, "description": "d"}, call("POST", "m/config", body)) is None


def test_a_probe_of_a_config_carries_what_an_engine_without_unknown_fields_refuses():
    assert guard_probe("m/config")["credentials_json"] == ""
    assert "credentials_json" not in guard_probe("sys/plugins/catalog/secret/x")
    for path in ("m/config", "sys/mounts/m"):
        assert is_probe(call("POST", path, dict(guard_probe(path))))
