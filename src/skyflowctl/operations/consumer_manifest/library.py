"""Source code and settings for applications that use the client library."""

import json
from collections.abc import Callable, Mapping

from skyflowctl.operations.consumer_manifest.request import Family, SnippetRequest

_TYPES = ("approle", "kubernetes", "jwt")


def library_family(title: str, render: Callable[[SnippetRequest], str]) -> Family:
    """Return what there is to know of a program that uses the library, which renews a token when
    20 of its 60 minutes are left."""
    return Family(title, _TYPES, render, refresh="40m")


def python_code(request: SnippetRequest) -> str:
    """Return a module of Python."""
    login = request.consumer.type
    name = {"approle": "AppRole", "kubernetes": "Kubernetes", "jwt": "Jwt"}[login]
    folder = f"/etc/{request.name}"
    files = {"approle": ("role-id", "secret-id"), "kubernetes": (), "jwt": ("jwt",)}[login]
    paths = [f"Path({_text(f'{folder}/{file}')})" for file in files]
    role = [] if login == "approle" else [_text(request.consumer.name)]
    arguments = [*role, *paths, f"mount={_text(request.consumer.method)}"]
    lines = "".join(f"        {one},\n" for one in arguments)
    example = _text(request.ctx) if request.ctx else ""
    given, sent = ("ctx: str", ", ctx") if request.ctx else ("", "")
    return f"""\
# Skyflow tokens for {request.consumer.name}: keep this module's source, and for each use
# bearer = token({example})  A private CA: BAO_CACERT=ca.pem
# With the distribution skyflowctl-client, the library's module is skyflowctl_client.
{"from pathlib import Path" + chr(10) * 2 if files else ""}\
from skyflowctl.client import {name}, TokenSource

source = TokenSource(
    {name}(
{lines}    ),
    server={_text(request.address)},
    application={_text(request.consumer.name)},
)


def token({given}) -> str:
    \"\"\"Return a token with at least 5 minutes left. Equal calls share one request.\"\"\"
    return source.token({_text(request.mount)}, {_text(request.role)}{sent}).access_token
"""


def airflow_settings(request: SnippetRequest) -> str:
    """Return a section of ``airflow.cfg``."""
    wanted = {"mount": request.mount, "role": request.role}
    if request.ctx:
        wanted["ctx"] = request.ctx
    options = {
        "server": request.address,
        "login": {request.consumer.type: _airflow_login(request)},
        "tokens": {"skyflow_token": wanted},
        "connections_path": None,
        "variables_path": None,
        "config_path": None,
    }
    lines = ",\n".join(f'    "{name}": {_option(value)}' for name, value in options.items())
    return f"""\
# airflow.cfg of schedulers and workers, which have skyflowctl-client installed. A private CA:
# BAO_CACERT=ca.pem in their environment. A task reads a token for each use:
# Variable.get("skyflow_token")
# {request.consumer.name} reads no connections: give it a policy for KV, and name the folders.
[secrets]
backend = skyflowctl_client.airflow.AirflowSecretsBackend
backend_kwargs = {{
{lines}
    }}
"""


def _airflow_login(request: SnippetRequest) -> Mapping[str, str]:
    folder, consumer = f"/etc/{request.name}", request.consumer
    own = {
        "approle": {
            "role_id_file": f"{folder}/role-id",
            "secret_id_file": f"{folder}/secret-id",
        },
        "kubernetes": {"role": consumer.name},
        "jwt": {"role": consumer.name, "token_file": f"{folder}/jwt"},
    }[consumer.type]
    return {**own, "mount": consumer.method}


def _option(value: object) -> str:
    """Return JSON in which the settings file and Airflow replace nothing."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("$", "\\u0024").replace("%", "\\u0025")


def _text(value: str) -> str:
    """Return a text as Python and JSON write it: a printable one needs no other escapes."""
    return json.dumps(value, ensure_ascii=False)
