"""The lint of a credential: what is mended, what is refused, and that nothing leaks."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from support.keys import credential, pkcs1, pkcs8, rsa_key, stamp
from support.lint import NOW, accept, changed, refuse, rewrapped

from skyflowctl.secret import Secret
from skyflowctl.skyflow.service_account import (
    InvalidCredentialError,
    ServiceAccount,
    load_trusted,
    parse_service_account,
)

# --- a good file


def test_the_file_as_studio_downloads_it():
    fields = credential(now=NOW)
    account, warnings = accept(json.dumps(fields, indent=2))
    assert warnings == []
    assert account == ServiceAccount(
        client_id=fields["clientID"],
        client_name=fields["clientName"],
        key_id=fields["keyID"],
        token_uri=fields["tokenURI"],
        private_key=Secret(fields["privateKey"]),
        key_valid_after=NOW - timedelta(days=30),
        key_valid_before=NOW + timedelta(days=335),
    )


def test_the_normal_form_is_one_line_and_reads_back_equal():
    account, _ = accept(changed())
    text = account.to_json().reveal()
    assert "\n" not in text
    assert load_trusted(text) == account
    assert accept(text) == (account, [])
    assert set(json.loads(text)) == {
        "clientID",
        "clientName",
        "tokenURI",
        "keyID",
        "privateKey",
        "keyValidAfterTime",
        "keyValidBeforeTime",
    }


def test_an_account_does_not_print_its_key():
    account, _ = accept(changed())
    body = account.private_key.reveal().splitlines()[3]
    assert body not in repr(account)
    assert body not in str(account)
    assert body not in f"{account}"


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "{", '{"clientID":7}', json.dumps({"clientID": "x", "keyID": "y"})]
)
def test_a_damaged_store_is_a_finding(text):
    with pytest.raises(InvalidCredentialError) as caught:
        load_trusted(text)
    assert [finding.code for finding in caught.value.findings] == ["stored-credential"]
    assert caught.value.__cause__ is None


# --- what is mended, with a warning


def test_other_spellings_become_camel_case():
    fields = credential(now=NOW)
    snake = {
        "client_id": fields["clientID"],
        "client_name": fields["clientName"],
        "key_id": fields["keyID"],
        "token_uri": fields["tokenURI"],
        "private_key": fields["privateKey"],
        "keyValidAfterTime": fields["keyValidAfterTime"],
        "keyValidBeforeTime": fields["keyValidBeforeTime"],
    }
    node = {**fields, "clientId": fields["clientID"], "tokenUri": fields["tokenURI"]}
    del node["clientID"], node["tokenURI"]
    expected, _ = accept(json.dumps(fields))
    assert accept(json.dumps(snake)) == (expected, ["field-spelling"] * 5)
    assert accept(json.dumps(node)) == (expected, ["field-spelling"] * 2)


MANGLED = {
    "CRLF": lambda pem: pem.replace("\n", "\r\n"),
    "CR": lambda pem: pem.replace("\n", "\r"),
    "escaped twice": lambda pem: pem.replace("\n", "\\n"),
    "escaped three times": lambda pem: pem.replace("\n", "\\\\n"),
    "escaped CRLF": lambda pem: pem.replace("\n", "\\r\\n"),
    "blanks for line ends": lambda pem: pem.replace("\n", " "),
    "one line": lambda pem: pem.replace("\n", ""),
    "indented": lambda pem: pem.replace("\n", "\n    "),
    "76 columns": lambda pem: rewrapped(pem, 76),
}


@pytest.mark.parametrize("how", MANGLED)
def test_a_mangled_key_becomes_canonical(how):
    pem = pkcs8(rsa_key())
    account, warnings = accept(changed(privateKey=MANGLED[how](pem)))
    assert account.private_key.reveal() == pem
    assert warnings == ["key-layout"]


BESIDE = {
    "quoted": '"{key}"',
    "text before it": "Bag Attributes\n    localKeyID: 01\n{key}",
    "certificate before it": "{certificate}{key}",
    "certificate behind it": "{key}{certificate}",
    "as openssl pkcs12 writes it": "Bag Attributes\n{certificate}Key Attributes: -\n{key}",
    "a chain": "{certificate}{certificate}{key}",
}


@pytest.mark.parametrize("how", BESIDE)
def test_point_17_what_stands_beside_an_intact_key_is_no_news(how):
    key = pkcs8(rsa_key())
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    text = BESIDE[how].format(key=key, certificate=certificate)
    account, warnings = accept(changed(privateKey=text))
    assert (account.private_key.reveal(), warnings) == (key, [])


def test_a_key_without_its_last_line_end_is_no_news():
    account, warnings = accept(changed(privateKey=pkcs8(rsa_key()).strip()))
    assert (account.private_key.reveal(), warnings) == (pkcs8(rsa_key()), [])


def test_raw_line_ends_inside_the_json_string():
    text = changed().replace("\\n", "\n")
    account, warnings = accept(text)
    assert account.private_key.reveal() == pkcs8(rsa_key())
    assert warnings == ["raw-line-ends"]


def test_pkcs1_becomes_pkcs8():
    account, warnings = accept(changed(privateKey=pkcs1(rsa_key())))
    assert account.private_key.reveal() == pkcs8(rsa_key())
    assert warnings == ["key-pkcs1"]


def test_blanks_around_an_id_go():
    fields = credential(now=NOW)
    account, warnings = accept(json.dumps({**fields, "clientID": f" {fields['clientID']}\n"}))
    assert (account.client_id, warnings) == (fields["clientID"], ["field-blanks"])


@pytest.mark.parametrize("field", ["clientID", "keyID"])
def test_an_unusual_id_is_a_warning(field):
    assert accept(changed(**{field: "a-readable-id"}))[1] == ["id-form"]


@pytest.mark.parametrize("name", ["clientName", "keyAlgorithm"])
@pytest.mark.parametrize("value", [None, "", "other"])
def test_what_minting_does_not_need_may_be_absent_or_other(name, value):
    text = json.dumps({**credential(now=NOW), name: value})
    assert accept(text)[1] == []


# --- validity


def test_missing_times_are_a_warning():
    account, warnings = accept(changed(keyValidAfterTime=None, keyValidBeforeTime=None))
    assert warnings == ["dates-missing", "dates-missing"]
    assert account.key_valid_before is None


def test_an_expired_key_is_refused_and_its_end_is_said():
    text = changed(keyValidBeforeTime=stamp(NOW - timedelta(seconds=1)))
    with pytest.raises(InvalidCredentialError, match="expired at 2026-11-22T11:59:59Z"):
        parse_service_account(text, now=NOW)


@pytest.mark.parametrize(
    ("days", "codes"), [(29.9, ["key-expires-soon"]), (30, []), (0.1, ["key-expires-soon"])]
)
def test_a_key_that_expires_within_30_days_is_a_warning(days, codes):
    assert accept(changed(keyValidBeforeTime=stamp(NOW + timedelta(days=days))))[1] == codes


def test_a_key_that_is_not_valid_yet_is_a_warning():
    assert accept(changed(keyValidAfterTime=stamp(NOW + timedelta(hours=1))))[1] == [
        "key-not-yet-valid"
    ]


@pytest.mark.parametrize("days", [0, -1])
def test_an_end_that_is_not_after_the_start_is_refused(days):
    start = NOW + timedelta(days=5)
    text = changed(
        keyValidAfterTime=stamp(start), keyValidBeforeTime=stamp(start + timedelta(days=days))
    )
    assert refuse(text) == ["dates-order"]


@pytest.mark.parametrize(
    "value", ["tomorrow", "2027-01-01", "2027-01-01T00:00:00", "0001-01-01T00:00:00+23:00"]
)
def test_an_unreadable_time_is_refused(value):
    assert refuse(changed(keyValidBeforeTime=value)) == ["dates-form"]


def test_normalising_twice_changes_nothing():
    account, _ = accept(changed(privateKey=pkcs1(rsa_key()).replace("\n", " ")))
    again, warnings = accept(account.to_json().reveal())
    assert (again, warnings) == (account, [])
    assert replace(again, client_name="x") != account
