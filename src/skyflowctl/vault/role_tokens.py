"""Reads tokens through ``creds``, role by role: the only verification that every engine offers."""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime

from skyflowctl.engine.names import FOREIGN_NAME, is_name
from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.bearer import read_bearer
from skyflowctl.vault.errors import (
    BadRequestError,
    ForbiddenError,
    TokenServiceFailedError,
    VaultError,
)
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveRole
from skyflowctl.vault.responses import Creds
from skyflowctl.vault.transport import Request

_ANSWERS = (BadRequestError, ForbiddenError, TokenServiceFailedError)


def _read(gateway: Gateway, path: str, name: str, role: LiveRole) -> Creds:
    """Read a token of a listed role, even if only other engines accept its name."""
    if is_name(name) or not FOREIGN_NAME.fullmatch(name):
        return gateway.engine(path).creds(name, role.ctx_probe or None)
    reply = gateway.transport.send(Request("GET", f"{path}/creds/{name}"))
    return Creds.parse(reply.data or {}, reply.request_id)


@dataclass(frozen=True, slots=True)
class RoleToken:
    """The result of ``creds`` for a role; the token itself is discarded.

    Args:
        error: why there is no token; None if there is one.
        key_id: the key that the engine or the token names; empty if neither does.
        client_id: the service account that the token names; empty if it names none.
        expires_at: the token's own end; None if it names none.
        latency_ms: how long the request took.
    """

    error: VaultError | None = None
    key_id: str = ""
    client_id: str = ""
    expires_at: datetime | None = None
    latency_ms: float = 0.0

    @property
    def why(self) -> str:
        """Why there is no token, in one line; empty if there is one."""
        problem = self.error.problems[0] if self.error else None
        return (problem.why or problem.summary) if problem else ""


def role_tokens(
    gateway: Gateway, path: str, roles: Mapping[str, LiveRole]
) -> Iterator[tuple[str, RoleToken]]:
    """Read a token of each role with the role's probe, lazily, one by one.

    Raises:
        VaultError: the server itself does not answer.
    """
    for name, role in roles.items():
        started = time.monotonic()
        try:
            token = _read(gateway, path, name, role)
        except _ANSWERS as error:
            yield name, RoleToken(error)
            continue
        spent = round((time.monotonic() - started) * 1000, 1)
        own = read_bearer(token.access_token)
        yield name, RoleToken(None, token.key_id, own.client_id, own.expires_at, spent)
