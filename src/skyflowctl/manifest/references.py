"""Builds the references of a checked tree, without further checks."""

import os
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from skyflowctl.manifest.model import FieldSource, GeneratedText, LiveValue, Reference, Scheme
from skyflowctl.manifest.nodes import Path as TreePath
from skyflowctl.manifest.nodes import (
    YamlNode,
    as_number,
    as_text,
    as_texts,
    at_key,
    at_value,
    child,
    entries,
)
from skyflowctl.text import counted


def reference(node: YamlNode | None, path: TreePath) -> Reference | None:
    """Return the reference of a checked node; None without one."""
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
    return (_absolute(node.source.folder, as_text(node)),), f"file: {as_text(node)}"


def _named(scheme: str) -> Callable[[YamlNode], _Target]:
    return lambda node: ((as_text(node),), f"{scheme}: {as_text(node)}")


def _pair(scheme: str, first: str, second: str) -> Callable[[YamlNode], _Target]:
    def target(node: YamlNode) -> _Target:
        parts = as_text(child(node, first)), as_text(child(node, second))
        return parts, f"{scheme}: {', '.join(parts)}"

    return target


def _program(node: YamlNode) -> _Target:
    argv = as_texts(node)
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


def secret_source(node: YamlNode | None, path: TreePath) -> Reference | LiveValue | None:
    """Return where a secret comes from: its reference, or the server; None without a node."""
    return LiveValue() if child(node, "live") else reference(node, path)


def field_source(node: YamlNode, place: TreePath) -> FieldSource:
    """Return where a secret's field comes from: a value, a generated text, a reference or the
    server."""
    value, made = child(node, "value"), child(node, "generate")
    if value is None and made is None:
        return secret_source(node, place) or ""
    if made is None:
        return as_text(value)
    return GeneratedText(
        length=as_number(child(made, "length")),
        alphabet=as_text(child(made, "alphabet")) or string.ascii_letters + string.digits,
        bytes=as_number(child(made, "bytes")),
    )


def _absolute(folder: str, name: str) -> str:
    # Not Path.expanduser: it raises for an unknown user; a file of that name may exist.
    expanded = os.path.expanduser(name)  # noqa: PTH111
    return os.path.normpath(Path(folder, expanded))
