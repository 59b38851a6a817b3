"""The vendor's Python SDK, unmodified, against the emulator.

It runs in a process of its own: it takes its trust from SSL_CERT_FILE, and it changes
logging and the environment of the process it runs in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import jwt as pyjwt
import pytest
from support.emulator import rsa_key

from skyflowctl.skyflow.emulator.keys import private_pem
from skyflowctl.skyflow.minting import MintingCredential, SigningKey
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.skyflow.signed_data_tokens import DataTokenSigner

MINT = """
import json, sys
from skyflow.error import SkyflowError
from skyflow.service_account import generate_bearer_token_from_creds
order = json.load(sys.stdin)
try:
    print(json.dumps(generate_bearer_token_from_creds(order["credentials"], order["options"])))
except SkyflowError as error:
    inner = error.__context__
    print(json.dumps({"message": error.message, "status": getattr(inner, "status_code", None)}))
"""

READ = """
import json, sys
from skyflow import Env, LogLevel, Skyflow
from skyflow.error import SkyflowError
from skyflow.utils.enums import RedactionType
from skyflow.vault.data import GetRequest
from skyflow.vault.tokens import DetokenizeRequest
order = json.load(sys.stdin)
credentials = {"credentials_string": order["credentials"], "roles": [order["role"]]}
client = (
    Skyflow.builder()
    .add_vault_config({"vault_id": order["vault"], "cluster_id": order["cluster"],
                       "env": Env.PROD, "credentials": credentials})
    .set_log_level(LogLevel.OFF)
    .build()
)
vault = client.vault(order["vault"])
try:
    got = vault.get(GetRequest(table="persons", ids=["1"], redaction_type=RedactionType.PLAIN_TEXT))
    plain = vault.detokenize(DetokenizeRequest(data=[{"token": "tok-1"}]))
    print(json.dumps({"data": got.data, "values": [field["value"] for field in plain.detokenized_fields]}))
except SkyflowError as error:
    print(json.dumps({"http_code": error.http_code, "grpc_code": error.grpc_code,
                      "message": error.message, "request_id": error.request_id}))
"""

DETOKENIZE = """
import json, sys
from skyflow import Env, LogLevel, Skyflow
from skyflow.error import SkyflowError
from skyflow.service_account import generate_signed_data_tokens_from_creds
from skyflow.vault.tokens import DetokenizeRequest
order = json.load(sys.stdin)
def signed(**options):
    given = {"data_tokens": ["tok-1"], "ctx": "order:42", **options}
    return generate_signed_data_tokens_from_creds(order["credentials"], given)[0][1]
def used(token, ctx="order:42"):
    credentials = {"credentials_string": order["credentials"], "roles": ["sdk-read"], "context": ctx}
    config = {"vault_id": order["vault"], "cluster_id": order["cluster"], "env": Env.PROD,
              "credentials": credentials}
    vault = Skyflow.builder().add_vault_config(config).set_log_level(LogLevel.OFF).build().vault(order["vault"])
    try:
        return vault.detokenize(DetokenizeRequest(data=[{"token": token}])).detokenized_fields[0]["value"]
    except SkyflowError as error:
        return [error.http_code, error.grpc_code, error.message, bool(error.request_id)]
