"""Which data tokens may be used: signatures of signed ones, and rules on ``request.context``.

The claims are those that the vendor's SDKs write. Their README says that who uses a signed data
token needs "appropriate permissions and context"; which status and message Skyflow answers is not
public, so the statuses here are ours, in the documented error object: 400 for what is no signed
data token, 403 for one that does not permit this request.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.emulator import jwt
from skyflowctl.skyflow.emulator.accounts import Account, GuardedVault
from skyflowctl.skyflow.emulator.keys import read_public_key
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError

_PREFIX = "signed_token_"
_ISSUER = "sdk"
_CONTEXT = "request.context"


@dataclass(frozen=True, slots=True)
class DataTokenReader:
    """Reads the data tokens of one request.

    Args:
        accounts: the known accounts by client id.
        vault: the vault that is read.
        bearer: the claims of the request's bearer token.
        now: the emulator's time.
    """

    accounts: Mapping[str, Account]
    vault: GuardedVault
    bearer: Mapping[str, Any]
    now: datetime

    def read(self, text: str) -> str:
        """Return the data token itself, which a signed one wraps.

        Raises:
            ExchangeRefusedError: 400, it is unsigned although the caller's account demands signed
                ones, or malformed; 403, its signature, expiry or ctx do not permit the request.
        """
        if not text.startswith(_PREFIX):
            caller = self.accounts.get(self.bearer["sub"])
            if caller is not None and caller.enforce_signed_data_tokens:
                raise ExchangeRefusedError(400, "The service account demands signed data tokens.")
            return text
        try:
            signed = jwt.split_token(text.removeprefix(_PREFIX))
        except jwt.MalformedTokenError as error:
            raise ExchangeRefusedError(
                400, f"The signed data token is unparseable: {error}."
            ) from error
        self._check_signature(signed)
        return self._checked_claims(signed.claims)

    def _check_signature(self, signed: jwt.ParsedToken) -> None:
        signer = self.accounts.get(str(signed.claims.get("sub")))
        key = signer.keys.get(str(signed.claims.get("key"))) if signer else None
        known = signer is not None and self.vault.role_id in signer.role_ids
        if not known or key is None or not key.is_known_at(self.now):
            raise ExchangeRefusedError(403, "The signed data token's key is not known here.")
        if not jwt.is_signed_by(signed, read_public_key(key.public_pem)):
            raise ExchangeRefusedError(403, "The signed data token's signature is not valid.")
        if not key.is_valid_at(self.now):
            raise ExchangeRefusedError(403, "The signed data token's key is expired.")

    def _checked_claims(self, claims: Mapping[str, Any]) -> str:
        token, expires = claims.get("tok"), claims.get("exp")
        if claims.get("iss") != _ISSUER or not isinstance(token, str) or not token:
            raise ExchangeRefusedError(400, "The signed data token's iss or tok is not valid.")
        if isinstance(expires, bool) or not isinstance(expires, int | float):
            raise ExchangeRefusedError(400, "The signed data token has no expiry.")
        if expires <= self.now.timestamp():
            raise ExchangeRefusedError(403, "The signed data token is expired.")
        if "ctx" in claims and claims["ctx"] != self.bearer.get("ctx"):
            raise ExchangeRefusedError(403, "The signed data token is bound to another context.")
        return token


def check_context(vault: GuardedVault, ctx: object) -> None:
    """Refuse a request whose ctx breaks a rule of the vault.

    Raises:
        ExchangeRefusedError: 403.
    """
    for name, pattern in vault.context_rules.items():
        key = name.removeprefix(_CONTEXT).removeprefix(".")
        value = ctx.get(key) if key and isinstance(ctx, Mapping) else None if key else ctx
        text = value if isinstance(value, str) else "" if value is None else _json_text(value)
        if value is None or not _fits(pattern, text):
            raise ExchangeRefusedError(403, f"A policy of the vault refuses this {name}.")


def read_context_rules(rules: Mapping[str, str]) -> Mapping[str, str]:
    """Return rules whose names are ``request.context`` or ``request.context.<key>``.

    Raises:
        ExchangeRefusedError: 400, another name.
    """
    for name in rules:
        key = name.removeprefix(f"{_CONTEXT}.")
        if name != _CONTEXT and (key == name or not key or "." in key):
            raise ExchangeRefusedError(400, "A rule is for request.context or one of its keys.")
    return rules


def _fits(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def _json_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
