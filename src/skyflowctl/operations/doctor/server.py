"""The checks of a server: its nodes, this login, the engine, the audit trail, and old keys."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from skyflowctl.clock import Clock, parse_rfc3339, rfc3339
from skyflowctl.concurrency import Workers
from skyflowctl.doctor.model import Diagnosis, Grade, Look, of_problem, unknown, well
from skyflowctl.errors import Problem, SkyflowctlError
from skyflowctl.operations.blocked_audit import AuditSuspects
from skyflowctl.operations.health import health_now
from skyflowctl.operations.list_plugins import list_plugins
from skyflowctl.operations.mount_refs import MountRef, discover_mounts
from skyflowctl.operations.node_states import (
    SKEW_SECONDS,
    NodeStatus,
    every_node,
    node_problems,
    skew_warnings,
)
from skyflowctl.posture.checks.audit_devices import check_audit_devices, check_audited_headers
from skyflowctl.posture.collect.reads import or_not_read, read_audit_devices
from skyflowctl.posture.facts import Facts, NotRead, Server
from skyflowctl.posture.model import Finding, Severity
from skyflowctl.rotation.retirement_plan import retirable_keys
from skyflowctl.rotation.schedule import due_reason
from skyflowctl.text import counted, listed
from skyflowctl.vault.errors import (
    BadRequestError,
    ForbiddenError,
    NamespaceMissingError,
    NotFoundError,
    VaultError,
)
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.server_state import ServerState
from skyflowctl.vault.transport import Request
from skyflowctl.vault.waits import within

NODES = "nodes"
LOGIN, PERMISSIONS, SERVER = "login", "permissions", "server"
ENGINE, PLUGIN, AUDIT, KEYS = "engine", "plugin", "audit", "keys"
_SECONDS = 10.0
_BAD_SKEW_SECONDS = 60
_SOON_SECONDS = 3600
_HEADERS = "sys/config/auditing/request-headers"
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "sys/mounts": ("read",),
    "sys/ha-status": ("read",),
    "sys/plugins/catalog": ("read",),
    "sys/plugins/catalog/secret/skyflow": ("read", "sudo"),
    _HEADERS: ("read", "sudo"),
    "sys/audit": ("read", "sudo"),
}
"""What ``plan``, ``status``, ``health`` and this command read of the server itself."""
_OF_A_MOUNT: Mapping[str, tuple[str, ...]] = {
    "config": ("read",),
    "roles": ("list",),
    "health": ("read",),
}
_GRADES = {
    Severity.CRITICAL: Grade.BAD,
    Severity.HIGH: Grade.BAD,
    Severity.MEDIUM: Grade.WARNING,
    Severity.LOW: Grade.WARNING,
    Severity.INFO: Grade.OK,
}


class ServerLooks:
    """The checks of one server.

    Args:
        gateway: the server.
        suspects: what is known about its audit devices.
        mounts: the manifest's; None: all of the plugin's type.
        plugin_name: the mount type of this engine.
        clock: this machine's.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        suspects: AuditSuspects,
        mounts: Sequence[MountRef] | None,
        plugin_name: str,
        clock: Clock,
    ) -> None:
        self._gateway = gateway
        self._suspects = suspects
        self._declared = mounts
        self._plugin_name = plugin_name
        self._clock = clock
        self.serves = False

    def nodes(self) -> Iterator[Diagnosis]:
        """Yield the state and the clock of each node; afterwards ``serves`` is known."""
        states = every_node(self._gateway, (), self._suspects, _SECONDS, self._clock)
        served = {"active", "standby", "standby_forwards", "standby_without_leader"}
        self.serves = any(one.state in served for one in states)
        for one in states:
            yield from _node(one)

    def looks(self) -> dict[str, Look]:
        """Return the further checks, each within ten seconds."""
        every: dict[str, Look] = {
            SERVER: self._server,
            LOGIN: self._login,
            PERMISSIONS: self._permissions,
            PLUGIN: self._plugin,
            ENGINE: self._engines,
            AUDIT: self._audit,
            KEYS: self._keys,
        }
        return {name: partial(_in_time, look) for name, look in every.items()}

    def _mounts(self) -> Sequence[MountRef]:
        """Return the manifest's mounts that are there, else all of the plugin's type."""
        found = discover_mounts(self._gateway, plugin_name=self._plugin_name, prefix="skyflow")
        if self._declared is None:
            return found
        live = {one.path for one in found}
        return [one for one in self._declared if one.path in live]

    def _server(self) -> Iterator[Diagnosis]:
        health = self._gateway.sys.health()
        index = bool(self._gateway.transport.newest_index)
        yield well(SERVER, f"version {health.version}, cluster {health.cluster_id}")
        if index:
            yield well(SERVER, "reads through a standby are consistent (X-Vault-Index)")
        elif health.state is ServerState.ACTIVE and len(self._gateway.sys.nodes()) < 2:
            yield well(SERVER, "it is one node, so no read is older than a write before it")
        else:
            why = "it sends no X-Vault-Index (OpenBao from 2.7 on does)"
            summary = "reads through a standby may be older than a write before them"
            yield Diagnosis(SERVER, Grade.WARNING, summary, why, "name the active node first")
        yield _control_groups(self._gateway)

    def _login(self) -> Iterator[Diagnosis]:
        try:
            reply = self._gateway.transport.send(Request("GET", "auth/token/lookup-self"))
        except ForbiddenError as error:
            yield of_problem(LOGIN, Grade.BAD, error.problems[0])
            return
        data = reply.data or {}
        names = listed(sorted(str(one) for one in data.get("policies") or ()))
        text = f"{data.get('display_name') or 'a token'} with the policies {names}"
        end = str(data.get("expire_time") or "")
        left = (parse_rfc3339(end) - self._clock.now()).total_seconds() if end else None
        if left is not None and left < _SOON_SECONDS:
            why = f"it ends {rfc3339(parse_rfc3339(end))}: a longer run would end with it"
            yield Diagnosis(LOGIN, Grade.WARNING, f"{text} ends soon", why, "bao token renew")
            return
        yield well(LOGIN, text, f"it ends {end}" if end else "it never ends")

    def _permissions(self) -> Iterator[Diagnosis]:
        needed = dict(_NEEDED)
        for mount in self._mounts():
            needed |= {f"{mount.path}/{name}": rights for name, rights in _OF_A_MOUNT.items()}
        has = self._gateway.sys.capabilities(list(needed))
        lacking = [
            NotRead(path, rights)
            for path, rights in needed.items()
            if "root" not in has[path] and not set(rights) <= set(has[path])
        ]
        if not lacking:
            yield well(PERMISSIONS, f"this login may read all {len(needed)} paths")
        for one in lacking:
            summary = f"this login may not {' and '.join(one.capabilities)} {one.path}"
            why = "what is there cannot be shown or checked"
            fix = f"give its policy: {one.policy_line}"
            yield Diagnosis(PERMISSIONS, Grade.WARNING, summary, why, fix)

    def _plugin(self) -> Iterator[Diagnosis]:
        """Yield whether every mount runs the registered file, on every node."""
        found = list_plugins(self._gateway, self._plugin_name)
        paths = [one.path for one in found.mounts]
        nodes = every_node(self._gateway, paths, self._suspects, _SECONDS, self._clock)
        problems = list(found.problems(None))
        problems += [one for one in node_problems(nodes) if one.code == "node-plugin-missing"]
        for problem in problems:
            yield of_problem(PLUGIN, Grade.BAD, problem)
        yield from _other_digests(nodes, {one.path: one.sha256 for one in found.mounts})
        if not found.catalog:
            fix = "skyflowctl plugin build DIRECTORY; skyflowctl plugin register FILE"
            summary = f"no plugin {self._plugin_name} is registered"
            yield Diagnosis(PLUGIN, Grade.WARNING, summary, "no mount of it can be made", fix)
        elif not problems:
            many = counted(len(paths), "mount")
            versions = listed([one.entry.version for one in found.catalog])
            yield well(PLUGIN, f"{many} run what is registered: {versions}")

    def _engines(self) -> Iterator[Diagnosis]:
        mounts = self._mounts()
        for one in self._declared or ():
            if one not in mounts:
                why = f"the manifest declares it; nothing of type {self._plugin_name} is there"
                fix = "skyflowctl apply"
                yield Diagnosis(ENGINE, Grade.BAD, f"there is no mount {one.path}", why, fix)
        if not mounts:
            yield Diagnosis(ENGINE, Grade.UNKNOWN, "there is no mount to ask", "", "")
        rows = health_now(self._gateway, mounts, parallelism=8, deadline=_SECONDS, refresh=False)
        with Workers(8) as pool:
            apis = pool.map(self._api, mounts)
        for mount, row, api in zip(mounts, rows, apis, strict=True):
            if row.state == "ok":
                yield well(ENGINE, f"{mount.name} gives tokens", api)
                continue
            grade = Grade.UNKNOWN if row.state in {"unproven", "forbidden"} else Grade.BAD
            summary = f"{mount.name} is {row.state.replace('_', ' ')}"
            detail = "; ".join(text for text in (row.detail, api) if text)
            fix = row.fix or f"skyflowctl health {mount.path}"
            yield Diagnosis(ENGINE, grade, summary, detail, fix)

    def _api(self, mount: MountRef) -> str:
        """Return what a mount's engine can do, in words; empty if it cannot be read."""
        try:
            api = self._gateway.engine(mount.path).config().api
        except SkyflowctlError:
            return ""
        return f"{api.name} API" + (f", without {listed(api.missing)}" if api.missing else "")

    def _audit(self) -> Iterator[Diagnosis]:
        """Yield what posture says of audit devices and audited headers."""
        headers = or_not_read(self._gateway.sys.audited_headers, _HEADERS, "read", "sudo")
        facts = Facts(
            self._clock.now(),
            Server(self._gateway.transport.server.address),
            audit_devices=read_audit_devices(self._gateway.transport),
            audited_headers=NotRead(_HEADERS, ("read", "sudo")) if headers is None else headers,
        )
        found = [*check_audit_devices(facts), *check_audited_headers(facts)]
        yield from map(_of_posture, found)
        if not found:
            yield well(AUDIT, "two audit devices record requests, and runs are found in them")

    def _keys(self) -> Iterator[Diagnosis]:
        mounts = self._mounts()
        if not mounts:
            yield Diagnosis(KEYS, Grade.UNKNOWN, "there is no mount whose keys could be asked for")
            return
        with Workers(8) as pool:
            found = [one for each in pool.map(self._keys_of, mounts) for one in each]
        yield from found
        ruled = [one for one in mounts if one.rotation.max_age or one.rotation.renew_before]
        if not found:
            asked = f"no old key of {counted(len(mounts), 'mount')} waits for its end"
            due = f"no key of {counted(len(ruled), 'mount')} is due; " if ruled else ""
            yield well(KEYS, due + asked)
        if len(ruled) < len(mounts):
            many = counted(len(mounts) - len(ruled), "mount")
            why = "without max_age or renew_before in a manifest no key is ever due"
            yield well(KEYS, f"{many} without a rule for when its key is due", why)

    def _keys_of(self, mount: MountRef) -> list[Diagnosis]:
        try:
            engine = self._gateway.engine(mount.path)
            config, history = engine.config(), engine.history()
            due = due_reason(mount.rotation, config, self._clock.now())
        except (VaultError, ValueError) as error:
            problem = error.problems[0] if isinstance(error, VaultError) else None
            return [unknown(KEYS, problem or _bad_time(mount))]
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


