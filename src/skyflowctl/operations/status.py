"""``status``: each mount's engine, credential and health."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypedDict

from skyflowctl.clock import Clock, rfc3339_or_empty
from skyflowctl.errors import ExitCode, Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import RotationRule
from skyflowctl.operations.health import (
    STATES,
    HealthResult,
    MountHealth,
    health_now,
)
from skyflowctl.operations.list_plugins import (
    CatalogFile,
    FileState,
    file_problem,
    running_mounts,
    running_problems,
)
from skyflowctl.operations.mount_refs import MountRef, discover_mounts
from skyflowctl.operations.node_states import NodeStatus, node_problems
from skyflowctl.rotation.schedule import due_at, due_reason
from skyflowctl.vault.catalog import completed
from skyflowctl.vault.errors import AuditBlockedError, ServerUnreachableError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import EngineApi, LiveConfig, LiveMount, LiveRevocation, LiveState
from skyflowctl.vault.responses import CatalogEntry


@dataclass(frozen=True, slots=True)
class CredentialStatus:
    """A mount's live credential.

    Args:
        client_id: the service account.
        key_id: its key.
        version: the engine's credential version; 0 if it counts none.
        age_seconds: since it was made live; None: unknown.
        expires_at: RFC 3339, the end of the key's validity; empty: it has none.
        due: due by the manifest's rotation rule, counted from when the key itself became valid;
            False without a rule.
        due_at: RFC 3339, when it is or was first due; empty: no rule says so.
    """

    client_id: str
    key_id: str
    version: int
    age_seconds: int | None
    expires_at: str
    due: bool
    due_at: str = ""


@dataclass(frozen=True, slots=True)
class MountStatus:
    """One mount.

    Args:
        name: the manifest's name, else the path below the prefix.
        path: of the mount.
        engine_name: the mount's type; empty: nothing is mounted.
        engine_version: of the plugin that runs; empty: the server does not say.
        health: one of :data:`skyflowctl.operations.health.STATES`.
        api: what the engine can do; None: its config could not be read.
        roles: names of the roles it has.
        credential: its credential; None: it has none, or it cannot be read.
        revoked: its cut-off, while no new credential has ended it.
        problem: why its roles and credential could not be read; both are then unknown.
        catalog: what it runs, compared with the catalog: a ``RunningState``, ``file_missing`` (of
            the registered one), ``not_read``; empty: this engine is not mounted.
    """

    name: str
    path: str
    engine_name: str
    engine_version: str
    health: str
    api: EngineApi | None = None
    roles: tuple[str, ...] = ()
    credential: CredentialStatus | None = None
    revoked: LiveRevocation | None = None
    problem: Problem | None = None
    catalog: str = ""


@dataclass(frozen=True, slots=True)
class StatusResult:
    """Every mount, and whether all of them could be read.

    Args:
        mounts: all mounts.
        forbidden: this login could read no engine at all.
        warnings: the catalog was not read.
        faults: mounts that cannot start again as they run: a restart stops them.
        live: the state that was read of these mounts.
        nodes: the nodes of the server; empty: they were not asked for.
    """

    mounts: tuple[MountStatus, ...]
    forbidden: bool = False
    warnings: tuple[Problem, ...] = ()
    faults: tuple[Problem, ...] = ()
    live: LiveState | None = None
    nodes: tuple[NodeStatus, ...] = ()

    @property
    def unread(self) -> tuple[Problem, ...]:
        """Why mounts could not be read."""
        return tuple(one.problem for one in self.mounts if one.problem)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The mounts that could not be read or would not start again, and nodes in trouble."""
        told = (*self.unread, *self.faults)
        return (*told, *node_problems(self.nodes, told))

    @property
    def exit_code(self) -> ExitCode:
        """4 if this login may read no mount, 3 if one was not read, 6 on a fault, else 0."""
        if self.forbidden:
            return ExitCode.NOT_PERMITTED
        if self.unread:
            return ExitCode.PARTIAL
        return ExitCode.UNHEALTHY if self.problems else ExitCode.OK


