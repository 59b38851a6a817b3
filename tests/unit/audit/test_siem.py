"""``audit tail -o ocsf|ecs|cef``: the formats' own rules, and hostile values."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from support.audit_logs import Story, approle, created, hashed, written
from support.cli import invoke

HOSTILE = "a|b=c\\d\nCEF:0|x|y\r\u2028\x1b[2J</script>{}"
TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
IP = {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}


def captions(name: str, words: dict[int, str]) -> list[dict[str, Any]]:
    """OCSF's rule of two fields: the text is the number's caption, unless the number is 99."""
    return [
        {
            "if": {"properties": {f"{name}_id": {"const": number}}, "required": [f"{name}_id"]},
            "then": {"properties": {name: {"const": word}}},
        }
        for number, word in words.items()
    ]


# What OCSF 1.3.0 requires of the class API Activity, with the types of what is written here.
OCSF = {
    "type": "object",
    "required": [
        *("activity_id", "actor", "api", "category_uid", "class_uid", "metadata", "severity_id"),
        *("src_endpoint", "time", "type_uid"),
    ],
    "properties": {
        "activity_id": {"enum": [0, 1, 2, 3, 4, 99]},
        "category_uid": {"const": 6},
        "class_uid": {"const": 6003},
        "severity_id": {"enum": [0, 1, 2, 3, 4, 5, 6, 99]},
        "status_id": {"enum": [0, 1, 2, 99]},
        "status": TEXT,
        "time": {"type": "integer"},
        "type_uid": {"enum": [600302, 600399]},
        "actor": {
            "required": ["user"],
            "properties": {
                "user": {
                    "required": ["name", "type", "type_id"],
                    "properties": {"type": TEXT, "type_id": {"enum": [0, 1, 2, 3, 99]}},
                    "allOf": captions("type", {0: "Unknown", 1: "User", 2: "Admin", 3: "System"}),
                }
            },
        },
        "api": {"required": ["operation"], "properties": {"operation": TEXT}},
        "metadata": {
            "required": ["product", "version"],
            "properties": {
                "version": {"const": "1.3.0"},
                "product": {"required": ["vendor_name"], "properties": {"name": TEXT}},
            },
        },
        "src_endpoint": {"minProperties": 1, "properties": {"ip": IP}},
        "resources": {"type": "array", "items": {"type": "object"}},
        "unmapped": {"type": "object"},
    },
    "allOf": captions("status", {0: "Unknown", 1: "Success", 2: "Failure"}),
}
# Of Elastic Common Schema 8.11: the required fields and the allowed values of event.*.
ECS = {
    "type": "object",
    "required": ["@timestamp", "ecs", "event"],
    "properties": {
        "@timestamp": {"type": "string", "format": "date-time"},
        "ecs": {"required": ["version"], "properties": {"version": {"const": "8.11.0"}}},
        "event": {
            "required": ["kind", "category", "type", "outcome", "action", "id"],
            "properties": {
                "kind": {"const": "event"},
                "category": {"const": ["api"]},
                "type": {"items": {"enum": ["access", "allowed", "denied"]}},
                "outcome": {"enum": ["success", "failure", "unknown"]},
                "id": TEXT,
            },
        },
        "source": {"properties": {"ip": IP}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


@pytest.fixture
def log(tmp_path):
    told = Story(plain_ctx=True)
    orders, hostile = told.login(approle("orders")), told.login(created(HOSTILE))
    told.creds(orders, "order:1", claimed="checkout")
    told.sign(orders, "order:2", data_tokens=("5479-4229",))
    told.creds(orders, "order:3", outcome="denied")
    told.creds(hostile, HOSTILE, role=HOSTILE, claimed=HOSTILE)
    told.creds(orders, "order:4", outcome="unknown")
    told.plain_ctx = False
    told.creds(orders, "order:5")
    told.creds(None, "order:6", outcome="denied")
    told.creds(orders, "order:7", outcome="failed")
    told.creds(orders, "order:8", outcome="refused")
    return written(tmp_path, "audit.log", told.device())


def lines(log: str, form: str) -> list[str]:
    done = invoke("audit", "tail", log, "-o", form)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("\n")
    return done.stdout[:-1].split("\n")


@pytest.mark.parametrize(("form", "schema"), [("ocsf", OCSF), ("ecs", ECS)])
def test_every_event_keeps_the_rules_of_its_schema(log, form, schema):
    events = [json.loads(line) for line in lines(log, form)]
    assert len(events) == 9
    for event in events:
        Draft202012Validator(schema, format_checker=FormatChecker()).validate(event)
    assert form == "ecs" or all(
        one["type_uid"] == 6003 * 100 + one["activity_id"] for one in events
    )


def test_outcomes_in_the_words_of_each_format(log):
    assert [json.loads(one)["status_id"] for one in lines(log, "ocsf")] == [
        1,
        1,
        2,
        1,
        0,
        1,
        2,
        2,
        2,
    ]
    outcomes = [json.loads(one)["event"]["outcome"] for one in lines(log, "ecs")]
    assert outcomes == [
        *("success", "success", "failure", "success", "unknown", "success"),
        *("failure", "failure", "failure"),
    ]


def test_the_schemas_word_and_the_logs_own_word_are_told_apart(log):
    events = [json.loads(one) for one in lines(log, "ocsf")]
    assert [(one["status"], one["unmapped"]["outcome"]) for one in events[2:]] == [
        ("Failure", "denied"),
        ("Success", "granted"),
        ("Unknown", "unknown"),
        ("Success", "granted"),
        ("Failure", "denied"),
        ("Failure", "failed"),
        ("Failure", "refused"),
    ]
    users = [events[number]["actor"]["user"] for number in (0, 6)]
    assert [(one["type"], one["type_id"]) for one in users] == [("approle", 99), ("Unknown", 0)]


def test_only_a_denial_is_a_denial(log):
    types = [json.loads(one)["event"]["type"] for one in lines(log, "ecs")]
    assert types[2] == types[6] == types[8] == ["access", "denied"]
    assert types[7] == types[4] == ["access"]
    assert types[0] == ["access", "allowed"]


def parsed(line: str) -> tuple[list[str], dict[str, str]]:
    """A CEF line, as a reader takes it apart."""
    *head, rest = re.split(r"(?<!\\)(?:\\\\)*\|", line, maxsplit=7)
    pairs = re.findall(r"(\w+)=((?:[^=\\]|\\.)*)(?= \w+=|$)", rest)
    plain = {"n": "\n", "r": "\r"}
    return head, {
        key: re.sub(r"\\(.)", lambda m: plain.get(m[1], m[1]), value) for key, value in pairs
    }


def test_cef_has_its_header_and_one_line_for_each_event(log):
    found = [parsed(line) for line in lines(log, "cef")]
    assert len(found) == 9
    for head, fields in found:
        assert head[0] == "CEF:0"
        assert len(head) == 7
        assert {"rt", "outcome", "externalId", "request"} <= set(fields)
    assert [head[4] for head, _ in found] == ["creds", "sign", *["creds"] * 7]
    assert found[0][1]["suser"] == "orders"
    assert found[0][1]["cs1Label"] == "ctx"


def test_hostile_values_stay_one_value(log):
    _, fields = parsed(lines(log, "cef")[3])
    assert fields["cs1"] == HOSTILE.replace("\u2028", "\\u2028").replace("\x1b", "\\u001b")
    assert json.loads(lines(log, "ocsf")[3])["unmapped"]["ctx"] == HOSTILE
    assert json.loads(lines(log, "ecs")[3])["labels"]["ctx"] == HOSTILE


@pytest.mark.parametrize("form", ["ocsf", "ecs", "cef"])
def test_a_hashed_ctx_stays_a_hash_and_no_data_token_is_shown(log, form):
    shown = lines(log, form)
    assert hashed("order:5") in shown[5]
    assert "order:5" not in shown[5].replace(hashed("order:5"), "")
    assert "5479-4229" not in "".join(shown)
    assert hashed("5479-4229") not in "".join(shown)
