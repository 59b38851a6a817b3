"""The server's configuration: the same for storage in memory now and raft later."""

from urllib.parse import quote

from skyflowctl.devstack.layout import DevLayout
from skyflowctl.devstack.recognise import DEV_HEADER

BOOT_TOKEN_VARIABLE = "SKYFLOWCTL_DEV_BOOT_TOKEN"  # noqa: S105 - a name, not a token
UNSEAL_KEY_VARIABLE = "SKYFLOWCTL_DEV_UNSEAL_KEY"

_TEMPLATE = """\
# Written by skyflowctl dev up. Secrets come from its environment, not from here.
cluster_name = "skyflowctl-dev"

storage "inmem" {{}}

listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_cert_file = {certificate}
  tls_key_file = {private_key}
  custom_response_headers {{
    "default" = {{
      "{dev_header}" = [{root}]
    }}
  }}
}}

api_addr = "https://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster_port}"
plugin_directory = {plugins}

seal "static" {{
  current_key_id = "dev"
  current_key = "env://{unseal_variable}"
}}

audit "file" "file" {{
  options {{
    file_path = {audit_log}
  }}
}}

initialize "operator" {{
  request "token" {{
    operation = "update"
    path = "auth/token/create-orphan"
    data = {{
      id = {{
        eval_type = "string"
        eval_source = "env"
        env_var = "{boot_variable}"
        require_present = true
      }}
      display_name = "dev-operator"
      policies = ["root"]
      no_default_policy = true
    }}
  }}
}}
"""


def server_config(layout: DevLayout, port: int) -> str:
    """Return the HCL for a server on ``port``, with its cluster listener on the next."""
    return _TEMPLATE.format(
        port=port,
        cluster_port=port + 1,
        certificate=_quoted(layout.certificate),
        private_key=_quoted(layout.private_key),
        plugins=_quoted(layout.plugins),
        audit_log=_quoted(layout.audit_log),
        root=_quoted(quote(str(layout.root))),
        dev_header=DEV_HEADER,
        boot_variable=BOOT_TOKEN_VARIABLE,
        unseal_variable=UNSEAL_KEY_VARIABLE,
    )


def _quoted(value: object) -> str:
    return '"' + "".join(map(_escaped, str(value))) + '"'


def _escaped(char: str) -> str:
    """Escape a character for an HCL 1 string, in which ${ would begin an interpolation."""
    if char in '"\\':
        return "\\" + char
    return char if char != "$" and char.isprintable() else f"\\U{ord(char):08x}"
