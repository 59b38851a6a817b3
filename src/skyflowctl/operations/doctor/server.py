"""The checks of a server: its nodes, this login, the engine, the audit trail, and old keys."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from skyflowctl.clock import Clock, rfc3339
from skyflowctl.concurrency import Workers
from skyflowctl.doctor.model import (
    Diagnosis,
    DoctorCheck,
    Grade,
    findings_of,
    of_problem,
    ok_finding,
)
from skyflowctl.errors import Problem, SkyflowctlError
from skyflowctl.operations.blocked_audit import AuditSuspects
from skyflowctl.operations.doctor.nodes import PLUGIN, node_findings, other_files
from skyflowctl.operations.doctor.refusals import allow, allowing, naming_commands, with_command
from skyflowctl.operations.health import health_now
from skyflowctl.operations.list_plugins import PluginList, list_plugins, running_mounts
from skyflowctl.operations.mount_refs import MountRef, mounts_of_type
from skyflowctl.operations.node_states import (
    NodeStatus,
    every_node,
    node_problems,
    plugins_on_nodes,
)
from skyflowctl.posture.checks.audit_devices import check_audit_devices, check_audited_headers
from skyflowctl.posture.collect.reads import or_not_read, read_audit_devices
from skyflowctl.posture.facts import Facts, NotRead, Server
from skyflowctl.posture.model import Finding, Severity
from skyflowctl.rotation.retirement_plan import retirable_keys
from skyflowctl.rotation.schedule import due_reason
from skyflowctl.text import counted, listed
from skyflowctl.vault.control_groups import REQUEST, has_control_groups
from skyflowctl.vault.errors import ForbiddenError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveMount
from skyflowctl.vault.login_api import LOOK_UP, look_up
from skyflowctl.vault.permissions import missing_permissions
from skyflowctl.vault.server_state import ServerState
from skyflowctl.vault.waits import within

LOGIN, PERMISSIONS, SERVER = "login", "permissions", "server"
ENGINE, AUDIT, KEYS = "engine", "audit", "keys"
IDEMPOTENCE = "idempotence"
SCRATCH_MANIFEST = "skyflowctl-doctor"
"""The manifest that the scratch mount of ``--idempotence`` names as its maker."""
_SECONDS = 10.0
_SOON_SECONDS = 3600
_MAKE_MOUNTS = "skyflowctl apply"
_HEADERS = "sys/config/auditing/request-headers"
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "sys/mounts": ("read",),
    "sys/ha-status": ("read",),
    "sys/plugins/catalog": ("read",),
    _HEADERS: ("read",),
    "sys/audit": ("read",),
}
"""What ``plan``, ``status``, ``health`` and this command read of the server itself."""
_OF_A_MOUNT: Mapping[str, tuple[str, ...]] = {
    "config": ("read",),
    "roles": ("list",),
    "health": ("read",),
}


@dataclass(slots=True)
class ServerChecks:
    """The checks of one server.

    Args:
        gateway: the server.
        suspects: what is known about its audit devices.
        declared: the manifest's mounts; None: all of the plugin's type.
        plugin_name: the mount type of this engine.
        prefix: left out of the names of mounts that no manifest names.
        clock: this machine's.
        refuse_other: raises a RefusedError if the manifest is for other servers.
        serves: whether a node serves requests; known after ``nodes``.
    """

    gateway: Gateway
    suspects: AuditSuspects
    declared: Sequence[MountRef] | None
    plugin_name: str
    prefix: str
    clock: Clock
    refuse_other: Callable[[], None]
    serves: bool = field(default=False, init=False)
    _nodes: tuple[NodeStatus, ...] = field(default=(), init=False)
    _live: Mapping[str, LiveMount] | VaultError = field(default_factory=dict, init=False)

    def nodes(self) -> Iterator[Diagnosis]:
        """Yield the state and the clock of each node; afterwards ``serves`` is known."""
        self._nodes = every_node(self.gateway, (), self.suspects, _SECONDS, self.clock)
        served = {"active", "standby", "standby_forwards", "standby_without_leader"}
        self.serves = any(one.state in served for one in self._nodes)
        for one in self._nodes:
            yield from map(with_command, node_findings(one))

    def checks(self) -> dict[str, DoctorCheck]:
        """Read the mounts, and return the further checks, each within ten seconds."""
        try:
            with within(_SECONDS), naming_commands(self.gateway):
                self._live = self.gateway.sys.mounts()
        except VaultError as error:
            self._live = error
        every: dict[str, tuple[DoctorCheck, ...]] = {
            SERVER: (self._server, lambda: [_control_groups(self.gateway)]),
            LOGIN: (self._login,),
            PERMISSIONS: (self._permissions,),
            PLUGIN: (self._plugin,),
            ENGINE: (self._mounts_there, self._engines),
            AUDIT: (self._audit,),
            KEYS: (self._keys,),
        }
        return {name: partial(self._in_time, name, parts) for name, parts in every.items()}

    def _in_time(self, name: str, parts: Sequence[DoctorCheck]) -> list[Diagnosis]:
        """Return what the parts of a check find; one that fails does not end the others."""

        def found(part: DoctorCheck) -> Iterator[Diagnosis]:
            with naming_commands(self.gateway):
                yield from part()

        with within(_SECONDS):
            every = [one for part in parts for one in findings_of(name, partial(found, part))]
        return list(dict.fromkeys(every))  # several parts may fail with the same error

    def _live_mounts(self) -> Mapping[str, LiveMount]:
        """Return the server's mounts, as they were read for all checks.

        Raises:
            VaultError: they could not be read.
        """
        if isinstance(self._live, VaultError):
            raise self._live
        return self._live

    def _mounts(self) -> Sequence[MountRef]:
        """Return the manifest's mounts that are there, else all of the plugin's type.

        All of the manifest's if this login may not list the mounts: each can be asked.
        """
        if isinstance(self._live, ForbiddenError) and self._live.by_policy and self.declared:
            return self.declared
        live = self._live_mounts()
        found = mounts_of_type(live, plugin_name=self.plugin_name, prefix=self.prefix)
        if self.declared is None:
            return found
        paths = {one.path for one in found}
        return [one for one in self.declared if one.path in paths]

    def _server(self) -> Iterator[Diagnosis]:
        health = self.gateway.sys.health()
        index = bool(self.gateway.transport.newest_index)
        yield ok_finding(SERVER, f"version {health.version}, cluster {health.cluster_id}")
        if index:
            yield ok_finding(SERVER, "reads through a standby are consistent (X-Vault-Index)")
        elif health.state is ServerState.ACTIVE and len(self.gateway.sys.nodes()) < 2:
            yield ok_finding(SERVER, "it is one node, so no read is older than a write before it")
        else:
            why = "it sends no X-Vault-Index (OpenBao from 2.7 on does)"
            summary = "reads through a standby may be older than a write before them"
            fix = "name the active node first: export BAO_ADDR=https://ACTIVE:8200"
            yield Diagnosis(SERVER, Grade.WARNING, summary, why, fix)

    def _login(self) -> Iterator[Diagnosis]:
        try:
            with naming_commands(self.gateway):
                own = look_up(self.gateway.transport)
        except ForbiddenError as error:
            if not error.by_policy:
                yield of_problem(LOGIN, Grade.BAD, error.problems[0])
                return
            summary = "this login is valid, and may not look itself up"
            why = "so its policies and its end are not known"
            fix = allow(self.gateway, LOOK_UP, ("read",))
            yield Diagnosis(LOGIN, Grade.UNKNOWN, summary, why, fix)
            return
        names = listed(sorted(own.policies))
        text = f"{own.user or 'a token'} with the policies {names}"
        left = (own.ends - self.clock.now()).total_seconds() if own.ends else None
        if own.ends and left is not None and left < _SOON_SECONDS:
            why = f"it ends {rfc3339(own.ends)}: a longer run would end with it"
            yield Diagnosis(LOGIN, Grade.WARNING, f"{text} ends soon", why, "bao token renew")
            return
        yield ok_finding(
            LOGIN, text, f"it ends {rfc3339(own.ends)}" if own.ends else "it never ends"
        )

    def _permissions(self) -> Iterator[Diagnosis]:
        entry = f"sys/plugins/catalog/secret/{self.plugin_name}"
        needed = {**_NEEDED, entry: ("read",)}
        with suppress(VaultError):  # told below, after what does not depend on it
            for mount in self._mounts():
                needed |= {f"{mount.path}/{name}": rights for name, rights in _OF_A_MOUNT.items()}
        needs = ((path, word) for path, words in needed.items() for word in words)
        missing = missing_permissions(self.gateway.sys, needs)
        if not missing:
            yield ok_finding(PERMISSIONS, f"this login may read all {len(needed)} paths")
        for one in missing:
            summary = f"this login may not {' and '.join(one.missing)} {one.path}"
            why = "what is there cannot be shown or checked"
            yield Diagnosis(PERMISSIONS, Grade.WARNING, summary, why, allowing(one.hcl))
        self._mounts()

    def _plugin(self) -> Iterator[Diagnosis]:
        """Yield whether every mount runs on every node, and then whether as it is registered."""
        live = self._live_mounts()
        running = PluginList((), running_mounts(live.values(), self.plugin_name, ()))
        paths = [one.path for one in running.mounts]
        nodes = plugins_on_nodes(self.gateway, self._nodes, paths, _SECONDS / 2)
        _, not_known = running.seen_on(nodes)
        missing = [one for one in node_problems(nodes) if one.code == "node-plugin-missing"]
        yield from (of_problem(PLUGIN, Grade.BAD, one) for one in missing)
        yield from (with_command(of_problem(PLUGIN, Grade.UNKNOWN, one)) for one in not_known)
        yield from other_files(nodes, running.mounts)
        found, _ = list_plugins(self.gateway, self.plugin_name, mounts=live).seen_on(nodes)
        problems = found.problems(None)
        yield from (of_problem(PLUGIN, Grade.BAD, one) for one in problems)
        if not found.catalog:
            fix = "skyflowctl plugin build DIRECTORY; skyflowctl plugin register FILE"
            summary = f"no plugin {self.plugin_name} is registered"
            yield Diagnosis(PLUGIN, Grade.WARNING, summary, "no mount of it can be made", fix)
        elif not problems and not missing and not not_known:
            many = counted(len(paths), "mount")
            versions = listed([one.entry.version for one in found.catalog])
            yield ok_finding(PLUGIN, f"{many} run what is registered: {versions}")

    def _mounts_there(self) -> Iterator[Diagnosis]:
        yield from _scratch_mounts(self._live_mounts())
        mounts = self._mounts()
        for one in self.declared or ():
            if one not in mounts:
                why = f"the manifest declares it; nothing of type {self.plugin_name} is there"
                summary = f"there is no mount {one.path}"
                yield Diagnosis(ENGINE, Grade.BAD, summary, why, _MAKE_MOUNTS)

    def _engines(self) -> Iterator[Diagnosis]:
        mounts = self._mounts()
        if not mounts:
            why = "so no engine was asked for a token"
            yield Diagnosis(ENGINE, Grade.UNKNOWN, "there is no mount to ask", why, _MAKE_MOUNTS)
        rows = health_now(self.gateway, mounts, parallelism=8, deadline=_SECONDS, refresh=False)
        with Workers(8) as pool:
            apis = pool.map(self._api, mounts)
        for mount, row, api in zip(mounts, rows, apis, strict=True):
            if row.state == "ok":
                yield ok_finding(ENGINE, f"{mount.name} gives tokens", api)
                continue
            grade = Grade.UNKNOWN if row.state in {"unproven", "forbidden"} else Grade.BAD
            summary = f"{mount.name} is {row.state.replace('_', ' ')}"
            detail = "; ".join(text for text in (row.detail, api) if text)
            fix = row.fix or f"skyflowctl health {mount.path}"
            if row.state == "forbidden":
                fix = allow(self.gateway, f"{mount.path}/health", ("read",))
            yield Diagnosis(ENGINE, grade, summary, detail, fix)

    def _api(self, mount: MountRef) -> str:
        """Return what a mount's engine can do, in words; empty if it cannot be read."""
        try:
            api = self.gateway.engine(mount.path).config().api
        except SkyflowctlError:
            return ""
        return f"{api.name} API" + (f", without {listed(api.missing)}" if api.missing else "")

    def _audit(self) -> Iterator[Diagnosis]:
        """Yield what posture says of audit devices and audited headers."""
        headers = or_not_read(self.gateway.sys.audited_headers, _HEADERS, "read", "sudo")
        facts = Facts(
            self.clock.now(),
            Server(self.gateway.transport.server.address),
            audit_devices=read_audit_devices(self.gateway.transport),
            audited_headers=NotRead(_HEADERS, ("read", "sudo")) if headers is None else headers,
        )
        found = [*check_audit_devices(facts), *check_audited_headers(facts)]
        parts = (facts.audit_devices, facts.audited_headers)
        refused = {one.policy_line: one for one in parts if isinstance(one, NotRead)}
        for one in found:
            diagnosis = _of_posture(one)
            if (lacking := refused.get(one.fix)) is not None:
                fix = allow(self.gateway, lacking.path, lacking.capabilities)
                diagnosis = replace(diagnosis, fix=fix)
            yield diagnosis
        if not found:
            yield ok_finding(AUDIT, "two audit devices record requests, and runs are found in them")

    def _keys(self) -> Iterator[Diagnosis]:
        mounts = self._mounts()
        if not mounts:
            summary = "there is no mount whose keys could be asked for"
            yield Diagnosis(KEYS, Grade.UNKNOWN, summary, "", _MAKE_MOUNTS)
            return
        with Workers(8) as pool:
            found = [one for each in pool.map(self._keys_of, mounts) for one in each]
        yield from found
        ruled = [one for one in mounts if one.rotation.max_age or one.rotation.renew_before]
        if not found:
            asked = f"no old key of {counted(len(mounts), 'mount')} waits for its end"
            due = f"no key of {counted(len(ruled), 'mount')} is due; " if ruled else ""
            yield ok_finding(KEYS, due + asked)
        if len(ruled) < len(mounts):
            many = counted(len(mounts) - len(ruled), "mount")
            why = "without max_age or renew_before in a manifest no key is ever due"
            yield ok_finding(KEYS, f"{many} without a rule for when its key is due", why)

    def _keys_of(self, mount: MountRef) -> list[Diagnosis]:
        try:
            engine = self.gateway.engine(mount.path)
            with naming_commands(self.gateway):
                config, history = engine.config(), engine.history()
            due = due_reason(mount.rotation, config, self.clock.now())
        except (VaultError, ValueError) as error:
            problem = error.problems[0] if isinstance(error, VaultError) else None
            return [of_problem(KEYS, Grade.UNKNOWN, problem or _bad_time(mount))]
        found = []
        if due:
            fix = f"skyflowctl rotate {mount.path}"
            summary = f"the key of {mount.name} is due"
            found.append(Diagnosis(KEYS, Grade.WARNING, summary, due, fix))
        rotation = config.rotation
        old = retirable_keys(config, history) if rotation and rotation.state != "retired" else ()
        if old and rotation:
            until = rotation.old_tokens_valid_until or ""
            summary = f"{counted(len(old), 'old key')} of {mount.name} can be retired"
            why = f"it still mints until then; the last token of it ends {until}"
            fix = f"skyflowctl rotate {mount.path} --retire"
            found.append(Diagnosis(KEYS, Grade.WARNING, summary, why, fix))
        return found


