"""Where the names of a shell's completion come from: contexts, the manifest, or the server.

A server is asked with a token that is there already: nothing logs in, runs a program, or makes a
keyring ask for its password.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from skyflowctl.cli.context.contexts import chosen_context, context_file
from skyflowctl.cli.context.live_names import REQUEST_SECONDS, Wanted
from skyflowctl.cli.context.logins import login_store, requests_in_files
from skyflowctl.cli.runner import new_run_id
from skyflowctl.clock import SystemClock, parse_rfc3339
from skyflowctl.credentials.schemes import keyring
from skyflowctl.manifest.discover import DEFAULT_PLUGIN, DEFAULT_PREFIX
from skyflowctl.operations.mounts import resolve_mount_path
from skyflowctl.operations.sessions import has_expired
from skyflowctl.vault import token_files
from skyflowctl.vault.connection import TargetPool, request_marks
from skyflowctl.vault.contexts import ContextEntry
from skyflowctl.vault.environment import named_address, variable
from skyflowctl.vault.held_login import HeldLogin, HeldToken
from skyflowctl.vault.login_store import LOGIN_SERVICE
from skyflowctl.vault.namespaces import NAMESPACE_HEADER
from skyflowctl.vault.pending_store import SERVICE, decode_entries
from skyflowctl.vault.target import Target, TargetFlags, resolve_target

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Manifest, Mount


def name_sources(wanted: Wanted) -> Iterator[Iterable[object]]:
    """Yield the names that each source has, not yet checked; the quickest source comes first.

    Raises:
        Exception: a source cannot be read, or its answer is malformed.
    """
    if wanted.kind == "context":
        yield context_file().load().entries
        return
    manifest = None
    if wanted.files:
        from skyflowctl.manifest.load import load_manifest

        manifest = load_manifest(wanted.files, environ=os.environ).manifest
        yield _of_manifest(wanted, manifest.mounts)
    if wanted.asks_server:
        yield _of_server(wanted, manifest)


def _of_manifest(wanted: Wanted, mounts: "Iterable[Mount]") -> list[str]:
    if wanted.kind == "mount":
        return [mount.path if wanted.paths else mount.name for mount in mounts]
    named = wanted.mount.strip("/")
    return [
        role.name for mount in mounts if named in {mount.name, mount.path} for role in mount.roles
    ]


def _of_server(wanted: Wanted, manifest: "Manifest | None") -> Iterable[object]:
    """Return the names that the server lists; none if no server is named, or no token is there."""
    context = chosen_context(None, wanted.context)
    if context is None and (not named_address(os.environ) or _would_run_a_program()):
        return []
    flags = TargetFlags(context=wanted.context, namespace=wanted.namespace)
    target = resolve_target(flags, os.environ, context)
    if context is not None:
        target = _with_stored_login(target, context)
    pool = TargetPool(target, request_marks(new_run_id()))
    try:
        if wanted.kind == "accessor":
            return _stored_accessors(pool, target)
        if target.token is None:
            return []
        prefix = (context and context.path_prefix) or DEFAULT_PREFIX
        prefix = manifest.path_prefix if manifest else prefix
        if wanted.kind == "role":
            path = resolve_mount_path(wanted.mount, prefix)
            return list(_asked(pool, target, "LIST", f"{path}/roles")["keys"])
        mounts = _asked(pool, target, "GET", "sys/internal/ui/mounts")["secret"]
    finally:
        pool.close()
    plugin = manifest.plugin.name if manifest else DEFAULT_PLUGIN
    paths = [path.strip("/") for path, one in mounts.items() if one.get("type") == plugin]
    return [path.removeprefix("" if wanted.paths else f"{prefix}/") for path in paths]


def _stored_accessors(pool: TargetPool, target: Target) -> list[str]:
    """Return the accessors of the requests to a server's cluster that this machine stored, in the
    keyring or in files of ``--pending``."""
    health = pool.send(
        target.address, "GET", "sys/health", headers={}, seconds=REQUEST_SECONDS, with_token=False
    )
    cluster = json.loads(health.content)["cluster_id"]
    text = keyring.stored_unasked(SERVICE, cluster)
    stored = decode_entries(text.reveal() if text else "")
    stored += requests_in_files(cluster, lambda *_: None)
    now = SystemClock().now()
    return [one.accessor for one in stored if parse_rfc3339(one.expires_at) > now]


def _would_run_a_program() -> bool:
    """Whether the token of the environment's server would come from a token helper."""
    return not variable(os.environ, "TOKEN") and bool(token_files.token_helper(os.environ))


def _with_stored_login(target: Target, context: ContextEntry) -> Target:
    """Return the target with the context's stored login, which stays bound to its cluster."""
    record = login_store().find(context)
    clock = SystemClock()
    if record is None or has_expired(record, clock.now()):
        return target
    token = keyring.stored_unasked(LOGIN_SERVICE, record.key)
    if token is None:
        return target
    # Without an end: it is not renewed here.
    held = HeldToken(token, 0, None, renewable=False)
    login = HeldLogin(record.cluster, held, renew=lambda _: held, repeat=None, clock=clock)
    return replace(target, token=token, login=login)


def _asked(pool: TargetPool, target: Target, method: str, path: str) -> Any:
    """Return the data of one answer; the request is sent once, and no redirect is followed.

    Raises:
        Exception: there is no answer, or one without data.
    """
    headers = {NAMESPACE_HEADER: target.namespace} if target.namespace else {}
    reply = pool.send(target.address, method, path, headers=headers, seconds=REQUEST_SECONDS)
    if reply.status != 200:
        raise ValueError(reply.status)
    return json.loads(reply.content)["data"]
