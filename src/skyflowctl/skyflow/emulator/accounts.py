"""What the emulator knows of service accounts, their keys and the vaults it guards."""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

from skyflowctl.frozen import dataclass


@dataclass(frozen=True, slots=True)
class AccountKey:
    """The public half of one service-account key.

    Args:
        key_id: its id, the claim ``key`` of an assertion.
        public_pem: the public key as PEM.
        valid_after: the key counts from here on; None: always.
        valid_before: the key counts until here; None: for ever.
        known_from: until then the token service does not know it yet; None: known.
    """

    key_id: str
    public_pem: str
    valid_after: datetime | None = None
    valid_before: datetime | None = None
    known_from: datetime | None = None

    def is_known_at(self, moment: datetime) -> bool:
        """Say whether the key has arrived at the token service."""
        return self.known_from is None or self.known_from <= moment

    def is_valid_at(self, moment: datetime) -> bool:
        """Say whether the moment lies inside the key's validity."""
        started = self.valid_after is None or self.valid_after <= moment
        return started and (self.valid_before is None or moment < self.valid_before)


@dataclass(frozen=True, slots=True)
class Account:
    """One service account.

    Args:
        client_id: its id, ``iss`` and ``sub`` of an assertion.
        name: for people.
        role_ids: the Skyflow roles assigned to it.
        enforce_ctx: True when every assertion must carry a ctx (``enforceContextID``).
        keys: its keys by id; a deleted key is simply absent.
        enforce_signed_data_tokens: True when it may use signed data tokens alone
            (``enforceSignedDataTokens``).
        token_uri: the only ``aud`` it accepts; None: the emulator's own address.
    """

    client_id: str
    name: str = ""
    role_ids: tuple[str, ...] = ()
    enforce_ctx: bool = False
    keys: Mapping[str, AccountKey] = field(default_factory=dict)
    token_uri: str | None = None
    enforce_signed_data_tokens: bool = False


@dataclass(frozen=True, slots=True)
class GuardedVault:
    """A Skyflow vault of the data plane.

    Args:
        vault_id: its id.
        role_id: the one role that may read it.
        records: table name -> record id -> fields.
        tokens: data token -> value.
        context_rules: ``request.context``, or ``request.context.<key>`` for an object ctx -> what
            the ctx of the bearer token must be; a ``*`` at the end stands for any text.
    """

    vault_id: str
    role_id: str
    records: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    context_rules: Mapping[str, str] = field(default_factory=dict)
