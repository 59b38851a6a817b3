"""Reads for ``audit posture``: a forbidden read gives a value, not a failure."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from skyflowctl.concurrency import Workers
from skyflowctl.errors import os_reason
from skyflowctl.posture.facts import (
    AuditDevice,
    Certificate,
    LiveToken,
    NotRead,
    TcpListener,
    Tokens,
)
from skyflowctl.text import setting_text
from skyflowctl.vault.audit_devices import AUDIT_DEVICES, audit_devices
from skyflowctl.vault.certificates import certificate_end
from skyflowctl.vault.errors import (
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    SealedError,
    ServerUnreachableError,
    VaultError,
)
from skyflowctl.vault.login_api import LOOK_UP, OwnLogin, look_up
from skyflowctl.vault.namespaces import NAMESPACE_HEADER
from skyflowctl.vault.transport import Request, Transport

T = TypeVar("T")

MAX_TOKENS = 1000
"""The most live tokens that are read; each costs a request."""

MAX_LOGINS = 2000
"""The most logins, entities and groups that are read of each; each costs a request."""

# Audit devices and listeners belong to the whole server, not to a namespace.
_AT_ROOT = {NAMESPACE_HEADER: ""}


def or_not_read(read: Callable[[], T], path: str, *capabilities: str) -> T | NotRead:
    """Return the result of a read, or why it failed.

    Args:
        read: the read.
        path: the path that it reads, for the texts.
        capabilities: the capabilities that a policy must grant there.

    Raises:
        SealedError: the whole server is sealed.
        ServerUnreachableError: the whole server does not answer.
    """
    try:
        return read()
    except (SealedError, ServerUnreachableError):
        raise
    except ForbiddenError:
        return NotRead(path, capabilities)
    except VaultError as error:
        return NotRead(path, (), error.problems[0].why)


def read_fresh(transport: Transport, path: str, *, at_root: bool = False) -> Mapping[str, Any]:
    """Return the leader's current data of a path."""
    headers = _AT_ROOT if at_root else None
    reply = transport.send(Request("GET", path, headers=headers, fresh=True))
    return reply.data or reply.body


def keys(transport: Transport, path: str) -> list[str]:
    """Return the names that are listed at a path; empty if there are none."""
    return [str(key) for key in listing(transport, path).get("keys") or ()]


def listing(transport: Transport, path: str) -> Mapping[str, Any]:
    """Return the data of a list; empty if there is nothing to list."""
    try:
        return transport.send(Request("LIST", path, fresh=True)).data or {}
    except NotFoundError as error:
        if error.empty:
            return {}
        raise


def read_audit_devices(transport: Transport) -> tuple[AuditDevice, ...] | NotRead:
    """Return the audit devices of the whole server, whatever the namespace."""
    found = or_not_read(lambda: audit_devices(transport), AUDIT_DEVICES, "read", "sudo")
    if isinstance(found, NotRead):
        return found
    return tuple(
        AuditDevice(
            path=path.removeprefix(f"{AUDIT_DEVICES}/"),
            type=str(raw.get("type") or ""),
            options={key: setting_text(value) for key, value in (raw.get("options") or {}).items()},
        )
        for path, raw in sorted(found.items())
    )


def listeners(transport: Transport) -> tuple[TcpListener, ...] | NotRead:
    """Return the TCP listeners of the node that answers."""
    path = "sys/config/state/sanitized"
    found = or_not_read(lambda: read_fresh(transport, path, at_root=True), path, "read")
    if isinstance(found, NotRead):
        return found
    configs = [one.get("config") or {} for one in found.get("listeners") or () if _is_tcp(one)]
    return tuple(
        TcpListener(
            address=str(one.get("address") or ""),
            tls=setting_text(one.get("tls_disable") or False) not in {"true", "1"},
            tls_min_version=str(one.get("tls_min_version") or ""),
        )
        for one in configs
    )


def _is_tcp(listener: Mapping[str, Any]) -> bool:
    return listener.get("type") == "tcp"


def seal_type(transport: Transport) -> str:
    """Return the seal type, which needs no login; empty if not returned."""
    found = or_not_read(
        lambda: read_fresh(transport, "sys/seal-status", at_root=True), "sys/seal-status"
    )
    return "" if isinstance(found, NotRead) else str(found.get("type") or "")


