"""Inputs that went wrong once: keys with text around them, seconds, ${NAME} in flow maps."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.cli import invoke

from skyflowctl.clock import parse_duration
from skyflowctl.manifest import yaml_events
from skyflowctl.manifest.messages import EXPECTED
from skyflowctl.skyflow.service_account import InvalidCredentialError, parse_service_account

NOW = datetime.now(UTC)
ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "schemas" / "mounts.schema.json").read_text())
# What JSON Schema 2020-12 itself has; Ajv's strict mode, its default, refuses all else.
STANDARD = frozenset(
    [
        "$schema",
        "$id",
        "$defs",
        "$ref",
        "title",
        "description",
        "type",
        "properties",
        "additionalProperties",
        "required",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "items",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minLength",
        "maxLength",
        "pattern",
        "enum",
        "const",
        "not",
        "anyOf",
        "examples",
        "default",
        "minimum",
        "maximum",
    ]
)


@pytest.fixture(scope="module")
def key() -> str:
    made = rsa.generate_private_key(65537, 2048)
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def validate(folder: Path, manifest: str):
    (folder / "m.yaml").write_text(manifest)
    done = invoke("validate", "-f", str(folder / "m.yaml"), "-o", "json")
    return done.exit_code, json.loads(done.stdout)["errors"]


MANIFEST = """\
version: 1
manifest: t
plugin: {name: skyflow, version: v1.0.0}
mounts:
  order:
    credentials: {file: c.json}
    roles:
      w: {role_ids: [r1]}
