"""Plans the changes of a mount's engine: its roles and its config."""

from dataclasses import replace

from skyflowctl.credentials.model import CredentialId
from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest, Mount, Role
from skyflowctl.planner import credential, drift, fields, messages
from skyflowctl.planner.credential import CredentialDecision
from skyflowctl.planner.plan import Action, ActionType, Change, Drift, ObjectKind
from skyflowctl.vault.live import (
    FULL_API,
    SERVER_FILE,
    EngineApi,
    LiveConfig,
    LiveEngine,
    LiveRole,
)


@dataclass(frozen=True, slots=True)
class CredentialInput:
    """A mount's credential in the manifest, as far as it is known.

    Args:
        identity: None if the reference could not be resolved, or there is no reference.
        why: why it could not be resolved, for the warning.
        insisted: whether the caller named the mount in ``--replace-credential``.
        allow_revoked: whether the caller named exactly this key in ``--allow-revoked-key``.
        invalid: why it is no valid credential; ``identity`` is then None.
        server_file: the path on the server from which the engine reads it; ``identity`` is
            then None.
    """

    identity: CredentialId | None = None
    why: str = ""
    insisted: bool = False
    allow_revoked: bool = False
    invalid: Problem | None = None
    server_file: str = ""


@dataclass(frozen=True, slots=True)
class ObjectPlan:
    """The plan for one object: at most one action, with warnings and drift."""

    action: Action | None = None
    warnings: tuple[Problem, ...] = ()
    drift: tuple[Drift, ...] = ()


def role_actions(manifest: Manifest, mount: Mount, live: LiveEngine | None) -> list[Action]:
    """Return the actions that make the mount's roles match the manifest, in its order."""
    roles, api = (live.roles, live.config.api) if live else ({}, FULL_API)
    left_out = set(roles_without_rule(mount, live))
    if live and not _reuses(live):
        mount = replace(mount, roles=tuple(replace(one, reuse_min_ttl=0) for one in mount.roles))
    planned = (
        _role(manifest, mount, role, roles.get(role.name), api)
        for role in mount.roles
        if role.name not in left_out
    )
    return [action for action in planned if action]


def roles_without_rule(mount: Mount, live: LiveEngine | None) -> list[str]:
    """Return the roles whose ctx rule the mount's engine would silently drop."""
    if live is None or live.config.api.has("ctx"):
        return []
    return [role.name for role in mount.roles if role.ctx.required or role.ctx.pattern]


def roles_that_cannot_sign(mount: Mount, live: LiveEngine | None) -> list[str]:
    """Return the roles with ``sign: true`` whose live engine cannot sign data tokens."""
    if live is None:
        return []
    older = {name for name, role in live.roles.items() if not role.sign_max_ttl}
    basic = not live.config.api.has("ctx")
    return [one.name for one in mount.roles if one.sign and (basic or one.name in older)]


def roles_without_reuse(mount: Mount, live: LiveEngine | None) -> list[str]:
    """Return the roles with ``reuse`` whose live engine reuses no tokens."""
    if live is None or _reuses(live):
        return []
    return [one.name for one in mount.roles if one.reuse_min_ttl]


def _reuses(live: LiveEngine) -> bool:
    """Whether the engine knows reuse; one without roles shows it only if it is basic."""
    return live.config.api.has("ctx") and all(one.reuse_per for one in live.roles.values())


def cut_off_reason(
    mount: Mount, live: LiveEngine | None, key: CredentialInput, former: str = ""
) -> Drift | Problem | None:
    """Return why a plan skips a mount that was cut off; None if it does not skip it.

    ``former`` is where it still is, if it is to be moved.

    With ``--replace-credential``, a key that the mount never had ends a cut-off. A revoked key
    ends it only if the caller names that key.
    """
    if live is None or not credential.was_cut_off(live) or key.allow_revoked:
        return None
    if key.identity is None or not key.insisted:
        return drift.revoked(mount, live.config, former)
    known = credential.is_revoked(live, key.identity.key_id)
    return messages.revoked_key_forced(mount, live.config, key.identity) if known else None


def config_outline(
    manifest: Manifest, mount: Mount, live: LiveEngine | None, key: CredentialInput
) -> ObjectPlan:
    """Return the plan that makes the mount's config and credential match the manifest."""
    if live is None or not live.config.configured:
        return _first_config(manifest, mount, live, key)
    changes = fields.differences(
        fields.live_config(live.config), fields.wanted_config(manifest, mount, live.config)
    )
    verdict = _verdict(mount, live, key)
    action = _config_update(mount, live.config, changes, verdict)
    return ObjectPlan(action, verdict.warnings, verdict.drift)


