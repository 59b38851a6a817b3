"""The example's compose file: its structure, and what it keeps from the services.

The structure is that of the compose specification, as far as the file uses it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from skyflowctl.manifest.load import load_manifest

EXAMPLES = Path(__file__).parents[3] / "examples"
COMPOSE = yaml.safe_load((EXAMPLES / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}


def closed(**properties: object) -> dict[str, object]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def named(rule: object) -> dict[str, object]:
    return {"type": "object", "additionalProperties": rule}


FILE = {"anyOf": [TEXT, closed(source=TEXT, target=TEXT, mode={"type": ["string", "number"]})]}
CONDITION = {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}
SERVICE = closed(
    image=TEXT,
    build=closed(context=TEXT, dockerfile_inline=TEXT),
    command=TEXTS,
    entrypoint=TEXTS,
    restart={"type": "string", "pattern": "^(no|always|unless-stopped|on-failure(:[0-9]+)?)$"},
    user=TEXT,
    cap_add=TEXTS,
    ulimits=named({"type": "integer"}),
    environment=named(TEXT),
    configs={"type": "array", "items": FILE},
    secrets={"type": "array", "items": FILE},
    volumes=TEXTS,
    networks=TEXTS,
    depends_on=named(closed(condition=CONDITION)),
    healthcheck=closed(test=TEXTS, interval=TEXT, timeout=TEXT, retries={"type": "integer"}),
)
SCHEMA = {
    **closed(
        name=TEXT,
        services=named(SERVICE),
        networks=named({"type": "object"}),
        volumes=named({"type": "object"}),
        configs=named(closed(file=TEXT, content=TEXT)),
        secrets=named(closed(file=TEXT)),
    ),
    "patternProperties": {"^x-": {}},
}


def sources(service: dict[str, list[object]], kind: str) -> set[str]:
    listed = service.get(kind, [])
    return {one if isinstance(one, str) else one["source"] for one in listed}


def test_the_structure_is_that_of_the_specification():
    Draft202012Validator(SCHEMA).validate(COMPOSE)


def test_everything_that_is_used_is_declared():
    for kind in ("configs", "secrets"):
        used = set().union(*(sources(one, kind) for one in SERVICES.values()))
        assert used == set(COMPOSE[kind])
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        assert set(service["networks"]) <= set(COMPOSE["networks"])
    files = [one["file"] for one in COMPOSE["configs"].values() if "file" in one]
    assert all((EXAMPLES / name).exists() for name in files)


def test_the_server_locks_its_memory_and_publishes_no_port():
    server = SERVICES["openbao"]
    assert (server["cap_add"], server["ulimits"]) == (["IPC_LOCK"], {"memlock": -1})
    assert server["healthcheck"]["test"] == ["CMD", "bao", "status"]
    assert not [name for name, one in SERVICES.items() if "ports" in one]


def test_only_init_has_an_operators_token_and_no_service_another_ones_login():
    holders = [
        name for name, one in SERVICES.items() if "operator_token" in sources(one, "secrets")
    ]
    assert holders == ["init"]
    for name in ("backend", "airflow"):
        assert sources(SERVICES[name], "secrets") == {"ca", f"{name}_role_id", f"{name}_secret_id"}
        assert not [key for key in SERVICES[name]["environment"] if "TOKEN" in key]


def test_services_wait_for_init_and_retry_five_times():
    healthy = {"openbao": {"condition": "service_healthy"}}
    assert SERVICES["init"]["depends_on"] == healthy
    for name in ("backend", "airflow"):
        done = {"init": {"condition": "service_completed_successfully"}}
        assert SERVICES[name]["depends_on"] == done
        assert SERVICES[name]["restart"] == "on-failure:5"


@pytest.mark.parametrize("service", ["backend", "airflow"])
def test_each_login_reads_only_its_own_secret(service):
    manifest = load_manifest([str(EXAMPLES / "service-platform.yaml")], environ={}).manifest
    (login,) = (one for one in manifest.consumers if one.name == service)
    assert login.policies == (f"{service}-policy",)
    (policy,) = (one for one in manifest.policies if one.name == f"{service}-policy")
    assert re.findall('path "([^"]+)"', policy.text) == [f"secret/data/{service}"]
