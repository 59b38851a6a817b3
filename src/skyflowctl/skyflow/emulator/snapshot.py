"""Accounts and vaults as JSON: what is kept over a restart and what the control API shows."""

from datetime import datetime
from typing import Any

from skyflowctl.clock import rfc3339
from skyflowctl.skyflow.emulator.accounts import Account, AccountKey, GuardedVault
from skyflowctl.skyflow.emulator.data_tokens import read_context_rules
from skyflowctl.skyflow.emulator.fields import Fields
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError
from skyflowctl.skyflow.emulator.state import EmulatorState


def snapshot_json(state: EmulatorState) -> dict[str, Any]:
    """Return accounts (public halves of keys only), vaults and the token lifetime."""
    return {
        "accounts": {name: account_json(each) for name, each in state.accounts.items()},
        "vaults": {name: vault_json(each) for name, each in state.vaults.items()},
        "token_lifetime": state.token_lifetime,
    }


def restore(state: EmulatorState, saved: object) -> None:
    """Put back what :func:`snapshot_json` returned.

    Raises:
        HttpError: it is something else.
    """
    fields = Fields(saved)
    for client_id, values in fields.mapping("accounts").items():
        state.accounts[client_id] = _account(client_id, Fields(values))
    for vault_id, values in fields.mapping("vaults").items():
        state.vaults[vault_id] = read_vault_fields(vault_id, Fields(values))
    state.token_lifetime = fields.whole("token_lifetime", state.token_lifetime)
    fields.done()


def account_json(account: Account) -> dict[str, Any]:
    """Return one account."""
    shown: dict[str, Any] = {
        "name": account.name,
        "role_ids": list(account.role_ids),
        "enforce_ctx": account.enforce_ctx,
        "keys": {key.key_id: key_json(key) for key in account.keys.values()},
    }
    # Left out where it is not set, as below, so that an older emulator can read the file.
    enforced = {"enforce_signed_data_tokens": True} if account.enforce_signed_data_tokens else {}
    return shown | enforced


def key_json(key: AccountKey) -> dict[str, Any]:
    """Return one key: its public half and its validity."""
    shown = {
        "public_key": key.public_pem,
        "valid_after": _time(key.valid_after),
        "valid_before": _time(key.valid_before),
    }
    # Left out where there is none, so that an older emulator can read the file.
    return shown if key.known_from is None else {**shown, "known_from": _time(key.known_from)}


def vault_json(vault: GuardedVault) -> dict[str, Any]:
    """Return one vault."""
    rules = {"context_rules": dict(vault.context_rules)} if vault.context_rules else {}
    return {
        "role_id": vault.role_id,
        "records": vault.records,
        "tokens": vault.tokens,
        **rules,
    }


def read_key_fields(key_id: str, fields: Fields) -> AccountKey:
    """Return the key that these fields describe; ``public_key`` is PEM.

    Raises:
        HttpError: 400, a field is unknown or of another type.
    """
    key = AccountKey(
        key_id=key_id,
        public_pem=fields.text("public_key"),
        valid_after=fields.moment("valid_after"),
        valid_before=fields.moment("valid_before"),
        known_from=fields.moment("known_from"),
    )
    fields.done()
    return key


def read_vault_fields(vault_id: str, fields: Fields) -> GuardedVault:
    """Return the vault that these fields describe.

    Raises:
        HttpError: 400, a field is unknown or of another type.
    """
    vault = GuardedVault(
        vault_id=vault_id,
        role_id=fields.text("role_id", vault_id),
        records=_records(fields.mapping("records")),
        tokens=fields.text_mapping("tokens"),
        context_rules=read_context_rules(fields.text_mapping("context_rules")),
    )
    fields.done()
    return vault


def _records(tables: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    for table in tables.values():
        if not isinstance(table, dict) or not all(
            isinstance(each, dict) for each in table.values()
        ):
            raise ExchangeRefusedError(400, "The field records is: table -> record id -> fields.")
    return tables


def _account(client_id: str, fields: Fields) -> Account:
    account = Account(
        client_id=client_id,
        name=fields.text("name"),
        role_ids=fields.texts("role_ids"),
        enforce_ctx=fields.flag("enforce_ctx"),
        keys={
            key_id: read_key_fields(key_id, Fields(values))
            for key_id, values in fields.mapping("keys").items()
        },
        enforce_signed_data_tokens=fields.flag("enforce_signed_data_tokens"),
    )
    fields.done()
    return account


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
