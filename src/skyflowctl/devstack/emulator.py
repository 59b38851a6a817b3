"""Starts the stack's Skyflow emulator, and connects to it."""

import contextlib
import hashlib
import sys
from collections.abc import Iterator, Mapping

from skyflowctl.devstack.layout import DevLayout, ensure_secret
from skyflowctl.devstack.processes import alive, any_port, start_detached, wait_until
from skyflowctl.devstack.server import START_SECONDS, log_size, not_ready
from skyflowctl.devstack.state import Part
from skyflowctl.errors import UnhealthyError
from skyflowctl.private_files import read_private
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.client import EmulatorControl, EmulatorControlError


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


def control(layout: DevLayout, part: Part) -> EmulatorControl:
    """Return the client of its control API.

    Raises:
        OSError: the emulator has not written its control token yet.
    """
    token = Secret(read_private(layout.emulator / "control-token").strip())
    return EmulatorControl(part.address, token, layout.ca)


@contextlib.contextmanager
def failures_said() -> Iterator[None]:
    """Turn a failure to reach the emulator into an error with a fix.

    Raises:
        UnhealthyError: the emulator does not answer, or refuses.
    """
    try:
        yield
    except (OSError, EmulatorControlError) as error:
        raise UnhealthyError(
            "the dev stack's emulator does not answer",
            why=str(error),
            fix="start it again with 'skyflowctl dev up'",
            code="dev-emulator",
        ) from error


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
