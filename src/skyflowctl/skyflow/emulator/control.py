"""The control API below ``/_emu/``: accounts, keys, vaults, settings, log.

For the dev stack and tests; every request needs the control token. The bodies are what
:class:`skyflowctl.devstack.emulator_client.EmulatorControl` sends.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import snapshot
from skyflowctl.skyflow.emulator.accounts import AccountKey
from skyflowctl.skyflow.emulator.fields import Fields
from skyflowctl.skyflow.emulator.issuing import KeyIssuer
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.state import Counters, EmulatorState

_LONGEST = 10 * 365 * 86_400


class ControlApi:
    """Answers control requests.

    Args:
        state: what is controlled.
        issuer: makes keys.
        save: called after every change that must outlive a restart.
    """

    def __init__(
        self, state: EmulatorState, issuer: KeyIssuer, save: Callable[[EmulatorState], None]
    ) -> None:
        self._state = state
        self._issuer = issuer
        self._save = save

    async def answer(self, method: str, path: list[str], body: bytes) -> dict[str, Any]:
        """Answer one request; ``path`` holds the segments after ``/_emu/``.

        Raises:
            HttpError: 400 for a bad body, 404 for an unknown path, account or key.
        """
        fields = Fields.parse(body)
        match path:
            case ["accounts", client_id]:
                return self._account(method, client_id, fields)
            case ["accounts", client_id, "client_configuration"] if method == "PUT":
                return self._configure(client_id, fields)
            case ["accounts", client_id, "keys"] if method == "POST":
                return await self._add_key(client_id, fields)
            case ["accounts", client_id, "keys", key_id] if method == "DELETE":
                return self._delete_key(client_id, key_id)
            case ["vaults", vault_id]:
                return self._vault(method, vault_id, fields)
            case _:
                return self._other(method, "/".join(path), fields)

    def _other(self, method: str, path: str, fields: Fields) -> dict[str, Any]:
        answers: dict[tuple[str, str], Callable[[Fields], dict[str, Any]]] = {
            ("GET", "state"): self._show_state,
            ("PUT", "settings"): self._change_settings,
            ("GET", "log"): self._show_log,
            ("DELETE", "log"): self._clear_log,
            ("GET", "counters"): self._show_counters,
            ("DELETE", "counters"): self._clear_counters,
            ("GET", "management"): self._show_management,
            ("PUT", "management"): self._change_management,
            ("GET", "management/log"): self._show_management_log,
            ("DELETE", "management/log"): self._clear_management_log,
        }
        answer = answers.get((method, path))
        if answer is None:
            raise ExchangeRefusedError(404, "The control API has no such path.")
        result = answer(fields)
        fields.done()
        return result

    def _account(self, method: str, client_id: str, fields: Fields) -> dict[str, Any]:
        if method == "PUT":
            self._put_account(client_id, fields)
        elif method == "DELETE":
            self._known(client_id)
            del self._state.accounts[client_id]
            self._save(self._state)
            return {}
        elif method != "GET":
            raise ExchangeRefusedError(405, "An account takes GET, PUT and DELETE.")
        self._known(client_id)
        return snapshot.account_json(self._state.accounts[client_id])

    def _put_account(self, client_id: str, fields: Fields) -> None:
        name, role_ids = fields.text("name"), fields.texts("role_ids")
        enforce_ctx = fields.flag("enforce_ctx")
        fields.done()
        self._state.put_account(client_id, name=name, role_ids=role_ids, enforce_ctx=enforce_ctx)
        self._save(self._state)

    def _configure(self, client_id: str, fields: Fields) -> dict[str, Any]:
        """Change what an account enforces, with the Management API's names; the rest stays."""
        self._known(client_id)
        account = self._state.accounts[client_id]
        account = replace(
            account,
            enforce_ctx=fields.flag("enforceContextID", default=account.enforce_ctx),
            enforce_signed_data_tokens=fields.flag(
                "enforceSignedDataTokens", default=account.enforce_signed_data_tokens
            ),
        )
        fields.done()
        self._state.accounts[client_id] = account
        self._save(self._state)
        return snapshot.account_json(account)

    async def _add_key(self, client_id: str, fields: Fields) -> dict[str, Any]:
        """Register a given public key, or make a key pair and return the credential."""
        self._known(client_id)
        key_id = fields.text("key_id") or secrets.token_hex(16)
        if "public_key" in fields:
            self._register(client_id, snapshot.read_key_fields(key_id, fields))
            return {"keyID": key_id}
        now, next_year = self._issuer.one_year()
        valid_after = fields.moment("valid_after", now)
        valid_before = fields.moment("valid_before", next_year)
        fields.done()
        return await self._issuer.issue(
            client_id, key_id=key_id, valid_after=valid_after, valid_before=valid_before
        )

    def _register(self, client_id: str, key: AccountKey) -> None:
        try:
            self._state.put_key(client_id, key)
        except ValueError as error:
            raise ExchangeRefusedError(
                400, "The field public_key is no RSA public key in PEM."
            ) from error
        self._save(self._state)

    def _delete_key(self, client_id: str, key_id: str) -> dict[str, Any]:
        self._known(client_id)
        try:
            self._state.delete_key(client_id, key_id)
        except KeyError as error:
            raise ExchangeRefusedError(404, "The account has no such key.") from error
        self._save(self._state)
        return {}

    def _known(self, client_id: str) -> None:
        if client_id not in self._state.accounts:
            raise ExchangeRefusedError(404, "There is no such account.")

    def _vault(self, method: str, vault_id: str, fields: Fields) -> dict[str, Any]:
        if method == "PUT":
            self._state.vaults[vault_id] = snapshot.read_vault_fields(vault_id, fields)
        elif method == "DELETE":
            self._state.vaults.pop(vault_id, None)
        else:
            raise ExchangeRefusedError(405, "A vault takes PUT and DELETE.")
        self._state.inserted.pop(vault_id, None)
        self._save(self._state)
        return {}

    def _show_state(self, _fields: Fields) -> dict[str, Any]:
        return {
            **snapshot.snapshot_json(self._state),
            "clock_offset": self._state.clock_offset,
            "token_uri": self._issuer.token_uri,
        }

    def _change_settings(self, fields: Fields) -> dict[str, Any]:
        lifetime = fields.whole("token_lifetime", self._state.token_lifetime)
        if not 1 <= lifetime <= _LONGEST:
            raise ExchangeRefusedError(
                400, "The field token_lifetime must be 1 second to 10 years."
            )
        offset = fields.number("clock_offset", self._state.clock_offset)
        if not -_LONGEST <= offset <= _LONGEST:
            raise ExchangeRefusedError(400, "The field clock_offset must lie within 10 years.")
        fields.done()
        self._state.token_lifetime = lifetime
        self._state.clock_offset = offset
        self._save(self._state)
        return {"token_lifetime": lifetime, "clock_offset": offset}

    def _show_log(self, _fields: Fields) -> dict[str, Any]:
        return {"exchanges": [record.to_json() for record in self._state.log]}

    def _clear_log(self, _fields: Fields) -> dict[str, Any]:
        self._state.log.clear()
        return {}

    def _show_counters(self, _fields: Fields) -> dict[str, Any]:
        return asdict(self._state.counters)

    def _clear_counters(self, _fields: Fields) -> dict[str, Any]:
        self._state.counters = Counters()
        return {}

    def _show_management(self, _fields: Fields) -> dict[str, Any]:
        token = self._state.operator_token
        digest = hashlib.sha256(token.reveal().encode()).hexdigest() if token else ""
        return {
            "account_id": self._state.account_id,
            "operator_token_sha256": digest,
            "key_delay": self._state.key_delay,
        }

    def _change_management(self, fields: Fields) -> dict[str, Any]:
        """Change what the Management API demands and does, until the next start."""
        token = fields.text("operator_token")
        account_id = fields.text("account_id", self._state.account_id)
        delay = fields.number("key_delay", self._state.key_delay)
        if not 0 <= delay <= _LONGEST:
            raise ExchangeRefusedError(400, "The field key_delay must be 0 seconds to 10 years.")
        fields.done()
        if token:
            self._state.operator_token = Secret(token)
        self._state.account_id = account_id
        self._state.key_delay = delay
        return self._show_management(fields)

    def _show_management_log(self, _fields: Fields) -> dict[str, Any]:
        return {"calls": [record.to_json() for record in self._state.management_log]}

    def _clear_management_log(self, _fields: Fields) -> dict[str, Any]:
        self._state.management_log.clear()
        return {}
