"""Bad credentials of every kind, through the real ``validate``: said where and why, never shown."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from support.keys import TOKEN_URI, credential, pkcs8, rsa_key, stamp
from support.leaks import find_leaks, needle
from support.stack import Stack, clean_environ

MANIFEST = """\
version: 1
manifest: shop
mounts:
  order:
    credentials: {file: key.json}
    roles: {reader: {role_ids: [role-1]}}
"""
PLACE = "mounts.yaml:5:25"
NOW = datetime.now(UTC)

Fields = dict[str, Any]
Make = Callable[[Fields], "str | bytes"]


def changed(**changes: Any) -> Make:
    """The same file with other fields; None takes one away."""

    def make(fields: Fields) -> str:
        made = {**fields, **changes}
        return json.dumps({name: value for name, value in made.items() if value is not None})

    return make


def with_key(change: Callable[[str], str]) -> Make:
    """The same file with its private key changed."""
    return lambda fields: json.dumps({**fields, "privateKey": change(fields["privateKey"])})


def text(change: Callable[[str], str]) -> Make:
    """The file's text, changed."""
    return lambda fields: change(json.dumps(fields))


def encrypted(_pem: str) -> str:
    lock = form.BestAvailableEncryption(b"password")
    kind = form.PrivateFormat.PKCS8
    return rsa_key().private_bytes(form.Encoding.PEM, kind, lock).decode()


def inconsistent(pem: str) -> str:
    """One bit in the middle differs: it still parses, but its parts do not belong together."""
    lines = pem.splitlines()
    body = bytearray(base64.b64decode("".join(lines[1:-1])))
    body[-40] ^= 1
    return "\n".join([lines[0], base64.encodebytes(body).decode().strip(), lines[-1], ""])


def relabelled(label: str) -> Callable[[str], str]:
    return lambda pem: pem.replace("PRIVATE KEY", label)


def without_lines(pem: str) -> str:
    return "\n".join(pem.splitlines()[:9]) + "\n" + pem.splitlines()[-1]


def uri(changed_uri: str) -> Make:
    return changed(tokenURI=changed_uri)


API_KEY = "sky-ab12c-" + "0123456789abcdef" * 2
PATH = "/v1/auth/sa/oauth/token"

