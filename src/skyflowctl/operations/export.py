"""``export``: the manifest of what is live, without any secret."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from skyflowctl.clock import span_text
from skyflowctl.engine.names import PER_ROLE, SIGN_MAX_TTL, is_name
from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.access import role_policy_name
from skyflowctl.manifest.discover import DEFAULT_PREFIX
from skyflowctl.manifest.messages import looks_like_credential
from skyflowctl.manifest.model import SECRET_VERSION
from skyflowctl.manifest.write import manifest_text
from skyflowctl.operations.exported_choice import (
    is_built_in,
    is_unknown,
    marked,
    mounts_to_export,
    nobodys,
    nothing,
    ours,
    recorded_id,
    refuse_unread,
)
from skyflowctl.operations.exported_consumers import exported_logins
from skyflowctl.operations.exported_engines import (
    exported_audit_devices,
    exported_engine,
    exported_groups,
    exported_namespaces,
    exported_quotas,
    unread_logins,
)
from skyflowctl.operations.exported_logins import NotExpressibleError, exported_config
from skyflowctl.operations.exported_names import common_prefix, mount_names
from skyflowctl.operations.exported_objects import (
    ObjectReader,
    with_authorities,
)
from skyflowctl.operations.exported_settings import of_mount, warn_lost
from skyflowctl.operations.exported_valid import valid_parts
from skyflowctl.planner.access import owner_of
from skyflowctl.planner.fields import MANAGED_BY, mount_is_protected
from skyflowctl.planner.objects import noted_version
from skyflowctl.planner.policy_text import unmarked
from skyflowctl.text import counted, listed
from skyflowctl.vault.access_api import AccessNeeded
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import (
    LiveAccess,
    LiveEngine,
    LiveLoginMethod,
    LiveMount,
    LiveRole,
    LiveSecret,
    LiveState,
)

_HEAD = "Exported from the server. Rotation rules are not stored there."


@dataclass(frozen=True, slots=True)
class Exported:
    """A manifest of live objects.

    Args:
        manifest: its id.
        text: the YAML.
        mounts: the paths of its mounts, sorted.
        warnings: what the manifest cannot express; it differs from the server there.
    """

    manifest: str
    text: str
    mounts: tuple[str, ...]
    warnings: tuple[Problem, ...]


def export(
    gateway: Gateway,
    paths: Collection[str] = (),
    *,
    plugin: str = "skyflow",
    manifest_id: str = "",
    parallelism: int = 10,
    reads: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Return the manifest of live mounts, and of what else it made on the server.

    Args:
        gateway: the server.
        paths: the mounts; empty: every mount of the plugin.
        plugin: the mount type.
        manifest_id: the manifest's id; empty: the one that the mounts record or, without a mount,
            the engines and login methods.
        parallelism: how many requests run at once.
        reads: called with what is about to be read.

    Raises:
        UsageError: there is no such mount, nothing to write, or not one id.
        RefusedError: a mount, or a policy that belongs to the manifest, cannot be read.
    """
    reads("sys/mounts")
    everything = gateway.sys.mounts()
    chosen = mounts_to_export(everything, paths, plugin)
    others = [one for _, one in sorted(everything.items()) if one.type != plugin]
    owner = manifest_id or recorded_id(chosen or marked(gateway, others, plugin))
    reads(counted(len(chosen), "mount"))
    live = gateway.read_live_state([one.path for one in chosen], plugin, parallelism=parallelism)
    refuse_unread(live.problems.values())
    reads("policies, login methods, groups, quotas, namespaces")
    access = gateway.sys.access.read_marked(lambda one: not owner_of(owner, one), parallelism)
    made = _Export(owner, plugin, chosen, live, access)
    engines = made.choose(others, named=bool(manifest_id and not paths))
    refuse_unread(unread_logins(access.unread, made.warn))
    reader = ObjectReader(gateway.sys.access, parallelism, made.warn, reads)
    made.add_engines(gateway, engines, reader)
    made.add_configs(reader)
    made.add_settings(reader)
    if not paths:
        made.add_audit_devices(gateway)
    return made.exported()


