"""Recognises the entries of the engine's mounts, and their targets."""

import re
from collections.abc import Iterable

from skyflowctl.audit.changes import AuditTarget, target_of
from skyflowctl.audit.entries import LoggedRequest

TARGETS_MAX = 10_000
"""The most paths whose target is cached."""

_OWN_PATH = re.compile(
    r"/(?=(?:creds|roles|sign)/[^/]|roles/?\Z|config(?:\Z|/(?:verify|commit|rollback|history)(?:\Z|/))"
    r"|health\Z)"
)
"""The prefixes of the engine's own paths, below the mount."""


class Recogniser:
    """Recognises the engine's entries by the mount's type, or by its path.

    Args:
        plugin_names: types of the mounts that are ours.
        mounts: paths of mounts that are ours whatever their type, with or without their
            namespace as prefix; for renamed plugins, and for logs of older servers, which do
            not log the type.
    """

    def __init__(self, plugin_names: Iterable[str], mounts: Iterable[str] = ()) -> None:
        self._types = frozenset(plugin_names)
        self._points = tuple(mount.strip("/") + "/" for mount in mounts)
        self._prefixes = tuple(f"{name}/" for name in self._types)
        self._met: set[str] = set()
        self._targets: dict[tuple[str, str], AuditTarget] = {}

    def target(self, request: LoggedRequest) -> AuditTarget | None:
        """Return the target of a request on one of our mounts; None for other mounts."""
        point = request.mount_point
        space = request.namespace.path if request.namespace is not None else ""
        if space and point.startswith(space):
            # The mount's path is prefixed with the namespace, the request's path is not.
            point = point[len(space) :]
        if request.mount_type not in self._types:
            point = self._declared(space, request.path) if self._points else ""
            if not point and not request.mount_type:
                point = self._by_path(request.path)
            if not point:
                return None
        key = (point, request.path)
        found = self._targets.get(key)
        if found is None:
            if len(self._targets) >= TARGETS_MAX:
                self._targets.clear()
            found = self._targets[key] = target_of(point, request.path)
            if len(self._met) < TARGETS_MAX:
                self._met.add(point)
        return found

    def _by_path(self, path: str) -> str:
        """Return the mount of an entry without a type: one that was seen with its type, or one
        below the plugin's name, the default path of mounts."""
        points = [path[: found.end()] for found in _OWN_PATH.finditer(path) if found.start()]
        known = next((point for point in points if point in self._met), "")
        return known or (points[0] if points and path.startswith(self._prefixes) else "")

    def _declared(self, space: str, path: str) -> str:
        for point in self._points:
            if path.startswith(point):
                return point
            if space and point.startswith(space) and path.startswith(point[len(space) :]):
                return point[len(space) :]
        return ""
