"""Builds the frozen manifest from a checked tree, without further checks."""

from datetime import timedelta
from typing import Any, Literal, cast

from skyflowctl.clock import parse_duration
from skyflowctl.engine.names import PER_ENTITY, SIGN_MAX_TTL
from skyflowctl.manifest import access
from skyflowctl.manifest.audit_devices import declared_audit_devices
from skyflowctl.manifest.control_groups import with_guards
from skyflowctl.manifest.discover import DEFAULT_PREFIX
from skyflowctl.manifest.engine_rules import LEASE_TTLS, ROTATE_VERSION
from skyflowctl.manifest.files import file_set
from skyflowctl.manifest.logins import login_configs
from skyflowctl.manifest.model import (
    DeclaredCtx,
    DeclaredEngine,
    DeclaredObject,
    DeclaredSecret,
    Manifest,
    Mount,
    Moved,
    Plugin,
    Role,
    RotationRule,
)
from skyflowctl.manifest.moved_rules import read_moves
from skyflowctl.manifest.nodes import Path as TreePath
from skyflowctl.manifest.nodes import (
    YamlNode,
    as_flag,
    as_number,
    as_seconds,
    as_text,
    as_texts,
    at_key,
    child,
    entries,
    plain,
)
from skyflowctl.manifest.objects import declared_objects
from skyflowctl.manifest.paths import mount_path
from skyflowctl.manifest.people import declared_groups, declared_users
from skyflowctl.manifest.quotas import declared_quotas
from skyflowctl.manifest.references import field_source, reference
from skyflowctl.manifest.typed_engines import typed_objects


def build(root: YamlNode, files: tuple[str, ...]) -> Manifest:
    """Return the manifest of a tree without problems."""
    return Manifest(
        id=as_text(child(root, "manifest")),
        plugin=_plugin(child(root, "plugin")),
        path_prefix=as_text(child(root, "defaults", "path_prefix")) or DEFAULT_PREFIX,
        mounts=tuple(_mount(root, name, node) for name, node in entries(child(root, "mounts"))),
        files=files,
        file_set=file_set(files),
        consumers=access.declared_consumers(root),
        login_methods=access.declared_login_methods(root),
        policies=with_guards(root, access.declared_policies(root)),
        engines=tuple(_engine(path, node) for path, node in entries(child(root, "engines"))),
        objects=(
            *(_namespace(root, name, one) for name, one in entries(child(root, "namespaces"))),
            *login_configs(root),
            *declared_users(root),
            *declared_objects(root),
            *typed_objects(root),
            *declared_quotas(root),
            *declared_audit_devices(root),
        ),
        groups=declared_groups(root),
        moved=tuple(
            Moved(one.old.kind, one.old.path, one.new.path, one.old.where)
            for one in read_moves(root)
        ),
        servers=tuple(as_texts(child(root, "servers"))),
    )


def _plugin(node: YamlNode | None) -> Plugin:
    return Plugin(
        name=as_text(child(node, "name")) or "skyflow",
        version=as_text(child(node, "version")) or None,
    )


def _mount(root: YamlNode, name: str, node: YamlNode) -> Mount:
    path: TreePath = ("mounts", name)
    defaults = child(root, "defaults")
    return Mount(
        name=name,
        path=mount_path(root, name),
        description=as_text(child(node, "description")),
        tags=tuple(
            dict.fromkeys((*as_texts(child(defaults, "tags")), *as_texts(child(node, "tags"))))
        ),
        protect=as_flag(child(node, "protect")),
        plain_ctx=as_flag(
            child(node, "audit", "plain_ctx") or child(defaults, "audit", "plain_ctx")
        ),
        credentials=reference(child(node, "credentials"), (*path, "credentials")),
        rotation=_rotation(node, child(defaults, "rotation"), (*path, "rotation")),
        roles=tuple(
            _role(role_name, role, (*path, "roles", role_name))
            for role_name, role in entries(child(node, "roles"))
        ),
        where=at_key(node, path),
        keeps_credential=as_flag(child(node, "credentials", "live")),
    )


def _rotation(mount: YamlNode, default: YamlNode | None, path: TreePath) -> RotationRule:
    own = child(mount, "rotation")

    def span(key: str) -> timedelta | None:
        node = child(own, key) or child(default, key)
        return parse_duration(as_text(node)) if node else None

    return RotationRule(
        max_age=span("max_age"),
        renew_before=span("renew_before"),
        source=cast(
            "Literal['reference', 'generate']", as_text(child(own, "source")) or "reference"
        ),
        retire_margin=span("retire_margin"),
        operator_token=reference(child(own, "operator_token"), (*path, "operator_token")),
        account_id=as_text(child(own, "account_id")),
    )


def _role(name: str, node: YamlNode, path: TreePath) -> Role:
    longest, shortest = child(node, "sign_max_ttl"), child(node, "reuse", "min_ttl")
    return Role(
        name=name,
        role_id=as_texts(child(node, "role_ids"))[0],
        description=as_text(child(node, "description")),
        tags=as_texts(child(node, "tags")),
        ctx=_ctx(child(node, "ctx")),
        where=at_key(node, path),
        sign=as_flag(child(node, "sign")),
        sign_max_ttl=as_seconds(longest) if longest else SIGN_MAX_TTL,
        reuse_min_ttl=as_seconds(shortest) if shortest else 0,
        reuse_per=as_text(child(node, "reuse", "per")) or PER_ENTITY,
    )


def _ctx(node: YamlNode | None) -> DeclaredCtx:
    pattern = as_text(child(node, "pattern"))
    required, probe = child(node, "required"), child(node, "probe")
    return DeclaredCtx(
        required=as_flag(required) if required else bool(pattern),
        pattern=pattern,
        probe=cast("str | dict[str, Any]", plain(probe)) if probe else "",
    )


def _engine(path: str, node: YamlNode) -> DeclaredEngine:
    place: TreePath = ("engines", path)
    return DeclaredEngine(
        path=path,
        type=as_text(child(node, "type")),
        description=as_text(child(node, "description")),
        secrets=tuple(
            _secret(name, secret, (*place, "secrets", name))
            for name, secret in entries(child(node, "secrets"))
        ),
        where=at_key(node, place),
        ttls={name: as_seconds(one) for name in LEASE_TTLS if (one := child(node, name))},
    )


def _secret(path: str, node: YamlNode, place: TreePath) -> DeclaredSecret:
    return DeclaredSecret(
        path=path,
        fields={
            name: field_source(field, (*place, name))
            for name, field in entries(node)
            if name != ROTATE_VERSION
        },
        rotate_version=as_number(child(node, ROTATE_VERSION)),
        where=at_key(node, place),
    )


def _namespace(root: YamlNode, name: str, node: YamlNode) -> DeclaredObject:
    """Each field is one key of its custom metadata, so that it keeps its other keys."""
    metadata = {key: as_text(one) for key, one in entries(child(node, "metadata"))}
    mark = {"managed_by": "skyflowctl", "manifest": as_text(child(root, "manifest"))}
    where = at_key(node, ("namespaces", name))
    return DeclaredObject("namespace", f"sys/namespaces/{name}", {**metadata, **mark}, where)