def status(
    gateway: Gateway,
    mounts: Sequence[MountRef] | None,
    *,
    clock: Clock,
    plugin_name: str = "skyflow",
    prefix: str = "skyflow",
    parallelism: int = 8,
    deadline: float | None = None,
    refresh: bool = True,
    look: Callable[[], HealthResult] | None = None,
) -> StatusResult:
    """Return the status of each mount, in 3 + 3N requests and one for each version.

    A mount that does not answer for its health is not asked again: it is unreachable, and the other
    mounts are read all the same.

    Args:
        gateway: the server.
        mounts: which mounts; None: all of ``plugin_name`` that the server has.
        clock: the time for ages and due dates.
        plugin_name: the mount type of this engine.
        prefix: left out of the names of mounts found on the server.
        parallelism: how many requests run at once.
        deadline: seconds that one mount may take to answer for its health, as in ``health``; None:
            the gateway's own limit.
        refresh: as in ``health``.
        look: asks every node for the health of these mounts; None: only the gateway is asked.

    Raises:
        VaultError: the server as a whole cannot be read.
    """
    looked = look() if look else HealthResult(())
    _refuse_silent(looked.nodes)
    if mounts is None:
        mounts = discover_mounts(gateway, plugin_name=plugin_name, prefix=prefix)
    paths = [mount.path for mount in mounts]
    limits: _Limits = {"parallelism": parallelism, "deadline": deadline, "refresh": refresh}
    rows = _worst_of_nodes(looked, mounts) if look else health_now(gateway, mounts, **limits)
    answering = [row.path for row in rows if row.state != "unreachable"]
    live = gateway.read_live_state(answering, plugin_name, parallelism=parallelism)
    running = [live.mounts[path] for path in paths if path in live.mounts]
    checks = _against_catalog(gateway, plugin_name, running)
    now = clock.now()
    read = (_one(*pair, live, plugin_name, now) for pair in zip(mounts, rows, strict=True))
    found = tuple(replace(one, catalog=checks.states.get(one.path, "")) for one in read)
    forbidden = live.all_forbidden and len(answering) == len(rows)
    return StatusResult(found, forbidden, checks.warnings, checks.faults, live, looked.nodes)


class _Limits(TypedDict):
    """How many mounts are asked at once, how long, and whether a cached answer will do."""

    parallelism: int
    deadline: float | None
    refresh: bool


def _refuse_silent(nodes: Sequence[NodeStatus]) -> None:
    """Raise an error if no node serves: every further read would wait for its whole time."""
    asked = [one for one in nodes if one.state != "not_asked"]
    if not asked or any(one.error is None for one in asked):
        return
    for one in asked:
        if one.state == "audit_blocked":
            summary = "the server's audit devices stop every request"
            raise AuditBlockedError(summary, why=one.detail, fix=one.fix)
    if len(asked) == 1 and asked[0].error is not None:
        raise asked[0].error
    problems = node_problems(asked)
    raise ServerUnreachableError(
        f"no node serves requests: {', '.join(one.node for one in asked)}",
        why="; ".join(one.why for one in problems),
        fix="'skyflowctl health' shows the state of each node",
    )


_NOT_SEEN = "no node named this mount when the nodes were asked for their health"


def _worst_of_nodes(found: HealthResult, mounts: Sequence[MountRef]) -> list[MountHealth]:
    """Return the health of each mount, the worst of those nodes that serve requests."""
    silent = {one.node for one in found.nodes if one.state in {"unreachable", "sealed"}}
    rows = []
    for mount in mounts:
        every = [row for row in found.mounts if row.path == mount.path]
        served = [row for row in every if row.node not in silent]
        # The server may have been silent in the look, and answer now.
        unseen = [MountHealth(mount.name, mount.path, "unreachable", None, _NOT_SEEN)]
        rows.append(max(served or every or unseen, key=lambda row: STATES.index(row.state)))
    return rows


