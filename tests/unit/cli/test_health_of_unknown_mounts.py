"""``health`` and ``consumer check``: what is refused or wrong is said, with what to do."""

from __future__ import annotations

import pytest
from support.cli import checked_envelope, invoke
from support.reached import reached

from skyflowctl.cli.commands.consumer.check import _result
from skyflowctl.errors import ExitCode
from skyflowctl.operations.consumer_check import AccessCheck, ConsumerReport


@pytest.fixture
def server(tmp_path, monkeypatch):
    return reached(tmp_path, monkeypatch)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("name", "code", "state"), [("ordr", 64, "unknown-mount"), ("order", 6, "not-mounted")]
)
def test_a_mount_that_neither_manifest_nor_server_has_is_usage(name, code, state):
    done = invoke("health", name, "-o", "json")
    assert done.exit_code == code, done.output
    (error,) = checked_envelope(done.stdout)["errors"]
    assert error["code"] == state
    if code == 64:
        assert "order" in error["fix"]
    assert "mounts the manifest" not in done.output


def test_a_check_with_a_wrong_answer_names_it():
    right = AccessCheck("skyflow/order/creds/a", "any", "allow", "allow")
    wrong = AccessCheck("skyflow/order/config", "any", "deny", "allow")
    result = _result("shop", ConsumerReport([right, wrong]))
    (problem,) = result.problems
    assert (problem.code, result.exit_code) == ("unexpected-access", ExitCode.UNHEALTHY)
    assert "1 of 2" in problem.summary
    assert "skyflow/order/config" in problem.why
    assert _result("shop", ConsumerReport([right])).problems in ((), [])
