"""Reads of the live state: 2 requests for the server and 2 for each mount of ours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.vault import parsing
from skyflowctl.vault.failures import (
    BadRequest,
    Busy,
    Forbidden,
    NamespaceMissing,
    NotFound,
    Sealed,
    ServerUnreachable,
    VaultError,
)
from skyflowctl.vault.live import LiveConfig, LiveEngine, LiveMount, LiveRole, LiveState
from skyflowctl.vault.transport import Transport

_WHOLE_SERVER = (Sealed, ServerUnreachable, Busy, NamespaceMissing)


def live_state(
    transport: Transport, paths: Sequence[str], plugin_name: str, parallelism: int
) -> LiveState:
    """Read mounts, audited headers, and the engines of the asked paths."""
    from skyflowctl.vault.workers import Workers

    with Workers(parallelism) as pool:
        headers = pool.submit(audited_headers, transport)
        mounted = mounts(transport)
        wanted = [path for path in dict.fromkeys(paths) if path in mounted]
        ours = [path for path in wanted if mounted[path].type == plugin_name]
        configs = {path: pool.submit(config, transport, path) for path in ours}
        listed = {path: pool.submit(roles, transport, path) for path in ours}
        engines: dict[str, LiveEngine] = {}
        problems: dict[str, Problem] = {}
        for path in ours:
            engine = _engine(configs[path].result, listed[path].result)
            if isinstance(engine, LiveEngine):
                engines[path] = engine
            else:
                problems[path] = engine
        return LiveState(mounted, engines, headers.result(), problems)


def _engine(
    get_config: Callable[[], LiveConfig], get_roles: Callable[[], Mapping[str, LiveRole]]
) -> LiveEngine | Problem:
    """Return what one mount holds, or why it cannot be read."""
    try:
        return LiveEngine(get_config(), get_roles())
    except _WHOLE_SERVER:
        raise
    except VaultError as error:
        return error.problems[0]


def mounts(transport: Transport) -> dict[str, LiveMount]:
    """Return every secrets mount by path. ``sys/mounts`` has raw values, tune effective ones."""
    data = _get(transport, "sys/mounts")
    return {path.strip("/"): parsing.mount(path, raw) for path, raw in data.items()}


def audited_headers(transport: Transport) -> dict[str, bool] | None:
    """Return the audited request headers, or None when this token may not read them."""
    try:
        return parsing.audited_headers(_get(transport, "sys/config/auditing/request-headers"))
    except Forbidden:
        return None
    except NotFound as error:
        if error.empty:
            return {}
        raise


def config(transport: Transport, path: str) -> LiveConfig:
    """Return a mount's config, whichever way its engine says that there is none.

    An answer without content leaves ``raw`` empty: then it may be no engine at all.
    """
    try:
        return parsing.config(_get(transport, f"{path}/config"))
    except NotFound as error:
        if not error.empty:
            raise
    except BadRequest as error:
        if not error.says("mount not configured"):
            raise
        return parsing.config({"credentials_configured": False})
    return parsing.config({})


def roles(transport: Transport, path: str) -> dict[str, LiveRole]:
    """Return a mount's roles; one request where the list carries every role's fields."""
    try:
        reply = transport.request("LIST", f"{path}/roles", idempotent=True, fresh=True)
    except NotFound as error:
        if error.empty:
            return {}
        raise
    data = reply.data or {}
    info = data.get("key_info") or {}
    found = {}
    for name in parsing.texts(data.get("keys")):
        entry = parsing.role(name, info[name]) if name in info else role(transport, path, name)
        if entry is not None:
            found[name] = entry
    return found


def role(transport: Transport, path: str, name: str) -> LiveRole | None:
    """Return one role, or None when there is none of that name."""
    try:
        return parsing.role(name, _get(transport, f"{path}/roles/{name}"))
    except NotFound as error:
        if error.empty:
            return None
        raise


def _get(transport: Transport, path: str) -> Mapping[str, Any]:
    return transport.request("GET", path, idempotent=True, fresh=True).data or {}
