"""Typed calls to the server, shared by all transports.

Mount paths have no trailing slash (``skyflow/order``).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from skyflowctl.vault import decode, mounting, reading, revocations, rights, rotating
from skyflowctl.vault.access_api import AccessApi
from skyflowctl.vault.catalog import Catalog
from skyflowctl.vault.errors import (
    ConflictError,
    ForbiddenError,
    NotAnEngineError,
    NotFoundError,
    RevokedKeyError,
    SilentlyIgnoredError,
)
from skyflowctl.vault.live import (
    CredentialVersion,
    LiveConfig,
    LiveMount,
    LiveRevocation,
    LiveRole,
    LiveRotation,
    LiveState,
)
from skyflowctl.vault.reading import role_path
from skyflowctl.vault.responses import ClusterNode, Creds, EngineHealth, ServerHealth, VerifyReport
from skyflowctl.vault.rotating import CutOff, RolledBack
from skyflowctl.vault.transport import Reply, Request, Transport, WrapInfo


class Gateway:
    """The interface to the server for the rest of skyflowctl.

    Every method raises :class:`skyflowctl.vault.errors.VaultError`. Writes may be repeated: a
    write whose reply was lost is sent again, or compared with the live state.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.catalog = Catalog(transport)
        self.access = AccessApi(transport)

    @property
    def requests_made(self) -> int:
        """The number of requests so far; resent ones count once."""
        return self.transport.requests_made

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    # The live state ------------------------------------------------------------

    def read_live_state(
        self, paths: Sequence[str], plugin_name: str, *, parallelism: int = 8
    ) -> LiveState:
        """Read what a plan needs, in exactly 2 + 2N requests.

        N counts the given paths that are mounted with the plugin's type; an engine without
        ``key_info`` in its role list costs one more request per role. A mount that cannot be
        read is in ``problems``; only a failure of the whole server is raised.

        Args:
            paths: the mounts whose engine is read.
            plugin_name: the engine's mount type.
            parallelism: how many requests run at once.
        """
        return reading.live_state(self.transport, paths, plugin_name, parallelism)

    def with_engines(self, state: LiveState, paths: Sequence[str]) -> LiveState:
        """Return the state with the engines of further mounts and their history.

        This costs three requests per mount. A mount that cannot be read is omitted.
        """
        further = reading.engines(self.transport, [state.mounts[path] for path in paths])
        state = replace(state, engines={**state.engines, **further})
        for path in further:
            with suppress(ForbiddenError):
                state = self.with_history(state, [path])
        return state

    def with_history(self, state: LiveState, paths: Sequence[str]) -> LiveState:
        """Return the state with the credential history of these mounts, one request each.

        The history stays None if the engine has none.
        """
        engines = dict(state.engines)
        for path in paths:
            if path in engines:
                past = self.read_history(path)
                engines[path] = reading.with_past(engines[path], past, state.mounts[path])
        return replace(state, engines=engines)

    def read_history(self, path: str) -> Mapping[int, CredentialVersion] | None:
        """Return entries by credential version; None when the engine has no history."""
        return rotating.read_history(self.transport, path)

    def revoked_keys(
        self, path: str, config: LiveConfig, history: Mapping[int, CredentialVersion] | None = None
    ) -> Mapping[str, LiveRevocation]:
        """Return the keys that cut-offs of a mount revoked, including one that was allowed again.

        If the history is None, it is read.
        """
        if history is None and config.api.has("history"):
            history = self.read_history(path)
        options = revocations.options_of(self.transport, path)
        return revocations.marked_keys(config, history, options)

    # Mounts --------------------------------------------------------------------

    def list_mounts(self) -> Mapping[str, LiveMount]:
        """Return every secrets mount by path."""
        return reading.mounts(self.transport)

    def read_mount(self, path: str) -> LiveMount | None:
        """Return one mount's entry, or None when nothing is mounted there."""
        return mounting.read_mount(self.transport, path)

    def enable_mount(self, path: str, fields: Mapping[str, Any]) -> LiveMount:
        """Mount a secrets engine and return the mount as the server stored it.

        Args:
            path: of the mount.
            fields: ``type``, ``description``, ``options``, and flat, as for
                :meth:`tune_mount`, what the API keeps under ``config``.

        Raises:
            SilentlyIgnoredError: the server accepted the request but not all of its values.
            BadRequestError: the type is unknown, or the plugin is broken.
            PathInUseError: another mount than the requested one is at the path.
        """
        return mounting.enable(self.transport, path, fields)

    def tune_mount(self, path: str, fields: Mapping[str, Any]) -> LiveMount:
        """Change a mount in place and return its new entry.

        Args:
            path: of the mount.
            fields: ``description``, ``options`` (merged key by key; "" removes one),
                ``plugin_version``, ``passthrough_request_headers``,
                ``audit_non_hmac_request_keys``, ``audit_non_hmac_response_keys`` …

        Raises:
            SilentlyIgnoredError: the server accepted the request but not all of its values.
        """
        return mounting.tune(self.transport, path, fields)

    def disable_mount(self, path: str) -> None:
        """Remove a mount and all of its data; a missing one is no error."""
        self._write("DELETE", f"sys/mounts/{path}", None)

    def put_audited_header(self, name: str, *, hmac: bool) -> None:
        """Make the server log a request header in the audit log, hashed or in plain text."""
        self._write("PUT", f"sys/config/auditing/request-headers/{name}", {"hmac": hmac})

    def list_audited_headers(self) -> Mapping[str, bool] | None:
        """Return whether each header is hashed, by name in lower case; None if not permitted."""
        return reading.read_audited_headers(self.transport)

    # The engine: config --------------------------------------------------------

    def read_config(self, path: str) -> LiveConfig:
        """Return a mount's config; an unconfigured one has ``configured`` False."""
        return reading.read_config(self.transport, path)

    def engine_config(self, path: str) -> LiveConfig:
        """Return a mount's config if it is not known whether the mount is ours.

        Raises:
            NotAnEngineError: the mount is not an engine for Skyflow (measured on kv: 404
                without a text, or other fields).
        """
        try:
            found = self.read_config(path)
        except NotFoundError as error:
            if type(error) is NotFoundError:
                raise NotAnEngineError.at(path, cause=error) from None
            raise
        # A basic engine returns nothing before its first config, but its health answers.
        told = "credentials_configured" in found.raw
        if not told and not reading.tells_health(self.transport, path):
            raise NotAnEngineError.at(path)
        if not found.configured and found.revoked is None:
            found = reading.with_mark(found, revocations.options_of(self.transport, path))
        return found

    def write_config(
        self, path: str, fields: Mapping[str, Any], *, cas: int | None = None
    ) -> Mapping[str, Any]:
        """Patch a mount's config and return the engine's answer (new versions).

        Args:
            path: of the mount.
            fields: what to change; ``credentials_json`` as a :class:`Secret`.
            cas: the version that must be live; 0: none yet; None: no check.

        Raises:
            ConflictError: the check failed, and the live config is not what was sent.
            RevokedKeyError: a cut-off revoked the key, and ``allow_revoked_key`` is not its id.
            SilentlyIgnoredError: an engine with an empty answer did not store what was sent.
            TokenServiceFailedError: the engine tried the credential, and it does not mint.
        """
        body = _with_cas(fields, cas)
        try:
            data = self._write("POST", f"{path}/config", body).data
            return data or rotating.confirm_basic_write(self.transport, path, fields)
        except RevokedKeyError:
            raise
        except ConflictError:
            live = self.read_config(path)
            if not decode.config_equals(live, fields):
                raise
            return live.raw

    def verify_config(self, path: str, candidate: Mapping[str, Any] | None = None) -> VerifyReport:
        """Mint once for every role, with a candidate credential or with the live one.

        Args:
            path: of the mount.
            candidate: the field with the candidate: ``credentials_json`` or
                ``credentials_file_path``.
        """
        where, body = f"{path}/config/verify", candidate or {}
        reply = self.transport.send(Request("POST", where, body=body, idempotent=True))
        return VerifyReport.parse(reply.data or {})

    def commit_rotation(self, path: str, rotation_id: str) -> LiveRotation:
        """Commit a rotation and return it; a repeated call returns the same.

        Raises:
            ConflictError: the mount has another rotation, or this one has written nothing.
        """
        return rotating.commit(self.transport, path, rotation_id)

    def rollback_config(
        self,
        path: str,
        *,
        cas_credential_version: int,
        credential_version: int | None = None,
        allow_revoked_key: str = "",
    ) -> RolledBack:
        """Make a kept credential live again, after the engine has verified it.

        ``cas_credential_version`` must be live; without this check, a repeated rollback would
        go forward again. ``credential_version`` None means the version before it.

        Raises:
            ConflictError: another version is live, or the requested one is destroyed.
            RevokedKeyError: a cut-off revoked the key, and ``allow_revoked_key`` is not its id.
        """
        body: dict[str, Any] = {"cas_credential_version": cas_credential_version}
        if credential_version is not None:
            body["credential_version"] = credential_version
        if allow_revoked_key:
            body["allow_revoked_key"] = allow_revoked_key
        return rotating.rollback(self.transport, path, body)

    def delete_kept_credential(self, path: str, credential_version: int) -> None:
        """Destroy a kept credential; one that is already destroyed is no error.

        Raises:
            ConflictError: it is live, or an open rotation needs it for a rollback.
        """
        rotating.destroy(self.transport, path, credential_version)

    def cut_off(self, path: str, reason: str = "", run: str = "") -> CutOff:
        """Destroy a mount's live credential and every kept one, whatever their versions.

        It is sent again after a lost reply; the reason and run in the history stay.

        Args:
            path: of the mount.
            reason: 1 to 200 printable characters; empty if none is given.
            run: the id of the run that cuts the mount off.
        """
        return rotating.destroy_credentials(self.transport, path, reason, run)

    # The engine: roles ---------------------------------------------------------

    def list_roles(self, path: str) -> Mapping[str, LiveRole]:
        """Return a mount's roles by name."""
        return reading.roles(self.transport, path)

    def read_role(self, path: str, name: str) -> LiveRole | None:
        """Return one role, or None if it does not exist."""
        role_path(path, "roles", name)
        return reading.read_role(self.transport, path, name)

    def write_role(
        self, path: str, name: str, fields: Mapping[str, Any], *, cas: int | None = None
    ) -> Mapping[str, Any]:
        """Patch or create a role and return the engine's answer (``version``).

        Raises:
            ConflictError: the check failed, and the live role is not what was sent.
        """
        where = role_path(path, "roles", name)
        try:
            data = self._write("POST", where, _with_cas(fields, cas)).data
            return data or reading.check_role_kept(self.transport, path, name, fields)
        except ConflictError:
            live = self.read_role(path, name)
            if live is None or not decode.role_equals(live, fields):
                raise
            return {"version": live.version}

    def delete_role(self, path: str, name: str) -> None:
        """Remove a role; a missing one is no error."""
        self._write("DELETE", role_path(path, "roles", name), None)

    # The engine: tokens and health ---------------------------------------------

    def creds(self, path: str, role: str, ctx: str | Mapping[str, Any] | None = None) -> Creds:
        """Read a token: a string ctx as a query parameter, an object ctx as a JSON body."""
        reply = self._creds(path, role, ctx, None)
        if "access_token" not in (reply.data or {}):
            raise NotAnEngineError.at(path)
        return Creds.parse(reply.data or {}, reply.request_id)

    def wrapped_creds(
        self, path: str, role: str, ctx: str | Mapping[str, Any] | None, wrap_ttl: str
    ) -> WrapInfo:
        """Mint a token that the server keeps behind a single-use wrapping token."""
        wrapped = self._creds(path, role, ctx, wrap_ttl).wrap_info
        if wrapped is None:
            raise SilentlyIgnoredError(
                "the server did not wrap the answer",
                why="a proxy dropped the X-Vault-Wrap-TTL header",
                fix="name the server's own address",
                path=f"{path}/creds/{role}",
            )
        return wrapped

    def _creds(
        self, path: str, role: str, ctx: str | Mapping[str, Any] | None, wrap_ttl: str | None
    ) -> Reply:
        where = role_path(path, "creds", role)
        if ctx is None or isinstance(ctx, str):
            params = None if ctx is None else {"ctx": ctx}
            return self.transport.send(Request("GET", where, params=params, wrap_ttl=wrap_ttl))
        asked = Request("POST", where, body={"ctx": ctx}, idempotent=True, wrap_ttl=wrap_ttl)
        return self.transport.send(asked)

    def health(self, path: str, *, refresh: bool = False) -> EngineHealth:
        """Return a mount's health from the node that answers."""
        params = {"refresh": "true"} if refresh else None
        reply = self.transport.send(Request("GET", f"{path}/health", params=params))
        return EngineHealth.parse(reply.data or {})

    # The server ----------------------------------------------------------------

    def cluster_id(self) -> str:
        """Return the cluster's id; this sends a request only if no reply has had it yet."""
        return self.transport.cluster_id or self.server_health().cluster_id

    def server_health(self) -> ServerHealth:
        """Return the state of the node that answers, even if it is sealed or a standby."""
        codes = {"standbycode": "200", "sealedcode": "200", "uninitcode": "200"}
        reply = self.transport.send(Request("GET", "sys/health", params=codes))
        return decode.server_health(reply.status, reply.body)

    def nodes(self) -> tuple[ClusterNode, ...]:
        """Return the cluster's nodes; empty for a server without HA."""
        reply = self._read("GET", "sys/ha-status")
        return tuple(decode.node(raw) for raw in (reply.data or {}).get("nodes") or ())

    def capabilities(self, paths: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """Return what this token may do at each path (``read``, ``deny``, ``root`` …)."""
        return rights.capabilities(self.transport, paths)

    def _read(self, method: str, path: str, *, fresh: bool = False) -> Reply:
        return self.transport.send(Request(method, path, fresh=fresh))

    def _write(
        self, method: str, path: str, body: Mapping[str, Any] | None, idempotent: bool = True
    ) -> Reply:
        """Write with the leader's state: a standby would check a write against its own old state.

        Measured: when a mount was enabled through a standby, a plugin that was registered through
        the leader was for a moment ``not found in the catalog``.
        """
        write = Request(method, path, body=body, idempotent=idempotent, fresh=True)
        return self.transport.send(write)


def _with_cas(fields: Mapping[str, Any], cas: int | None) -> dict[str, Any]:
    return dict(fields) if cas is None else {**fields, "cas": cas}


GatewayForNode = Callable[[ClusterNode], Gateway | None]
"""Opens a gateway to a single node; None if the user did not name that node's address."""
