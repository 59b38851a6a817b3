"""Writes a live state to the in-process server, so that a dry run starts from it."""

from datetime import datetime

from skyflowctl.clock import parse_rfc3339
from skyflowctl.engine.contract import Storage
from skyflowctl.engine.names import PER_ENTITY, SIGN_MAX_TTL
from skyflowctl.engine.records import (
    CONFIG_KEY,
    CREDENTIAL_PREFIX,
    ROLE_PREFIX,
    ConfigRecord,
    HistoryEntry,
    RoleRecord,
    RotationRecord,
)
from skyflowctl.secret import Secret
from skyflowctl.vault.access_api import NAMESPACE_ID
from skyflowctl.vault.live import (
    LiveAccess,
    LiveConfig,
    LiveEngine,
    LiveMount,
    LiveRole,
    LiveRotation,
    LiveState,
)
from skyflowctl.vault.memory_access import HttpError
from skyflowctl.vault.memory_server import MemoryServer

_SLOT = "seeded"


async def seed_storage(
    storage: Storage, engine: LiveEngine, credential: Secret | None, now: datetime
) -> None:
    """Store the live state of a mount's engine, with its versions.

    Args:
        storage: the mount's own storage, empty.
        engine: the live config and roles.
        credential: replaces the live credential, if one is configured.
        now: the time of everything that has no date in the live state.
    """
    if engine.config.version or credential is not None:
        record = _config_record(engine.config, now, configured=credential is not None)
        await storage.put(CONFIG_KEY, record.to_bytes())
    if credential is not None:
        await storage.put(CREDENTIAL_PREFIX + _SLOT, credential.reveal().encode())
    for name, role in engine.roles.items():
        await storage.put(ROLE_PREFIX + name, _role_record(role, now).to_bytes())


def _config_record(config: LiveConfig, now: datetime, *, configured: bool) -> ConfigRecord:
    written = config.credential_updated or now
    live = HistoryEntry(
        credential_version=config.credential_version,
        client_id=config.client_id,
        key_id=config.key_id,
        written_at=written,
        written_by="",
        description=config.description,
        kept=True,
        slot=_SLOT,
    )
    return ConfigRecord(
        version=config.version,
        credential_version=config.credential_version,
        configured=configured,
        description=config.description,
        tags=config.tags,
        last_updated=config.last_updated or now,
        credential_updated=written if configured else None,
        history=(live,) if configured else (),
        rotation=_open_rotation(config.rotation, now),
    )


def _open_rotation(live: LiveRotation | None, now: datetime) -> RotationRecord | None:
    """Return the open rotation, which the next run continues; an ended one is dropped."""
    if live is None or live.state != "open":
        return None
    return RotationRecord(
        id=live.id,
        from_key=live.from_key,
        to_key=live.to_key,
        started=parse_rfc3339(live.started) if live.started else now,
        by=live.by,
        keys=live.keys,
    )


def _role_record(role: LiveRole, now: datetime) -> RoleRecord:
    return RoleRecord(
        role_ids=role.role_ids,
        version=role.version,
        created=now,
        last_updated=now,
        description=role.description,
        tags=role.tags,
        ctx_required=role.ctx_required,
        ctx_pattern=role.ctx_pattern,
        ctx_probe=role.ctx_probe,
        sign_max_ttl=role.sign_max_ttl or SIGN_MAX_TTL,
        reuse_min_ttl=role.reuse_min_ttl,
        reuse_per=role.reuse_per or PER_ENTITY,
    )


def seed_server(server: MemoryServer, state: LiveState) -> None:
    """Mount every live mount; mounts of other types only occupy their path."""
    server.audited_headers.update(state.audited_headers or {})
    for path, mount in state.mounts.items():
        if path in server.mounts:
            continue
        if mount.type == server.plugin_name and mount.plugin_version:
            server.catalog.setdefault((mount.type, mount.plugin_version), {})
        _mount(server, path, mount)
    _seed_access(server, state.access)


def _seed_access(server: MemoryServer, live: LiveAccess) -> None:
    for policy in live.policies.values():
        server.access.policies[policy.name] = {
            "name": policy.name,
            "policy": policy.text,
            "version": policy.version,
        }
    for one in live.login_methods.values():
        server.access.methods[one.name] = {
            "type": one.type,
            "description": one.description,
            "options": dict(one.options),
            "accessor": one.accessor,
        }
    for path, found in live.objects.items():
        custom = {name: value for name, value in found.items() if name != NAMESPACE_ID}
        namespace = {"custom_metadata": custom, "id": found.get(NAMESPACE_ID)}
        server.access.objects[path] = namespace if NAMESPACE_ID in found else dict(found)
    server.kv.secrets.update(live.secrets)


def _mount(server: MemoryServer, path: str, mount: LiveMount) -> None:
    hosted = mount.type == server.plugin_name
    body = {
        "type": mount.type if hosted else "kv",
        "description": mount.description,
        "options": dict(mount.options),
        "config": {
            "passthrough_request_headers": mount.passthrough_request_headers,
            "audit_non_hmac_request_keys": mount.audit_non_hmac_request_keys,
            "audit_non_hmac_response_keys": mount.audit_non_hmac_response_keys,
            "plugin_version": mount.plugin_version if hosted else "",
        },
    }
    try:
        server.enable(path, body)
    except HttpError:
        return  # below a system mount of this server's own
    entry = server.mounts[path].entry
    entry["type"] = mount.type
    entry["plugin_version"] = mount.plugin_version
    entry["running_plugin_version"] = mount.running_plugin_version
    entry["running_sha256"] = mount.running_sha256
    if mount.path != path:  # it is to be moved
        server.mounts[mount.path] = server.mounts.pop(path)
