"""The desired and live fields of groups of people, with dotted names like those of mounts."""

from collections.abc import Mapping
from typing import Any

from skyflowctl.manifest.model import DeclaredGroup, Manifest
from skyflowctl.planner import fields
from skyflowctl.vault.live import login_method_of


def wanted_group(manifest: Manifest, group: DeclaredGroup) -> dict[str, Any]:
    """Return a group's desired fields. The server never changes its type."""
    wanted: dict[str, Any] = {
        "type": "external" if group.alias else "internal",
        "policies": sorted(group.policies),
        "metadata.managed_by": fields.MANAGED_BY,
        "metadata.manifest": manifest.id,
    }
    if group.alias:
        wanted["alias.login_method"], wanted["alias.name"] = group.alias
    return wanted


def live_group(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same fields as they are on the server."""
    metadata, alias = found.get("metadata") or {}, found.get("alias") or {}
    return {
        "type": found.get("type"),
        "policies": sorted(found.get("policies") or ()),
        **{f"metadata.{name}": metadata.get(name) for name in ("managed_by", "manifest")},
        "metadata.adopted": metadata.get("adopted"),
        "alias.login_method": login_method_of(str(alias.get("mount_path") or "")),
        "alias.name": alias.get("name"),
    }
