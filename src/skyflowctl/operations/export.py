"""``export``: the manifest of what is live, without any secret."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skyflowctl.clock import span_text
from skyflowctl.engine.names import SIGN_MAX_TTL, is_name
from skyflowctl.errors import Problem
from skyflowctl.manifest.access import role_policy_name
from skyflowctl.manifest.discover import DEFAULT_PREFIX
from skyflowctl.manifest.messages import looks_like_credential
from skyflowctl.manifest.model import SECRET_VERSION
from skyflowctl.manifest.write import manifest_text
from skyflowctl.operations.exported_choice import (
    marked,
    mounts_to_export,
    nothing,
    recorded_id,
    refuse_unread,
)
from skyflowctl.operations.exported_engines import (
    exported_engine,
    exported_groups,
    exported_namespaces,
    exported_quotas,
    unread_logins,
)
from skyflowctl.operations.exported_logins import (
    NotExpressibleError,
    exported_config,
    exported_login,
)
from skyflowctl.operations.exported_names import common_prefix, mount_names
from skyflowctl.operations.exported_objects import (
    ObjectReader,
    with_authorities,
)
from skyflowctl.operations.exported_valid import valid_parts
from skyflowctl.planner.access import ADOPTED_POLICY, owner_of
from skyflowctl.planner.desired import OWNER_POLICY
from skyflowctl.planner.fields import MANAGED_BY, mount_is_protected
from skyflowctl.planner.objects import noted_version
from skyflowctl.text import listed
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import (
    LiveAccess,
    LiveEngine,
    LiveMount,
    LiveRole,
    LiveState,
    login_role_parts,
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
) -> Exported:
    """Return the manifest of live mounts, and of what else it made on the server.

    Args:
        gateway: the server.
        paths: the mounts; empty: every mount of the plugin.
        plugin: the mount type.
        manifest_id: the manifest's id; empty: the one that the mounts record or, without a mount,
            the engines and login methods.
        parallelism: how many requests run at once.

    Raises:
        UsageError: there is no such mount, nothing to write, or not one id.
        RefusedError: a mount, or a policy that belongs to the manifest, cannot be read.
    """
    everything = gateway.sys.mounts()
    chosen = mounts_to_export(everything, paths, plugin)
    others = [one for _, one in sorted(everything.items()) if one.type != plugin]
    owner = manifest_id or recorded_id(chosen or marked(gateway, others, plugin))
    live = gateway.read_live_state([one.path for one in chosen], plugin, parallelism=parallelism)
    refuse_unread(live.problems.values())
    access = gateway.sys.access.read_marked(lambda one: owner_of(owner, one) is None, parallelism)
    made = _Export(owner, plugin, chosen, live, access)
    refuse_unread(unread_logins(access.unread, made.warn))
    reader = ObjectReader(gateway.sys.access, parallelism, made.warn)
    made.add_engines(gateway, [one for one in others if owner_of(owner, one) is None], reader)
    made.add_configs(reader)
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

    def add_engines(
        self, gateway: Gateway, engines: Iterable[LiveMount], reader: ObjectReader
    ) -> None:
        """Add engines that are no mounts of ours, with their objects."""
        for one in engines:
            description = self._description(one.path, one.description)
            if written := exported_engine(gateway, self._owner, one, description, reader):
                self._engines[one.path] = written
        with_authorities(self._engines, reader)

    def add_configs(self, reader: ObjectReader) -> None:
        """Add the configurations of our login methods; one request for each type that has one."""
        for one in self._access.login_methods.values():
            if self._is_ours(one.name) and one.type in {"jwt", "kubernetes", "oidc"}:
                path = f"auth/{one.name}/config"
                version = noted_version(one.options, f"{SECRET_VERSION}config")
                try:
                    found = exported_config(one.type, reader.one(path), version)
                except NotExpressibleError as error:
                    fix = "copy its section from the manifest that made it"
                    self.warn(path, "was left out", str(error), fix)
                else:
                    self._configs[one.name] = found

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
                "quotas": exported_quotas(self._owner, self._access),
                "namespaces": exported_namespaces(self._access),
            }
        )
        if not (mounts or added):
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
        found: dict[str, dict[str, Any]] = {}
        marks = {f"{OWNER_POLICY}{self._owner}", f"{ADOPTED_POLICY}{self._owner}"}
        for path, settings in sorted(self._access.login_roles.items()):
            method, name = login_role_parts(path)
            policies = [one for one in settings.get("token_policies") or () if one not in marks]
            if policies and not any(one.startswith("skyflow.") for one in policies):
                if login := self._login(path, method, settings, direct=True):
                    of_method = self._direct.setdefault(method, {})
                    of_method[name] = {"policies": policies, **login[0]}
                continue
            if not policies or set(policies) - known:
                self.warn(
                    path,
                    "was left out",
                    "its policies are not those of exported roles",
                    "export all mounts of the manifest, or declare it by hand",
                )
                continue
            if login := self._login(path, method, settings):
                for policy in policies:
                    found.setdefault(policy, {}).setdefault(method, {})[name] = login[0]
        return found

    def _login(
        self, path: str, method: str, settings: Mapping[str, Any], *, direct: bool = False
    ) -> tuple[dict[str, Any]] | None:
        """Return a login as a manifest writes it, or None if it is left out."""
        kind = self._access.login_methods[method].type
        try:
            if (direct or method != kind) and not self._is_ours(method):
                raise NotExpressibleError("the manifest did not make its login method")
            return (exported_login(kind, settings),)
        except NotExpressibleError as error:
            self.warn(path, "was left out", str(error), "declare it by hand")
            return None

    def _is_ours(self, method: str) -> bool:
        return owner_of(self._owner, self._access.login_methods[method]) is None

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
            name: {"text": one.text.lstrip().partition("\n")[2]}
            for name, one in sorted(self._access.policies.items())
            if not name.startswith("skyflow.")  # the prefix of every generated policy
        }
        return _filled({"policies": texts})


def _filled(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value not in ("", [], {}, None)}


def _plain(probe: str | Mapping[str, Any]) -> str | dict[str, Any]:
    return probe if isinstance(probe, str) else dict(probe)
