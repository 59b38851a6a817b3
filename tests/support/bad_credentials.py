"""Every way in which a credential's file can be bad, made from a good one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec

from support.keys import TOKEN_URI, pkcs8, rsa_key, stamp

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
    "latin-1": (lambda _: b'{"clientName": "M\xfcller"}', "is not UTF-8 text"),
    "utf-16": (lambda fields: json.dumps(fields).encode("utf-16"), "is not UTF-8 text"),
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
    "two-spellings": (changed(client_id="a" * 32), "clientID appears twice, in two spellings"),
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
    "uri-blank": (uri(TOKEN_URI.replace("manage", "man age")), "contains spaces"),
    "no-pem": (with_key(lambda pem: "".join(pem.splitlines()[1:-1])), "no complete PEM block"),
    "no-end-line": (with_key(lambda pem: pem.partition("-----END")[0]), "no complete PEM block"),
    "two-pems": (with_key(lambda pem: pem + pem), "several private keys"),
    "public-key": (with_key(relabelled("PUBLIC KEY")), "contains a public key"),
    "certificate": (with_key(relabelled("CERTIFICATE")), "contains a certificate"),
    "other-label": (with_key(relabelled("OPENSSH PRIVATE KEY")), "another type of PEM block"),
    "encrypted": (with_key(encrypted), "is protected by a password"),
    "elliptic": (
        with_key(lambda _: pkcs8(ec.generate_private_key(ec.SECP256R1()))),
        "is not an RSA key",
    ),
    "1024-bits": (with_key(lambda _: pkcs8(rsa_key("small", 1024))), "fewer than 2048 bits"),
    "no-base64": (with_key(lambda pem: pem[:100] + "*" + pem[101:]), "not base64"),
    "lines-lost": (with_key(without_lines), "is damaged or incomplete"),
    "one-bit": (with_key(inconsistent), "is damaged: its parts do not agree"),
    "expired": (changed(keyValidBeforeTime=stamp(NOW - timedelta(days=1))), "the key expired at"),
    "times-swapped": (
        changed(keyValidAfterTime=stamp(NOW + timedelta(days=400))),
        "keyValidBeforeTime is not after keyValidAfterTime",
    ),
    "time-form": (
        changed(keyValidBeforeTime="tomorrow"),
        "keyValidBeforeTime is not an RFC 3339 time",
    ),
}
