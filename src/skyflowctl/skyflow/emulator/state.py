"""Everything that an emulator holds in memory. No sockets, no files."""

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from skyflowctl.clock import Clock, SystemClock, rfc3339
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.accounts import Account, AccountKey, GuardedVault
from skyflowctl.skyflow.emulator.keys import (
    generate_key,
    public_pem,
    read_private_key,
    read_public_key,
)
from skyflowctl.skyflow.emulator.rules import Context

if TYPE_CHECKING:
    from skyflowctl.skyflow.service_account import ServiceAccount

DEFAULT_TOKEN_LIFETIME = 3_600
_LOG_LENGTH = 10_000


@dataclass(frozen=True, slots=True)
class ExchangeRecord:
    """One exchange in the log: never the assertion's or the token's text.

    ``client_id`` and ``key_id`` are as claimed when the status is not 200; ``jti`` and
    ``token_sha256`` (hex) name the token that was issued, else they are empty.
    """

    time: datetime
    client_id: str
    key_id: str
    role_ids: tuple[str, ...]
    ctx: Context | None
    jti: str
    token_sha256: str
    status: int
    message: str
    request_id: str

    def to_json(self) -> dict[str, Any]:
        """Return the record as the control API writes it."""
        return {**asdict(self), "time": rfc3339(self.time), "role_ids": list(self.role_ids)}


@dataclass(slots=True)
class Counters:
    """How often things happened since the start or the last reset.

    Args:
        connections: accepted connections, whatever they asked for.
        token_connections: those on which at least one exchange was asked for.
        exchanges: exchanges asked for.
        granted: exchanges that were answered with a token.
        refused: exchanges that the rules refused.
        data_requests: requests to the data plane.
        management_requests: calls to the Management API.
    """

    connections: int = 0
    token_connections: int = 0
    exchanges: int = 0
    granted: int = 0
    refused: int = 0
    data_requests: int = 0
    management_requests: int = 0


class EmulatorState:
    """Accounts, vaults, settings, counters and the log of one emulator.

    Args:
        clock: where the time comes from.
        signing_key: signs the tokens; None: made when the first token is issued.

    Attributes:
        operator_token: opens the Management API; None: nothing does.
        account_id: the Skyflow account whose service accounts these are.
        inserted: the vaults into which records were inserted, with what they had before.
        key_delay: seconds until the token service knows a key that the Management API
            made.
    """

    def __init__(
        self, *, clock: Clock | None = None, signing_key: RSAPrivateKey | None = None
    ) -> None:
        self._clock = clock or SystemClock()
        self._given_signing_key = signing_key
        self.accounts: dict[str, Account] = {}
        self.vaults: dict[str, GuardedVault] = {}
        self.inserted: dict[str, GuardedVault] = {}
        self.token_lifetime = DEFAULT_TOKEN_LIFETIME
        self.clock_offset = 0.0
        self.counters = Counters()
        self.log: deque[ExchangeRecord] = deque(maxlen=_LOG_LENGTH)
        self.operator_token: Secret | None = None
        self.account_id = ""
        self.key_delay = 0.0
        self.management_log: deque[ManagementRecord] = deque(maxlen=_LOG_LENGTH)

    @cached_property
    def signing_key(self) -> RSAPrivateKey:
        """The key that signs the tokens."""
        return self._given_signing_key or generate_key()

    def now(self) -> datetime:
        """Return the emulator's time: the clock's, moved by the offset in seconds."""
        return self._clock.now() + timedelta(seconds=self.clock_offset)

    def put_account(
        self, client_id: str, *, name: str, role_ids: Iterable[str], enforce_ctx: bool
    ) -> Account:
        """Create an account, or replace all of it but its keys and its tokenURI."""
        known = self.accounts.get(client_id, Account(client_id))
        account = replace(known, name=name, role_ids=tuple(role_ids), enforce_ctx=enforce_ctx)
        self.accounts[client_id] = account
        return account

    def put_key(self, client_id: str, key: AccountKey) -> None:
        """Register a key of a known account; one of the same id is replaced.

        Raises:
            KeyError: the account is not known.
            ValueError: the PEM text is no RSA public key.
        """
        account = self.accounts[client_id]
        read_public_key(key.public_pem)
        self.accounts[client_id] = replace(account, keys={**account.keys, key.key_id: key})

    def delete_key(self, client_id: str, key_id: str) -> None:
        """Forget a key: assertions signed with it are refused from now on.

        Raises:
            KeyError: the account or the key is not known.
        """
        account = self.accounts[client_id]
        kept = dict(account.keys)
        del kept[key_id]
        self.accounts[client_id] = replace(account, keys=kept)

    def trust(
        self, account: "ServiceAccount", role_ids: Iterable[str], *, enforce_ctx: bool = False
    ) -> None:
        """Know this service account: the public half of its key, these roles assigned.

        A second key of an account that is known already is added to it; the private
        half is read once and not kept.
        """
        key = read_private_key(account.private_key)
        known = self.put_account(
            account.client_id,
            name=account.client_name,
            role_ids=role_ids,
            enforce_ctx=enforce_ctx,
        )
        self.accounts[account.client_id] = replace(known, token_uri=account.token_uri)
        self.put_key(
            account.client_id,
            AccountKey(
                account.key_id,
                public_pem(key),
                account.key_valid_after,
                account.key_valid_before,
            ),
        )


@dataclass(frozen=True, slots=True)
class ManagementRecord:
    """One call in the log; never a token's or a key's text.

    Args:
        time: when it was carried out, or refused.
        operation: ``create_key``, ``list_keys``, ``get_key``, ``delete_key``; empty for
            another path or method.
        client_id: the account in the path.
        key_id: the key in the path, or the one that was created.
        applied: whether it was carried out, whatever was answered.
        status: what was answered; 0: nothing.
        message: the text of a refusal, or the type of an internal error.
        request_id: the answer's ``x-request-id``.
    """

    time: datetime
    operation: str
    client_id: str
    key_id: str
    applied: bool
    status: int
    message: str
    request_id: str

    def to_json(self) -> dict[str, Any]:
        """Return the record as the control API writes it."""
        return {**asdict(self), "time": rfc3339(self.time)}
