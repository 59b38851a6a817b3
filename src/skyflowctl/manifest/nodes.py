"""A YAML document as a tree of values that know where they stand.

A tree is what reading and merging work on; ``plain`` gives the schema the same data
without positions, and ``locate`` finds the position of what it complains about.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from skyflowctl.errors import Where
from skyflowctl.manifest.messages import shown

Scalar: TypeAlias = str | int | float | bool | None
Path: TypeAlias = tuple[str | int, ...]
Plain: TypeAlias = Scalar | list["Plain"] | dict[str, "Plain"]


class ManifestFile(NamedTuple):
    """One manifest file: its name for messages, and the folder of its relative paths."""

    name: str
    folder: str


class YamlNode(NamedTuple):
    """One value. Lines and columns count from 1; ``key_*`` are those of its key, if any.

    ``source`` is the file that holds it: after a merge, one tree has several.
    """

    value: Scalar | list["YamlNode"] | dict[str, "YamlNode"]
    source: ManifestFile
    line: int
    column: int
    key_line: int = 0
    key_column: int = 0


def plain(node: YamlNode) -> Plain:
    """Return the tree's data alone."""
    value = node.value
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    return value


def pointer(path: Sequence[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) of a path; what may be secret is masked."""
    parts = (shown(str(part)).replace("~", "~0").replace("/", "~1") for part in path)
    return "".join("/" + part for part in parts)


def at_value(node: YamlNode, path: Sequence[str | int]) -> Where:
    """Return the position of the value itself."""
    return Where(node.source.name, node.line, node.column, pointer(path))


def at_key(node: YamlNode, path: Sequence[str | int]) -> Where:
    """Return the position of the value's key; of the value where it has none."""
    if not node.key_line:
        return at_value(node, path)
    return Where(node.source.name, node.key_line, node.key_column, pointer(path))


def descend(root: YamlNode, path: Sequence[str | int]) -> YamlNode | None:
    """Return the node that a path leads to, or None when it leads nowhere."""
    node: YamlNode | None = root
    for part in path:
        node = _step(node, part) if node is not None else None
    return node


def _step(node: YamlNode, part: str | int) -> YamlNode | None:
    value = node.value
    if isinstance(value, dict):
        return value.get(part) if isinstance(part, str) else None
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        item: YamlNode = value[part]
        return item
    return None


def locate(root: YamlNode, path: Sequence[str | int]) -> Where:
    """Return where a path leads: a container at its key, a scalar or item at its value."""
    node = descend(root, path) or root
    is_block = isinstance(node.value, dict | list) and bool(path) and isinstance(path[-1], str)
    return at_key(node, path) if is_block else at_value(node, path)


def entries(node: YamlNode | None) -> Iterator[tuple[str, YamlNode]]:
    """Yield a map's entries; nothing for what is no map."""
    if node is not None and isinstance(node.value, dict):
        yield from node.value.items()


def child(node: YamlNode | None, *keys: str) -> YamlNode | None:
    """Return the node below these keys, or None."""
    return None if node is None else descend(node, keys)


def text_of(node: YamlNode | None) -> str | None:
    """Return a node's text, or None when it is absent or no text."""
    return node.value if node is not None and isinstance(node.value, str) else None
