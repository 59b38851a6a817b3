"""Chooses the names and the common folder of exported mounts."""

import re
from collections import Counter
from collections.abc import Sequence

from skyflowctl.engine.names import is_name
from skyflowctl.manifest.discover import DEFAULT_PREFIX
from skyflowctl.vault.live import LiveMount


def common_prefix(mounts: Sequence[LiveMount]) -> str:
    """Return the folder of most mounts, as path_prefix."""
    folders = Counter(one.path.rpartition("/")[0] for one in mounts if is_name(_last(one.path)))
    folders.pop("", None)
    return max(
        folders, key=lambda one: (folders[one], one == DEFAULT_PREFIX), default=DEFAULT_PREFIX
    )


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def mount_names(mounts: Sequence[LiveMount]) -> dict[str, str]:
    """Return a name for each mount by path: its last segment, if that is a unique name."""
    counts = Counter(_last(one.path) for one in mounts)
    names: dict[str, str] = {}
    for one in mounts:
        last = _last(one.path)
        if counts[last] == 1 and is_name(last):
            names[one.path] = last
    for one in mounts:
        if one.path not in names:
            names[one.path] = _free_name(one.path, set(names.values()))
    return names


def _free_name(path: str, used: set[str]) -> str:
    slug = re.sub(r"[^a-z0-9_-]+", "-", path.lower()).strip("-_")[:50] or "mount"
    name, number = slug, 2
    while name in used:
        name, number = f"{slug}-{number}", number + 1
    return name