@dataclass(frozen=True, slots=True)
class _CatalogChecks:
    """What mounts run, compared with the catalog: a state by path, and the problems."""

    states: Mapping[str, str]
    faults: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def _against_catalog(
    gateway: Gateway, plugin_name: str, mounts: Sequence[LiveMount]
) -> _CatalogChecks:
    """Compare, in one request and one for each version that runs."""
    ours = [one for one in mounts if one.type == plugin_name]
    if not ours:
        return _CatalogChecks({})
    versions = {one.running_plugin_version for one in ours}
    try:
        entries = gateway.sys.catalog.list()
        used = [one for one in entries if one.name == plugin_name and one.version in versions]
    except VaultError as error:
        return _CatalogChecks({one.path: "not_read" for one in ours}, (), (_not_read(error),))
    read, warnings = _with_files(gateway, used)
    running = running_mounts(ours, plugin_name, entries)
    gone = {one.version for one in read if one.file_missing}
    states = {
        one.path: "file_missing" if not one.fault and one.version in gone else str(one.state)
        for one in running
    }
    files = [CatalogFile(one, FileState.MISSING) for one in read if one.file_missing]
    return _CatalogChecks(states, (*running_problems(running), *map(file_problem, files)), warnings)


def _with_files(
    gateway: Gateway, entries: Sequence[CatalogEntry]
) -> tuple[Sequence[CatalogEntry], tuple[Problem, ...]]:
    """Return entries with the state of their files, or a warning if none may be read."""
    try:
        return [completed(gateway.sys.catalog, one) for one in entries], ()
    except VaultError as error:
        summary = "whether the registered files are there could not be read"
        fix = "give this login read and sudo on sys/plugins/catalog/secret/*"
        return (), (Problem("catalog-not-read", summary, error.problems[0].summary, fix),)


def _not_read(error: VaultError) -> Problem:
    return Problem(
        "catalog-not-read",
        "the plugin catalog could not be read: what runs is not compared with it",
        error.problems[0].summary,
        "give this login read on sys/plugins/catalog",
    )


def _one(
    mount: MountRef, row: MountHealth, live: LiveState, plugin_name: str, now: datetime
) -> MountStatus:
    there = live.mounts.get(mount.path)
    if there is None or there.type != plugin_name:
        kind = there.type if there else ""
        return MountStatus(mount.name, mount.path, kind, "", "not_mounted")
    engine = live.engines.get(mount.path)
    return MountStatus(
        name=mount.name,
        path=mount.path,
        engine_name=there.type,
        engine_version=there.running_plugin_version,
        health=row.state,
        api=engine.config.api if engine else None,
        roles=tuple(sorted(engine.roles)) if engine else (),
        credential=_credential(engine.config, mount.rotation, now) if engine else None,
        revoked=engine.config.revoked if engine else None,
        problem=_silent(row) if row.state == "unreachable" else live.problems.get(mount.path),
    )


def _silent(row: MountHealth) -> Problem:
    return Problem(
        "unreachable",
        f"{row.path} does not answer: its roles and its key are not known",
        row.detail,
        row.fix or "'skyflowctl health' says what helps",
    )


def _credential(config: LiveConfig, rule: RotationRule, now: datetime) -> CredentialStatus | None:
    if not config.configured:
        return None
    since = config.credential_updated
    age = now - since if since else None
    return CredentialStatus(
        client_id=config.client_id,
        key_id=config.key_id,
        version=config.credential_version,
        age_seconds=int(age.total_seconds()) if age is not None else None,
        expires_at=rfc3339_or_empty(config.key_valid_before),
        due=bool(due_reason(rule, config, now)),
        due_at=rfc3339_or_empty(due_at(rule, config)),
    )
