"""Converts the server's JSON to live-state values, and compares it with what was sent."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from skyflowctl.clock import time_or_none
from skyflowctl.engine.names import PER_ENTITY, SIGN_MAX_TTL
from skyflowctl.secret import Secret
from skyflowctl.vault.live import (
    BASIC_API,
    FULL_API,
    CredentialVersion,
    LiveConfig,
    LiveMount,
    LiveRevocation,
    LiveRole,
    LiveRotation,
)
from skyflowctl.vault.responses import ClusterNode, CutOff, RolledBack, ServerHealth, whole
from skyflowctl.vault.server_state import server_state
from skyflowctl.vault.transport import Reply

_MOUNT_ONLY = frozenset({"type", "description", "options", "config", "local", "seal_wrap"})
_MOUNT_LISTS = (
    "passthrough_request_headers",
    "audit_non_hmac_request_keys",
    "audit_non_hmac_response_keys",
)
_TTLS = ("default_lease_ttl", "max_lease_ttl")
# Our engine returns it for every mount, configured or not; a basic engine never does.
_OURS = "credential_version"
REVOKED_MARK = "revoked_"
_NEVER_COMPARED = frozenset({"allow_revoked_key", "cas", "force", "validate_credentials"})


def mount(path: str, raw: Mapping[str, Any]) -> LiveMount:
    """Return one entry of ``sys/mounts``; fields that the server omits are empty."""
    config = raw.get("config") or {}
    lists = {name: texts(config.get(name)) for name in _MOUNT_LISTS}
    return LiveMount(
        path=path.strip("/"),
        type=str(raw.get("type", "")),
        description=str(raw.get("description") or ""),
        options={name: str(value) for name, value in (raw.get("options") or {}).items()},
        plugin_version=str(raw.get("plugin_version") or ""),
        running_plugin_version=str(raw.get("running_plugin_version") or ""),
        running_sha256=str(raw.get("running_sha256") or ""),
        seal_wrap=bool(raw.get("seal_wrap")),
        ttls={name: one for name in _TTLS if isinstance(one := config.get(name), int)},
        **lists,
    )


def enable_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of ``sys/mounts/<path>``: it keeps most fields under ``config``."""
    body = {name: value for name, value in fields.items() if name in _MOUNT_ONLY}
    inner = {name: value for name, value in fields.items() if name not in _MOUNT_ONLY}
    if inner:
        body["config"] = {**(fields.get("config") or {}), **inner}
    return body


def ignored_fields(live: LiveMount, fields: Mapping[str, Any]) -> list[str]:
    """Return the names of sent fields whose value is not live.

    Only fields of :class:`LiveMount` are known here. A server merges options: the sent ones
    must be present, and one sent as "" must be absent.
    """
    ignored = [name for name in _MOUNT_LISTS if _list_differs(live, name, fields)]
    ignored += [
        name
        for name in ("type", "description", "plugin_version")
        if name in fields and getattr(live, name) != (fields[name] or "")
    ]
    options = fields.get("options") or {}
    return ignored + [
        f"options.{name}"
        for name, value in options.items()
        if live.options.get(name, "") != str(value or "")
    ]


def _list_differs(live: LiveMount, name: str, fields: Mapping[str, Any]) -> bool:
    return name in fields and set(getattr(live, name)) != set(texts(fields[name]))


def decode_live_config(raw: Mapping[str, Any]) -> LiveConfig:
    """Return a config from the engine's answer; an engine without versions has version 0."""
    return LiveConfig(
        configured=bool(raw.get("credentials_configured")),
        client_id=str(raw.get("client_id") or ""),
        key_id=str(raw.get("key_id") or ""),
        description=str(raw.get("description") or ""),
        tags=texts(raw.get("tags")),
        version=whole(raw.get("version")),
        credential_version=whole(raw.get("credential_version")),
        raw=dict(raw),
        rotation=rotation(raw.get("rotation")),
        api=FULL_API if _OURS in raw else BASIC_API,
        revoked=revocation(raw.get("revoked")),
        process=raw.get("process"),
        last_updated=time_or_none(raw.get("last_updated")),
        credential_updated=time_or_none(raw.get("credential_updated")),
        key_valid_after=time_or_none(raw.get("key_valid_after")),
        key_valid_before=time_or_none(raw.get("key_valid_before")),
        token_uri=str(raw.get("token_uri") or ""),
    )


