"""Reads the live state: 2 requests for the server and 2 for each mount of ours."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from skyflowctl.engine.names import NAME_RULE, is_name
from skyflowctl.errors import Problem
from skyflowctl.vault import decode
from skyflowctl.vault.errors import (
    BadRequestError,
    BadRoleNameError,
    BusyError,
    ForbiddenError,
    NamespaceMissingError,
    NotFoundError,
    OutcomeUnknownError,
    SealedError,
    ServerUnreachableError,
    SilentlyIgnoredError,
    VaultError,
)
from skyflowctl.vault.live import (
    CREDENTIAL_FIELDS,
    SERVER_FILE,
    CredentialVersion,
    LiveConfig,
    LiveEngine,
    LiveMount,
    LiveRole,
    LiveState,
)
from skyflowctl.vault.revocations import revoked_keys
from skyflowctl.vault.transport import Request, Transport
from skyflowctl.vault.waits import within

MOUNT_SECONDS = 10.0
"""The time limit for one mount's config or list of roles."""

_T = TypeVar("_T")
_WHOLE_SERVER = (SealedError, ServerUnreachableError, BusyError, NamespaceMissingError)


def live_state(
    transport: Transport, paths: Sequence[str], plugin_name: str, parallelism: int
) -> LiveState:
    """Read mounts, audited headers, and the engines of the asked paths."""
    from skyflowctl.concurrency import Workers

    with Workers(parallelism) as pool:
        headers = pool.submit(read_audited_headers, transport)
        mounted = mounts(transport)
        wanted = [path for path in dict.fromkeys(paths) if path in mounted]
        ours = [path for path in wanted if mounted[path].type == plugin_name]
        configs = {path: pool.submit(in_time, read_config, transport, path) for path in ours}
        listed = {path: pool.submit(in_time, _all_roles, transport, path) for path in ours}
        engines: dict[str, LiveEngine] = {}
        problems: dict[str, Problem] = {}
        for path in ours:
            engine = _engine(mounted[path], configs[path].result, listed[path].result)
            if isinstance(engine, LiveEngine):
                engines[path] = engine
            else:
                problems[path] = engine
        if problems and not engines:
            mounts(transport)  # checks whether the server itself still answers
        return LiveState(mounted, engines, headers.result(), problems)


def engines(transport: Transport, mounted: Sequence[LiveMount]) -> dict[str, LiveEngine]:
    """Read the engines of these mounts one by one; those that cannot be read are omitted."""
    read = {
        mount.path: _engine(
            mount,
            partial(in_time, read_config, transport, mount.path),
            partial(in_time, _all_roles, transport, mount.path),
        )
        for mount in mounted
    }
    return {path: one for path, one in read.items() if isinstance(one, LiveEngine)}


def _engine(
    mount: LiveMount,
    get_config: Callable[[], LiveConfig],
    get_roles: Callable[[], tuple[Mapping[str, LiveRole], Mapping[str, str]]],
) -> LiveEngine | Problem:
    """Return the engine of one mount, or why it cannot be read."""
    try:
        found, (usable, unusable) = get_config(), get_roles()
        found = with_mark(found, mount.options)
        known = revoked_keys(found, None, mount.options)
        return LiveEngine(found, usable, unusable=unusable, revoked=known)
    except OutcomeUnknownError as error:
        return error.problems[0]  # its process hangs, although the server has answered
    except _WHOLE_SERVER:
        raise
    except VaultError as error:
        return error.problems[0]


def in_time(read: Callable[[Transport, str], _T], transport: Transport, path: str) -> _T:
    """Read a part of a mount, whose process may hang, within :data:`MOUNT_SECONDS`.

    Waits that concern the whole server, such as an election, are not limited by this.

    Raises:
        OutcomeUnknownError: there was no answer in that time.
        VaultError: any other failure.
    """
    try:
        with within(MOUNT_SECONDS):
            return read(transport, path)
    except OutcomeUnknownError:
        raise
    except _WHOLE_SERVER:
        return read(transport, path)


def with_past(
    engine: LiveEngine, past: Mapping[int, CredentialVersion] | None, mount: LiveMount
) -> LiveEngine:
    """Return a mount's engine with its history, and with the revoked keys from the history."""
    keys = None if past is None else {number: one.key_id for number, one in past.items()}
    kept = frozenset(number for number, one in (past or {}).items() if one.kept)
    revoked = revoked_keys(engine.config, past, mount.options)
    return replace(engine, history=keys, revoked=revoked, kept=kept)


def tells_health(transport: Transport, path: str) -> bool:
    """Whether the mount has an engine with a health path, although its config is empty."""
    try:
        return "healthy" in _get(transport, f"{path}/health")
    except VaultError:
        return False


def with_mark(found: LiveConfig, options: Mapping[str, str]) -> LiveConfig:
    """Return a config with the cut-off that is recorded only in the mount's options.

    A basic engine records none; ours has no record of one from before it took the mount over.
    """
    if found.configured or found.revoked is not None:
        return found
    return replace(found, revoked=decode.marked_revocation(options))


