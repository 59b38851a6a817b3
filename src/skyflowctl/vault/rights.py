"""Asks the server what a login may do, before the login tries it."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from skyflowctl.clock import parse_rfc3339
from skyflowctl.vault.errors import ForbiddenError, VaultError
from skyflowctl.vault.namespaces import NAMESPACE_HEADER, is_root_only
from skyflowctl.vault.transport import Request, Transport

_CHUNK = 500  # a server refuses a request with more than 1,000 JSON strings


def capabilities(transport: Transport, paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return what this token may do at each path (``read``, ``deny``, ``root`` …).

    Paths that exist only in the root namespace are asked for there. In another namespace the
    answer would concern an unused path of the same name. A login that may not even ask in the
    root namespace has no rights there.
    """
    found: dict[str, tuple[str, ...]] = dict.fromkeys(paths, ())
    found |= _asked(transport, [path for path in paths if not is_root_only(path)], {})
    try:
        at_root = [path for path in paths if is_root_only(path)]
        found |= _asked(transport, at_root, {NAMESPACE_HEADER: ""})
    except ForbiddenError:
        return found
    return found


def _asked(
    transport: Transport, paths: Sequence[str], headers: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(paths), _CHUNK):
        chunk = list(paths[start : start + _CHUNK])
        reply = transport.send(
            Request(
                "POST",
                "sys/capabilities-self",
                body={"paths": chunk},
                headers=headers,
                idempotent=True,
            )
        )
        data = reply.data or {}
        found |= {path: tuple(data.get(path) or ()) for path in chunk}
    return found


def display_name(transport: Transport) -> str:
    """Return the server's display name of this login; empty if it returns none."""
    reply = transport.send(Request("GET", "auth/token/lookup-self"))
    return str((reply.data or {}).get("display_name") or "")


def login_end(transport: Transport) -> datetime | None:
    """Return when this login ends; None if never, or if it may not look up itself."""
    try:
        reply = transport.send(Request("GET", "auth/token/lookup-self"))
        text = str((reply.data or {}).get("expire_time") or "")
        return parse_rfc3339(text) if text else None
    except (VaultError, ValueError):
        return None