class _Export:
    """Collects one manifest's data and its warnings."""

    def __init__(
        self,
        owner: str,
        plugin: str,
        mounts: Sequence[LiveMount],
        live: LiveState,
        access: LiveAccess,
    ) -> None:
        self._owner = owner
        self._plugin = plugin
        self._live = live
        self._access = access
        self._warnings: list[Problem] = []
        self._prefix = common_prefix(mounts)
        self._names = mount_names(mounts)
        self._mounts = mounts
        self._engines: dict[str, dict[str, Any]] = {}
        self._direct: dict[str, dict[str, Any]] = {}
        self._configs: dict[str, dict[str, Any]] = {}
        self._devices: dict[str, Any] = {}
        self._made: frozenset[str | None] = frozenset((None,))

    def choose(self, engines: Iterable[LiveMount], *, named: bool) -> list[LiveMount]:
        """Keep what an export has besides mounts, and return its engines.

        Args:
            engines: those that are no mounts of ours.
            named: whether the manifest's id was given, and no mount; then it may be a new one.
        """
        is_new = named and is_unknown(self._owner, self._access, [*self._mounts, *engines])
        if is_new:
            self._made |= {""}
            self._access, kept = nobodys(self._owner, self._access, engines, self.warn)
        else:
            self._access, kept = ours(self._owner, self._access, engines, self.warn)
        return kept

    def add_engines(
        self, gateway: Gateway, engines: Iterable[LiveMount], reader: ObjectReader
    ) -> None:
        """Add engines that are no mounts of ours, with their objects."""
        for one in engines:
            description = self._description(one.path, one.description)
            if written := exported_engine(gateway, self._is_made, one, description, reader):
                self._engines[one.path] = written
        with_authorities(self._engines, reader)

    def add_settings(self, reader: ObjectReader) -> None:
        """Name the settings of mounts, engines and login methods that a manifest has no key for."""
        ours = {one.path: "mount" for one in self._mounts} | dict.fromkeys(self._engines, "engine")
        for path, raw in reader.one("sys/mounts").items():
            if kind := ours.get(path.strip("/")):
                warn_lost(self.warn, path.strip("/"), of_mount(kind, raw))
        for path, raw in reader.one("sys/auth").items():
            if (name := path.strip("/")) in self._access.login_methods and self._is_ours(name):
                warn_lost(self.warn, f"auth/{name}", of_mount("login method", raw))

    def add_audit_devices(self, gateway: Gateway) -> None:
        """Add the server's audit devices; one request."""
        live = gateway.sys.access.read(AccessNeeded(audit_devices=True), 1, {})
        self._devices = exported_audit_devices(live, self.warn)

    def add_configs(self, reader: ObjectReader) -> None:
        """Add the configurations of our login methods; one request for each type that has one."""
        for one in self._access.login_methods.values():
            if self._is_ours(one.name) and one.type in {"jwt", "kubernetes", "oidc"}:
                path = f"auth/{one.name}/config"
                version = noted_version(one.options, f"{SECRET_VERSION}config")
                try:
                    live = reader.one(path)
                    found = exported_config(one.type, live, version)
                except NotExpressibleError as error:
                    fix = "copy its section from the manifest that made it"
                    self.warn(path, "was left out", str(error), fix)
                else:
                    self._configs[one.name] = found
                    reader.check(f"{one.type} config", path, live)

    def exported(self) -> Exported:
        consumers = self._consumers()
        mounts = {
            self._names[one.path]: self._mount(one, self._live.engines[one.path], consumers)
            for one in self._mounts
        }
        data: dict[str, Any] = {"version": 1, "manifest": self._owner}
        data["plugin"] = {"name": self._plugin, **self._version()}
        if self._prefix != DEFAULT_PREFIX:
            data["defaults"] = {"path_prefix": self._prefix}
        data["mounts"] = mounts
        groups = exported_groups(self._access.groups, self.warn)
        added = _filled({"engines": self._engines, "groups": groups})
        added |= self._methods() | self._policies()
        added |= _filled(
            {
                "quotas": exported_quotas(self._owner, self._access, self.warn),
                "namespaces": exported_namespaces(self._access),
                "audit_devices": self._devices,
            }
        )
        if not (mounts or added.keys() - {"audit_devices"}):  # those have no mark
            raise nothing(self._plugin, f"nothing that the manifest {self._owner} made")
        data |= added
        valid_parts(data, lambda: manifest_text(data), self.warn)
        text = manifest_text(data, (_HEAD, *self._comments()))
        paths = tuple(one.path for one in self._mounts)
        return Exported(self._owner, text, paths, tuple(self._warnings))

    def _comments(self) -> Iterable[str]:
        """Yield a line for everything that is left out, as the warnings say it."""
        for one in self._warnings:
            line = f"Not exported: {one.summary}"
            yield line if line.isprintable() else ascii(line)

    def warn(self, path: str, summary: str, why: str, fix: str) -> None:
        """Add a warning of something that the manifest does not have."""
        self._warnings.append(Problem("not-exported", f"{path}: {summary}", why, fix))

    def _description(self, path: str, text: str) -> str:
        if text.isprintable() and not looks_like_credential(text):
            return text
        self.warn(
            path,
            "its description was left out",
            "it looks like a credential, or contains an unprintable character",
            "the next apply removes it; write another one",
        )
        return ""

    def _version(self) -> dict[str, str]:
        versions = sorted({one.plugin_version for one in self._mounts})
        if len(versions) > 1:
            self.warn(
                self._plugin,
                f"the mounts run different versions: {listed([one or 'none' for one in versions])}",
                "a manifest has one version, so it has none here",
                "add plugin.version; the next apply then upgrades the other mounts",
            )
            return {}
        return {"version": versions[0]} if any(versions) else {}

    def _mount(
        self, mount: LiveMount, engine: LiveEngine, consumers: Mapping[str, dict[str, Any]]
    ) -> dict[str, Any]:
        name, config = self._names[mount.path], engine.config
        data: dict[str, Any] = {}
        if mount.path != f"{self._prefix}/{name}":
            data["path"] = mount.path
        if config.configured and config.description != mount.description:
            self.warn(
                mount.path,
                "mount and config have different descriptions",
                "a manifest has one for both, and takes the mount's",
                "the next apply writes it to the config",
            )
        data |= _filled(
            {
                "description": self._description(mount.path, mount.description),
                "tags": self._tags(config.tags),
            }
        )
        if config.configured:
            data["credentials"] = {"live": True}
        if mount_is_protected(mount):
            data["protect"] = True
        if "ctx" in mount.audit_non_hmac_request_keys:
            data["audit"] = {"plain_ctx": True}
        for role, why in engine.unusable.items():
            self.warn(f"{mount.path}/roles/{role}", "was left out", why, "declare it by hand")
        roles = {
            role: self._role(mount, one, consumers)
            for role, one in sorted(engine.roles.items())
            if self._is_expressible(mount, one)
        }
        return data | _filled({"roles": roles})

    def _is_expressible(self, mount: LiveMount, role: LiveRole) -> bool:
        if len(role.role_ids) == 1 and is_name(role.name):
            return True
        self.warn(
            f"{mount.path}/roles/{role.name}",
            "was left out",
            "a manifest's role has a plain name and exactly one Skyflow role id",
            "declare it by hand",
        )
        return False

    def _role(
        self, mount: LiveMount, role: LiveRole, consumers: Mapping[str, dict[str, Any]]
    ) -> dict[str, Any]:
        ctx: dict[str, Any] = {}
        if role.ctx_required != bool(role.ctx_pattern):
            ctx["required"] = role.ctx_required
        ctx |= _filled({"pattern": role.ctx_pattern, "probe": _plain(role.ctx_probe)})
        policy = role_policy_name(mount.path, role.name)
        live, longest = self._access.policies.get(policy), role.sign_max_ttl
        return {"role_ids": list(role.role_ids)} | _filled(
            {
                "description": self._description(
                    f"{mount.path}/roles/{role.name}", role.description
                ),
                "tags": self._tags(role.tags),
                "ctx": ctx,
                "sign": bool(live and f'"{mount.path}/sign/{role.name}"' in live.text) or None,
                "sign_max_ttl": span_text(longest) if longest not in {0, SIGN_MAX_TTL} else "",
                "reuse": _reuse(role),
                "consumers": consumers.get(policy, {}),
            }
        )

    def _tags(self, tags: Iterable[str]) -> list[str]:
        marks = (f"managed-by:{MANAGED_BY}/", f"adopted-by:{MANAGED_BY}/")
        return [tag for tag in tags if not tag.startswith(marks)]

    def _consumers(self) -> dict[str, dict[str, Any]]:
        """Return, by policy name, the consumers that hold it: method, name, settings."""
        known = {
            role_policy_name(mount.path, role)
            for mount in self._mounts
            for role in self._live.engines[mount.path].roles
        }
        found, self._direct = exported_logins(
            self._owner, self._access, known, self._is_ours, self.warn
        )
        return found

    def _is_ours(self, method: str) -> bool:
        found = self._access.login_methods[method]
        return not is_built_in(found) and self._is_made(found)

    def _is_made(self, found: LiveLoginMethod | LiveSecret) -> bool:
        """Whether the manifest made an object; if it is a new one: whether no manifest did."""
        return owner_of(self._owner, found) in self._made

    def _methods(self) -> dict[str, Any]:
        """Return our login methods."""
        methods = sorted(self._access.login_methods.values(), key=lambda one: one.name)
        ours = [one for one in methods if self._is_ours(one.name)]
        named = {
            one.name: _filled(
                {
                    "type": one.type if one.type != one.name else "",
                    "description": self._description(f"auth/{one.name}", one.description),
                    **self._configs.get(one.name, {}),
                    "users" if one.type == "userpass" else "roles": self._direct.get(one.name, {}),
                }
            )
            for one in ours
        }
        return _filled({"auth": named})

    def _policies(self) -> dict[str, Any]:
        texts = {
            name: {"text": unmarked(one.text)}
            for name, one in sorted(self._access.policies.items())
            if not name.startswith("skyflow.")  # the prefix of every generated policy
        }
        return _filled({"policies": texts})


def _reuse(role: LiveRole) -> dict[str, str]:
    if not role.reuse_min_ttl:
        return {}
    shared = {"per": role.reuse_per} if role.reuse_per == PER_ROLE else {}
    return {"min_ttl": span_text(role.reuse_min_ttl)} | shared


def _filled(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value not in ("", [], {}, None)}


def _plain(probe: str | Mapping[str, Any]) -> str | dict[str, Any]:
    return probe if isinstance(probe, str) else dict(probe)
