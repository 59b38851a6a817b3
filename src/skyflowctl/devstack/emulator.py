"""Starts the stack's Skyflow emulator, and connects to it."""

import functools
import hashlib
import ssl
import sys
from collections.abc import Mapping

from skyflowctl.devstack.emulator_client import EmulatorControlError, control
from skyflowctl.devstack.layout import DevLayout, ensure_secret
from skyflowctl.devstack.processes import alive, any_port, start_detached, wait_until
from skyflowctl.devstack.server import START_SECONDS, log_size, not_ready
from skyflowctl.devstack.state import Part, load_state, not_running
from skyflowctl.private_files import read_private
from skyflowctl.secret import Secret
from skyflowctl.skyflow.management.api import ManagementApi


def start_emulator(
    layout: DevLayout, *, preferred_port: int | None, environ: Mapping[str, str]
) -> Part:
    """Start the emulator and wait until it answers.

    Raises:
        SkyflowctlError: it ended, or was not ready in time; its last log lines say why.
    """
    port = any_port(preferred_port)
    ensure_secret(layout.skyflow_operator_token, "dev-operator-")
    earlier = log_size(layout.emulator_log)
    record = start_detached(
        [
            sys.executable,
            "-m",
            "skyflowctl.skyflow.emulator",
            state_option(layout),
            f"--cert={layout.certificate}",
            f"--key={layout.private_key}",
            f"--port={port}",
            f"--operator-token-file={layout.skyflow_operator_token}",
            f"--account-id={ensure_secret(layout.skyflow_account_id)}",
        ],
        log=layout.emulator_log,
        environ=environ,
        cwd=layout.root,
    )
    part = Part(record, port)
    if not wait_until(
        lambda: answers(layout, part), alive=lambda: alive(record), seconds=START_SECONDS
    ):
        raise not_ready(
            "the Skyflow emulator", layout.emulator_log, earlier, ended=not alive(record)
        )
    return part


def state_option(layout: DevLayout) -> str:
    """Return the argument that identifies this stack's emulator process."""
    return f"--state-dir={layout.emulator}"


def is_current(layout: DevLayout, part: Part) -> bool:
    """Return whether it serves there, and its Management API accepts this folder's token.

    An emulator of an older skyflowctl has no Management API.
    """
    try:
        demanded = control(layout, part).management()
        token = read_private(layout.skyflow_operator_token).strip().encode()
        account_id = read_private(layout.skyflow_account_id).strip()
    except (OSError, ValueError, EmulatorControlError):
        return False
    wanted = (account_id, hashlib.sha256(token).hexdigest())
    return (demanded["account_id"], demanded["operator_token_sha256"]) == wanted


def answers(layout: DevLayout, part: Part) -> bool:
    """Return whether the emulator serves there."""
    try:
        control(layout, part).counters()
    except (OSError, ValueError, EmulatorControlError):
        return False
    return True


def dev_management(
    layout: DevLayout, token: Secret | None = None, account_id: str = ""
) -> ManagementApi:
    """Return the Management API of the dev stack's emulator, with its own operator's token.

    A given token and account id replace its own. The host is the one in the dev folder's state
    file, never one that a mount names; no reference of a manifest is resolved, and no proxy is
    used.

    Raises:
        UnhealthyError: the emulator was never started in this folder with a Management API.
    """
    part = load_state(layout).emulator
    if part is None or not layout.skyflow_operator_token.exists():
        raise not_running()
    return ManagementApi(
        f"127.0.0.1:{part.port}",
        token or Secret(read_private(layout.skyflow_operator_token).strip()),
        account_id or read_private(layout.skyflow_account_id).strip(),
        environ={},
        context=functools.partial(ssl.create_default_context, cafile=str(layout.ca)),
    )
