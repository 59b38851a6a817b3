"""The stack's OpenBao: starting it, and knowing when it is ready."""

import http.client
import json
import secrets
import ssl
from collections.abc import Mapping
from pathlib import Path

from skyflowctl.devstack.layout import DevLayout, write_private
from skyflowctl.devstack.ports import server_port
from skyflowctl.devstack.processes import alive, start_detached, wait_until
from skyflowctl.devstack.server_config import (
    BOOT_TOKEN_VARIABLE,
    UNSEAL_KEY_VARIABLE,
    server_config,
)
from skyflowctl.devstack.state import Part
from skyflowctl.errors import SkyflowctlError

START_SECONDS = 30.0
_LOG_TAIL_LINES = 12


def start_server(
    layout: DevLayout, binary: Path, *, preferred_port: int | None, environ: Mapping[str, str]
) -> tuple[Part, str]:
    """Start the server and wait until it is unsealed.

    Returns:
        The running part, and the id of the new cluster.

    Raises:
        SkyflowctlError: it ended, or was not ready in time; its last log lines say why.
    """
    port = server_port(preferred_port)
    layout.server_config.write_text(server_config(layout, port))
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
        raise not_ready("the OpenBao server", layout.server_log, ended=not alive(record))
    return part, cluster_id(layout, part)


def cluster_id(layout: DevLayout, part: Part) -> str:
    """Return the id of the cluster that serves there unsealed; empty when none does."""
    context = ssl.create_default_context(cafile=layout.ca)
    client = http.client.HTTPSConnection("127.0.0.1", part.port, timeout=5, context=context)
    try:
        client.request("GET", "/v1/sys/health")
        reply = client.getresponse()
        body = json.loads(reply.read())
        return str(body.get("cluster_id", "")) if reply.status == 200 else ""
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    finally:
        client.close()


def not_ready(what: str, log: Path, *, ended: bool) -> SkyflowctlError:
    """Return the error for a part that did not come up, with the end of its log."""
    lines = log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:] if log.exists() else []
    return SkyflowctlError(
        f"{what} {'ended at once' if ended else f'was not ready after {START_SECONDS:.0f} s'}",
        why=" | ".join(line.strip() for line in lines) or "its log is empty",
        fix=f"see {log}, mend the cause, then run 'skyflowctl dev up' again",
        code="dev-stack-start",
    )


def _server_environ(layout: DevLayout, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the server's environment: without the caller's settings, with its secrets.

    The engine inherits it, and it wins over the environment of a catalog entry
    (measured), so the CA that the engine trusts is named here.
    """
    kept = {name: value for name, value in environ.items() if not _callers_own(name)}
    return kept | {
        BOOT_TOKEN_VARIABLE: _ensure_secret(layout.operator_token, "dev-"),
        UNSEAL_KEY_VARIABLE: _ensure_secret(layout.unseal_key, ""),
        "HOME": str(layout.root),
        "SSL_CERT_FILE": str(layout.ca),
        "PLUGIN_UNIX_SOCKET_DIR": str(layout.sockets),
        # Plugins and the server's own listeners put sockets here too; paths must be short.
        "TMPDIR": str(layout.sockets),
    }


def _callers_own(name: str) -> bool:
    return name.startswith(("BAO_", "VAULT_", "SSL_CERT_")) or name.lower().endswith("_proxy")


def _ensure_secret(path: Path, prefix: str) -> str:
    if not path.exists():
        write_private(path, prefix + secrets.token_hex(32))
    return path.read_text().strip()
