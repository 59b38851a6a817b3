"""Skyflow accounts of the dev stack: one for each mount, with exactly its roles."""

import json
from collections.abc import Container, Iterable

from skyflowctl.devstack.emulator import control
from skyflowctl.devstack.layout import DevLayout, write_private
from skyflowctl.devstack.state import Part
from skyflowctl.secret import Secret


def ensure_account(
    layout: DevLayout, emulator: Part, mount: str, role_ids: Iterable[str]
) -> Secret:
    """Give a mount an account with these roles and no others, and return its credential.

    The credential is generated at the first call and kept in the dev folder; a file
    that a manifest names is never touched.

    Raises:
        EmulatorControlError: the emulator refused.
        OSError: it does not answer.
    """
    client = control(layout, emulator)
    client_id = f"dev-{mount}"
    client.put_account(client_id, name=f"{mount} (dev stack)", role_ids=sorted(set(role_ids)))
    path = layout.credential(mount)
    known = client.account(client_id)["keys"]
    if not _usable(path.read_text() if path.exists() else "", emulator, known):
        write_private(path, client.create_key(client_id).reveal())
    return Secret(path.read_text())


def _usable(text: str, emulator: Part, known_keys: Container[str]) -> bool:
    """A credential serves while the emulator knows its key, and is where its tokenURI says."""
    try:
        fields = json.loads(text)
        uri, key_id = str(fields["tokenURI"]), str(fields["keyID"])
    except (ValueError, KeyError, TypeError):
        return False
    return uri.startswith(f"{emulator.address}/") and key_id in known_keys
