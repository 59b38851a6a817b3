"""The mounts that a command is about, from the manifest or from the server."""

from collections.abc import Mapping
from dataclasses import field

from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest, RotationRule
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveMount


@dataclass(frozen=True, slots=True)
class MountRef:
    """A mount by its name; without a manifest ``rotation`` has no rule."""

    name: str
    path: str
    rotation: RotationRule = field(default_factory=RotationRule)


def declared_mounts(manifest: Manifest) -> tuple[MountRef, ...]:
    """Return the manifest's mounts in its order."""
    return tuple(MountRef(mount.name, mount.path, mount.rotation) for mount in manifest.mounts)


def discover_mounts(gateway: Gateway, *, plugin_name: str, prefix: str) -> tuple[MountRef, ...]:
    """Return every mount of this engine on the server, by path; one request."""
    return mounts_of_type(gateway.sys.mounts(), plugin_name=plugin_name, prefix=prefix)


def mounts_of_type(
    live: Mapping[str, LiveMount], *, plugin_name: str, prefix: str
) -> tuple[MountRef, ...]:
    """Return those of a server's mounts that are of this engine, by path."""
    ours = sorted(path for path, mount in live.items() if mount.type == plugin_name)
    return tuple(MountRef(path.removeprefix(f"{prefix}/"), path) for path in ours)