def certificate(address: str) -> Certificate | NotRead | None:
    """Return when an address's certificate expires; None without TLS."""
    try:
        end = certificate_end(address)
    except OSError as error:
        why = os_reason(error)
        return NotRead(f"the certificate of {address}", why=why)
    except ValueError:
        return NotRead(f"the certificate of {address}", why="it is malformed")
    return Certificate(address, end) if end else None


def policies(transport: Transport, parallelism: int) -> Mapping[str, str] | NotRead:
    """Return every policy's text by name: one request, or on Vault one per policy."""
    detailed = "sys/policies/detailed/acl"
    try:
        found = listing(transport, detailed)
        info = found.get("key_info") or {}
        return {str(name): str((raw or {}).get("policy") or "") for name, raw in info.items()}
    except ForbiddenError:
        return NotRead(detailed, ("list",))
    except (NotFoundError, BadRequestError):
        return _policies_one_by_one(transport, parallelism)
    except (SealedError, ServerUnreachableError):
        raise
    except VaultError as error:
        return NotRead(detailed, (), error.problems[0].why)


def _policies_one_by_one(transport: Transport, parallelism: int) -> Mapping[str, str] | NotRead:
    root = "sys/policies/acl"
    names = or_not_read(lambda: keys(transport, root), root, "list")
    if isinstance(names, NotRead):
        return names

    def text(name: str) -> str | NotRead:
        path = f"{root}/{name}"
        found = or_not_read(lambda: read_fresh(transport, path), f"{root}/*", "read")
        return found if isinstance(found, NotRead) else str(found.get("policy") or "")

    with Workers(parallelism) as pool:
        texts = dict(zip(names, pool.map(text, names), strict=True))
    missing = next((one for one in texts.values() if isinstance(one, NotRead)), None)
    if missing is not None:
        return missing
    return {name: one for name, one in texts.items() if isinstance(one, str)}


def own_token(transport: Transport) -> OwnLogin | NotRead:
    """Return what the server knows about the token that is used."""
    return or_not_read(lambda: look_up(transport), LOOK_UP, "read")


def live_tokens(transport: Transport, own: str, parallelism: int) -> Tokens | NotRead:
    """Return live tokens, at most :data:`MAX_TOKENS` of them.

    Args:
        transport: to the server.
        own: the accessor of the token that is used.
        parallelism: how many requests run at once.
    """
    path = "auth/token/accessors"
    accessors = or_not_read(lambda: keys(transport, path), f"{path}/", "list", "sudo")
    if isinstance(accessors, NotRead):
        return accessors
    lookup = "auth/token/lookup-accessor"
    chosen = sorted(accessors, key=lambda one: one != own)[:MAX_TOKENS]
    with Workers(parallelism) as pool:
        looked = pool.map(
            lambda one: or_not_read(lambda: _token(transport, lookup, one, own), lookup, "update"),
            chosen,
        )
    forbidden = next((one for one in looked if isinstance(one, NotRead) and one.capabilities), None)
    if forbidden is not None:
        return forbidden
    found = tuple(one for one in looked if isinstance(one, LiveToken))
    return Tokens(found, len(accessors) - (len(chosen) - len(found)))


def _token(transport: Transport, path: str, accessor: str, own: str) -> LiveToken | None:
    """Return a token; None if it has ended since it was listed."""
    try:
        reply = transport.send(Request("POST", path, body={"accessor": accessor}, idempotent=True))
    except (ForbiddenError, BadRequestError) as error:
        if error.says("invalid accessor"):
            return None
        raise
    data = reply.data or {}
    named = [*(data.get("policies") or ()), *(data.get("identity_policies") or ())]
    return LiveToken(
        accessor=accessor,
        display_name=str(data.get("display_name") or ""),
        policies=tuple(str(name) for name in named),
        expires=str(data.get("expire_time") or ""),
        created_by=str(data.get("path") or ""),
        own=accessor == own,
        login=_login_of(data.get("meta") or {}),
    )


def _login_of(meta: Mapping[str, Any]) -> str:
    """Return the role or user in a token's metadata; auth methods name the field differently."""
    names = (meta.get(one) for one in ("role_name", "role", "username", "cert_name"))
    return next((str(one) for one in names if one), "")
