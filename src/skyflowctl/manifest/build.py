"""Builds the frozen manifest from a checked tree, without further checks."""

import os
import string
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

from skyflowctl.clock import parse_duration
from skyflowctl.manifest import access
from skyflowctl.manifest.discover import DEFAULT_PREFIX
from skyflowctl.manifest.engine_rules import ROTATE_VERSION
from skyflowctl.manifest.files import file_set
from skyflowctl.manifest.model import (
    DeclaredCtx,
    DeclaredEngine,
    DeclaredSecret,
    FieldSource,
    GeneratedText,
    Manifest,
    Mount,
    Moved,
    Plugin,
    Reference,
    Role,
    RotationRule,
    Scheme,
)
from skyflowctl.manifest.moved_rules import read_moves
from skyflowctl.manifest.nodes import Path as TreePath
from skyflowctl.manifest.nodes import YamlNode, at_key, at_value, child, entries, plain
from skyflowctl.manifest.paths import mount_path
from skyflowctl.text import counted


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
        engines=tuple(_engine(path, node) for path, node in entries(child(root, "engines"))),
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
    for scheme, node_of_scheme in entries(node):
        if scheme == "live":
            return None
        about = (*path, scheme)
        target, text = _TARGETS[scheme](node_of_scheme)
        is_text = isinstance(node_of_scheme.value, str | bool)
        where = at_value(node_of_scheme, about) if is_text else at_key(node_of_scheme, about)
        return Reference(cast("Scheme", scheme), target, text, where)
    return None


_Target = tuple[tuple[str, ...], str]


def _file(node: YamlNode) -> _Target:
    return (_absolute(node.source.folder, _text(node)),), f"file: {_text(node)}"


def _named(scheme: str) -> Callable[[YamlNode], _Target]:
    return lambda node: ((_text(node),), f"{scheme}: {_text(node)}")


def _pair(scheme: str, first: str, second: str) -> Callable[[YamlNode], _Target]:
    def target(node: YamlNode) -> _Target:
        parts = _text(child(node, first)), _text(child(node, second))
        return parts, f"{scheme}: {', '.join(parts)}"

    return target


def _program(node: YamlNode) -> _Target:
    argv = _texts(node)
    # An argument may be secret, so only their number is shown.
    more = f" and {counted(len(argv) - 1, 'argument')}" if argv[1:] else ""
    folder = os.path.abspath(node.source.folder)  # noqa: PTH100 - links are followed later
    return (folder, *argv), f"exec: {argv[0]}{more}"


_TARGETS: Mapping[str, Callable[[YamlNode], _Target]] = {
    "file": _file,
    "env": _named("env"),
    "keyring": _pair("keyring", "service", "username"),
    "vault": _pair("vault", "path", "field"),
    "exec": _program,
    "stdin": lambda _: ((), "stdin"),
    "server_file": _named("server_file"),
}


def _engine(path: str, node: YamlNode) -> DeclaredEngine:
    place: TreePath = ("engines", path)
    return DeclaredEngine(
        path=path,
        type=_text(child(node, "type")),
        description=_text(child(node, "description")),
        secrets=tuple(
            _secret(name, secret, (*place, "secrets", name))
            for name, secret in entries(child(node, "secrets"))
        ),
        where=at_key(node, place),
    )


def _secret(path: str, node: YamlNode, place: TreePath) -> DeclaredSecret:
    return DeclaredSecret(
        path=path,
        fields={
            name: _source(field, (*place, name))
            for name, field in entries(node)
            if name != ROTATE_VERSION
        },
        rotate_version=_number(child(node, ROTATE_VERSION)),
        where=at_key(node, place),
    )


def _source(node: YamlNode, place: TreePath) -> FieldSource:
    value, made = child(node, "value"), child(node, "generate")
    if value is None and made is None:
        return _reference(node, place) or ""
    if made is None:
        return _text(value)
    return GeneratedText(
        length=_number(child(made, "length")),
        alphabet=_text(child(made, "alphabet")) or string.ascii_letters + string.digits,
        bytes=_number(child(made, "bytes")),
    )


def _absolute(folder: str, name: str) -> str:
    # Not Path.expanduser: it raises for an unknown user; a file of that name may exist.
    expanded = os.path.expanduser(name)  # noqa: PTH111
    return os.path.normpath(Path(folder, expanded))


def _text(node: YamlNode | None) -> str:
    return node.value if node is not None and isinstance(node.value, str) else ""


def _number(node: YamlNode | None) -> int:
    return node.value if node is not None and isinstance(node.value, int) else 0


def _texts(node: YamlNode | None) -> tuple[str, ...]:
    if node is None or not isinstance(node.value, list):
        return ()
    return tuple(_text(item) for item in node.value)


def _flag(node: YamlNode | None) -> bool:
    return node is not None and node.value is True