good = signed()
print(json.dumps({
    "good": used(good), "ours": used(order["ours"]), "unsigned": used("tok-1"),
    "altered": used(good[:-8] + ("AAAAAAAA" if good[-8:] != "AAAAAAAA" else "BBBBBBBB")),
    "expired": used(order["expired"]), "other ctx": used(good, "order:43"),
}))
"""


def run_sdk(emulator, code: str, order: dict):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(emulator.folder),
        "SSL_CERT_FILE": str(emulator.ca),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        env=environment,
        cwd=emulator.folder,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def mint(emulator, credentials: str, **options: object):
    return run_sdk(emulator, MINT, {"credentials": credentials, "options": options})


@pytest.mark.parametrize(
    ("options", "roles"),
    [
        ({}, ["sdk-read", "sdk-write"]),
        ({"role_ids": ["sdk-read"], "ctx": "order:42"}, ["sdk-read"]),
        ({"role_ids": ["sdk-write", "sdk-read"], "ctx": {"n": 1}}, ["sdk-write", "sdk-read"]),
    ],
)
def test_the_sdk_gets_a_token(emulator, options, roles):
    token, kind = mint(emulator, emulator.new_account("sdk-read", "sdk-write"), **options)
    claims = pyjwt.decode(token, options={"verify_signature": False})
    assert kind == "Bearer"
    assert claims["roles"] == roles
    assert claims.get("ctx") == options.get("ctx")


def test_the_sdk_is_refused_for_a_wrong_key_and_an_unassigned_role(emulator):
    credentials = emulator.new_account("sdk-read")
    wrong = {**json.loads(credentials), "privateKey": private_pem(rsa_key("wrong")).reveal()}
    for refused in (
        mint(emulator, json.dumps(wrong)),
        mint(emulator, credentials, role_ids=["other"]),
    ):
        assert refused["status"] == 401
        assert "Authorization failed" in refused["message"]


def test_the_sdk_is_refused_without_an_enforced_ctx(emulator):
    credentials = emulator.new_account("sdk-read", enforce_ctx=True)
    assert mint(emulator, credentials)["status"] == 400
    assert mint(emulator, credentials, ctx="order:42")[1] == "Bearer"


def test_the_sdk_reads_its_vault_and_no_other(emulator):
    emulator.control.put_vault(
        "sdk-vault",
        "sdk-read",
        records={"persons": {"1": {"name": "Ada"}}},
        tokens={"tok-1": "Ada"},
    )
    order = {
        "credentials": emulator.new_account("sdk-read", "sdk-write"),
        "vault": "sdk-vault",
        "cluster": f"127.0.0.1:{emulator.port}/emu",
    }
    read = run_sdk(emulator, READ, {**order, "role": "sdk-read"})
    assert read["data"][0]["name"] == "Ada"
    assert read["values"] == ["Ada"]
    refused = run_sdk(emulator, READ, {**order, "role": "sdk-write"})
    assert (refused["http_code"], refused["grpc_code"]) == (403, 7)
    assert "do not permit" in refused["message"]
    assert refused["request_id"]


def test_the_sdk_uses_signed_data_tokens_and_no_others_where_they_are_enforced(emulator):
    emulator.control.put_vault(
        "signed-vault",
        "sdk-read",
        tokens={"tok-1": "Ada"},
        context_rules={"request.context": "order:*"},
    )
    credentials = emulator.new_account("sdk-read")
    emulator.control.configure(json.loads(credentials)["clientID"], enforceSignedDataTokens=True)
    account = load_trusted(credentials)
    minting = MintingCredential(account, SigningKey.trusted(account.private_key))
    ours, expired = (
        DataTokenSigner(minting, "order:42", datetime.now(UTC) - age, timedelta(minutes=10))
        .sign("tok-1")
        .reveal()
        for age in (timedelta(), timedelta(minutes=11))
    )
    order = {
        "credentials": credentials,
        "vault": "signed-vault",
        "cluster": f"127.0.0.1:{emulator.port}/emu",
        "ours": ours,
        "expired": expired,
    }
    answers = run_sdk(emulator, DETOKENIZE, order)
    assert (answers.pop("good"), answers.pop("ours")) == ("Ada", "Ada")
    expected = {
        "unsigned": (400, 3, "demands signed"),
        "altered": (403, 7, "signature"),
        "expired": (403, 7, "expired"),
        "other ctx": (403, 7, "another context"),
    }
    for name, (status, code, said) in expected.items():
        http_code, grpc_code, message, has_request_id = answers.pop(name)
        assert (http_code, grpc_code, has_request_id) == (status, code, True), name
        assert said in message
    assert answers == {}
