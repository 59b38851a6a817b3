"""The requests after a credential was replaced: commit, rollback, destroy.

Each may be sent twice, because a reply may be lost; the second returns the result of the first.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from skyflowctl.vault import decode, reading
from skyflowctl.vault.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotAnEngineError,
    NotFoundError,
    RevokedKeyError,
)
from skyflowctl.vault.live import CredentialVersion, LiveConfig, LiveRotation
from skyflowctl.vault.responses import whole
from skyflowctl.vault.transport import Request, Transport


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What is live after a rollback.

    Args:
        version: the config's version.
        credential_version: the version that became live.
        warnings: roles for which the restored credential cannot mint.
        old_tokens_valid_until: when the last token of the replaced credential ends; empty if
            not known.
    """

    version: int
    credential_version: int
    client_id: str
    key_id: str
    warnings: tuple[str, ...] = ()
    old_tokens_valid_until: str = ""


def read_history(transport: Transport, path: str) -> dict[int, CredentialVersion] | None:
    """Return the credential versions of a mount; None if the engine has no history."""
    try:
        reply = transport.send(Request("LIST", f"{path}/config/history", fresh=True))
    except NotFoundError as error:
        return {} if error.empty else None
    except BadRequestError:
        return None
    return decode.decode_history(reply.data or {})


def commit(transport: Transport, path: str, rotation_id: str) -> LiveRotation:
    """Commit a rotation and return its new state."""
    data = _post(transport, f"{path}/config/commit", {"rotation_id": rotation_id})
    done = decode.rotation(data.get("rotation"))
    if done is None:
        raise NotAnEngineError.at(path)
    return done


def rollback(transport: Transport, path: str, body: Mapping[str, Any]) -> RolledBack:
    """Roll back from the expected credential version; after a lost reply, read the live one."""
    try:
        data = _post(transport, f"{path}/config/rollback", body)
    except RevokedKeyError:
        raise
    except ConflictError:
        wanted, expected = body.get("credential_version"), body["cas_credential_version"]
        done = _done_already(transport, path, wanted, expected)
        if done is None:
            raise
        return done
    return RolledBack(
        version=whole(data.get("version")),
        credential_version=whole(data.get("credential_version")),
        client_id=str(data.get("client_id") or ""),
        key_id=str(data.get("key_id") or ""),
        warnings=decode.texts(data.get("warnings")),
        old_tokens_valid_until=str(data.get("old_tokens_valid_until") or ""),
    )


def _done_already(
    transport: Transport, path: str, wanted: int | None, expected: int
) -> RolledBack | None:
    """Return the live state if it is the expected result of the rollback."""
    live = reading.read_config(transport, path)
    past = read_history(transport, path) or {}
    earlier = [version for version in past if version < expected]
    aim = past.get(wanted if wanted is not None else max(earlier, default=0))
    if not live.configured or aim is None or live.credential_version != expected + 1:
        return None
    if (aim.client_id, aim.key_id) != (live.client_id, live.key_id):
        return None
    return _as_live(live)


def _as_live(live: LiveConfig) -> RolledBack:
    return RolledBack(live.version, live.credential_version, live.client_id, live.key_id)


def destroy(transport: Transport, path: str, version: int) -> None:
    """Destroy one kept credential; one that is already destroyed is no error."""
    where = f"{path}/config/history/{version}"
    transport.send(Request("DELETE", where, idempotent=True, fresh=True))


def confirm_basic_write(
    transport: Transport, path: str, fields: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Read back a write to a basic engine; a new credential ends a marked cut-off.

    Raises:
        SilentlyIgnoredError: a field is not as it was sent.
    """
    kept = reading.check_config_kept(transport, path, fields)
    if "credentials_json" in fields:
        # A mark that cannot be removed is ignored while the mount has a credential.
        with suppress(ForbiddenError, BadRequestError):
            _clear_mark(transport, path)
    return kept


def _clear_mark(transport: Transport, path: str) -> None:
    where = f"sys/mounts/{path}"
    data = transport.send(Request("GET", where, fresh=True)).data or {}
    marks = [name for name in data.get("options") or {} if name.startswith(decode.REVOKED_MARK)]
    if marks:
        body = {"options": dict.fromkeys(marks, "")}
        transport.send(Request("POST", f"{where}/tune", body=body, idempotent=True, fresh=True))


@dataclass(frozen=True, slots=True)
class CutOff:
    """An engine's answer to a cut-off.

    Args:
        words_kept: whether reason and run were stored; an earlier release stores neither.
        tokens_valid_until: when the last token from before ends, as stored at the first
            cut-off; empty if not returned.
    """

    words_kept: bool
    tokens_valid_until: str = ""


def destroy_credentials(transport: Transport, path: str, reason: str, run: str) -> CutOff:
    """Destroy every credential of a mount; a mount without any is no error."""
    # In the query: the server drops the body of a DELETE.
    params = {name: text for name, text in (("reason", reason), ("run", run)) if text}
    try:
        return CutOff(words_kept=True, tokens_valid_until=_deleted(transport, path, params or None))
    except BadRequestError as error:
        if not params or not error.says("unknown field"):
            raise
        # An earlier release. The cut-off is valid, but its reason and run are not stored.
        return CutOff(words_kept=False, tokens_valid_until=_deleted(transport, path, None))


def _deleted(transport: Transport, path: str, params: Mapping[str, str] | None) -> str:
    where = f"{path}/config"
    reply = transport.send(Request("DELETE", where, params=params, idempotent=True, fresh=True))
    return str((reply.data or {}).get("old_tokens_valid_until") or "")


def _post(transport: Transport, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    return transport.send(Request("POST", path, body=body, idempotent=True, fresh=True)).data or {}
