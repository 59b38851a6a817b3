"""No error text carries a ctx or another field's value; files; unexpected errors."""

import json
import logging

import pytest
from support.engine import Bench, ScriptedTokenService, scenario
from support.keys import credential, credential_text

from skyflowctl.engine.contract import EngineError
from skyflowctl.engine.engine import EngineSettings

A = "skyflow-role-a"


@pytest.mark.parametrize(
    "ctx", ["patient:Jane Roe", "k7", {"patient": "Jane Roe", "ward": 12345, "vip": True}]
)
@scenario
async def test_the_token_services_words_are_masked(ctx):
    bench = Bench(tokens=ScriptedTokenService())
    await bench.configured(A)
    echo = ctx if isinstance(ctx, str) else json.dumps(ctx)
    bench.tokens.refuse(403, f"context {echo} is not allowed for you")
    message = await bench.fails(502, "update", "creds/r1", ctx=ctx)
    assert message.startswith("token service refused: 403 ")
    assert message.endswith("(request id req-no)")
    for value in [ctx] if isinstance(ctx, str) else ["Jane Roe", "12345", "true"]:
        assert value not in message


@scenario
async def test_a_probe_is_masked_in_health_and_verify():
    bench = Bench(tokens=ScriptedTokenService())
    await bench.configured(A)
    await bench.write("roles/r1", ctx_required=True, ctx_probe="probe-of-mine")
    bench.tokens.refuse(403, "context probe-of-mine is unknown")
    for reply in (await bench.write("config/verify"), await bench.read("health")):
        assert "probe-of-mine" not in json.dumps(reply)
        assert "context *** is unknown" in json.dumps(reply)
    for data in ({"fail": "true"},):
        assert "probe-of-mine" not in await bench.fails(503, "read", "health", **data)


@scenario
async def test_an_unexpected_error_shows_and_logs_its_type_alone(caplog):
    bench = Bench(tokens=ScriptedTokenService())
    await bench.configured(A)

    async def answer(scope, assertion):
        raise KeyError(f"hunter2 {assertion.reveal()}")

    bench.tokens.answer = answer
    with caplog.at_level(logging.DEBUG):
        message = await bench.fails(500, "read", "creds/r1", ctx="patient:Jane")
    assert message == "internal error"
    assert "KeyError" in caplog.text
    for secret in ("hunter2", "eyJ", "patient"):
        assert secret not in caplog.text
    assert caplog.records[0].exc_info is None


@scenario
async def test_unexpected_errors_in_a_check_are_told_by_their_types(caplog):
    bench = Bench(tokens=ScriptedTokenService())
    await bench.configured(A, A)

    async def answer(scope, assertion):
        raise KeyError("hunter2")

    bench.tokens.answer = answer
    await bench.fails(500, "update", "config/verify")
    assert "unexpected KeyError " in caplog.text
    assert "hunter2" not in caplog.text


@scenario
async def test_an_error_has_no_cause_that_shows_values():
    bench = Bench(tokens=ScriptedTokenService())
    await bench.configured(A)
    bench.tokens.refuse(400, "context patient:Jane is bad")
    error = await bench.outcome("read", "creds/r1", {"ctx": "patient:Jane"})
    assert isinstance(error, EngineError)
    assert error.__suppress_context__
    assert error.__cause__ is None


def directory(tmp_path):
    own = tmp_path / "skyflow/order"
    own.mkdir(parents=True)
    return own


@scenario
async def test_a_file_of_the_server(tmp_path):
    own = directory(tmp_path)
    bench = Bench(settings=EngineSettings(credentials_directory=str(tmp_path)))
    (own / "key.json").write_text(bench.key(A))
    reply = await bench.write("config", credentials_file_path=str(own / "key.json"))
    (own / "key.json").unlink()
    assert reply["credential_version"] == 1
    await bench.write("roles/r1", role_ids=[A])
    assert (await bench.read("creds/r1"))["access_token"]


@scenario
async def test_one_answer_for_absent_forbidden_and_no_credential(tmp_path):
    own = directory(tmp_path)
    (tmp_path / "skyflow/payment").mkdir()
    (tmp_path / "skyflow/payment/key.json").write_text(credential_text())
    (own / "text").write_text("no credential")
    (own / "elsewhere").write_text(
        json.dumps(credential(tokenURI="https://evil.example/v1/auth/sa/oauth/token"))
    )
    bench = Bench(settings=EngineSettings(credentials_directory=str(tmp_path)))
    messages = {
        await bench.fails(400, "update", "config", credentials_file_path=path)
        for path in (
            str(own / "missing"),
            str(own / "text"),
            str(own / "elsewhere"),
            str(own),
            str(tmp_path / "skyflow/payment/key.json"),
            str(own / "../payment/key.json"),
            "/etc/passwd",
            "relative",
            "",
        )
    }
    assert messages == {"credentials_file_path: no credential of this mount can be read there"}


@scenario
async def test_files_are_off_by_default():
    message = await Bench().fails(400, "update", "config", credentials_file_path="/x")
    assert message == "credentials_file_path: not enabled in the plugin's arguments"
