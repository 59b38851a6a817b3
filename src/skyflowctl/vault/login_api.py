"""Logging in, renewing and ending a login: the requests, and what their answers say."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from skyflowctl.clock import Clock, time_or_none
from skyflowctl.errors import NotPermittedError
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import ForbiddenError, VaultError
from skyflowctl.vault.held_login import HeldToken
from skyflowctl.vault.transport import Request, Transport

LOOK_UP = "auth/token/lookup-self"


@dataclass(frozen=True, slots=True)
class OwnLogin:
    """What the server says of a token to its holder.

    Args:
        accessor: names it without revealing it.
        user: the server's display name; empty if the token may not look itself up.
        policies: what it may do, with those of its entity.
        ttl: its whole life in seconds; 0: it never ends.
        ends: when it expires; None if never, or if that is not known.
        renewable: whether the server renews it.
        entity: the id of its entity; empty if it has none, None if that is not known.
    """

    accessor: str = ""
    user: str = ""
    policies: tuple[str, ...] = ()
    ttl: int = 0
    ends: datetime | None = None
    renewable: bool = False
    entity: str | None = None

    @property
    def is_root(self) -> bool:
        """Whether it may do everything, past every control group."""
        return "root" in self.policies


@dataclass(frozen=True, slots=True)
class IssuedLogin:
    """A token and what the server says of it; ``minted`` is False if the user gave it."""

    token: Secret
    own: OwnLogin
    minted: bool

    def held(self) -> HeldToken:
        """Return the token with its end."""
        return HeldToken(self.token, self.own.ttl, self.own.ends, self.own.renewable)


def issue_login(
    transport: Transport, path: str, body: Mapping[str, Any], clock: Clock, method: str = "POST"
) -> IssuedLogin:
    """Log in, and look the new token up.

    Args:
        transport: to the server, without a token.
        path: of the login, below ``/v1/``.
        body: its fields; for a GET, the query.
        clock: tells when the token ends, if it may not look itself up.
        method: of the request.

    Raises:
        NotPermittedError: the server asks for a second factor.
        VaultError: it refuses the login, or does not answer.
    """
    # Read from the answer: a login is no secret of the manifest, whose guard would be probed.
    sent = {"params": body} if method == "GET" else {"body": body}
    auth = transport.send(Request(method, path, **sent)).body.get("auth") or {}  # type: ignore[arg-type]  # either of the two
    if not auth.get("client_token"):
        raise NotPermittedError(
            "the server asks for a second factor",
            why="skyflowctl has no way to give one",
            fix="log in with 'bao login', and set BAO_ADDR: its token is used then",
            code="second-factor",
        )
    token = Secret(str(auth["client_token"]))
    try:
        own = look_up_new(transport, token)
    except ForbiddenError:  # a token without the policy default
        ttl = int(auth.get("lease_duration") or 0)
        own = OwnLogin(
            accessor=str(auth.get("accessor") or ""),
            policies=tuple(auth.get("policies") or ()),
            ttl=ttl,
            ends=clock.now() + timedelta(seconds=ttl) if ttl else None,
            renewable=bool(auth.get("renewable")),
        )
    return IssuedLogin(token, own, minted=True)


def look_up_new(transport: Transport, token: Secret) -> OwnLogin:
    """Return what the server says of a token that is not bound to a cluster yet.

    Raises:
        ForbiddenError: it is not valid, or may not look itself up.
        VaultError: the server does not answer.
    """
    own = transport.as_login(token)
    try:
        return look_up(own)
    finally:
        own.close()


def look_up(transport: Transport) -> OwnLogin:
    """Return what the server says of the token that a transport sends.

    Raises:
        ForbiddenError: it is not valid or, if ``by_policy``, may not look itself up.
        VaultError: the server does not answer.
    """
    found = transport.send(Request("GET", LOOK_UP)).data or {}
    policies = [*(found.get("policies") or ()), *(found.get("identity_policies") or ())]
    entity = found.get("entity_id")
    return OwnLogin(
        str(found.get("accessor") or ""),
        str(found.get("display_name") or ""),
        tuple(dict.fromkeys(map(str, policies))),
        int(found.get("creation_ttl") or found.get("ttl") or 0),
        time_or_none(found.get("expire_time")),
        bool(found.get("renewable")),
        None if entity is None else str(entity),
    )


def renew_token(transport: Transport, token: Secret, clock: Clock) -> HeldToken:
    """Renew a token.

    Args:
        transport: sends it.
        token: the token.
        clock: tells its new end.

    Raises:
        VaultError: the server refuses it, or does not answer.
    """
    request = Request("POST", "auth/token/renew-self", body={}, idempotent=True)
    auth = transport.send(request).body.get("auth") or {}
    ttl = int(auth.get("lease_duration") or 0)
    ends = clock.now() + timedelta(seconds=ttl) if ttl else None
    return HeldToken(token, ttl, ends, bool(auth.get("renewable")))


def end_login(transport: Transport) -> bool:
    """Revoke the token of a transport; return False if it was not valid any more.

    Raises:
        VaultError: the server does not answer.
    """
    try:
        transport.send(Request("POST", "auth/token/revoke-self", idempotent=True))
    except ForbiddenError:
        return False
    return True


def refused_login(error: VaultError, method: str, fix: str) -> NotPermittedError:
    """Return the error for a login that the server refuses."""
    why = error.problems[0].why or error.problems[0].summary
    return NotPermittedError(
        f"the server refused the login with {method}", why=why, fix=fix, code="cannot-log-in"
    )
