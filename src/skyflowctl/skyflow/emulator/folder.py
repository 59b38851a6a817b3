"""The emulator's own folder: what it must still know after a restart."""

import json
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skyflowctl.private_files import make_private_folder, read_private
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import snapshot
from skyflowctl.skyflow.emulator.keys import generate_key, private_pem, read_private_key
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.state import EmulatorState

_ACCOUNTS = "accounts.json"
_SIGNING_KEY = "signing-key.pem"
_CONTROL_TOKEN = "control-token"  # noqa: S105 - a file's name
_READY = "ready.json"


class StateFolder:
    """A folder (0700) with the accounts, the signing key and the control token (0600).

    Private halves of account keys are never written. Every file is replaced in one
    step, so that a killed emulator leaves the old or the new one, never half of one.

    Args:
        path: the folder; it is made when it is missing and closed to others.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        make_private_folder(path)

    def load(self) -> EmulatorState:
        """Return the state as it was saved; a new one in an empty folder.

        Raises:
            ValueError: a file is damaged; the text names it.
        """
        state = EmulatorState(signing_key=read_private_key(self._signing_key()))
        saved = self._path / _ACCOUNTS
        if saved.exists():
            try:
                snapshot.restore(state, json.loads(read_private(saved)))
            except (ValueError, ExchangeRefusedError) as error:
                raise ValueError(f"{saved} is damaged: {error}") from error
        return state

    def save(self, state: EmulatorState) -> None:
        """Write accounts, vaults and the token lifetime."""
        self._write(_ACCOUNTS, json.dumps(snapshot.snapshot_json(state), indent=1))

    def control_token(self) -> Secret:
        """Return the token of the control API, made at the first start."""
        return self._kept(_CONTROL_TOKEN, lambda: Secret(secrets.token_urlsafe(32)))

    def write_ready(self, ready: dict[str, Any]) -> None:
        """Record address and process of the emulator that serves this folder."""
        self._write(_READY, json.dumps(ready))

    def _signing_key(self) -> Secret:
        return self._kept(_SIGNING_KEY, lambda: private_pem(generate_key()))

    def _kept(self, name: str, make: Callable[[], Secret]) -> Secret:
        path = self._path / name
        if not path.exists():
            self._write(name, make().reveal())
        return Secret(read_private(path))

    def _write(self, name: str, text: str) -> None:
        # mkstemp makes the file 0600 from its first byte on.
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self._path)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(self._path / name)
