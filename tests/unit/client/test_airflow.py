"""The secrets backend as Airflow calls it.

The interface is that of the public packages apache-airflow 2.11.2 (``airflow/secrets/
base_secrets.py``) and apache-airflow-core 3.3.2 (``airflow/_shared/secrets_backend/base.py``):
``backend(**backend_kwargs)``; then ``get_conn_value(conn_id=…)`` and ``get_variable(key=…)``, from
3.2 on with ``team_name=…`` if the method has a parameter of this name, and ``get_config(key=…)``.
Each returns a text or None, and None leads to the next backend.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.scripted import Answer
from support.token_server import SECRET_ID, TokenServer, refusal, token_server

import skyflowctl.client.airflow as module
from skyflowctl.client import (
    ClientSettingsError,
    PermissionDeniedError,
    ServerUnavailableError,
    TokenSourceError,
)
from skyflowctl.client.airflow import AirflowSecretsBackend

SECRETS = {
    "airflow/data/connections/warehouse": {"conn_uri": "postgres://app:pw@db/main"},
    "airflow/data/connections/mail": {"conn_type": "smtp", "host": "mail", "port": 25},
    "airflow/data/connections/etl/warehouse": {"conn_uri": "postgres://etl:pw@db/etl"},
    "airflow/data/variables/stage": {"value": "production"},
    "airflow/data/variables/limits": {"value": {"rows": 5}},
    "airflow/data/variables/odd": {"text": "no field value"},
    "airflow/data/config/fernet_key": {"value": "the-key"},
}


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with token_server() as running:

        def answer(seen) -> Answer | None:
            path = seen.path.partition("?")[0].removeprefix("/v1/")
            if "/data/" not in path:
                return None
            running.reads.append(path)
            if path not in SECRETS:
                return Answer(404, {"errors": []})
            return Answer(200, {"data": {"data": SECRETS[path], "metadata": {"version": 1}}})

        running.before = answer
        yield running


@pytest.fixture
def backend(server: TokenServer, tmp_path: Path) -> Iterator[Callable[..., AirflowSecretsBackend]]:
    (tmp_path / "role-id").write_text("role")
    (tmp_path / "secret-id").write_text(SECRET_ID)
    files = {f"{one}_id_file": str(tmp_path / f"{one}-id") for one in ("role", "secret")}
    built: list[AirflowSecretsBackend] = []

    def build(**options: object) -> AirflowSecretsBackend:
        given = {"server": server.server.address, "login": {"approle": files}, **options}
        built.append(AirflowSecretsBackend(**json.loads(json.dumps(given))))
        return built[-1]

    yield build
    for one in built:  # Airflow keeps its backend until the process ends
        one._source.close()


def test_connections_are_uris_or_json(server, backend):
    made = backend()
    assert made.get_conn_value(conn_id="warehouse") == "postgres://app:pw@db/main"
    mail = json.loads(made.get_conn_value(conn_id="mail"))
    assert mail == {"conn_type": "smtp", "host": "mail", "port": 25}
    assert server.logins == 1


def test_variables_and_options_are_texts(server, backend):
    made = backend()
    assert made.get_variable(key="stage") == "production"
    assert json.loads(made.get_variable(key="limits")) == {"rows": 5}
    assert made.get_variable(key="odd") is None
    assert made.get_config(key="fernet_key") == "the-key"


def test_what_is_not_there_is_none_and_a_path_of_null_asks_nothing(server, backend):
    made = backend()
    assert made.get_conn_value("other") is None
    assert made.get_variable("other") is None
    assert made.get_config("other") is None
    asked = len(server.reads)
    none = backend(connections_path=None, variables_path=None, config_path=None)
    assert none.get_conn_value("warehouse") is None
    assert none.get_variable("stage") is None
    assert none.get_config("fernet_key") is None
    assert len(server.reads) == asked


def test_a_teams_secret_comes_before_the_one_of_all_teams(server, backend):
    made = backend()
    assert made.get_conn_value(conn_id="warehouse", team_name="etl") == "postgres://etl:pw@db/etl"
    assert made.get_conn_value(conn_id="warehouse", team_name="web") == "postgres://app:pw@db/main"
    assert made.get_variable(key="stage", team_name="etl") == "production"
    for method in (made.get_conn_value, made.get_variable):
        assert inspect.signature(method).parameters["team_name"].default is None


@pytest.mark.parametrize("team", [None, "web", "web/.."])
def test_a_task_cannot_name_the_secret_of_another_team(server, backend, team):
    made = backend()
    assert made.get_conn_value(conn_id="etl/warehouse", team_name=team) is None
    assert server.reads == []


def test_a_variable_that_is_a_token_is_kept_and_sent_with_its_ctx(server, backend):
    wanted = {"mount": "skyflow/order", "role": "producer", "ctx": "order:1"}
    made = backend(tokens={"skyflow_token": wanted}, variables_path=None)
    first = made.get_variable(key="skyflow_token", team_name=None)
    assert first == "bearer-1-order:1"
    assert made.get_variable(key="skyflow_token") == first
    assert server.creds == 1


def test_a_denial_and_an_outage_are_no_missing_secret(server, backend, monkeypatch):
    monkeypatch.setattr("skyflowctl.client.values.SystemTime.sleep", lambda *_: None)
    made = backend()
    for answer, error in (
        (refusal(403, "permission denied"), PermissionDeniedError),
        (refusal(503, "Vault is sealed"), ServerUnavailableError),
    ):
        server.before = lambda seen, own=answer: None if "auth" in seen.path else own
        with pytest.raises(error):
            made.get_conn_value("warehouse")


@pytest.mark.parametrize(
    "options",
    [
        {"login": {"approle": {"role_id_file": "/a"}}},
        {"login": {"approle": {"role_id_file": "/a", "secret_id_file": "/b", "secret_id": "s3"}}},
        {"login": {"ldap": {}}},
        {"login": {}},
        {"login": "s3"},
        {"server": {"nodes": ["https://a"]}},
        {"server": {"address": "https://a", "nodes": "https://b"}},
        {"tokens": {"t": {"mount": "skyflow/order"}}},
        {"tokens": {"t": "s3"}},
    ],
)
def test_an_option_that_cannot_be_used_is_an_error_without_values(backend, options):
    with pytest.raises(ClientSettingsError) as caught:
        backend(**options)
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize(
    ("login", "path"),
    [
        ({"kubernetes": {"role": "r", "mount": "k8s"}}, None),
        ({"jwt": {"role": "r", "mount": "ci"}}, "auth/ci/login"),
        ({"kubernetes": {"role": "r", "mount": "k8s"}}, "auth/k8s/login"),
    ],
)
def test_it_logs_in_by_kubernetes_and_jwt(server, backend, tmp_path, login, path):
    token = tmp_path / "token"
    token.write_text(SECRET_ID)
    ((method, fields),) = login.items()
    given = {method: {**fields, "token_file": str(token)} if path else fields}
    if path is None:  # there is no pod whose token it could send
        with pytest.raises(TokenSourceError):
            backend(login=given).get_variable("stage")
        return
    made = backend(login=given)
    assert made.get_variable("stage") == "production"
    assert server.server.seen[0].path == f"/v1/{path}"


@pytest.mark.parametrize("place", ["airflow.secrets", "airflow.sdk.bases.secrets_backend"])
def test_the_base_class_is_airflows_own_where_it_is_installed(monkeypatch, place):
    class BaseSecretsBackend:
        """As Airflow's: it makes the connection from the text."""

        def get_connection(self, conn_id: str) -> str | None:
            return self.get_conn_value(conn_id=conn_id)

    parts = place.split(".")
    for depth in range(1, len(parts)):
        name = ".".join(parts[:depth])
        package = types.ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    last = types.ModuleType(place)
    last.BaseSecretsBackend = BaseSecretsBackend
    monkeypatch.setitem(sys.modules, place, last)
    monkeypatch.delitem(sys.modules, module.__name__)
    found = importlib.import_module(module.__name__).AirflowSecretsBackend
    monkeypatch.setattr("skyflowctl.client.airflow", module)
    assert issubclass(found, BaseSecretsBackend)
    assert not issubclass(AirflowSecretsBackend, BaseSecretsBackend)
