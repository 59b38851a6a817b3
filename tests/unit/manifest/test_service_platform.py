"""What the example's compose file keeps from the services.

Its structure is held to the specification in ``e2e/test_published_schemas.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from skyflowctl.manifest.load import load_manifest

EXAMPLES = Path(__file__).parents[3] / "examples"
COMPOSE = yaml.safe_load((EXAMPLES / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]


def sources(service: dict[str, list[object]], kind: str) -> set[str]:
    listed = service.get(kind, [])
    return {one if isinstance(one, str) else one["source"] for one in listed}


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
