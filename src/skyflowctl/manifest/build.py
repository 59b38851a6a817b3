"""Builds the frozen manifest from a checked tree, without further checks."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

from skyflowctl.clock import parse_duration
from skyflowctl.manifest import access
from skyflowctl.manifest.discover import DEFAULT_PREFIX
from skyflowctl.manifest.files import file_set
from skyflowctl.manifest.model import (
    DeclaredCtx,
    Manifest,
    Mount,
    Moved,
    Plugin,
    Reference,
    Role,
    RotationRule,
)
from skyflowctl.manifest.moved_rules import read_moves
from skyflowctl.manifest.nodes import Path as TreePath
from skyflowctl.manifest.nodes import YamlNode, at_key, at_value, child, entries, plain
from skyflowctl.manifest.paths import mount_path


def build(root: YamlNode, files: tuple[str, ...]) -> Manifest:
    """Return the manifest of a tree without problems."""
    return Manifest(
        id=_text(child(root, "manifest")),
        plugin=_plugin(child(root, "plugin")),
        path_prefix=_text(child(root, "defaults", "path_prefix")) or DEFAULT_PREFIX,
        mounts=tuple(_mount(root, name, node) for name, node in entries(child(root, "mounts"))),
        files=files,
        file_set=file_set(files),
        consumers=access.declared_consumers(root),
        login_methods=access.declared_login_methods(root),
        policies=access.declared_policies(root),
        moved=tuple(
            Moved(one.old.kind, one.old.path, one.new.path, one.old.where)
            for one in read_moves(root)
        ),
    )


def _plugin(node: YamlNode | None) -> Plugin:
    return Plugin(
        name=_text(child(node, "name")) or "skyflow",
        version=_text(child(node, "version")) or None,
    )


def _mount(root: YamlNode, name: str, node: YamlNode) -> Mount:
    path: TreePath = ("mounts", name)
    defaults = child(root, "defaults")
    return Mount(
        name=name,
        path=mount_path(root, name),
        description=_text(child(node, "description")),
        tags=tuple(dict.fromkeys((*_texts(child(defaults, "tags")), *_texts(child(node, "tags"))))),
        protect=_flag(child(node, "protect")),
        plain_ctx=_flag(child(node, "audit", "plain_ctx") or child(defaults, "audit", "plain_ctx")),
        credentials=_reference(child(node, "credentials"), (*path, "credentials")),
        rotation=_rotation(node, child(defaults, "rotation"), (*path, "rotation")),
        roles=tuple(
            _role(role_name, role, (*path, "roles", role_name))
            for role_name, role in entries(child(node, "roles"))
        ),
        where=at_key(node, path),
        keeps_credential=_flag(child(node, "credentials", "live")),
    )


def _rotation(mount: YamlNode, default: YamlNode | None, path: TreePath) -> RotationRule:
    own = child(mount, "rotation")

    def span(key: str) -> timedelta | None:
        node = child(own, key) or child(default, key)
        return parse_duration(_text(node)) if node else None

    return RotationRule(
        max_age=span("max_age"),
        renew_before=span("renew_before"),
        source=cast("Literal['reference', 'generate']", _text(child(own, "source")) or "reference"),
        retire_margin=span("retire_margin"),
        operator_token=_reference(child(own, "operator_token"), (*path, "operator_token")),
        account_id=_text(child(own, "account_id")),
    )


def _role(name: str, node: YamlNode, path: TreePath) -> Role:
    return Role(
        name=name,
        role_id=_texts(child(node, "role_ids"))[0],
        description=_text(child(node, "description")),
        tags=_texts(child(node, "tags")),
        ctx=_ctx(child(node, "ctx")),
        where=at_key(node, path),
    )


def _ctx(node: YamlNode | None) -> DeclaredCtx:
    pattern = _text(child(node, "pattern"))
    required, probe = child(node, "required"), child(node, "probe")
    return DeclaredCtx(
        required=_flag(required) if required else bool(pattern),
        pattern=pattern,
        probe=cast("str | dict[str, Any]", plain(probe)) if probe else "",
    )


def _reference(node: YamlNode | None, path: TreePath) -> Reference | None:
    for scheme, target in entries(node):
        if scheme == "live":
            return None
        where = at_value(target, (*path, scheme))
        if scheme == "file":
            name = _text(target)
            absolute = _absolute(target.source.folder, name)
            return Reference("file", (absolute,), f"file: {name}", where)
        if scheme == "keyring":
            service, username = _text(child(target, "service")), _text(child(target, "username"))
            text = f"keyring: {service}, {username}"
            return Reference("keyring", (service, username), text, at_key(target, (*path, scheme)))
        if scheme == "server_file":
            return Reference(
                "server_file", (_text(target),), f"server_file: {_text(target)}", where
            )
        return Reference("env", (_text(target),), f"env: {_text(target)}", where)
    return None


def _absolute(folder: str, name: str) -> str:
    # Not Path.expanduser: it raises for an unknown user; a file of that name may exist.
    expanded = os.path.expanduser(name)  # noqa: PTH111
    return os.path.normpath(Path(folder, expanded))


def _text(node: YamlNode | None) -> str:
    return node.value if node is not None and isinstance(node.value, str) else ""


def _texts(node: YamlNode | None) -> tuple[str, ...]:
    if node is None or not isinstance(node.value, list):
        return ()
    return tuple(_text(item) for item in node.value)


def _flag(node: YamlNode | None) -> bool:
    return node is not None and node.value is True