def _in_time(look: Callable[[], Iterable[Diagnosis]]) -> list[Diagnosis]:
    with within(_SECONDS):
        return list(look())


def _bad_time(mount: MountRef) -> Problem:
    return Problem(
        "bad-time",
        f"the age of {mount.name}'s key is not known",
        "its engine writes times in another format",
        f"'skyflowctl config show {mount.path}' shows them",
    )


def _node(one: NodeStatus) -> Iterator[Diagnosis]:
    if one.state == "not_asked":
        yield Diagnosis(NODES, Grade.UNKNOWN, f"{one.node} was not asked", one.detail, one.fix)
        return
    for problem in node_problems([one]):
        yield of_problem(NODES, Grade.BAD, problem)
    if one.state == "standby_forwards":
        summary = f"{one.node} serves no reads itself"
        yield Diagnosis(NODES, Grade.WARNING, summary, one.detail, one.fix)
    for problem in skew_warnings([one]):
        far = abs(one.clock_skew_seconds or 0) >= _BAD_SKEW_SECONDS
        yield of_problem(NODES, Grade.BAD if far else Grade.WARNING, problem)
    if one.well and one.state != "standby_forwards":
        skew = one.clock_skew_seconds
        clock = f"its clock is within {SKEW_SECONDS} s of this machine's"
        told = clock if skew is not None and abs(skew) < SKEW_SECONDS else ""
        yield well(NODES, f"{one.node} is {one.state}", told)