def revocation(raw: Mapping[str, Any] | None) -> LiveRevocation | None:
    """Return a cut-off from the engine's answer, or None."""
    if not raw:
        return None
    names = ("at", "by", "reason", "run", "key_id")
    return LiveRevocation(**{name: str(raw.get(name) or "") for name in names})


def marked_revocation(options: Mapping[str, str]) -> LiveRevocation | None:
    """Return the cut-off recorded in a mount's options, for an engine that does not record it."""
    marks = {
        name.removeprefix(REVOKED_MARK): value
        for name, value in options.items()
        if name.startswith(REVOKED_MARK)
    }
    return revocation(marks) if marks.get("at") else None


def rotation(raw: Mapping[str, Any] | None) -> LiveRotation | None:
    """Return a rotation from the engine's answer, or None."""
    if not raw:
        return None
    return LiveRotation(
        id=str(raw.get("id") or ""),
        from_key=str(raw.get("from") or ""),
        to_key=str(raw.get("to") or ""),
        started=str(raw.get("started") or ""),
        by=str(raw.get("by") or ""),
        state=str(raw.get("state") or ""),
        cut_over_at=raw.get("cut_over_at") or None,
        old_tokens_valid_until=raw.get("old_tokens_valid_until") or None,
        keys=texts(raw.get("keys")),
    )


def decode_live_role(name: str, raw: Mapping[str, Any]) -> LiveRole:
    """Return a role from the engine's answer."""
    return LiveRole(
        name=name,
        role_ids=texts(raw.get("role_ids")),
        description=str(raw.get("description") or ""),
        tags=texts(raw.get("tags")),
        ctx_required=bool(raw.get("ctx_required")),
        ctx_pattern=str(raw.get("ctx_pattern") or ""),
        ctx_probe=raw.get("ctx_probe") or "",
        version=whole(raw.get("version")),
        created=str(raw.get("created") or ""),
        sign_max_ttl=whole(raw.get("sign_max_ttl")),
        reuse_min_ttl=whole(raw.get("reuse_min_ttl")),
        reuse_per=str(raw.get("reuse_per") or ""),
    )


def decode_history(data: Mapping[str, Any]) -> dict[int, CredentialVersion]:
    """Return entries by credential version from a ``config/history`` list."""
    info = data.get("key_info") or {}
    return {
        int(version): _entry(int(version), info.get(version) or {})
        for version in texts(data.get("keys"))
    }


def _entry(version: int, raw: Mapping[str, Any]) -> CredentialVersion:
    return CredentialVersion(
        credential_version=version,
        client_id=str(raw.get("client_id") or ""),
        key_id=str(raw.get("key_id") or ""),
        written_at=str(raw.get("written_at") or ""),
        written_by=str(raw.get("written_by") or ""),
        description=str(raw.get("description") or ""),
        kept=bool(raw.get("kept")),
        revoked=revocation(raw.get("revoked")),
    )


