"""A YAML document as a tree of values with their positions.

Reading and merging work on this tree. ``plain`` returns the same data without positions, for the
schema, and ``locate`` finds the position of a schema error.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from skyflowctl.clock import parse_duration
from skyflowctl.errors import Problem, Where
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

    ``source`` is its file: after a merge, one tree has values of several files.
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
    """Return the JSON pointer (RFC 6901) of a path; parts that may be secret are masked."""
    parts = (shown(str(part)).replace("~", "~0").replace("/", "~1") for part in path)
    return "".join("/" + part for part in parts)


def at_value(node: YamlNode, path: Sequence[str | int]) -> Where:
    """Return the position of the value itself."""
    return Where(node.source.name, node.line, node.column, pointer(path))


def at_key(node: YamlNode, path: Sequence[str | int]) -> Where:
    """Return the position of the value's key, or of the value if it has no key."""
    if not node.key_line:
        return at_value(node, path)
    return Where(node.source.name, node.key_line, node.key_column, pointer(path))


def descend(root: YamlNode, path: Sequence[str | int]) -> YamlNode | None:
    """Return the node at a path, or None if there is none."""
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
    """Return the position of a path: a container's key, or the value of a scalar or item."""
    node = descend(root, path) or root
    is_block = isinstance(node.value, dict | list) and bool(path) and isinstance(path[-1], str)
    return at_key(node, path) if is_block else at_value(node, path)


def entries(node: YamlNode | None) -> Iterator[tuple[str, YamlNode]]:
    """Yield a map's entries; nothing for other nodes."""
    if node is not None and isinstance(node.value, dict):
        yield from node.value.items()


def child(node: YamlNode | None, *keys: str) -> YamlNode | None:
    """Return the node below these keys, or None."""
    return None if node is None else descend(node, keys)


def text_of(node: YamlNode | None) -> str | None:
    """Return a node's text, or None if it is absent or no text."""
    return node.value if node is not None and isinstance(node.value, str) else None


def as_text(node: YamlNode | None) -> str:
    """Return a node's text; empty if it has none."""
    return text_of(node) or ""


def as_number(node: YamlNode | None) -> int:
    """Return a node's whole number; 0 if it has none."""
    # The schema's integers include 2.0.
    return int(node.value) if node is not None and isinstance(node.value, int | float) else 0


def as_flag(node: YamlNode | None) -> bool:
    """Whether a node is ``true``."""
    return node is not None and node.value is True


def as_seconds(node: YamlNode | None) -> int:
    """Return a node's duration in seconds; 0 if it has none."""
    return int(parse_duration(as_text(node)).total_seconds()) if node else 0


def zero_duration(
    node: YamlNode | None, place: Path, why: str, fix: str
) -> Iterator[tuple[Path, Problem]]:
    """Yield the problem of a duration of 0 in any unit; not of one that the schema refuses."""
    try:
        if node is None or parse_duration(as_text(node)):
            return
    except (ValueError, OverflowError):
        return
    summary = f"{place[-1]} must not be {as_text(node)}"
    yield place, Problem("bad-duration", summary, why, fix, at_value(node, place))


def items(node: YamlNode | None) -> list[YamlNode]:
    """Return the items of a node's list; none if it is no list."""
    return node.value if node is not None and isinstance(node.value, list) else []


def as_texts(node: YamlNode | None) -> tuple[str, ...]:
    """Return the texts of a node's list."""
    return tuple(as_text(item) for item in items(node))