def _other_digests(nodes: Sequence[NodeStatus], wanted: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Yield the mounts that run another file on one node than on the one at the address."""
    for node in nodes:
        for path, digest in node.digests.items():
            if digest and wanted.get(path) and digest != wanted[path]:
                summary = f"{path} runs another file on {node.node}"
                why = f"{digest[:12]} there, {wanted[path][:12]} at the address"
                fix = f"bao plugin reload -mounts={path}/ -scope=global"
                yield Diagnosis(PLUGIN, Grade.BAD, summary, why, fix)


def _control_groups(gateway: Gateway) -> Diagnosis:
    """Return whether the server has control groups; an accessor that cannot be asks for nothing."""
    path = "sys/control-group/request"
    try:
        gateway.transport.send(Request("POST", path, body={"accessor": ""}, idempotent=True))
    except VaultError as error:
        absent = isinstance(error, NotFoundError) and not isinstance(error, NamespaceMissingError)
        if absent or error.says("unsupported path"):
            return well(SERVER, "it has no control groups: an apply cannot wait for approvals")
        if isinstance(error, BadRequestError):
            return well(SERVER, "it has control groups: policies may require approvals")
        return _unknown_groups(error.problems[0].summary)
    return _unknown_groups(f"{path} answered without an accessor, which it should refuse")


def _unknown_groups(why: str) -> Diagnosis:
    return Diagnosis(SERVER, Grade.UNKNOWN, "control groups: not known", why)


def _of_posture(one: Finding) -> Diagnosis:
    grade = Grade.UNKNOWN if one.unchecked else _GRADES[one.grade]
    return Diagnosis(AUDIT, grade, one.summary, one.reason, one.fix)
