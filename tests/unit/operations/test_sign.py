"""``sign`` on the command line: the real engine in memory."""

from __future__ import annotations

import json

import pytest
from support.cli import checked_data, checked_envelope, invoke
from support.gateways import memory_rig
from support.reached import reach_gateway

from skyflowctl.skyflow.emulator import jwt

TOKENS = ["tok-b", "tok-a", "tok-b"]


@pytest.fixture(scope="module")
def rig():
    made = memory_rig()
    yield made
    made.gateway.close()


@pytest.fixture
def path(rig, monkeypatch, tmp_path):
    reach_gateway(rig.gateway, monkeypatch)
    monkeypatch.chdir(tmp_path)
    made = rig.configured("reader")
    rule = {"role_ids": ["r-read"], "ctx_pattern": "order:*", "ctx_probe": "order:probe"}
    rig.gateway.engine(made).write_role("writer", {**rule, "sign_max_ttl": "2m"})
    return made


def claims(signed: str) -> dict:
    return dict(jwt.split_token(signed.removeprefix("signed_token_")).claims)


def refusal(*words: str) -> tuple[int, dict]:
    done = invoke("sign", *words, "-o", "json")
    (error,) = checked_envelope(done.stdout)["errors"]
    return done.exit_code, error


def test_order_duplicates_ctx_and_ttl(rig, path):
    done = invoke(
        "sign", path, "writer", "--ctx", "order:42", "--ttl", "90s", *TOKENS, "-o", "json"
    )
    data = checked_data(done.stdout)
    signed = data["signed_data_tokens"]
    assert [one["data_token"] for one in signed] == TOKENS
    found = [claims(one["signed_data_token"]) for one in signed]
    assert [one["tok"] for one in found] == TOKENS
    assert {(one["ctx"], one["exp"] - one["iat"]) for one in found} == {("order:42", 90)}
    assert data["key_id"] == rig.gateway.engine(path).config().key_id
    assert data["role"] == "writer"


def test_an_object_ctx_goes_into_the_signature(path):
    done = invoke("sign", path, "reader", "--ctx", '{"purpose":"refund"}', "tok-1", "-o", "raw")
    assert claims(done.stdout.strip())["ctx"] == {"purpose": "refund"}


def test_raw_is_a_line_each_and_a_table_names_each(path):
    raw = invoke("sign", path, "reader", *TOKENS, "-o", "raw").stdout.splitlines()
    assert [claims(line)["tok"] for line in raw] == TOKENS
    lines = invoke("sign", path, "reader", *TOKENS).stdout.splitlines()
    assert [line for line in lines if line.startswith("tok-")] == TOKENS


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("writer", "tok"), "bad-ctx", "order:*"),
        (("writer", "--ctx", "payment:1", "tok"), "bad-ctx", "order:*"),
        (("reader", "--ctx", "{", "tok"), "bad-ctx", "JSON object"),
        (("nobody", "tok"), "no-such-role", "reader"),
        (("reader", "--ttl", "16m", "tok"), "usage", "900 seconds"),
        (("reader", "--ttl", "soon", "tok"), "usage", "span"),
        (("reader", *["tok"] * 65), "usage", "xargs -n 64"),
        (("reader", "tok", ""), "usage", "data tokens"),
    ],
)
def test_a_wrong_argument_is_a_usage_error_and_signs_nothing(path, words, code, says):
    exit_code, error = refusal(path, *words)
    assert (exit_code, error["code"]) == (64, code)
    assert says in json.dumps(error)


def test_a_mount_that_is_not_there_and_one_that_is_cut_off(rig, path):
    assert refusal("skyflow/nowhere", "reader", "tok")[1]["code"] == "not-mounted"
    rig.gateway.engine(path).cut_off("INC-1", "run-1")
    exit_code, error = refusal(path, "reader", "tok")
    assert (exit_code, error["code"]) == (65, "cut-off")


def test_an_engine_without_the_path_is_named(rig, path, monkeypatch):
    from skyflowctl.engine.paths.sign import SignPath

    monkeypatch.setattr(SignPath, "routes", lambda self: ())
    older = rig.configured("reader")
    exit_code, error = refusal(older, "reader", "tok")
    assert (exit_code, error["code"]) == (64, "cannot-sign")
