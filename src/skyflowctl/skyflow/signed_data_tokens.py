"""Signed data tokens: a data token and who may use it, signed with a service account's key.

The claims are those of the vendor's Python SDK (``tests/contract`` holds ours to them, and to
the Node and Java SDKs' with their differences: ADR 0037). No request is sent: Skyflow checks
the signature when the token is used.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from skyflowctl.secret import Secret
from skyflowctl.skyflow.minting import MintingCredential, sign

PREFIX = "signed_token_"


class DataTokenSigner:
    """Signs data tokens that are all valid for the same time.

    Args:
        credential: who signs.
        ctx: goes into the signed tokens verbatim; None leaves the claim out.
        now: the current time.
        ttl: how long they are valid.
    """

    def __init__(
        self,
        credential: MintingCredential,
        ctx: str | Mapping[str, Any] | None,
        now: datetime,
        ttl: timedelta,
    ) -> None:
        account, issued = credential.account, int(now.timestamp())
        self._key = credential.key
        self._expiry = issued + int(ttl.total_seconds())
        self._claims: dict[str, Any] = {
            "iss": "sdk",
            "key": account.key_id,
            "exp": self._expiry,
            "sub": account.client_id,
            "tok": "",
            "iat": issued,
        }
        if ctx is not None:
            self._claims["ctx"] = ctx if isinstance(ctx, str) else dict(ctx)

    @property
    def expires_at(self) -> datetime:
        """When the signed tokens end: their ``exp``."""
        return datetime.fromtimestamp(self._expiry, UTC)

    def sign(self, data_token: str) -> Secret:
        """Return the signed form of one data token."""
        signed = sign({**self._claims, "tok": data_token}, self._key)
        return Secret(PREFIX + signed.reveal())