def decode_audited_headers(data: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether the audit log hashes each header, by name in lower case."""
    headers = data.get("headers") or {}
    return {name.lower(): bool((raw or {}).get("hmac")) for name, raw in headers.items()}


_ID_HEADERS = ("x-vault-raft-node-id", "x-vault-hostname")


def replying_node(headers: Mapping[str, str]) -> str:
    """Return the raft id or host name of the node that answered, if it sends one."""
    return next((headers[name] for name in _ID_HEADERS if name in headers), "")


def server_health(reply: Reply) -> ServerHealth:
    """Return a node's ``sys/health``."""
    status, body = reply.status, reply.body
    return ServerHealth(
        state=server_state(status, body),
        initialized=bool(body.get("initialized")),
        sealed=bool(body.get("sealed")),
        standby=bool(body.get("standby")),
        version=str(body.get("version") or ""),
        cluster_id=str(body.get("cluster_id") or ""),
        cluster_name=str(body.get("cluster_name") or ""),
        server_time=_seconds(body.get("server_time_utc")),
        node_id=replying_node(reply.headers),
    )


def _seconds(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def node(raw: Mapping[str, Any]) -> ClusterNode:
    """Return one node of ``sys/ha-status``."""
    return ClusterNode(
        hostname=str(raw.get("hostname") or ""),
        api_address=str(raw.get("api_address") or ""),
        active=bool(raw.get("active_node")),
        version=str(raw.get("version") or ""),
        last_echo=str(raw.get("last_echo") or ""),
    )


def rollback_reply(data: Mapping[str, Any]) -> RolledBack:
    """Return the reply to a rollback."""
    return RolledBack(
        version=whole(data.get("version")),
        credential_version=whole(data.get("credential_version")),
        client_id=str(data.get("client_id") or ""),
        key_id=str(data.get("key_id") or ""),
        warnings=texts(data.get("warnings")),
        old_tokens_valid_until=str(data.get("old_tokens_valid_until") or ""),
    )


def cut_off(data: Mapping[str, Any], *, words_kept: bool) -> CutOff:
    """Return the reply to a cut-off."""
    return CutOff(words_kept, str(data.get("old_tokens_valid_until") or ""))


def texts(value: Any) -> tuple[str, ...]:
    """Return a list of texts as a tuple; a single text counts as a list of one."""
    if value is None or value == "":
        return ()
    items: Iterable[Any] = [value] if isinstance(value, str) else value
    return tuple(str(item) for item in items)


def config_equals(live: LiveConfig, fields: Mapping[str, Any]) -> bool:
    """Whether every field of a config write is already live.

    A credential is compared by its identity. The content of a file on the server cannot be
    read from here, so a path never counts as equal.
    """
    return not config_differences(live, fields)


def config_differences(live: LiveConfig, fields: Mapping[str, Any]) -> list[str]:
    """Return the names of sent fields whose value is not live; see :func:`config_equals`."""
    return [
        name
        for name, value in fields.items()
        if name not in _NEVER_COMPARED and not _config_field_equals(live, name, value)
    ]


def _config_field_equals(live: LiveConfig, name: str, value: Any) -> bool:
    if name == "credentials_json":
        return (live.client_id, live.key_id) == _identity(value)
    if name == "rotation_id":
        # The write should leave an open rotation; an ended one differs.
        known = live.rotation if live.rotation and live.rotation.state == "open" else None
        return known.id == value if known else not value and live.rotation is None
    if name == "rotation_to":
        return live.rotation is not None and live.rotation.to_key == (value or "")
    if name == "rotation_keys":
        return live.rotation is not None and set(live.rotation.keys) == set(texts(value))
    if name == "tags":
        return set(live.tags) == set(texts(value))
    return name == "description" and live.description == (value or "")


def _identity(credential: Secret | str) -> tuple[str, str] | None:
    text = credential.reveal() if isinstance(credential, Secret) else credential
    try:
        parsed = json.loads(text)
    except ValueError:
        return None
    if not isinstance(parsed, dict):
        return None
    return str(parsed.get("clientID", "")), str(parsed.get("keyID", ""))


def role_equals(live: LiveRole, fields: Mapping[str, Any]) -> bool:
    """Whether every field of a role write is already live."""
    return not role_differences(live, fields)


def role_differences(live: LiveRole, fields: Mapping[str, Any]) -> list[str]:
    """Return the names of sent fields whose value is not live."""
    return [
        name
        for name, value in fields.items()
        if name not in _NEVER_COMPARED and not _role_field_equals(live, name, value)
    ]


def _role_field_equals(live: LiveRole, name: str, value: Any) -> bool:
    if name in {"role_ids", "tags"}:
        return set(getattr(live, name)) == set(texts(value))
    if name == "ctx_required":
        return live.ctx_required == bool(value)
    if name == "sign_max_ttl":
        return live.sign_max_ttl == (value or SIGN_MAX_TTL)
    if name == "reuse_per":
        return live.reuse_per == (value or PER_ENTITY)
    if name == "reuse_min_ttl":
        return live.reuse_min_ttl == (value or 0)
    known = name in {"description", "ctx_pattern", "ctx_probe"}
    return known and bool(getattr(live, name) == (value or ""))