def mounts(transport: Transport) -> dict[str, LiveMount]:
    """Return every secrets mount by path. ``sys/mounts`` has raw values, tune effective ones."""
    data = _get(transport, "sys/mounts")
    return {path.strip("/"): decode.mount(path, raw) for path, raw in data.items()}


def read_namespaces(transport: Transport) -> frozenset[str]:
    """Return the paths of the namespaces directly below this one; empty if they are unknown."""
    try:
        reply = transport.send(Request("LIST", "sys/namespaces", fresh=True))
    except (ForbiddenError, NotFoundError):
        return frozenset()
    return frozenset(path.strip("/") for path in decode.texts((reply.data or {}).get("keys")))


def read_audited_headers(transport: Transport) -> dict[str, bool] | None:
    """Return the audited request headers, or None if this token may not read them."""
    try:
        return decode.decode_audited_headers(_get(transport, "sys/config/auditing/request-headers"))
    except ForbiddenError:
        return None
    except NotFoundError as error:
        if error.empty:
            return {}
        raise


def read_config(transport: Transport, path: str) -> LiveConfig:
    """Return a mount's config, also for every form in which an engine reports that it has none.

    After an answer without content, ``raw`` is empty, and the mount may be no engine at all.
    """
    try:
        return decode.decode_live_config(_get(transport, f"{path}/config"))
    except NotFoundError as error:
        if not error.empty:
            raise
    except BadRequestError as error:
        if not error.says("mount not configured"):
            raise
        return decode.decode_live_config({"credentials_configured": False})
    return decode.decode_live_config({})


def roles(transport: Transport, path: str) -> dict[str, LiveRole]:
    """Return a mount's roles; one request if the list has every role's fields."""
    return _all_roles(transport, path)[0]


def _all_roles(transport: Transport, path: str) -> tuple[dict[str, LiveRole], Mapping[str, str]]:
    """Return the roles, and why the engine refuses other stored roles."""
    try:
        reply = transport.send(Request("LIST", f"{path}/roles", fresh=True))
    except NotFoundError as error:
        if error.empty:
            return {}, {}
        raise
    data = reply.data or {}
    info = data.get("key_info") or {}
    found = {}
    for name in decode.texts(data.get("keys")):
        entry = (
            decode.decode_live_role(name, info[name])
            if name in info
            else read_role(transport, path, name)
        )
        if entry is not None:
            found[name] = entry
    return found, data.get("unusable") or {}


def read_role(transport: Transport, path: str, name: str) -> LiveRole | None:
    """Return one role, or None if it does not exist."""
    try:
        return decode.decode_live_role(name, _get(transport, f"{path}/roles/{name}"))
    except NotFoundError as error:
        if error.empty:
            return None
        raise


def check_role_kept(
    transport: Transport, path: str, name: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Read back a role whose write had an empty answer, as from a basic engine.

    Raises:
        SilentlyIgnoredError: a field is not as it was sent.
    """
    live = read_role(transport, path, name)
    ignored = ["the role"] if live is None else decode.role_differences(live, fields)
    if live is None or ignored:
        raise _ignored(f"{path}/roles/{name}", ignored)
    return {"version": live.version}


def check_config_kept(
    transport: Transport, path: str, fields: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Read back a config; a credential is compared only if the engine returns its identity.

    Raises:
        SilentlyIgnoredError: a field is not as it was sent.
    """
    live = read_config(transport, path)
    if live.configured:
        # Only the engine knows the content of a file on the server.
        hidden = (SERVER_FILE,) if live.key_id else CREDENTIAL_FIELDS
        fields = {name: value for name, value in fields.items() if name not in hidden}
    ignored = decode.config_differences(live, fields)
    if ignored:
        raise _ignored(f"{path}/config", ignored)
    return live.raw


def _ignored(where: str, names: Sequence[str]) -> SilentlyIgnoredError:
    return SilentlyIgnoredError(
        f"the engine accepted and ignored {', '.join(names)}: {where}",
        why="the value that was read back differs: this engine does not support it, or "
        "another client wrote meanwhile",
        fix="'skyflowctl status' shows what the engine lacks; remove these fields from the "
        "manifest, or register skyflowctl's engine",
        path=where,
    )


def _get(transport: Transport, path: str) -> Mapping[str, Any]:
    return transport.send(Request("GET", path, fresh=True)).data or {}


def role_path(path: str, branch: str, name: str) -> str:
    """Return the path of one role; a name with a slash or dots would change the path.

    Raises:
        BadRoleNameError: the name is not valid.
    """
    if not is_name(name):
        raise BadRoleNameError(
            f"{ascii(name)[:80]} is not a valid role name",
            why=NAME_RULE,
            fix=f"'skyflowctl role list {path}' lists the roles of this mount",
        )
    return f"{path}/{branch}/{name}"
