"""Plans an upgrade or a rollback, and proves before the first write what can be proved."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from skyflowctl.concurrency import Workers
from skyflowctl.errors import (
    InvalidInputError,
    Problem,
    RefusedError,
    UnhealthyError,
    UsageError,
)
from skyflowctl.frozen import dataclass
from skyflowctl.operations.mount_refs import MountRef, discover_mounts
from skyflowctl.operations.plugins import Registration, check_start
from skyflowctl.operations.upgrade.model import (
    UPGRADE_OPEN,
    UPGRADED_FROM,
    NodeRuns,
    PlannedUpgrade,
    UpgradePlan,
    UpgradeRequest,
)
from skyflowctl.operations.upgrade.nodes import UpgradeNode
from skyflowctl.text import listed
from skyflowctl.vault.errors import ForbiddenError, GuardedError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveMount
from skyflowctl.vault.permissions import Need, refuse_without_permission
from skyflowctl.vault.responses import CatalogEntry

SHARED = "--shared"


def plan_upgrade(
    gateway: Gateway,
    nodes: Sequence[UpgradeNode],
    request: UpgradeRequest,
    *,
    probe: bool = True,
    unwritten: Registration | None = None,
) -> UpgradePlan:
    """Return what is to be done; nothing of a mount is changed.

    Args:
        gateway: the server.
        nodes: its nodes, in the order of their turn.
        request: what is asked for.
        probe: whether requests that change nothing are sent as proofs: the leader starts each
            version that no node runs yet, and a tune shows whether a control group guards it.
        unwritten: an entry that a preview takes for registered; no node can be asked for its file.

    Raises:
        RefusedError: a version is not registered, its file is missing on a node, the leader
            cannot start it, a mount is not there, or has no version to roll back to, or a control
            group guards its tune.
        NotPermittedError: this login may not tune or reload.
        VaultError: the server or a node does not answer.
    """
    live = gateway.sys.mounts()
    catalog = _Catalog(gateway, request.plugin, _entries(unwritten))
    chosen, left_out = _chosen(gateway, request, live)
    refuse_upgrade([_not_ours(one, live.get(one.path), request.plugin) for one in chosen])
    needs = upgrade_needs(request.plugin, [one.path for one in chosen])
    doubts = refuse_without_permission(gateway, needs, "the upgrade")
    targets = {one.path: _target(live[one.path], request) for one in chosen}
    refuse_upgrade([_no_version_before(one) for one in chosen if not targets[one.path]])
    for version in sorted(set(targets.values()) - _entries(unwritten).keys()):
        _refuse_missing_files(nodes, catalog.required(version))
    wanted = {path: catalog.required(version) for path, version in targets.items()}
    with Workers(8) as pool:
        rows = pool.map(lambda one: _planned(one, live[one.path], wanted[one.path], nodes), chosen)
    planned = tuple(_with_rollback_target(row, live[row.mount.path], catalog) for row in rows)
    one_way = _one_way(nodes, planned)
    if not request.no_rollback:
        refuse_upgrade(one_way)
    unproved = _unproved(gateway, planned) if probe else _unproved_file(unwritten)
    return UpgradePlan(
        tuple(sorted(planned, key=lambda one: one.mount.path != request.canary)),
        tuple(one.name for one in nodes),
        (*doubts, *left_out, *unproved, *one_way),
        _at_risk(planned, live, catalog),
    )


def _chosen(
    gateway: Gateway, request: UpgradeRequest, live: Mapping[str, LiveMount]
) -> tuple[tuple[MountRef, ...], list[Problem]]:
    """Return the mounts, and a warning of those that are left out."""
    asked = request.mounts
    if asked is None:
        asked = discover_mounts(gateway, plugin_name=request.plugin, prefix=request.prefix)
    absent = [one for one in asked if one.path not in live] if request.absent_allowed else []
    chosen = tuple(one for one in asked if one not in absent)
    return chosen, [_left_out(absent)] if absent else []


def _unproved(gateway: Gateway, planned: Sequence[PlannedUpgrade]) -> list[Problem]:
    """Send the requests that change nothing, and return what they could not prove."""
    return [*_refuse_guarded(gateway, planned), *_unproved_start(gateway, planned)]


def _entries(unwritten: Registration | None) -> dict[str, CatalogEntry | None]:
    if unwritten is None:
        return {}
    name, version, args = unwritten.name, unwritten.version, unwritten.args
    entry = CatalogEntry(name, version, False, unwritten.sha256, unwritten.command, args)
    return {version: entry}


@dataclass(slots=True)
class _Catalog:
    """The entries of one plugin, each read once."""

    gateway: Gateway
    plugin: str
    entries: dict[str, CatalogEntry | None]

    def find(self, version: str) -> CatalogEntry | None:
        if version and version not in self.entries:
            self.entries[version] = self.gateway.sys.catalog.read(self.plugin, version)
        return self.entries.get(version)

    def required(self, version: str) -> CatalogEntry:
        entry = self.find(version)
        if entry is None:
            raise RefusedError(
                f"the server's catalog has no {self.plugin} {version}",
                why="each node starts the file that the catalog names for the version",
                fix=f"build {version} into the plugin directory of every node, then: skyflowctl "
                "plugin register PLUGIN_DIRECTORY/FILE",
                code="plugin-not-registered",
            )
        return entry


def refuse_upgrade(problems: Sequence[Problem | None]) -> None:
    """Raise a refusal if there is a problem."""
    found = [one for one in problems if one is not None]
    if found:
        raise RefusedError.of(found)


def _not_ours(mount: MountRef, live: LiveMount | None, plugin: str) -> Problem | None:
    if live is None:
        return Problem(
            "not-mounted",
            f"nothing is mounted at {mount.path}",
            "an upgrade changes mounts that are there",
            "name only mounts that 'skyflowctl mount list' shows, or create it with "
            "'skyflowctl apply'",
        )
    if live.type == plugin:
        return None
    return Problem(
        "other-engine",
        f"{mount.path} is of type {live.type}, not {plugin}",
        f"only mounts of {plugin} run its versions",
        "leave it out",
    )


def _left_out(absent: Sequence[MountRef]) -> Problem:
    return Problem(
        "not-mounted",
        f"left out, because nothing is mounted there: {', '.join(one.path for one in absent)}",
        "the manifest declares it, and it was not applied yet",
        "'skyflowctl apply' creates it with the manifest's version",
    )


def upgrade_needs(plugin: str, paths: Iterable[str]) -> Iterator[Need]:
    """Yield what a login needs to upgrade mounts, the questions to the nodes included.

    A write to the catalog, by which the start of a version is proved, is not needed: without it
    the upgrade warns (``start-not-proved``).
    """
    yield "sys/ha-status", "read"
    yield f"sys/plugins/catalog/secret/{plugin}", "read"
    yield "sys/plugins/reload/backend", "update"
    for path in paths:
        yield f"sys/mounts/{path}", "read"
        yield f"sys/mounts/{path}/tune", "update"
        yield f"{path}/config", "read"  # its answer is the proof that the plugin runs


def _refuse_guarded(gateway: Gateway, planned: Sequence[PlannedUpgrade]) -> list[Problem]:
    """Refuse a write that would wait for an approval; return what is not known about guards.

    A parked tune would leave the mount half upgraded: what follows it proves what it did.
    """
    paths = [f"sys/mounts/{one.mount.path}/tune" for one in planned if not one.unchanged]
    if not paths:
        return []
    unknown, guarded = [], []
    for path in [*paths, "sys/plugins/reload/backend"]:
        try:
            doubt = gateway.transport.refuse_guarded("POST", path)
        except GuardedError:
            guarded.append(path)
            continue
        except ForbiddenError:
            continue  # an administrator may allow the single parameters that an upgrade sends
        if doubt:
            unknown.append(replace(doubt, fix=f"have {path} allow the parameter of the probe"))
    refuse_upgrade([_guarded(guarded)] if guarded else [])
    return unknown


def _guarded(paths: Sequence[str]) -> Problem:
    return Problem(
        "approval-needed",
        f"a control group guards what the upgrade writes: {listed(paths)}",
        "each write is verified before the next one, so none can wait for an approval; nothing "
        "was written",
        "run 'skyflowctl plugin upgrade' with a login whose policy has no control group there",
    )


def _target(live: LiveMount, request: UpgradeRequest) -> str:
    return request.version or live.options.get(UPGRADED_FROM, "")


def _no_version_before(mount: MountRef) -> Problem:
    return Problem(
        "no-version-before",
        f"it is not known which version {mount.path} ran before",
        f"an upgrade records it as the mount's option {UPGRADED_FROM}, and this mount has none",
        "name a version of 'skyflowctl plugin list' with --to",
    )


def _with_rollback_target(
    planned: PlannedUpgrade, live: LiveMount, catalog: _Catalog
) -> PlannedUpgrade:
    before = _before(live, planned)
    if not before and planned.running:
        return replace(planned, before=planned.entry.version)
    return replace(planned, before=before, rollback_target=catalog.find(before))


def _before(live: LiveMount, planned: PlannedUpgrade) -> str:
    """Return the version to roll back to: the mount's, or of a run that was killed its record."""
    now = live.plugin_version or live.running_plugin_version
    if now != planned.entry.version:
        return now
    recorded = live.options.get(UPGRADED_FROM, "")
    if recorded not in ("", now):
        return recorded
    return next((one.version for one in planned.nodes if one.version not in ("", now)), "")


