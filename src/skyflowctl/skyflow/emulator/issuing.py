"""How the emulator creates a service-account key."""

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from skyflowctl.clock import rfc3339
from skyflowctl.skyflow.emulator.accounts import AccountKey
from skyflowctl.skyflow.emulator.keys import generate_key, private_pem, public_pem
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.state import EmulatorState

KEY_LIFETIME = timedelta(days=365)
"""How long a generated key is valid; the files that Skyflow issues span one year."""

KEY_ALGORITHM = "KEY_ALG_RSA_2048"


class KeyIssuer:
    """Makes keys and writes them out as Skyflow does, once and never again.

    Args:
        state: whose accounts get them.
        token_uri: the tokenURI written into a credential.
        save: called after every change that must outlive a restart.
    """

    def __init__(
        self, state: EmulatorState, token_uri: str, save: Callable[[EmulatorState], None]
    ) -> None:
        self._state = state
        self._save = save
        self.token_uri = token_uri

    async def issue(
        self,
        client_id: str,
        *,
        key_id: str = "",
        valid_after: datetime | None,
        valid_before: datetime | None,
        delay: float = 0.0,
    ) -> dict[str, Any]:
        """Make a key for an account and return its whole credentials.json.

        Args:
            client_id: the account.
            key_id: the key's id; empty: a new one.
            valid_after: the key counts from here on.
            valid_before: the key counts until here.
            delay: seconds until the token service knows the key.

        Raises:
            HttpError: 404, the account is not known (any more).
        """
        self._known(client_id)
        # A thread: making a key takes a moment in which exchanges must go on.
        private = await asyncio.to_thread(generate_key)
        self._known(client_id)
        known_from = self._state.now() + timedelta(seconds=delay) if delay else None
        key = AccountKey(
            key_id or secrets.token_hex(16),
            public_pem(private),
            valid_after,
            valid_before,
            known_from,
        )
        self._state.put_key(client_id, key)
        self._save(self._state)
        return self._credentials(client_id, key, private_pem(private).reveal())

    def one_year(self) -> tuple[datetime, datetime]:
        """Return the validity that Skyflow gives a key that is made now."""
        now = self._state.now().replace(microsecond=0)
        return now, now + KEY_LIFETIME

    def _known(self, client_id: str) -> None:
        if client_id not in self._state.accounts:
            raise ExchangeRefusedError(404, "There is no such account.")

    def _credentials(self, client_id: str, key: AccountKey, pem: str) -> dict[str, Any]:
        credentials = {
            "clientID": client_id,
            "clientName": self._state.accounts[client_id].name,
            "tokenURI": self.token_uri,
            "keyID": key.key_id,
            "privateKey": pem,
            "keyAlgorithm": KEY_ALGORITHM,
        }
        if key.valid_after is not None:
            credentials["keyValidAfterTime"] = rfc3339(key.valid_after)
        if key.valid_before is not None:
            credentials["keyValidBeforeTime"] = rfc3339(key.valid_before)
        return credentials
