"""``plan``: reads the server and the credentials, and compares. Writes nothing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from skyflowctl.credentials.model import CredentialId, CredentialSource
from skyflowctl.errors import InvalidInputError, Problem, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.messages import did_you_mean
from skyflowctl.manifest.model import Manifest, Mount, Plugin
from skyflowctl.operations.plugins_needed import check_plugins
from skyflowctl.operations.resolve_credentials import (
    ResolvedIdentities,
    resolve_identities,
    with_unresolved_secrets,
)
from skyflowctl.planner.desired import access_needed, desired_access
from skyflowctl.planner.diff import (
    chosen_mounts,
    make_plan,
    mounts_to_ask_history,
    mounts_to_search,
)
from skyflowctl.planner.messages import audited_headers_unwritable, drift_title
from skyflowctl.planner.moves import as_moved, former_paths
from skyflowctl.planner.plan import (
    ActionType,
    Drift,
    DriftKind,
    ObjectKind,
    Plan,
    PlanOptions,
    own_path,
)
from skyflowctl.planner.prune import mounts_to_destroy
from skyflowctl.planner.prune_access import engines_to_search
from skyflowctl.planner.prune_namespaces import namespaces_named
from skyflowctl.text import name_one_of
from skyflowctl.vault.errors import ForbiddenError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveState
from skyflowctl.vault.permissions import missing_permissions


@dataclass(frozen=True, slots=True)
class PlanResult:
    """A plan and its inputs, without any credential.

    Args:
        manifest: the desired state.
        live: the state of the server, with declared moves made; ``LiveMount.path`` of a mount
            that is still to be moved is where it is.
        plan: the actions from the live to the desired state.
        identities: each mount's desired credential; None: not resolved.
        options: the caller's other options.
        impact: who is affected, as JSON; None: it was not asked for, or nobody is.
    """

    manifest: Manifest
    live: LiveState
    plan: Plan
    identities: Mapping[str, CredentialId | None]
    options: PlanOptions = field(default_factory=PlanOptions)
    impact: Mapping[str, Any] | None = None

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """The mounts in the plan."""
        return chosen_mounts(self.manifest, self.options)

    @property
    def skipped(self) -> tuple[Problem, ...]:
        """Why an apply skips whole mounts and secrets."""
        return tuple(_skipped(one) for one in self.plan.skipped)

    @property
    def refused(self) -> tuple[Problem, ...]:
        """Why an apply refuses the whole plan; empty: it does not.

        One problem for each object that this manifest may not change or, if every mount would be
        skipped, for each of those mounts.
        """
        plan = self.plan
        left = (*plan.left_out, *plan.unadopted, *plan.unmoved, *plan.prune_refused)
        mounts = [one for one in plan.skipped if one.mount]
        if not left and len(mounts) == len(self.mounts):
            return tuple(_skipped(one) for one in mounts)
        return left


def _skipped(drift: Drift) -> Problem:
    title = drift_title(drift.kind, drift.path, drift.since, drift.by)
    if drift.kind is DriftKind.DELETED:
        return Problem("deleted-secret", f"skipped: {title}", drift.reason, drift.fix)
    return Problem(
        "cut-off-credential" if drift.kind is DriftKind.REVOKED else "moved-mount",
        f"{drift.mount} is skipped: {title}",
        drift.reason or "no apply ends a cut-off unasked",
        drift.fix,
    )


def plan(
    manifest: Manifest,
    gateway: Gateway,
    credentials: CredentialSource,
    options: PlanOptions | None = None,
    *,
    parallelism: int = 10,
    live: LiveState | None = None,
) -> PlanResult:
    """Return the plan of an apply, in 2 + 2N requests; a list of policies, one of login methods,
    one request for each login role and two for each secret are added if the manifest has them.

    A mount whose live key is not the manifest's, or that was cut off, needs one more, for its
    history; missing audited headers need one, for this login's rights. If a mount is absent,
    undeclared mounts are read as well.

    Args:
        manifest: the desired state.
        gateway: the server.
        credentials: identifies each mount's credential.
        options: the caller's other options.
        parallelism: how many requests run at once.
        live: what was just read of the server; read again if it lacks one of these mounts.

    Raises:
        InvalidInputError: every mount of the plan has an invalid credential; if only some have one,
            the plan holds a warning.
        UsageError: ``options`` names a mount or key that the manifest lacks.
        VaultError: the server as a whole cannot be read.
    """
    options = options or PlanOptions()
    _check_names(manifest, options)
    _check_paths(manifest, options)
    mounts = chosen_mounts(manifest, options)
    live = _read_state(manifest, mounts, gateway, parallelism, live)
    live = with_access(live, manifest, gateway, options, parallelism)
    looked = resolve_identities(mounts, as_moved(manifest, live), credentials)
    _check_keys(options, looked)
    live = gateway.with_history(live, mounts_to_ask_history(manifest, live, looked.identities))
    further = (*mounts_to_search(manifest, live), *mounts_to_destroy(manifest, live, options))
    live = gateway.with_engines(live, tuple(dict.fromkeys(further)))
    made = make_plan(
        manifest, live, looked.identities, options, reasons=looked.reasons, invalid=looked.invalid
    )
    _check_registered(made, manifest, gateway, options)
    made = with_unresolved_secrets(_within_rights(made, gateway), credentials)
    return PlanResult(manifest, as_moved(manifest, live), made, looked.identities, options)


def _read_state(
    manifest: Manifest,
    mounts: Sequence[Mount],
    gateway: Gateway,
    parallelism: int,
    live: LiveState | None,
) -> LiveState:
    """Return the state of these mounts, wherever they are; ``live`` if it has them all.

    Raises:
        InvalidInputError: a mount would be moved to another namespace. One request more, only if
            a mount is to be moved.
    """
    former = former_paths(manifest)
    paths = [mount.path for mount in mounts]
    paths += [former[path] for path in paths if path in former]
    if live is None or not live.was_read(paths):
        live = gateway.read_live_state(paths, manifest.plugin.name, parallelism=parallelism)
    if as_moved(manifest, live) is not live:
        _check_namespaces(manifest, gateway.sys.namespaces())
    return live


def _check_namespaces(manifest: Manifest, namespaces: Collection[str]) -> None:
    """Refuse moves between namespaces: the server makes them and loses the engine's data."""
    crossing = [
        one
        for one in manifest.moved
        if _namespace(one.old, namespaces) != _namespace(one.new, namespaces)
    ]
    if crossing:
        raise InvalidInputError.of(
            Problem(
                "bad-move",
                f"{one.old} cannot be moved to {one.new}: that is another namespace",
                "the server would move the mount without its config and roles",
                "choose a path in the same namespace",
                one.where,
            )
            for one in crossing
        )


