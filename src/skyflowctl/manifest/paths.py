"""The paths of mounts in a manifest."""

from collections.abc import Iterator

from skyflowctl.manifest.discover import DEFAULT_PREFIX
from skyflowctl.manifest.nodes import YamlNode, child, text_of

RESERVED = frozenset({"sys", "auth", "identity", "cubbyhole", "audit"})
"""The server's own mounts (``sys/mounts`` refuses them), and the prefix below which no secrets
engine can be mounted."""


def mount_path(root: YamlNode, name: str) -> str:
    """Return the path of a mount: its own, or the prefix and its name."""
    own = text_of(child(root, "mounts", name, "path"))
    prefix = text_of(child(root, "defaults", "path_prefix"))
    return own or f"{prefix or DEFAULT_PREFIX}/{name}"


def parents(path: str) -> Iterator[str]:
    """Yield every path above a path, the shortest first."""
    parts = path.split("/")
    for length in range(1, len(parts)):
        yield "/".join(parts[:length])
