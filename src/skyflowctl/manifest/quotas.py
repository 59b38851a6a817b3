"""Builds the rate limits of a manifest, and checks them."""

from collections.abc import Iterator

from skyflowctl.errors import Problem
from skyflowctl.manifest.messages import shown
from skyflowctl.manifest.model import DeclaredObject
from skyflowctl.manifest.nodes import (
    Path,
    YamlNode,
    as_flag,
    as_number,
    as_seconds,
    as_text,
    at_key,
    child,
    entries,
    zero_duration,
)
from skyflowctl.manifest.paths import parents

QUOTAS = "sys/quotas/rate-limit"


def quota_prefix(manifest_id: str) -> str:
    """Return the start of the names of this manifest's quotas on the server, their mark.

    A quota has no field for a mark. An id has no dot, so no prefix is the start of another one.
    """
    return f"skyflowctl.{manifest_id}."


def declared_quotas(root: YamlNode) -> tuple[DeclaredObject, ...]:
    """Return the quotas in the manifest's order; each is written after the mount at its path.

    An absent setting has the server's default, which is sent: a write without it resets it.
    """
    manifest_id = as_text(child(root, "manifest"))
    return tuple(_quota(manifest_id, name, node) for name, node in entries(child(root, "quotas")))


def _quota(manifest_id: str, name: str, node: YamlNode) -> DeclaredObject:
    path = as_text(child(node, "path"))
    around = [path, *parents(path)]
    return DeclaredObject(
        kind="quota",
        path=f"{QUOTAS}/{quota_prefix(manifest_id)}{name}",
        fields={
            "path": path,
            "rate": as_number(child(node, "rate")),
            "interval": as_seconds(child(node, "interval")) or 1,
            "block_interval": as_seconds(child(node, "block_interval")),
            "role": as_text(child(node, "role")),
            "inheritable": as_flag(child(node, "inheritable")),
        },
        where=at_key(node, ("quotas", name)),
        after=tuple(
            f"sys/{one}" if one.startswith("auth/") else f"sys/mounts/{one}" for one in around
        ),
    )


def quota_rules(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield quotas that limit the same, roles without a login method, and empty intervals."""
    owner: dict[tuple[str, str], str] = {}
    for name, node in entries(child(root, "quotas")):
        place: Path = ("quotas", name)
        path, role = as_text(child(node, "path")), as_text(child(node, "role"))
        earlier = owner.setdefault((path, role), name)
        if path and earlier != name:
            summary = f"the quotas {shown(earlier)} and {shown(name)} have the same path"
            why = f"the server has one quota for {shown(path)}"
            yield place, Problem("same-path", summary, why, "remove one", at_key(node, place))
        if role and not path.startswith("auth/"):
            about, found = (*place, "role"), child(node, "role") or node
            summary = "only the quota of a login method has a role"
            why = f"{shown(path)} is no login method"
            fix = "remove it, or use a path such as auth/approle"
            yield about, Problem("unused-key", summary, why, fix, at_key(found, about))
        why = "the rate counts requests per interval"
        yield from zero_duration(child(node, "interval"), (*place, "interval"), why, "use 1s")