def _planned(
    mount: MountRef, live: LiveMount, entry: CatalogEntry, nodes: Sequence[UpgradeNode]
) -> PlannedUpgrade:
    runs: tuple[NodeRuns, ...] = tuple(node.now_runs(mount.path) for node in nodes)
    is_open = bool(live.options.get(UPGRADE_OPEN))
    return PlannedUpgrade(
        mount, "", None, entry, live.plugin_version == entry.version, is_open, runs
    )


def _nodes_without(nodes: Sequence[UpgradeNode], entry: CatalogEntry) -> list[UpgradeNode]:
    """Return the nodes that lack the file of an entry."""
    with Workers(8) as pool:
        lacks = pool.map(lambda node: node.lacks_file(entry), nodes)
    return [node for node, is_missing in zip(nodes, lacks, strict=True) if is_missing]


def _refuse_missing_files(nodes: Sequence[UpgradeNode], entry: CatalogEntry) -> None:
    command = entry.command or "its file"
    refuse_upgrade(
        [
            Problem(
                "plugin-file-missing",
                f"{command} of {entry.name} {entry.version} is not on {node.name or 'the server'}",
                "a mount that is reloaded there would answer 404 until the file is there",
                "copy it into that node's plugin_directory, with the folder that it was built "
                "from; 'skyflowctl plugin list --directory PLUGIN_DIRECTORY' checks it there",
            )
            for node in _nodes_without(nodes, entry)
        ]
    )


