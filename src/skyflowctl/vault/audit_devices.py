"""The server's audit devices: they belong to the whole server, in every namespace."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from skyflowctl.hcl import quoted
from skyflowctl.vault.errors import BadRequestError, ForbiddenError
from skyflowctl.vault.namespaces import NAMESPACE_HEADER
from skyflowctl.vault.transport import Request, Transport

AUDIT_DEVICES = "sys/audit"
_AT_ROOT = {NAMESPACE_HEADER: ""}
_FIX = f"use a valid token whose policies allow read and sudo on {AUDIT_DEVICES}"


def audit_devices(transport: Transport) -> dict[str, Mapping[str, Any]]:
    """Return every audit device by its API path.

    Raises:
        ForbiddenError: it needs read and sudo on ``sys/audit``.
        VaultError: any other failure.
    """
    try:
        reply = transport.send(Request("GET", AUDIT_DEVICES, headers=_AT_ROOT, fresh=True))
    except ForbiddenError as error:
        problem = error.problems[0]
        if problem.code == ForbiddenError.default_code:
            error.problems = (replace(problem, fix=_FIX),)
        raise
    return {
        f"{AUDIT_DEVICES}/{name.strip('/')}": raw
        for name, raw in (reply.data or reply.body).items()
        if isinstance(raw, Mapping) and "type" in raw
    }


def enable_audit_device(transport: Transport, path: str, body: Mapping[str, Any]) -> bool:
    """Ask the server to enable a device.

    Returns:
        False if it takes devices only from its configuration (as OpenBao, measured on 2.7.2).

    Raises:
        VaultError: it refuses this one. A device of that name may be there already.
    """
    try:
        transport.send(
            Request("POST", path, body=body, headers=_AT_ROOT, idempotent=True, fresh=True)
        )
    except BadRequestError as error:
        if error.says("declarative, config-based audit device"):
            return False
        raise
    return True


def stanza(path: str, body: Mapping[str, Any]) -> str:
    """Return the text for the server's configuration that enables a device, in one line."""
    options = ", ".join(f"{name} = {quoted(str(one))}" for name, one in body["options"].items())
    said = f"description = {quoted(body['description'])}, " if body["description"] else ""
    name = path.removeprefix(f"{AUDIT_DEVICES}/")
    return f'audit "{body["type"]}" "{name}" {{ {said}options = {{ {options} }} }}'
