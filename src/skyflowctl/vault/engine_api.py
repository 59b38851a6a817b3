"""Typed calls to the engine at one mount: config, roles, verify, history, rotation.

Each write may be sent twice, because a reply may be lost; the second returns the result of the
first, or is compared with the live state.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from skyflowctl.vault import decode, revocations
from skyflowctl.vault.consumer_api import ConsumerApi
from skyflowctl.vault.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotAnEngineError,
    NotFoundError,
    RevokedKeyError,
    SilentlyIgnoredError,
    VaultError,
)
from skyflowctl.vault.live import (
    CREDENTIAL_FIELDS,
    SERVER_FILE,
    CredentialVersion,
    LiveConfig,
    LiveRevocation,
    LiveRole,
    LiveRotation,
)
from skyflowctl.vault.responses import CutOff, RolledBack, VerifyReport
from skyflowctl.vault.system_api import SystemApi
from skyflowctl.vault.transport import Request


class EngineClient(ConsumerApi):
    """One mount. Every method raises :class:`skyflowctl.vault.errors.VaultError`.

    Args:
        transport: to the server, or to a single node.
        path: of the mount, without a trailing slash (``skyflow/order``).
    """

    # Config --------------------------------------------------------------------

    def config(self) -> LiveConfig:
        """Return the config, also for every form in which an engine reports that it has none.

        An unconfigured mount has ``configured`` False. After an answer without content, ``raw``
        is empty, and the mount may be no engine at all.
        """
        try:
            return decode.decode_live_config(self._get("config"))
        except NotFoundError as error:
            if not error.empty:
                raise
        except BadRequestError as error:
            if not error.says("mount not configured"):
                raise
            return decode.decode_live_config({"credentials_configured": False})
        return decode.decode_live_config({})

    def checked_config(self) -> LiveConfig:
        """Return the config of a mount of which it is not known whether it is ours.

        Raises:
            NotAnEngineError: the mount is not an engine for Skyflow (measured on kv: 404
                without a text, or other fields).
        """
        try:
            found = self.config()
        except NotFoundError as error:
            if type(error) is NotFoundError:
                raise NotAnEngineError.at(self._path, cause=error) from None
            raise
        # A basic engine returns nothing before its first config, but its health answers.
        if "credentials_configured" not in found.raw and not self._tells_health():
            raise NotAnEngineError.at(self._path)
        if not found.configured and found.revoked is None:
            found = revocations.with_mark(found, self._mount_options())
        return found

    def write_config(
        self, fields: Mapping[str, Any], *, cas: int | None = None
    ) -> Mapping[str, Any]:
        """Patch the config and return the engine's answer (new versions).

        Args:
            fields: what to change; ``credentials_json`` as a :class:`Secret`.
            cas: the version that must be live; 0: none yet; None: no check.

        Raises:
            ConflictError: the check failed, and the live config is not what was sent.
            RevokedKeyError: a cut-off revoked the key, and ``allow_revoked_key`` is not its id.
            SilentlyIgnoredError: an engine with an empty answer did not store what was sent.
            TokenServiceFailedError: the engine tried the credential, and it does not mint.
        """
        try:
            return self._post("config", _with_cas(fields, cas)) or self._confirm_config(fields)
        except RevokedKeyError:
            raise
        except ConflictError:
            live = self.config()
            if not decode.config_equals(live, fields):
                raise
            return live.raw

    def verify(self, candidate: Mapping[str, Any] | None = None) -> VerifyReport:
        """Mint once for every role, with a candidate credential or with the live one.

        Args:
            candidate: the field with the candidate: ``credentials_json`` or
                ``credentials_file_path``.
        """
        where, body = f"{self._path}/config/verify", candidate or {}
        reply = self._transport.send(Request("POST", where, body=body, idempotent=True))
        return VerifyReport.parse(reply.data or {})

    # History and rotation ------------------------------------------------------

    def history(self) -> dict[int, CredentialVersion] | None:
        """Return entries by credential version; None when the engine has no history."""
        try:
            where = f"{self._path}/config/history"
            reply = self._transport.send(Request("LIST", where, fresh=True))
        except NotFoundError as error:
            return {} if error.empty else None
        except BadRequestError:
            return None
        return decode.decode_history(reply.data or {})

    def revoked_keys(
        self, config: LiveConfig, history: Mapping[int, CredentialVersion] | None = None
    ) -> Mapping[str, LiveRevocation]:
        """Return the keys that cut-offs revoked, including one that was allowed again.

        If the history is None, it is read.
        """
        if history is None and config.api.has("history"):
            history = self.history()
        return revocations.marked_keys(config, history, self._mount_options())

    def commit(self, rotation_id: str) -> LiveRotation:
        """Commit a rotation and return it; a repeated call returns the same.

        Raises:
            ConflictError: the mount has another rotation, or this one has written nothing.
        """
        data = self._post("config/commit", {"rotation_id": rotation_id})
        done = decode.rotation(data.get("rotation"))
        if done is None:
            raise NotAnEngineError.at(self._path)
        return done

    def rollback(
        self,
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
        try:
            return decode.rollback_reply(self._post("config/rollback", body))
        except RevokedKeyError:
            raise
        except ConflictError:
            done = self._rolled_back_already(credential_version, cas_credential_version)
            if done is None:
                raise
            return done

    def _rolled_back_already(self, wanted: int | None, expected: int) -> RolledBack | None:
        """Return the live state if it is the expected result of the rollback."""
        live = self.config()
        past = self.history() or {}
        earlier = [version for version in past if version < expected]
        aim = past.get(wanted if wanted is not None else max(earlier, default=0))
        if not live.configured or aim is None or live.credential_version != expected + 1:
            return None
        if (aim.client_id, aim.key_id) != (live.client_id, live.key_id):
            return None
        return RolledBack(live.version, live.credential_version, live.client_id, live.key_id)

    def delete_kept_credential(self, credential_version: int) -> None:
        """Destroy a kept credential; one that is already destroyed is no error.

        Raises:
            ConflictError: it is live, or an open rotation needs it for a rollback.
        """
        self._delete(f"config/history/{credential_version}")

    def cut_off(self, reason: str = "", run: str = "") -> CutOff:
        """Destroy the live credential and every kept one, whatever their versions.

        A mount without any is no error. It is sent again after a lost reply; the reason and run
        in the history stay.

        Args:
            reason: 1 to 200 printable characters; empty if none is given.
            run: the id of the run that cuts the mount off.
        """
        # In the query: the server drops the body of a DELETE.
        params = {name: text for name, text in (("reason", reason), ("run", run)) if text}
        try:
            return decode.cut_off(self._delete("config", params or None), words_kept=True)
        except BadRequestError as error:
            if not params or not error.says("unknown field"):
                raise
            # An earlier release. The cut-off is valid, but its reason and run are not stored.
            return decode.cut_off(self._delete("config"), words_kept=False)

    # Roles ---------------------------------------------------------------------

    def roles(self) -> dict[str, LiveRole]:
        """Return the roles by name; one request if the list has every role's fields."""
        return self.all_roles()[0]

    def all_roles(self) -> tuple[dict[str, LiveRole], Mapping[str, str]]:
        """Return the roles, and why the engine refuses other stored roles."""
        try:
            reply = self._transport.send(Request("LIST", f"{self._path}/roles", fresh=True))
        except NotFoundError as error:
            if error.empty:
                return {}, {}
            raise
        data = reply.data or {}
        info = data.get("key_info") or {}
        found = {}
        for name in decode.texts(data.get("keys")):
            entry = decode.decode_live_role(name, info[name]) if name in info else self._role(name)
            if entry is not None:
                found[name] = entry
        return found, data.get("unusable") or {}

    def role(self, name: str) -> LiveRole | None:
        """Return one role, or None if it does not exist."""
        self._check_name(name)
        return self._role(name)

    def _role(self, name: str) -> LiveRole | None:
        try:
            return decode.decode_live_role(name, self._get(f"roles/{name}"))
        except NotFoundError as error:
            if error.empty:
                return None
            raise

    def write_role(
        self, name: str, fields: Mapping[str, Any], *, cas: int | None = None
    ) -> Mapping[str, Any]:
        """Patch or create a role and return the engine's answer (``version``).

        Raises:
            ConflictError: the check failed, and the live role is not what was sent.
        """
        self._check_name(name)
        try:
            data = self._post(f"roles/{name}", _with_cas(fields, cas))
            return data or self._confirm_role(name, fields)
        except ConflictError:
            live = self._role(name)
            if live is None or not decode.role_equals(live, fields):
                raise
            return {"version": live.version}

    def delete_role(self, name: str) -> None:
        """Remove a role; a missing one is no error."""
        self._check_name(name)
        self._delete(f"roles/{name}")

    def _tells_health(self) -> bool:
        """Whether the mount has an engine with a health path, although its config is empty."""
        try:
            return "healthy" in self._get("health")
        except VaultError:
            return False

    # Reading back, for a basic engine, whose answers to writes are empty ----------

    def _confirm_role(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        live = self._role(name)
        ignored = ["the role"] if live is None else decode.role_differences(live, fields)
        if live is None or ignored:
            raise SilentlyIgnoredError.by_engine(f"{self._path}/roles/{name}", ignored)
        return {"version": live.version}

    def _confirm_config(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """A credential is compared only if the engine returns its identity."""
        live, compared = self.config(), fields
        if live.configured:
            # Only the engine knows the content of a file on the server.
            hidden = (SERVER_FILE,) if live.key_id else CREDENTIAL_FIELDS
            compared = {name: value for name, value in fields.items() if name not in hidden}
        ignored = decode.config_differences(live, compared)
        if ignored:
            raise SilentlyIgnoredError.by_engine(f"{self._path}/config", ignored)
        if "credentials_json" in fields:
            # A mark that cannot be removed is ignored while the mount has a credential.
            with suppress(ForbiddenError, BadRequestError):
                SystemApi(self._transport).clear_marks(self._path)
        return live.raw

    # Requests ------------------------------------------------------------------

    def _mount_options(self) -> Mapping[str, str]:
        return SystemApi(self._transport).mount_options(self._path)

    def _get(self, part: str) -> Mapping[str, Any]:
        return self._transport.send(Request("GET", f"{self._path}/{part}", fresh=True)).data or {}

    def _post(self, part: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write with the leader's state: a standby would check a write against its own old state.

        Measured: when a mount was enabled through a standby, a plugin that was registered through
        the leader was for a moment ``not found in the catalog``.
        """
        where = f"{self._path}/{part}"
        write = Request("POST", where, body=body, idempotent=True, fresh=True)
        return self._transport.send(write).data or {}

    def _delete(self, part: str, params: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        where = f"{self._path}/{part}"
        write = Request("DELETE", where, params=params, idempotent=True, fresh=True)
        return self._transport.send(write).data or {}


def _with_cas(fields: Mapping[str, Any], cas: int | None) -> dict[str, Any]:
    return dict(fields) if cas is None else {**fields, "cas": cas}