def _verdict(mount: Mount, live: LiveEngine, key: CredentialInput) -> CredentialDecision:
    """Decide about the credential of a configured mount."""
    if mount.credentials is None:
        verdict = CredentialDecision()
    elif key.server_file:
        verdict = CredentialDecision(warnings=(messages.server_file_unread(mount, live.config),))
    elif key.identity is None:
        verdict = CredentialDecision(warnings=(_unknown(mount, key),))
    else:
        verdict = credential.decide(
            mount, live, key.identity, insisted=key.insisted, allow_revoked=key.allow_revoked
        )
    return credential.with_open_rotation(mount, live.config, key.identity, verdict)


def _role(
    manifest: Manifest, mount: Mount, role: Role, live: LiveRole | None, api: EngineApi
) -> Action | None:
    path = f"{mount.path}/roles/{role.name}"
    wanted = fields.wanted_role(manifest, role, live)
    if not api.has("ctx"):
        known = ("role_ids", "description", "tags")
        wanted = {name: value for name, value in wanted.items() if name in known}
    if live is None:
        changes, cas = fields.all_new(wanted), 0 if api.has("cas") else None
        return Action(ActionType.CREATE, ObjectKind.ROLE, mount.name, path, changes, wanted, cas)
    changes = fields.differences(fields.live_role(live), wanted)
    if not changes:
        return None
    body = fields.as_body(changes)
    if "ctx_pattern" in body:
        # A pattern implies "required" unless "required" was set. A role that another
        # tool created may not have set it, so a new pattern sends "required" as well.
        body["ctx_required"] = wanted["ctx_required"]
    cas = live.version or None
    return Action(ActionType.UPDATE, ObjectKind.ROLE, mount.name, path, changes, body, cas)


def _first_config(
    manifest: Manifest, mount: Mount, live: LiveEngine | None, key: CredentialInput
) -> ObjectPlan:
    if mount.credentials is None:
        return ObjectPlan(warnings=(messages.no_credential(mount),))
    if key.invalid:
        return ObjectPlan(warnings=(key.invalid,))
    wanted = fields.wanted_config(manifest, mount)
    if key.server_file:
        wanted |= {SERVER_FILE: key.server_file}
    shown = credential.identity_changes(None, key.identity) if key.identity else ()
    action = Action(
        ActionType.CREATE,
        ObjectKind.CONFIG,
        mount.name,
        f"{mount.path}/config",
        shown + fields.all_new(wanted),
        wanted | _permission(live, key),
        # A mount that was cut off keeps its version; 0 means that it never had a config.
        cas=_config_cas(live.config) if live else 0,
        needs_credential=not key.server_file,
        credential=key.identity,
    )
    known = key.identity or key.server_file
    return ObjectPlan(action, () if known else (_unknown(mount, key),))


def _permission(live: LiveEngine | None, key: CredentialInput) -> dict[str, str]:
    """Return the field that the engine requires before it accepts a revoked key again."""
    if live is None or key.identity is None or not key.allow_revoked:
        return {}
    # An engine with the basic API refuses no key, and knows no such field.
    return {"allow_revoked_key": key.identity.key_id} if live.config.api.has("history") else {}


def _unknown(mount: Mount, key: CredentialInput) -> Problem:
    return key.invalid or messages.unresolved(mount, key.why)


def _config_cas(live: LiveConfig) -> int | None:
    """Return the check-and-set version; an engine with the basic API supports none."""
    return live.version if live.api.has("cas") else None


def _config_update(
    mount: Mount, live: LiveConfig, changes: tuple[Change, ...], verdict: CredentialDecision
) -> Action | None:
    rotated = verdict.replace or verdict.finish
    if not changes and rotated is None:
        return None
    return Action(
        ActionType.UPDATE if rotated is None else ActionType.REPLACE_CREDENTIAL,
        ObjectKind.CONFIG,
        mount.name,
        f"{mount.path}/config",
        verdict.changes + changes,
        fields.as_body(changes),
        cas=_config_cas(live) or None,
        needs_credential=verdict.replace is not None,
        credential=rotated,
        allow_revoked=verdict.allow_revoked,
    )