"""


def credential(key: str, **changes: str) -> str:
    return json.dumps(
        {
            "clientID": "0123456789abcdef0123456789abcdef",
            "clientName": "shop-order",
            "tokenURI": "https://manage.skyflowapis.com/v1/auth/sa/oauth/token",
            "keyID": "fedcba9876543210fedcba9876543210",
            "privateKey": key,
            **changes,
        }
    )


# 17-key-with-text-before-it
BEFORE = [
    "Bag Attributes\n    localKeyID: 01\nKey Attributes: <No Attributes>\n",
    "subject=CN = <your name>\n",
    "YOUR_ORG service account\n",
]


@pytest.mark.parametrize("before", BEFORE)
def test_a_key_with_explaining_lines_before_it_is_valid(tmp_path, key, before):
    (tmp_path / "c.json").write_text(credential(before + key))
    (tmp_path / "c.json").chmod(0o600)
    assert validate(tmp_path, MANIFEST) == (0, [])


@pytest.mark.parametrize("name", ["order <prod>", "<prod>", "YOUR_TEAM order", "a ${b} c"])
def test_a_display_name_holds_anything_printable(key, name):
    account, _ = parse_service_account(credential(key, clientName=name), now=NOW)
    assert account.client_name == name


@pytest.mark.parametrize(
    "changed",
    [
        {"clientID": "<YOUR_CLIENT_ID>"},
        {"keyID": "your-key-here"},
        {"keyID": "your_key_id"},
        {"clientID": "${CLIENT_ID}"},
        {"clientID": "{{ client_id }}"},
        {"clientID": "CHANGEME"},
        {"privateKey": "-----BEGIN PRIVATE KEY-----\n<YOUR_KEY>\n-----END PRIVATE KEY-----\n"},
    ],
)
def test_a_whole_value_that_is_a_placeholder_is_refused(key, changed):
    with pytest.raises(InvalidCredentialError) as refused:
        parse_service_account(credential(key, **changed), now=NOW)
    assert [one.code for one in refused.value.findings] == ["placeholder"]


# 20-durations-in-seconds
def with_age(value: str) -> str:
    return MANIFEST.replace("mounts:", f"defaults: {{rotation: {{max_age: {value}}}}}\nmounts:")


@pytest.mark.parametrize("value", ["7776000", "3600", "86400", "90", "5000", "999999999"])
def test_every_duration_that_a_fix_suggests_is_accepted(tmp_path, key, value):
    (tmp_path / "c.json").write_text(credential(key))
    (tmp_path / "c.json").chmod(0o600)
    code, (error,) = validate(tmp_path, with_age(value))
    assert (code, error["code"]) == (65, "quote-it")
    suggested = error["fix"].removeprefix("give it a unit: ").split(" or ")
    assert suggested[0] == f"{value}s"
    for one in suggested:
        assert parse_duration(one).total_seconds() == int(value)
        assert validate(tmp_path, with_age(one)) == (0, [])


def test_seconds_are_offered_as_days_too(tmp_path):
    _, errors = validate(tmp_path, with_age("7776000"))
    assert "give it a unit: 7776000s or 90d" in [one["fix"] for one in errors]


@pytest.mark.parametrize(
    ("value", "code"),
    [("-5", "quote-it"), ("1.5", "quote-it"), ("true", "quote-it"), ("99999999999", "quote-it"),
     ("999999d", "bad-duration"), ("9999999999s", "bad-duration"), ("100000d", "bad-duration")],
)  # fmt: skip
def test_a_number_that_is_no_duration_gets_an_example_that_is_one(tmp_path, value, code):
    (tmp_path / "c.json").write_text("{}")
    exit_code, errors = validate(tmp_path, with_age(value))
    error = next(one for one in errors if "max_age" in one["summary"])
    assert (exit_code, error["code"]) == (65, code)
    assert error["fix"].startswith(("use a duration such as 90d", "use 90d"))


@pytest.mark.parametrize(
    ("line", "key_of"), [("        role_ids: [1 2]", "r"), ("        role_ids: [-1]", "r")]
)
def test_quoting_is_suggested_only_where_the_quoted_text_is_valid(tmp_path, line, key_of):
    text = MANIFEST.replace("      w: {role_ids: [r1]}", f"      w:\n{line}")
    _, errors = validate(tmp_path, text)
    error = next(one for one in errors if "role_ids" in one["summary"])
    assert key_of
    assert "quote it" not in error["fix"]
    assert error["fix"].startswith("use 1 to 128 letters")


def test_a_suggested_probe_satisfies_the_roles_own_pattern(tmp_path, key):
    (tmp_path / "c.json").write_text(credential(key))
    (tmp_path / "c.json").chmod(0o600)
    for pattern in ("ticket:*", "*-order", "*mid*", "exact"):
        rule = f'{{role_ids: [r1], ctx: {{pattern: "{pattern}"}}}}'
        text = MANIFEST.replace("{role_ids: [r1]}", rule)
        _, (error,) = validate(tmp_path, text)
        probe = error["fix"].partition("such as ")[2]
        text = text.replace(f'"{pattern}"}}', f'"{pattern}", {probe}}}')
        assert validate(tmp_path, text) == (0, []), text


# 21-interpolation-in-a-flow-map
FLOWS = [
    ("credentials: {file: ${HOME}/c.json}", "${HOME}/c.json", "HOME"),
    ("credentials: {file: ${HOME}}", "${HOME}", "HOME"),
    ("credentials: {file: ${A:-b}/x.json}", "${A:-b}/x.json", "A"),
    ("tags: [a, ${TAG}]", "${TAG}", "TAG"),
]


@pytest.mark.parametrize("libyaml", [True, False])
@pytest.mark.parametrize(("line", "value", "name"), FLOWS)
def test_a_variable_in_a_flow_map_is_told_to_be_quoted(
    tmp_path, monkeypatch, line, value, name, libyaml
):
    if not libyaml:
        monkeypatch.setattr(yaml, "__with_libyaml__", False)
    text = MANIFEST.replace("credentials: {file: c.json}", line)
    code, (error,) = validate(tmp_path, text)
    assert (code, error["fix"]) == (65, f'quote it: "{value}"')
    assert f"${{{name}}}" in error["why"]
    assert error["where"]["line"] == 6
    quoted = text.replace(value, f'"{value}"')
    assert list(yaml_events.yaml_events(quoted))  # what the fix says is YAML


def test_other_missing_brackets_keep_their_words(tmp_path):
    _, (error,) = validate(tmp_path, MANIFEST.replace("c.json}", "c.json"))
    assert "${" not in error["why"]


# 28-schema-in-a-strict-validator
def keywords(part, place="#"):
    if isinstance(part, dict):
        for key, value in part.items():
            yield key, place
            if key in ("properties", "$defs"):
                for name, rule in value.items():
                    yield from keywords(rule, f"{place}/{key}/{name}")
            elif key not in ("examples", "const", "enum", "default", "required"):
                yield from keywords(value, f"{place}/{key}")
    elif isinstance(part, list):
        for index, item in enumerate(part):
            yield from keywords(item, f"{place}/{index}")


def test_the_schema_has_no_keyword_that_a_strict_validator_refuses():
    seen = list(keywords(SCHEMA))
    assert len(seen) > 200
    assert [one for one in seen if one[0] not in STANDARD] == []


def test_the_schema_names_one_type_at_a_time_as_strict_types_asks():
    def types(part):
        if isinstance(part, dict):
            if "type" in part and not isinstance(part["type"], dict):
                yield part["type"]
            for key, value in part.items():
                if key != "examples":
                    yield from types(value)
        elif isinstance(part, list):
            for item in part:
                yield from types(item)

    found = list(types(SCHEMA))
    assert len(found) > 30
    assert all(isinstance(one, str) for one in found)


def test_every_pattern_of_the_schema_has_its_words():
    def patterns(part):
        if isinstance(part, dict):
            if isinstance(part.get("pattern"), str):
                yield part["pattern"]
            for key, value in part.items():
                if key != "examples":
                    yield from patterns(value)

    assert set(patterns(SCHEMA)) == set(EXPECTED)


# 20-printed-values
PLACES = {
    "max_age": MANIFEST.replace("    roles:", "    rotation: {max_age: VALUE}\n    roles:"),
    "renew_before": MANIFEST.replace(
        "    roles:", "    rotation: {renew_before: VALUE}\n    roles:"
    ),
    "tag": MANIFEST.replace("    roles:", "    tags: [VALUE]\n    roles:"),
    "description": MANIFEST.replace("    roles:", "    description: VALUE\n    roles:"),
    "version": MANIFEST.replace("version: 1\n", "version: VALUE\n"),
    "plugin version": MANIFEST.replace("v1.0.0", "VALUE"),
    "protect": MANIFEST.replace("    roles:", "    protect: VALUE\n    roles:"),
    "name of a mount": MANIFEST.replace("  order:", "  VALUE:"),
    "name of a role": MANIFEST.replace("      w:", "      VALUE:"),
}
VALUES = [
    "0",
    "90",
    "1e3",
    "0x10",
    "0X1F",
    "60:00",
    "017",
    "1_000",
    "yes",
    "2026-11-22",
    "1.5",
    "-5",
]


def as_printed(fix: str) -> str | None:
    """The value that a fix prints, as it stands there."""
    for before in ("quote it: ", "give it a unit: ", "such as ", "write "):
        if before in fix:
            return re.split(r" or |, ", fix.partition(before)[2])[0].removeprefix("version: ")
    return None


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", VALUES)
def test_point_13_a_printed_value_passes_its_own_check(tmp_path, key, place, value):
    (tmp_path / "c.json").write_text(credential(key))
    (tmp_path / "c.json").chmod(0o600)
    _, problems = validate(tmp_path, PLACES[place].replace("VALUE", value))
    for problem in problems:
        printed = as_printed(problem["fix"])
        if printed is not None:
            again = validate(tmp_path, PLACES[place].replace("VALUE", printed))
            assert again == (0, []), (problem["fix"], printed)


@pytest.mark.parametrize("value", ["0", "1e3", "0x10", "60:00", "017"])
def test_point_13_the_fix_of_a_duration_is_a_duration(tmp_path, value):
    _, problems = validate(tmp_path, PLACES["max_age"].replace("VALUE", value))
    assert "use a duration such as 90d" in problems[0]["fix"]
