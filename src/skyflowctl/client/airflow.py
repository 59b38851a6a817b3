"""A secrets backend for Apache Airflow 2 and 3: connections, variables and options from KV v2, and
variables that are Skyflow tokens.

Airflow is no dependency: without it the class can be made too, for a trial. The secrets' fields
are those of Airflow's own backend for Vault (``conn_uri`` or a connection's fields; ``value``), so
that both read the same secrets.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ClientSettingsError, RequestRefusedError
from .logins import AppRole, Jwt, Kubernetes, ServerLogin, TokenFile
from .server import ServerEndpoint
from .source import TokenSource
from .values import SecretFields

_LOGINS: Mapping[str, Mapping[str, bool]] = {
    "approle": {"role_id_file": True, "secret_id_file": True, "mount": False},
    "kubernetes": {"role": True, "token_file": False, "mount": False},
    "jwt": {"role": True, "token_file": True, "mount": False},
    "token_file": {"path": True},
}
"""The fields of each login, and whether it needs them. Files only: Airflow shows its options."""
_TOKEN_FIELDS: Mapping[str, bool] = {"mount": True, "role": True, "ctx": False}


def _airflow_base() -> Any:
    """Return the class that Airflow makes connections with; object where Airflow is not installed.

    ``airflow.secrets`` is in Airflow 2 and in the servers of Airflow 3; a worker of Airflow 3 may
    have the Task SDK alone.
    """
    for module in ("airflow.secrets", "airflow.sdk.bases.secrets_backend"):
        try:
            return importlib.import_module(module).BaseSecretsBackend
        except ImportError:
            continue
    return object


if TYPE_CHECKING:
    _Base = object
else:
    _Base = _airflow_base()


class AirflowSecretsBackend(_Base):
    """Looks up what Airflow asks for. Airflow makes it from ``[secrets] backend_kwargs``.

    A secret that does not exist is None, and Airflow asks its next backend. What cannot be read
    raises a :class:`TokenSourceError`.

    Args:
        connections_path: ``MOUNT/FOLDER`` with a secret for each connection; None: none are here.
        variables_path: the same for variables.
        config_path: the same for options of Airflow that end with ``_secret``.
        tokens: variables that are Skyflow tokens: name -> ``{"mount", "role", "ctx"}``.
        login: one of ``{"approle": {"role_id_file", "secret_id_file", "mount"}}``,
            ``{"kubernetes": {"role", "token_file", "mount"}}``,
            ``{"jwt": {"role", "token_file", "mount"}}``, ``{"token_file": {"path"}}``; None: the
            environment's token.
        server: fields of :class:`ServerEndpoint`, or its address; None: the environment's.

    Raises:
        ClientSettingsError: an option cannot be used.
    """

    def __init__(
        self,
        connections_path: str | None = "airflow/connections",
        variables_path: str | None = "airflow/variables",
        config_path: str | None = "airflow/config",
        *,
        tokens: Mapping[str, Mapping[str, Any]] | None = None,
        login: Mapping[str, Mapping[str, str]] | None = None,
        server: str | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._connections, self._variables = connections_path, variables_path
        self._config = config_path
        self._tokens = dict(tokens or {})
        for name, fields in self._tokens.items():
            _check_fields(f"tokens.{name}", fields, _TOKEN_FIELDS)
        self._source = TokenSource(_login(login), server=_server(server), application="airflow")

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        """Return a connection, as a URI or as JSON.

        Args:
            conn_id: its id.
            team_name: the team of the task, in Airflow's multi-team mode: a secret below a folder
                of this name comes first.
        """
        fields = self._fields(self._connections, conn_id, team_name)
        if fields is None:
            return None
        uri = fields.get("conn_uri")
        return str(uri) if uri else json.dumps(dict(fields))

    def get_variable(self, key: str, team_name: str | None = None) -> str | None:
        """Return a variable; for a name of ``tokens``, a Skyflow token with at least 5 min left."""
        wanted = self._tokens.get(key)
        if wanted is not None:
            token = self._source.token(wanted["mount"], wanted["role"], wanted.get("ctx"))
            return token.access_token
        return _value(self._fields(self._variables, key, team_name))

    def get_config(self, key: str) -> str | None:
        """Return an option of Airflow."""
        return _value(self._fields(self._config, key, None))

    def _fields(self, folder: str | None, name: str, team: str | None) -> SecretFields | None:
        # A slash would let one team's task name the secret of another.
        if folder is None or not name or any("/" in one for one in (name, team or "")):
            return None
        for path in [f"{folder}/{team}/{name}"] * bool(team) + [f"{folder}/{name}"]:
            try:
                return self._source.secrets(path)
            except RequestRefusedError as error:
                if error.status != 404:
                    raise
        return None


def _value(fields: SecretFields | None) -> str | None:
    """Return the field ``value``: Airflow wants a text."""
    value = None if fields is None else fields.get("value")
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _login(given: Any) -> ServerLogin | None:
    if given is None:
        return None
    if not (isinstance(given, Mapping) and len(given) == 1 and given.keys() <= _LOGINS.keys()):
        raise ClientSettingsError(f"login is an object with one of {', '.join(_LOGINS)}")
    ((method, fields),) = given.items()
    _check_fields(f"login.{method}", fields, _LOGINS[method])
    files = {name: Path(text) for name, text in fields.items() if name.endswith(("_file", "path"))}
    place = {"mount": fields["mount"]} if "mount" in fields else {}
    if method == "token_file":
        return TokenFile(files["path"])
    if method == "approle":
        return AppRole(files["role_id_file"], files["secret_id_file"], **place)
    made = Jwt if method == "jwt" else Kubernetes
    token = {"token": files["token_file"]} if files else {}
    return made(fields["role"], **token, **place)  # type: ignore[arg-type]


def _server(given: str | Mapping[str, Any] | None) -> ServerEndpoint | str | None:
    if given is None or isinstance(given, str):
        return given
    _check_fields("server", given, {name: name == "address" for name in ServerEndpoint._fields})
    nodes = given.get("nodes", ())
    if not isinstance(nodes, Sequence) or isinstance(nodes, str):
        raise ClientSettingsError("server.nodes is a list of addresses")
    return ServerEndpoint(**{**given, "nodes": tuple(nodes)})


def _check_fields(name: str, fields: object, known: Mapping[str, bool]) -> None:
    """Raise an error for a field that is missing or not known; its text has no value."""
    if not isinstance(fields, Mapping):
        raise ClientSettingsError(f"{name} is not an object")
    missing = [one for one, needed in known.items() if needed and not fields.get(one)]
    unknown = sorted(str(one) for one in fields.keys() - known.keys())
    if missing or unknown:
        word, names = ("needs", missing) if missing else ("has no field", unknown)
        raise ClientSettingsError(f"{name} {word} {', '.join(names)}")
