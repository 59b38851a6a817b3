"""Makes, shows and ends the login of a context; its token is in the OS keyring."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Literal

from skyflowctl.clock import parse_rfc3339, rfc3339_or_empty
from skyflowctl.errors import NotPermittedError, SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.vault.contexts import ContextEntry
from skyflowctl.vault.errors import ForbiddenError, ServerUnreachableError, VaultError
from skyflowctl.vault.held_login import HeldLogin
from skyflowctl.vault.login_api import IssuedLogin, end_login, look_up
from skyflowctl.vault.login_store import LoginRecord, LoginStore
from skyflowctl.vault.target import Target
from skyflowctl.vault.transport import Transport

Connect = Callable[[Target], Transport]
"""Returns a transport to a target; the caller closes it."""
Bind = Callable[[LoginRecord, Secret], HeldLogin]
"""Returns the login of a record with its token, bound to its cluster."""


@dataclass(frozen=True, slots=True)
class EndedLogin:
    """What ``logout`` did.

    Args:
        record: the login.
        revoked: yes; ended: it was not valid any more; given: the user gave it, so it stays valid;
            no: it was only forgotten.
    """

    record: LoginRecord
    revoked: Literal["yes", "ended", "given", "no"]


def record_of(context: ContextEntry, method: str, cluster: str, issued: IssuedLogin) -> LoginRecord:
    """Return what is stored of a new login."""
    own = issued.own
    return LoginRecord(
        context.name,
        context.address,
        context.namespace,
        cluster,
        own.accessor,
        own.user,
        own.policies,
        method,
        issued.minted,
        own.renewable,
        own.ttl,
        rfc3339_or_empty(own.ends),
    )


def store_login(
    store: LoginStore, record: LoginRecord, issued: IssuedLogin, transport: Transport
) -> list[LoginRecord]:
    """Store a new login, and return those that it replaces; without a store it is revoked.

    Raises:
        SkyflowctlError: it could not be stored.
    """
    try:
        return store.save(record, issued.token)
    except SkyflowctlError:
        if issued.minted:
            own = transport.as_login(issued.token)
            try:
                end_login(own)
            except VaultError:
                pass  # it expires by itself; the error to tell is that of the store
            finally:
                own.close()
        raise


def check_login(
    record: LoginRecord, store: LoginStore, target: Target, connect: Connect, bind: Bind
) -> LoginRecord:
    """Ask the server about a login, and return the record as it is now.

    Raises:
        NotPermittedError: the login has ended.
        VaultError: the server does not answer, or is another cluster.
    """
    token = store.token(record)
    if token is None:
        raise _ended(record, "the keyring has no token for it")
    transport = connect(replace(target, token=token, login=bind(record, token)))
    try:
        found = look_up(transport)
    except ForbiddenError as error:
        raise _ended(record, error.problems[0].why) from error
    finally:
        transport.close()
    return replace(
        record,
        user=found.user,
        policies=found.policies,
        renewable=found.renewable,
        expires_at=rfc3339_or_empty(found.ends),
    )


def end_stored_login(
    record: LoginRecord, store: LoginStore, target: Target, connect: Connect, bind: Bind
) -> EndedLogin:
    """Revoke a login that ``login`` made, and remove it from this machine.

    Raises:
        ServerUnreachableError: the server does not answer: the login is still valid and stored.
        VaultError: another cluster answers, or the server refuses: the same.
    """
    token = store.token(record)
    revoked: Literal["yes", "ended", "given"] = "ended" if record.minted else "given"
    if token is not None and record.minted:
        transport = connect(replace(target, token=token, login=bind(record, token)))
        try:
            revoked = "yes" if end_login(transport) else "ended"
        except ServerUnreachableError as error:
            raise ServerUnreachableError(
                f"the login of {record.context} is not ended: the server does not answer",
                why=f"{error.problems[0].why}; the token is still stored, and valid"
                + (f" until {record.expires_at}" if record.expires_at else ""),
                fix="run the same command again later; 'skyflowctl logout --forget' removes the "
                "token from this machine without revoking it",
                code="not-logged-out",
            ) from error
        finally:
            transport.close()
    store.forget(record)
    return EndedLogin(record, revoked)


def has_expired(record: LoginRecord, now: datetime) -> bool:
    """Return whether a login has expired."""
    return bool(record.expires_at) and parse_rfc3339(record.expires_at) <= now


def _ended(record: LoginRecord, why: str) -> NotPermittedError:
    return NotPermittedError(
        f"the login of {record.context} has ended",
        why=why,
        fix=f"'skyflowctl login --context {record.context}' logs in again",
        code="login-ended",
    )
