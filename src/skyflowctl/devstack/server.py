"""Starts the stack's OpenBao, and checks when it is ready."""

import http.client
import json
import shutil
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from skyflowctl.devstack.layout import DevLayout, ServerStorage, ensure_secret
from skyflowctl.devstack.processes import alive, server_port, start_detached, wait_until
from skyflowctl.devstack.recognise import DEV_HEADER
from skyflowctl.devstack.state import Part
from skyflowctl.errors import SkyflowctlError
from skyflowctl.hcl import quoted
from skyflowctl.private_files import make_private_folder, write_private

START_SECONDS = 30.0
_LOG_TAIL_LINES = 6
_IN_MEMORY = 'storage "inmem" {}'
# Without the multiplier, the first election takes five times as long (measured).
_ON_DISK = """\
storage "raft" {{
  path = {path}
  node_id = "dev"
  performance_multiplier = 1
}}"""
BOOT_TOKEN_VARIABLE = "SKYFLOWCTL_DEV_BOOT_TOKEN"  # noqa: S105 - a name, not a token
UNSEAL_KEY_VARIABLE = "SKYFLOWCTL_DEV_UNSEAL_KEY"
_TEMPLATE = """\
# Written by skyflowctl dev up. Secrets come from its environment, not from here.
cluster_name = "skyflowctl-dev"

{storage}

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


def start_server(
    layout: DevLayout,
    binary: Path,
    storage: ServerStorage,
    *,
    preferred_port: int | None,
    environ: Mapping[str, str],
) -> tuple[Part, str]:
    """Start the server and wait until it is unsealed.

    Returns:
        The running part, and the id of its cluster, which is new for a server without data.

    Raises:
        SkyflowctlError: it ended, or was not ready in time; its last log lines say why.
    """
    port = server_port(preferred_port)
    if storage == "raft":
        _prepare_data(layout)
    write_private(layout.server_config, server_config(layout, port, storage))
    earlier = log_size(layout.server_log)
    record = start_detached(
        [str(binary), "server", "-config", str(layout.server_config)],
        log=layout.server_log,
        environ=_server_environ(layout, environ),
        cwd=layout.root,
    )
    part = Part(record, port)
    if not wait_until(
        lambda: cluster_id(layout, part) != "", alive=lambda: alive(record), seconds=START_SECONDS
    ):
        raise not_ready("the OpenBao server", layout.server_log, earlier, ended=not alive(record))
    if storage == "raft":
        write_private(layout.initialized, "")
    return part, cluster_id(layout, part)


def _prepare_data(layout: DevLayout) -> None:
    """Remove the rest of a first start that was killed: no server would start with it."""
    if layout.storage == "inmem" and layout.data.exists():
        shutil.rmtree(layout.data)
    make_private_folder(layout.data / "raft")


def cluster_id(layout: DevLayout, part: Part) -> str:
    """Return the id of the unsealed cluster that serves there; empty: none does."""
    status, body = _health(layout, part)
    return str(body.get("cluster_id", "")) if status == 200 else ""


def is_sealed(layout: DevLayout, part: Part) -> bool:
    """Return whether a server answers there and is sealed."""
    return _health(layout, part)[1].get("sealed") is True


def _health(layout: DevLayout, part: Part) -> tuple[int, dict[str, Any]]:
    """Return the status and body of the server's health; 0 and {} without an answer."""
    context = ssl.create_default_context(cafile=layout.ca)
    client = http.client.HTTPSConnection("127.0.0.1", part.port, timeout=5, context=context)
    try:
        client.request("GET", "/v1/sys/health")
        reply = client.getresponse()
        body = json.loads(reply.read())
        return reply.status, body if isinstance(body, dict) else {}
    except (OSError, ValueError, http.client.HTTPException):
        return 0, {}
    finally:
        client.close()


def log_size(log: Path) -> int:
    """Return the current size of a log in bytes, where a part that starts now will write."""
    return log.stat().st_size if log.exists() else 0


def not_ready(what: str, log: Path, start: int, *, ended: bool) -> SkyflowctlError:
    """Return the error for a part that did not start.

    Args:
        what: the part's name in messages.
        log: its log, whose last lines are shown.
        start: the offset in the log at which this start began, in bytes.
        ended: whether the process has ended.
    """
    written = log.read_bytes()[start:].decode(errors="replace") if log.exists() else ""
    lines = [line.strip() for line in written.splitlines() if line.strip()]
    return SkyflowctlError(
        f"{what} {'ended at once' if ended else f'was not ready after {START_SECONDS:.0f} s'}",
        why=" | ".join(lines[-_LOG_TAIL_LINES:]) or "it logged nothing",
        fix=f"see {log}; 'skyflowctl dev reset' starts over with new files",
        code="dev-stack-start",
    )


def _server_environ(layout: DevLayout, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the server's environment: its secrets, without the caller's settings.

    The engine inherits it, and it overrides the environment of a catalog entry (measured), so it
    names the CA that the engine trusts.
    """
    kept = {name: value for name, value in environ.items() if not _callers_own(name)}
    return kept | {
        BOOT_TOKEN_VARIABLE: ensure_secret(layout.operator_token, "dev-"),
        UNSEAL_KEY_VARIABLE: ensure_secret(layout.unseal_key),
        "HOME": str(layout.root),
        "SSL_CERT_FILE": str(layout.ca),
        "PLUGIN_UNIX_SOCKET_DIR": str(layout.sockets),
        # Plugins and the server's listeners put sockets here too; their paths must be short.
        "TMPDIR": str(layout.sockets),
    }


def _callers_own(name: str) -> bool:
    return name.startswith(("BAO_", "VAULT_", "SSL_CERT_")) or name.lower().endswith("_proxy")


def server_config(layout: DevLayout, port: int, storage: ServerStorage) -> str:
    """Return the HCL for a server on ``port``, with its cluster listener on the next."""
    on_disk = _ON_DISK.format(path=quoted(str(layout.data / "raft")))
    return _TEMPLATE.format(
        storage=on_disk if storage == "raft" else _IN_MEMORY,
        port=port,
        cluster_port=port + 1,
        certificate=quoted(str(layout.certificate)),
        private_key=quoted(str(layout.private_key)),
        plugins=quoted(str(layout.plugins)),
        audit_log=quoted(str(layout.audit_log)),
        root=quoted(quote(str(layout.root))),
        dev_header=DEV_HEADER,
        boot_variable=BOOT_TOKEN_VARIABLE,
        unseal_variable=UNSEAL_KEY_VARIABLE,
    )
