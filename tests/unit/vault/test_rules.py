"""The pure rules of the transport: what an answer means, indexes, errors and their states."""

from __future__ import annotations

import base64
import json

import pytest

from skyflowctl.errors import ExitCode
from skyflowctl.secret import Secret
from skyflowctl.vault import decode, errors, failed_answers
from skyflowctl.vault.consistency import ConsistencyIndex
from skyflowctl.vault.health_states import health_state
from skyflowctl.vault.responses import EngineHealth
from skyflowctl.vault.retry_rules import Disposition, RetryBudget, classify
from skyflowctl.vault.transport import encode_body, make_reply

NO_LEADER = "local node not active but active cluster node not found"


@pytest.mark.parametrize(
    ("status", "text", "verdict"),
    [
        (200, "", Disposition.DONE),
        (204, "", Disposition.DONE),
        (307, "", Disposition.REDIRECT),
        (400, "bad", Disposition.FINAL),
        (403, "permission denied", Disposition.FINAL),
        (404, "", Disposition.FINAL),
        (409, "cas", Disposition.FINAL),
        (412, "", Disposition.NOT_APPLIED),
        (429, "", Disposition.NOT_APPLIED),
        (500, NO_LEADER, Disposition.NOT_APPLIED),
        (503, "no active Vault instance found", Disposition.NOT_APPLIED),
        (503, "Vault is sealed", Disposition.NOT_APPLIED),
        (400, "Upgrading from non-versioned to versioned data. This", Disposition.NOT_APPLIED),
        (500, "leadership lost while committing log", Disposition.UNKNOWN),
        (
            400,
            "failed to persist policy: leadership lost while committing log",
            Disposition.UNKNOWN,
        ),
        (400, "node is not the leader", Disposition.UNKNOWN),
        (500, "internal error", Disposition.UNKNOWN),
        (502, "", Disposition.UNKNOWN),
        (504, "", Disposition.UNKNOWN),
        (502, "token service refused: 401 no", Disposition.FINAL),
        (503, "skyflow: timed out", Disposition.FINAL),
        (503, "API access to this namespace has been locked", Disposition.FINAL),
        (501, "", Disposition.FINAL),
    ],
)
def test_what_an_answer_says_about_the_request(status, text, verdict):
    assert classify(status, (text,) if text else ()) is verdict


def test_pauses_grow_to_a_second_and_the_server_may_ask_for_another():
    budget = RetryBudget(deadline=10.0, started=0.0)
    pauses = []
    for budget.tries in range(1, 9):
        pauses.append(budget.pause(None))
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert budget.pause(3.0) == 3.0
    assert budget.allows(8.9, 1.0)
    assert not budget.allows(9.1, 1.0)


def header(cluster: str, value: object) -> str:
    return base64.b64encode(json.dumps({"cluster": cluster, "value": value}).encode()).decode()


def sent(index: ConsistencyIndex, *, fresh: bool = False) -> dict[str, str]:
    headers = index.headers(fresh=fresh)
    assert headers["X-Vault-Inconsistent"] == "forward-active-node"
    return json.loads(base64.b64decode(headers["X-Vault-Index"]))


def test_the_newest_index_of_one_cluster_is_sent():
    index = ConsistencyIndex()
    assert index.headers(fresh=True) == {}
    index.observe(header("c1", "7"))
    index.observe(header("c1", "5"))
    assert sent(index) == {"cluster": "c1", "value": "7"}
    assert int(sent(index, fresh=True)["value"]) > 2**60
    index.observe(header("c2", "1"))
    assert sent(index) == {"cluster": "c2", "value": "1"}
    assert index.cluster == "c2"


@pytest.mark.parametrize("bad", [None, "", "%%%", "e30=", base64.b64encode(b"[1]").decode()])
def test_an_index_of_another_form_is_left_out(bad):
    index = ConsistencyIndex()
    index.observe(header("c1", "7"))
    index.observe(bad)
    assert sent(index) == {"cluster": "c1", "value": "7"}


