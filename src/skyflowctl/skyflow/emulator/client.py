"""The control API's client, for the dev stack and tests."""

import http.client
import json
import ssl
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from skyflowctl.clock import rfc3339
from skyflowctl.secret import Secret

_TIMEOUT = 30.0


class EmulatorControlError(Exception):
    """The emulator refused a control request.

    Args:
        status: the HTTP status.
        message: its text.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} (status {status})")
        self.status = status
        self.message = message


class EmulatorControl:
    """Controls a running emulator, one connection a call.

    Every method raises :class:`EmulatorControlError` when the emulator refuses, and
    OSError when it does not answer.

    Args:
        url: its address, ``https://127.0.0.1:PORT``.
        token: the control token, the content of ``control-token`` in its state folder.
        ca: PEM file with the CA of its certificate.
    """

    def __init__(self, url: str, token: Secret, ca: Path) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._token = token
        self._context = ssl.create_default_context(cafile=str(ca))

    def put_account(
        self,
        client_id: str,
        *,
        name: str = "",
        role_ids: Iterable[str] = (),
        enforce_ctx: bool = False,
    ) -> None:
        """Create an account, or replace its name, roles and ctx rule; its keys stay."""
        body = {"name": name, "role_ids": list(role_ids), "enforce_ctx": enforce_ctx}
        self._call("PUT", ("accounts", client_id), body)

    def account(self, client_id: str) -> dict[str, Any]:
        """Return an account with the public halves of its keys."""
        return self._call("GET", ("accounts", client_id))

    def delete_account(self, client_id: str) -> None:
        """Forget an account and its keys."""
        self._call("DELETE", ("accounts", client_id))

    def create_key(
        self,
        client_id: str,
        *,
        valid_after: datetime | None = None,
        valid_before: datetime | None = None,
    ) -> Secret:
        """Make a key and return the whole credentials.json; valid for a year from now.

        The emulator keeps the public half alone, so this is the only copy.
        """
        body = _validity(valid_after, valid_before)
        return Secret(json.dumps(self._call("POST", ("accounts", client_id, "keys"), body)))

    def register_key(
        self,
        client_id: str,
        key_id: str,
        public_key: str,
        *,
        valid_after: datetime | None = None,
        valid_before: datetime | None = None,
    ) -> None:
        """Register a public key (PEM) under an id; one of the same id is replaced."""
        body = {
            "key_id": key_id,
            "public_key": public_key,
            **_validity(valid_after, valid_before),
        }
        self._call("POST", ("accounts", client_id, "keys"), body)

    def delete_key(self, client_id: str, key_id: str) -> None:
        """Forget a key: what it signs is refused from now on."""
        self._call("DELETE", ("accounts", client_id, "keys", key_id))

    def put_vault(
        self,
        vault_id: str,
        role_id: str,
        *,
        records: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
        tokens: Mapping[str, str] | None = None,
    ) -> None:
        """Guard a vault by a role; see :class:`~.accounts.GuardedVault` for its content."""
        body = {"role_id": role_id, "records": records or {}, "tokens": tokens or {}}
        self._call("PUT", ("vaults", vault_id), body)

    def delete_vault(self, vault_id: str) -> None:
        """Forget a vault; the rule for unknown vaults applies again."""
        self._call("DELETE", ("vaults", vault_id))

    def set_token_lifetime(self, seconds: int) -> None:
        """Set how long the tokens live that are issued from now on."""
        self._call("PUT", ("settings",), {"token_lifetime": seconds})

    def set_clock_offset(self, seconds: float) -> None:
        """Move the emulator's clock away from the machine's."""
        self._call("PUT", ("settings",), {"clock_offset": seconds})

    def log(self) -> list[dict[str, Any]]:
        """Return the exchanges since the start or the last reset, oldest first."""
        exchanges: list[dict[str, Any]] = self._call("GET", ("log",))["exchanges"]
        return exchanges

    def reset_log(self) -> None:
        """Empty the log."""
        self._call("DELETE", ("log",))

    def counters(self) -> dict[str, int]:
        """Return the fields of :class:`~.state.Counters`."""
        return self._call("GET", ("counters",))

    def reset_counters(self) -> None:
        """Set every counter to zero."""
        self._call("DELETE", ("counters",))

    def set_management(
        self,
        *,
        operator_token: Secret | None = None,
        account_id: str | None = None,
        key_delay: float | None = None,
    ) -> None:
        """Change what the Management API demands, and how long its keys take to be known.

        What is None stays as it is; everything is as at the start after a restart.
        """
        body = {
            "operator_token": operator_token.reveal() if operator_token else None,
            "account_id": account_id,
            "key_delay": key_delay,
        }
        given = {name: value for name, value in body.items() if value is not None}
        self._call("PUT", ("management",), given)

    def management(self) -> dict[str, Any]:
        """Return what the Management API demands; the operator's token as SHA-256 (hex)."""
        return self._call("GET", ("management",))

    def management_log(self) -> list[dict[str, Any]]:
        """Return the management calls since the start or the last reset, oldest first."""
        calls: list[dict[str, Any]] = self._call("GET", ("management", "log"))["calls"]
        return calls

    def reset_management_log(self) -> None:
        """Empty the log of management calls."""
        self._call("DELETE", ("management", "log"))

    def state(self) -> dict[str, Any]:
        """Return accounts, vaults, settings and the tokenURI."""
        return self._call("GET", ("state",))

    def _call(
        self, method: str, path: tuple[str, ...], body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=_TIMEOUT, context=self._context
        )
        target = "/_emu/" + "/".join(quote(segment, safe="") for segment in path)
        headers = {"authorization": f"Bearer {self._token.reveal()}"}
        raw = None if body is None else json.dumps(body)
        try:
            connection.request(method, target, body=raw, headers=headers)
            reply = connection.getresponse()
            answer: dict[str, Any] = json.loads(reply.read())
        except (http.client.HTTPException, ValueError) as error:
            raise ConnectionError(f"{self._host}:{self._port} is not an emulator") from error
        finally:
            connection.close()
        if reply.status != 200:
            message = answer.get("error", {}).get("message", "no message")
            raise EmulatorControlError(reply.status, message)
        return answer


def _validity(valid_after: datetime | None, valid_before: datetime | None) -> dict[str, str]:
    given = {"valid_after": valid_after, "valid_before": valid_before}
    return {name: rfc3339(moment) for name, moment in given.items() if moment is not None}