def _unproved_start(gateway: Gateway, planned: Sequence[PlannedUpgrade]) -> list[Problem]:
    """Have the leader start each version that no node runs yet; return why it was not asked.

    Raises:
        RefusedError: the leader cannot start it.
    """
    running = {one.version for row in planned for one in row.nodes if one.runs(row.entry)}
    unproved = []
    for version, entry in {one.entry.version: one.entry for one in planned}.items():
        if version in running:
            continue
        wanted = Registration(entry.name, version, entry.command, entry.sha256, entry.args)
        try:
            gateway.transport.refuse_guarded("POST", f"sys/plugins/catalog/secret/{entry.name}")
            check_start(gateway, wanted)
        except (GuardedError, ForbiddenError) as error:
            unproved.append(_start_unproved(version, error.problems[0].why))
        except (UnhealthyError, InvalidInputError, UsageError) as error:
            raise RefusedError.of(error.problems) from error
    return unproved


def _start_unproved(version: str, why: str) -> Problem:
    return Problem(
        "start-not-proved",
        f"it is not verified before the first reload that {version} starts",
        why or "this login may not write the catalog, where a proof leaves nothing",
        "if it does not start, its first mount goes back to the version before",
    )


def _unproved_file(unwritten: Registration | None) -> list[Problem]:
    if unwritten is None:
        return []
    return [
        Problem(
            "start-not-proved",
            f"it is not known whether the nodes have {unwritten.command}, and whether it starts",
            f"a preview does not register {unwritten.version}, so no node can be asked",
            "without --dry-run, the upgrade is refused before its first reload if one lacks it",
        )
    ]


def _one_way(nodes: Sequence[UpgradeNode], planned: Sequence[PlannedUpgrade]) -> list[Problem]:
    """Name the mounts that could not go back; one that runs the version needs no reload."""
    turns = [one for one in planned if not one.running]
    kept = {
        one.rollback_target.version: one.rollback_target for one in turns if one.rollback_target
    }
    usable = {version for version, entry in kept.items() if not _nodes_without(nodes, entry)}
    missing = [
        f"{one.mount.path} ({one.before or 'unknown'})"
        for one in turns
        if one.rollback_target is None or one.rollback_target.version not in usable
    ]
    if not missing:
        return []
    return [
        Problem(
            "no-version-before",
            f"there is no version to roll back to: {listed(missing)}",
            "it is not known, not in the catalog any more, or a node lacks its file",
            "register it again first; or 'skyflowctl plugin upgrade --no-rollback': a mount that "
            "fails then stays down",
        )
    ]


def _at_risk(
    planned: Sequence[PlannedUpgrade], live: Mapping[str, LiveMount], catalog: _Catalog
) -> tuple[str, ...]:
    """Return the mounts whose process a reload ends though it serves another mount.

    A shared process serves all mounts that run one version.
    """
    changed = {one.mount.path for one in planned if not one.unchanged}
    shared = set()
    for path in changed:
        entry = catalog.find(live[path].running_plugin_version)
        if entry is not None and SHARED in entry.args:
            shared.add(entry.version)
    return tuple(
        path
        for path, one in sorted(live.items())
        if one.type == catalog.plugin and one.running_plugin_version in shared
    )