def _namespace(path: str, namespaces: Collection[str]) -> str:
    """Return the namespace that the server takes a path to be in; empty: that of the login."""
    return max((one for one in namespaces if path.startswith(f"{one}/")), key=len, default="")


def with_access(
    live: LiveState,
    manifest: Manifest,
    gateway: Gateway,
    options: PlanOptions,
    parallelism: int = 10,
) -> LiveState:
    """Return the state with the policies, login methods and login roles of the plan."""
    everything = options.prune is not None and options.only is None
    needed = access_needed(desired_access(manifest, options), everything=everything)
    if everything and options.prune:
        searched = engines_to_search(manifest, live.mounts, options.prune)
        named = namespaces_named(options.prune)
        needed = replace(needed, kv_engines=searched, namespaces=named)
    return replace(live, access=gateway.sys.access.read(needed, parallelism, live.mounts))


def _check_registered(
    made: Plan, manifest: Manifest, gateway: Gateway, options: PlanOptions
) -> None:
    """Refuse an engine that the server could not start, and types that it lacks; one request for
    each, only if needed.

    Raises:
        InvalidInputError: a mount would be enabled with, or moved to, an engine that is not in
            the catalog. If this login may not read the catalog, the server decides.
    """
    check_plugins(made, desired_access(manifest, options), gateway)
    plugin = manifest.plugin
    starts = (ActionType.CREATE, ActionType.PLUGIN_UPGRADE)
    new = any(one.kind is ObjectKind.MOUNT and one.action in starts for one in made.actions)
    if not new:
        return
    try:
        missing = _missing_plugin(plugin, gateway)
    except ForbiddenError:
        return
    if missing:
        raise InvalidInputError(
            missing,
            why="the manifest wants mounts to run it, and the server could not start it",
            fix="'skyflowctl plugin register PLUGIN_DIRECTORY/FILE', with the launcher that "
            "'skyflowctl plugin build PLUGIN_DIRECTORY' makes; "
            "'skyflowctl plugin list' shows what is there",
            code="plugin-not-registered",
        )


