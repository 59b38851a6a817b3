"""Skyflow accounts of the dev stack: one for each mount, with its roles."""

import hashlib
import json
from collections.abc import Container, Iterable
from typing import Any

from skyflowctl.devstack.emulator_client import EmulatorControl, EmulatorControlError, control
from skyflowctl.devstack.layout import DevLayout
from skyflowctl.devstack.state import Part
from skyflowctl.private_files import read_private, write_private
from skyflowctl.secret import Secret


def ensure_account(
    layout: DevLayout, emulator: Part, mount: str, role_ids: Iterable[str], *, replace: bool
) -> Secret:
    """Return the credential of a mount's account; create the account if there is none.

    Args:
        layout: the dev folder.
        emulator: the emulator that holds the accounts.
        mount: the account's mount.
        role_ids: the roles of a new account.
        replace: give an existing account exactly these roles; False: it keeps its own, so that
            reading another manifest changes nothing.

    The credential is generated at the first call and kept in the dev folder; a file that a manifest
    names is never changed. A credential whose key was deleted at the emulator is kept too: the
    mount was rotated past it, and another generated one would overwrite the live credential (see
    :func:`forget_retired`).

    Raises:
        EmulatorControlError: the emulator refused.
        OSError: it does not answer.
    """
    client = control(layout, emulator)
    client_id = account_id(mount)
    is_new = not _exists(client, client_id)
    if replace or is_new:
        roles = sorted(set(role_ids))
        client.put_account(client_id, name=f"{mount} (dev stack)", role_ids=roles)
    path = layout.credential(mount)
    text = read_private(path) if path.exists() else ""
    # An emulator with a new folder has only just got the account, and knows no key.
    if not _is_of(text, emulator) or is_new:
        write_private(path, client.create_key(client_id).reveal())
    return Secret(read_private(path))


def account_id(mount: str) -> str:
    """Return the client id of a mount's account: constant, in the form of a real one."""
    return hashlib.sha256(f"skyflowctl dev stack {mount}".encode()).hexdigest()[:32]


def forget_retired(layout: DevLayout, emulator: Part) -> None:
    """Delete generated credentials whose keys the emulator does not know: none of them mints.

    Call it before a server starts: its mounts do not exist yet, and get new credentials.

    Raises:
        EmulatorControlError: the emulator refused.
        OSError: it does not answer.
    """
    client = control(layout, emulator)
    for path in layout.credentials.glob("*.json"):
        if _key_id(read_private(path)) not in _keys(client, account_id(path.stem)):
            path.unlink()


def _exists(client: EmulatorControl, client_id: str) -> bool:
    return _account(client, client_id) is not None


def _keys(client: EmulatorControl, client_id: str) -> Container[str]:
    keys: Container[str] = (_account(client, client_id) or {}).get("keys", {})
    return keys


def _account(client: EmulatorControl, client_id: str) -> dict[str, Any] | None:
    try:
        return client.account(client_id)
    except EmulatorControlError as error:
        if error.status != 404:
            raise
        return None


def _is_of(text: str, emulator: Part) -> bool:
    """Whether a credential's tokenURI is that of this emulator."""
    return _field(text, "tokenURI").startswith(f"{emulator.address}/") and bool(_key_id(text))


def _key_id(text: str) -> str:
    return _field(text, "keyID")


def _field(text: str, name: str) -> str:
    """Return a field of a credential; empty when the text is none, or lacks it."""
    try:
        return str(json.loads(text)[name])
    except (ValueError, KeyError, TypeError):
        return ""