def _bad_time(mount: MountRef) -> Problem:
    return Problem(
        "bad-time",
        f"the age of {mount.name}'s key is not known",
        "its engine writes times in another format",
        f"'skyflowctl config show {mount.path}' shows them",
    )


def removal_command(path: str) -> str:
    """Return the command that removes a scratch mount."""
    return f"skyflowctl mount disable {path} --allow-destroy={path}"


def _scratch_mounts(live: Mapping[str, LiveMount]) -> Iterator[Diagnosis]:
    """Yield the scratch mounts of runs that were killed."""
    for path, mount in live.items():
        if mount.options.get("manifest") == SCRATCH_MANIFEST:
            summary = f"{path} is a scratch mount of doctor --idempotence"
            why = "a run that was killed left it, unless one is going on"
            yield Diagnosis(IDEMPOTENCE, Grade.WARNING, summary, why, removal_command(path))


def _control_groups(gateway: Gateway) -> Diagnosis:
    """Return whether the server has control groups.

    Raises:
        ForbiddenError: this login may not ask.
    """
    try:
        found = has_control_groups(gateway.transport)
    except ForbiddenError:
        raise
    except VaultError as error:
        return _unknown_groups(error.problems[0].summary)
    if found is None:
        return _unknown_groups(f"{REQUEST} answered without an accessor, which it should refuse")
    text = (
        "it has control groups: policies may require approvals"
        if found
        else "it has no control groups: an apply cannot wait for approvals"
    )
    return ok_finding(SERVER, text)


def _unknown_groups(why: str) -> Diagnosis:
    fix = "bao write sys/control-group/request accessor=none"
    return Diagnosis(SERVER, Grade.UNKNOWN, "control groups: not known", why, fix)


def _of_posture(one: Finding) -> Diagnosis:
    works = Grade.OK if one.grade is Severity.INFO else Grade.WARNING
    grade = Grade.BAD if one.grade.at_least(Severity.HIGH) else works
    grade = Grade.UNKNOWN if one.unchecked else grade
    return Diagnosis(AUDIT, grade, one.summary, one.reason, one.fix)