def _missing_plugin(plugin: Plugin, gateway: Gateway) -> str:
    """Return what the server's catalog lacks for new mounts; empty: nothing. One request."""
    if plugin.version is None:
        there = gateway.sys.catalog.names().get("secret", (plugin.name,))
        return "" if plugin.name in there else f"the server's catalog has no {plugin.name}"
    entry = gateway.sys.catalog.read(plugin.name, plugin.version)
    if entry is not None and not entry.file_missing:
        return ""
    at_all = " whose file is there" if entry else ""
    return f"the server's catalog has no {plugin.name} {plugin.version}{at_all}"


def _within_rights(made: Plan, gateway: Gateway) -> Plan:
    """Turn audited headers that this login may not write into a warning.

    All other features work without them, so their absence fails no apply. One request, only if the
    plan has such an action.
    """
    headers = [action for action in made.actions if action.kind is ObjectKind.AUDITED_HEADER]
    if not headers:
        return made
    if not missing_permissions(gateway.sys, ((action.path, "update") for action in headers)):
        return made
    return replace(
        made,
        actions=tuple(action for action in made.actions if action not in headers),
        warnings=(*made.warnings, audited_headers_unwritable()),
    )


def _check_names(manifest: Manifest, options: PlanOptions) -> None:
    known = {mount.name for mount in chosen_mounts(manifest, options)}
    unknown = sorted(options.replace_credential - known)
    if unknown:
        raise UsageError(
            f"--replace-credential names no mount of the plan: {', '.join(unknown)}",
            why="a credential is replaced only where the manifest says by which",
            fix=name_one_of(sorted(known)),
        )


def _check_paths(manifest: Manifest, options: PlanOptions) -> None:
    known = _declared_paths(manifest)
    unknown = sorted(options.adopt - known)
    if unknown:
        raise UsageError(
            f"--adopt names nothing that the manifest has: {', '.join(unknown)}",
            why="an object is taken over by its own path",
            fix=did_you_mean(unknown[0], known)
            or "take the paths from the messages of 'skyflowctl plan'",
            code="unknown-path",
        )
    former = former_paths(manifest)
    unknown = sorted(options.allow_move - {*former, *former.values()})
    if unknown:
        raise UsageError(
            f"--allow-move names no mount that the manifest moves: {', '.join(unknown)}",
            why="a mount is moved only if `moved` in the manifest has its former path",
            fix="take the path from the messages of 'skyflowctl plan'",
            code="unknown-path",
        )
    declared = {own_path(path) for path in known}
    named = options.prune.allow_destroy if options.prune else ()
    kept = sorted(path for path in named if own_path(path) in declared)
    if kept:
        raise UsageError(
            f"--allow-destroy names what the manifest declares: {', '.join(kept)}",
            why="a prune deletes only what the manifest no longer declares",
            fix="take it out of the manifest, or leave the flag out",
            code="declared-path",
        )


def _declared_paths(manifest: Manifest) -> set[str]:
    return {
        path
        for mount in manifest.mounts
        for path in (
            mount.path,
            f"{mount.path}/config",
            *(f"{mount.path}/roles/{role.name}" for role in mount.roles),
        )
    } | {one.name for one in desired_access(manifest, PlanOptions())}


def _check_keys(options: PlanOptions, looked: ResolvedIdentities) -> None:
    """Refuse unknown keys: a mistyped key would silently leave the mount cut off."""
    known = {one.key_id for one in looked.identities.values() if one}
    unknown = sorted(options.allow_revoked_key - known)
    if unknown:
        raise UsageError(
            f"--allow-revoked-key names no key of the plan: {', '.join(unknown)}",
            why="no credential of these mounts has that key id",
            fix="take the key id from: skyflowctl status -o json | jq .data.mounts[].revoked",
            code="unknown-key-id",
        )
