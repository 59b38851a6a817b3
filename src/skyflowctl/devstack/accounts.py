"""Skyflow accounts of the dev stack: one for each mount, with its roles."""

import hashlib
import json
from collections.abc import Container, Iterable

from skyflowctl.devstack.emulator import control
from skyflowctl.devstack.layout import DevLayout, write_private
from skyflowctl.devstack.state import Part
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.client import EmulatorControl, EmulatorControlError


def ensure_account(
    layout: DevLayout, emulator: Part, mount: str, role_ids: Iterable[str], *, replace: bool
) -> Secret:
    """Return the credential of a mount's account, made if there is none.

    Args:
        layout: the dev folder.
        emulator: where accounts are.
        mount: whose account.
        role_ids: the roles of a new account.
        replace: give one that is there already exactly these roles; False: it keeps its
            own, so that a mere look at another manifest changes nothing.

    The credential is generated at the first call and kept in the dev folder; a file
    that a manifest names is never touched.

    Raises:
        EmulatorControlError: the emulator refused.
        OSError: it does not answer.
    """
    client = control(layout, emulator)
    client_id = account_id(mount)
    if replace or not _exists(client, client_id):
        roles = sorted(set(role_ids))
        client.put_account(client_id, name=f"{mount} (dev stack)", role_ids=roles)
    path = layout.credential(mount)
    known = client.account(client_id)["keys"]
    if not _usable(path.read_text() if path.exists() else "", emulator, known):
        write_private(path, client.create_key(client_id).reveal())
    return Secret(path.read_text())


def account_id(mount: str) -> str:
    """Return the client id of a mount's account: the same at each call, in a real one's form."""
    return hashlib.sha256(f"skyflowctl dev stack {mount}".encode()).hexdigest()[:32]


def _exists(client: EmulatorControl, client_id: str) -> bool:
    try:
        client.account(client_id)
    except EmulatorControlError as error:
        if error.status != 404:
            raise
        return False
    return True


def _usable(text: str, emulator: Part, known_keys: Container[str]) -> bool:
    """A credential serves while the emulator knows its key, and is where its tokenURI says."""
    try:
        fields = json.loads(text)
        uri, key_id = str(fields["tokenURI"]), str(fields["keyID"])
    except (ValueError, KeyError, TypeError):
        return False
    return uri.startswith(f"{emulator.address}/") and key_id in known_keys
