"""``config write``: writes a mount's description and tags, and its first credential."""

from collections.abc import Callable, Mapping
from typing import Any

from skyflowctl.credentials.model import Credential
from skyflowctl.errors import Problem, RefusedError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.operations.mounts import not_found_is_usage_error
from skyflowctl.vault.errors import RevokedKeyError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig


@dataclass(frozen=True, slots=True)
class ConfigPatch:
    """The fields to change; a field that is None stays as it is.

    Args:
        description: "" clears it.
        tags: () clears them.
        credential: called only after the mount is known to have none.
        allow_revoked: key ids that may be live again although a cut-off revoked them.
    """

    description: str | None = None
    tags: tuple[str, ...] | None = None
    credential: Callable[[], Credential] | None = None
    allow_revoked: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ConfigWritten:
    """The config after the write; ``changed`` names the fields that were written."""

    config: LiveConfig
    changed: tuple[str, ...]
    warnings: tuple[Problem, ...] = ()


def write_config(gateway: Gateway, path: str, patch: ConfigPatch) -> ConfigWritten:
    """Patch a mount's config with check-and-set; three requests.

    Fields that already have the value are not written.

    Raises:
        UsageError: nothing is mounted there, or not this engine.
        RefusedError: the mount has a credential and another was given, or none was given at all.
        RevokedKeyError: a cut-off of this mount revoked the key, and it is not allowed.
        ConflictError: another writer changed the config meanwhile.
    """
    with not_found_is_usage_error(path):
        live = gateway.engine(path).checked_config()
    credential = _first_credential(path, live, patch)
    fields = _fields(live, patch)
    warnings = credential.warnings if credential else ()
    changed = tuple(fields)
    if credential:
        unknown = gateway.transport.refuse_guarded("POST", f"{path}/config")
        warnings += (unknown,) if unknown else ()
        changed += ("credential",)
        fields |= _with_permission(gateway, path, live, credential, patch.allow_revoked)
    if fields:
        cas = live.version or (None if live.configured else 0)
        cas = cas if live.api.has("cas") else None
        try:
            gateway.engine(path).write_config(fields, cas=cas)
        except RevokedKeyError as error:
            key_id = credential.key_id if credential else ""
            raise RevokedKeyError.of_key(path, key_id, error.problems[0].why) from error
        live = gateway.engine(path).checked_config()
    return ConfigWritten(live, changed, warnings)


def _with_permission(
    gateway: Gateway,
    path: str,
    live: LiveConfig,
    credential: Credential,
    allowed: frozenset[str],
) -> dict[str, Any]:
    """Return the fields that write a credential; a revoked key needs its permission."""
    fields: dict[str, Any] = {"credentials_json": credential.json}
    if credential.key_id in allowed:
        # The basic API has no such field; only the mark on the mount shows the cut-off.
        return fields | (
            {"allow_revoked_key": credential.key_id} if live.api.has("history") else {}
        )
    mark = gateway.engine(path).revoked_keys(live).get(credential.key_id)
    if mark is not None:
        raise RevokedKeyError.of_key(path, credential.key_id, f"it was {mark.sentence()}")
    return fields


def _fields(live: LiveConfig, patch: ConfigPatch) -> dict[str, Any]:
    wanted: Mapping[str, Any] = {
        "description": patch.description,
        "tags": None if patch.tags is None else list(patch.tags),
    }
    now = {"description": live.description, "tags": list(live.tags)}
    return {
        name: value
        for name, value in wanted.items()
        if value is not None and (value != now[name] or not live.configured)
    }


def _first_credential(path: str, live: LiveConfig, patch: ConfigPatch) -> Credential | None:
    if live.configured and patch.credential:
        raise RefusedError(
            f"{path} has a credential, and this would replace it unproved",
            why=f"{f'key {live.key_id}' if live.key_id else 'a key that the engine does not name'} "
            "is live; config write gives a mount only its first one",
            fix=f"'skyflowctl rotate {path} --credentials REF' proves the new one and can go back",
            code="credential-is-live",
        )
    if patch.credential:
        return patch.credential()
    if not live.configured:
        raise UsageError(
            f"{path} has no credential",
            why="the first write of a mount's config, and one after a cut-off, needs one",
            fix="add --credentials REF, or describe the mount in the manifest and apply it",
            code="not-configured",
        )
    return None
