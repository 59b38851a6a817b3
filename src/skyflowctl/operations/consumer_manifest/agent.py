"""The configuration files of ``bao agent`` and ``bao proxy``."""

import json
from collections.abc import Callable, Mapping

from skyflowctl.hcl import quoted
from skyflowctl.operations.consumer_manifest.request import REFRESH, SnippetRequest


def agent_file(request: SnippetRequest) -> str:
    """Return the file of an agent that keeps a fresh token in a file."""
    folder = f"/run/{request.name}"
    return f"""\
# Start: bao agent -config=agent.hcl
# The application reads the token from {folder}/skyflow-token for each call.
# Without the interval, the agent would ask every 5 minutes.
{_login(request)}
template_config {{
  static_secret_render_interval = "{REFRESH}"
}}

template {{
  destination = {quoted(f"{folder}/skyflow-token")}
  perms       = "0600"
  contents    = <<EOT
{token_template(request).removesuffix("}}")}-}}}}
EOT
}}
"""


def proxy_file(request: SnippetRequest) -> str:
    """Return the file of a proxy that logs in for the application."""
    body = {"ctx": request.ctx} if request.ctx else {}
    return f"""\
# Start: bao proxy -config=proxy.hcl
# The application sends this request to the proxy, without a token, with the header
# X-Vault-Request: true, and takes data.access_token:
#   POST http://127.0.0.1:8100/v1/{request.path}
#   {json.dumps(body, ensure_ascii=False)}
# The proxy keeps no token: the application keeps it, and asks again every {REFRESH} (a token lives
# about 60 minutes; data.expires_at says exactly how long).
{_login(request)}
api_proxy {{
  use_auto_auth_token = "force"
}}

listener "tcp" {{
  address                = "127.0.0.1:8100"
  tls_disable            = true
  require_request_header = true
}}
"""


def token_template(request: SnippetRequest) -> str:
    """Return the template that reads a token; a ctx is sent in the request's body."""
    ctx = f" {quoted(f'ctx={request.ctx}')}" if request.ctx else ""
    return f'{{{{ with secret "{request.path}"{ctx} }}}}{{{{ .Data.access_token }}}}{{{{ end }}}}'


def _login(request: SnippetRequest) -> str:
    consumer = request.consumer
    kind, config = consumer.type, _LOGINS[consumer.type](request)
    width = max(len(name) for name in config)
    lines = "\n".join(f"      {name:<{width}} = {value}" for name, value in config.items())
    return f"""
vault {{
  address = {quoted(request.address)}
}}

auto_auth {{
  method "{kind}" {{
    mount_path = {quoted(f"auth/{consumer.method}")}
    config = {{
{lines}
    }}
  }}
}}
"""


def _approle(request: SnippetRequest) -> Mapping[str, str]:
    folder = f"/etc/{request.name}"
    return {
        "role_id_file_path": quoted(f"{folder}/role-id"),
        "secret_id_file_path": quoted(f"{folder}/secret-id"),
        "remove_secret_id_file_after_reading": "false",  # for a restart
    }


def _kubernetes(request: SnippetRequest) -> Mapping[str, str]:
    return {"role": quoted(request.consumer.name)}


def _jwt(request: SnippetRequest) -> Mapping[str, str]:
    return {
        "role": quoted(request.consumer.name),
        "path": quoted(f"/etc/{request.name}/jwt"),
        "remove_jwt_after_reading": "false",
    }


def _cert(request: SnippetRequest) -> Mapping[str, str]:
    return {
        "name": quoted(request.consumer.name),
        "client_cert": quoted(f"/etc/{request.name}/client.pem"),
        "client_key": quoted(f"/etc/{request.name}/client.key"),
    }


_LOGINS: Mapping[str, Callable[[SnippetRequest], Mapping[str, str]]] = {
    "approle": _approle,
    "cert": _cert,
    "jwt": _jwt,
    "kubernetes": _kubernetes,
}