# What it is -> how it is made from a good file, and words that validate must say.
KINDS: dict[str, tuple[Make, str]] = {
    "empty": (lambda _: "", "is empty"),
    "blank": (lambda _: " \n\t\n", "is empty"),
    "latin-1": (lambda _: b'{"clientName": "M\xfcller"}', "is no UTF-8 text"),
    "utf-16": (lambda fields: json.dumps(fields).encode("utf-16"), "is no UTF-8 text"),
    "byte-order-mark": (
        text(lambda json_text: "\ufeff" + json_text),
        "starts with a byte-order mark",
    ),
    "nul": (text(lambda json_text: json_text + "\0"), "is not UTF-8 text"),
    "too-large": (text(lambda json_text: json_text + " " * 70_000), "is larger than 64 KiB"),
    "array": (text(lambda json_text: f"[{json_text}]"), "is an array, not a JSON object"),
    "number": (lambda _: "42", "is a single value, not a JSON object"),
    "quoted-twice": (text(json.dumps), "it was quoted twice"),
    "cut-off": (text(lambda json_text: json_text[:-300]), "is not valid JSON"),
    "trailing-comma": (text(lambda json_text: json_text[:-1] + ",}"), "is not valid JSON (line 1"),
    "nan": (text(lambda json_text: json_text[:-1] + ', "x": NaN}'), "NaN and Infinity"),
    "same-key-twice": (
        text(lambda json_text: '{"keyID": "a", ' + json_text[1:]),
        "a key appears twice",
    ),
    "nested-deep": (lambda _: "[" * 20_000, "is not valid JSON (nested too deep"),
    "pem-alone": (lambda fields: fields["privateKey"], "is not valid JSON"),
    "api-key": (lambda _: API_KEY, "this is a Skyflow API key"),
    "api-key-object": (lambda _: json.dumps({"apiKey": API_KEY}), "this is a Skyflow API key"),
    "no-client-id": (changed(clientID=None), "clientID is missing"),
    "no-key-id": (changed(keyID=None), "keyID is missing"),
    "no-token-uri": (changed(tokenURI=None), "tokenURI is missing"),
    "no-private-key": (changed(privateKey=None), "privateKey is missing"),
    "two-spellings": (changed(client_id="a" * 32), "clientID is there twice, in two spellings"),
    "id-is-a-number": (changed(clientID=12345), "clientID is not a string"),
    "key-is-a-list": (with_key(str.splitlines), "privateKey is not a string"),
    "id-empty": (changed(keyID="  "), "keyID is empty"),
    "placeholder": (changed(clientID="<YOUR_CLIENT_ID>"), "clientID still holds a placeholder"),
    "control-character": (changed(clientName="or\x07der"), "clientName holds control characters"),
    "plain-http": (uri(f"http://manage.skyflowapis.com{PATH}"), "is not an https:// URL"),
    "unknown-host": (uri(f"https://evil.example{PATH}"), "names a host that is not allowed"),
    "other-port": (uri(f"https://manage.skyflowapis.com:8443{PATH}"), "a host that is not allowed"),
    "host-in-userinfo": (uri(f"https://manage.skyflowapis.com@evil.example{PATH}"), "a user name"),
    "other-path": (uri("https://manage.skyflowapis.com/v1/token"), "has another path than"),
    "uri-query": (uri(f"{TOKEN_URI}?x=1"), "holds a query or a fragment"),
    "uri-blank": (uri(TOKEN_URI.replace("manage", "man age")), "holds blanks"),
    "no-pem": (with_key(lambda pem: "".join(pem.splitlines()[1:-1])), "no complete PEM block"),
    "no-end-line": (with_key(lambda pem: pem.partition("-----END")[0]), "no complete PEM block"),
    "two-pems": (with_key(lambda pem: pem + pem), "several PEM blocks"),
    "public-key": (with_key(relabelled("PUBLIC KEY")), "holds a public key"),
    "certificate": (with_key(relabelled("CERTIFICATE")), "holds a certificate"),
    "other-label": (with_key(relabelled("OPENSSH PRIVATE KEY")), "another kind of PEM block"),
    "encrypted": (with_key(encrypted), "is protected by a password"),
    "elliptic": (
        with_key(lambda _: pkcs8(ec.generate_private_key(ec.SECP256R1()))),
        "is not an RSA key",
    ),
    "1024-bits": (with_key(lambda _: pkcs8(rsa_key("small", 1024))), "fewer than 2048 bits"),
    "no-base64": (with_key(lambda pem: pem[:100] + "*" + pem[101:]), "not base64"),
    "lines-lost": (with_key(without_lines), "is damaged or incomplete"),
    "one-bit": (with_key(inconsistent), "is damaged or incomplete"),
    "expired": (changed(keyValidBeforeTime=stamp(NOW - timedelta(days=1))), "the key expired at"),
    "times-swapped": (
        changed(keyValidAfterTime=stamp(NOW + timedelta(days=400))),
        "keyValidBeforeTime is not after keyValidAfterTime",
    ),
    "time-form": (changed(keyValidBeforeTime="tomorrow"), "keyValidBeforeTime is no RFC 3339 time"),
}


def validate(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    nowhere = Stack(folder, {**clean_environ(), "HOME": str(folder)})
    return nowhere.cli("validate", *more, check=None)


def write(folder: Path, content: str | bytes) -> None:
    (folder / "mounts.yaml").write_text(MANIFEST)
    path = folder / "key.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)


def keys_in(content: str | bytes) -> list[str]:
    """The key's text as this file has it, and the good key that it was made from."""
    try:
        found = json.loads(content)["privateKey"]
    except (ValueError, TypeError, KeyError, RecursionError):
        found = None
    pems = {pkcs8(rsa_key()), pkcs8(rsa_key("small", 1024))}
    return [*pems, *([found] if isinstance(found, str) else [])]


def test_the_unchanged_file_is_valid(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(credential()))
    done = validate(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_kinds_are_as_many_as_promised() -> None:
    assert len(KINDS) >= 25


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_credential_is_said_where_and_why_and_never_shown(tmp_path: Path, kind: str) -> None:
    make, words = KINDS[kind]
    content = make(credential())
    write(tmp_path, content)
    done = validate(tmp_path, "-o", "json")
    assert done.returncode == 65, done.stderr
    told = [error for error in json.loads(done.stdout)["errors"] if words in error["summary"]]
    assert len(told) == 1, done.stdout
    where = told[0]["where"]
    assert f"{where['file']}:{where['line']}:{where['column']}" == PLACE
    assert told[0]["fix"]
    people = validate(tmp_path)
    assert people.returncode == 65
    said = [line for line in people.stderr.splitlines() if words in line]
    assert [line.startswith(f"{PLACE}: error: ") for line in said] == [True], people.stderr
    outputs = {"json": done.stdout + done.stderr, "people": people.stdout + people.stderr}
    assert "Traceback" not in "".join(outputs.values())
    needles = [needle("key", key) for key in keys_in(content) if len(key) > 100]
    assert len(needles) >= 2
    assert find_leaks({name: text.encode() for name, text in outputs.items()}, needles) == []