@pytest.mark.parametrize(
    ("status", "text", "kind", "code", "state"),
    [
        (403, "permission denied", errors.ForbiddenError, ExitCode.NOT_PERMITTED, "forbidden"),
        (404, "", errors.NotFoundError, ExitCode.USAGE, "not_mounted"),
        (404, "unsupported path", errors.NotFoundError, ExitCode.USAGE, "not_mounted"),
        (
            404,
            "namespace not found",
            errors.NamespaceMissingError,
            ExitCode.USAGE,
            "not_mounted",
        ),
        (
            404,
            'route entry found, but backend is nil: "x/"',
            errors.PluginMissingError,
            ExitCode.UNREACHABLE,
            "plugin_missing",
        ),
        *(
            (
                403 if text.startswith("fork") else 500,
                text,
                errors.PluginMissingError,
                ExitCode.UNREACHABLE,
                "plugin_missing",
            )
            for text in (
                "error while validating the command path: lstat /p/f: no such file or directory",
                "checksums did not match",
                "Unrecognized remote plugin message: ; Failed to read any lines",
                "fork/exec /p/f: permission denied",
                "plugin not found in the catalog: skyflow, version=v1.0.0",
            )
        ),
        (
            404,
            'no handler for route "x/". route entry not found.',
            errors.NotMountedError,
            ExitCode.USAGE,
            "not_mounted",
        ),
        (400, "mount not configured", errors.BadRequestError, ExitCode.INVALID, "unconfigured"),
        (409, "cas", errors.ConflictError, ExitCode.REFUSED, "unreachable"),
        (
            502,
            "token service refused: 401 no",
            errors.TokenServiceFailedError,
            ExitCode.UNHEALTHY,
            "refused",
        ),
        (
            503,
            "skyflow: timed out",
            errors.TokenServiceFailedError,
            ExitCode.UNHEALTHY,
            "token_service_unreachable",
        ),
        (
            503,
            "skyflow: tokenURI names a host that is not allowed: h:1 (allowed: a:443); nothing was sent",
            errors.TokenUriRefusedError,
            ExitCode.UNHEALTHY,
            "refused",
        ),
        (503, "Vault is sealed", errors.SealedError, ExitCode.UNREACHABLE, "sealed"),
        (501, "", errors.UninitializedError, ExitCode.UNREACHABLE, "uninitialized"),
        (
            400,
            "path disabled in replication DR secondary mode",
            errors.DrSecondaryError,
            ExitCode.UNREACHABLE,
            "dr_secondary",
        ),
        (503, "no active", errors.ServerUnreachableError, ExitCode.UNREACHABLE, "unreachable"),
        (429, "", errors.BusyError, ExitCode.UNREACHABLE, "unreachable"),
        (500, "boom", errors.VaultError, ExitCode.UNEXPECTED, "unreachable"),
        (413, "too large", errors.BadRequestError, ExitCode.INVALID, "unreachable"),
    ],
)
def test_each_bad_answer_is_an_error_with_three_lines(status, text, kind, code, state):
    texts = (text,) if text else ()
    error = failed_answers.error_for(status, texts, method="PUT", path="skyflow/order/config")
    assert type(error) is kind
    assert error.exit_code is code
    assert health_state(error) == state
    problem = error.problems[0]
    assert "PUT v1/skyflow/order/config" in problem.summary
    assert str(status) in problem.why
    assert text in problem.why
    assert problem.fix
    assert "\n" not in problem.summary + problem.why + problem.fix


def test_the_servers_texts_are_single_lines_without_their_frame():
    body = {"errors": ["1 error occurred:\n\t* permission denied\n\n", "x" * 900]}
    assert failed_answers.server_texts(body) == ("permission denied", "x" * 500)
    assert failed_answers.server_texts({"data": {"error": "broken rule"}}) == ("broken rule",)
    assert failed_answers.server_texts({"errors": []}) == failed_answers.server_texts(None) == ()


def test_secrets_are_revealed_only_in_the_encoded_body():
    body = {"credentials_json": Secret("hidden"), "ctx": {"a": 1}}
    assert json.loads(encode_body(body)) == {"credentials_json": "hidden", "ctx": {"a": 1}}
    with pytest.raises(TypeError):
        encode_body({"x": object()})
    reply = make_reply(200, {"data": {"access_token": "hidden"}}, {"X-Y": "hidden"})
    assert reply.data == {"access_token": "hidden"}
    assert reply.headers == {"x-y": "hidden"}
    assert "hidden" not in repr(reply)


def test_what_a_server_ignored_is_found():
    live = decode.mount(
        "a/",
        {
            "type": "skyflow",
            "description": "d",
            "options": {"manifest": "m"},
            "config": {"audit_non_hmac_request_keys": ["ctx"]},
        },
    )
    assert decode.ignored_fields(live, {"description": "d", "options": {"manifest": "m"}}) == []
    assert decode.ignored_fields(live, {"audit_non_hmac_request_keys": ["ctx"]}) == []
    asked = {
        "type": "kv",
        "description": None,
        "options": {"manifest": "", "new": "1"},
        "audit_non_hmac_request_keys": [],
        "passthrough_request_headers": ["X"],
    }
    assert set(decode.ignored_fields(live, asked)) == {
        "type",
        "description",
        "options.manifest",
        "options.new",
        "audit_non_hmac_request_keys",
        "passthrough_request_headers",
    }


@pytest.mark.parametrize(
    ("raw", "state"),
    [
        ({"healthy": True, "token_service": {"reachable": True}}, "ok"),
        ({"healthy": False}, "unconfigured"),
        ({"healthy": False, "error": "backend not configured"}, "unconfigured"),
        ({"healthy": True, "configuration_status": "ok"}, "unproven"),
        ({"healthy": False, "error": "failed to load configuration"}, "unproven"),
        ({"healthy": False, "token_service": {"reachable": None}}, "unconfigured"),
        ({"healthy": False, "token_service": {"reachable": True, "status": 401}}, "refused"),
        ({"healthy": False, "token_service": {"reachable": False}}, "token_service_unreachable"),
        (
            {
                "healthy": False,
                "token_service": {
                    "reachable": False,
                    "error": "skyflow: tokenURI names a host that is not allowed; nothing was sent",
                },
            },
            "refused",
        ),
    ],
)
def test_an_engines_health_is_a_state(raw, state):
    assert EngineHealth.parse(raw).state == state


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (
            "skyflow: the stored record config was written by a newer engine (format 9; …",
            "plugin_missing",
        ),
        ("failed to generate token: failed to generate bearer token: no", "refused"),
        ("backend not configured", "unconfigured"),
    ],
)
def test_what_another_engine_says_with_400_is_a_state(text, state):
    error = failed_answers.error_for(400, (text,), method="GET", path="x/health")
    assert health_state(error) == state
