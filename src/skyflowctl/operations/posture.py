"""``audit posture``: reads the data for the checks in parallel, and runs the checks."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from skyflowctl.clock import Clock
from skyflowctl.concurrency import Workers
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.least_policies import least_policies
from skyflowctl.manifest.model import Manifest, Mount, RotationRule
from skyflowctl.posture.checks.guards import lifting_policies
from skyflowctl.posture.checks.registry import run_checks
from skyflowctl.posture.collect import reads
from skyflowctl.posture.collect.identities import aliases_of
from skyflowctl.posture.collect.logins import logins
from skyflowctl.posture.collect.nodes import nodes
from skyflowctl.posture.collect.reads import T, or_not_read
from skyflowctl.posture.facts import (
    Down,
    Exercised,
    Facts,
    MountFacts,
    NotRead,
    Server,
    ServerLogins,
)
from skyflowctl.posture.grants import reach_of
from skyflowctl.posture.model import PostureReport
from skyflowctl.rotation.schedule import due_reason
from skyflowctl.vault.catalog import completed
from skyflowctl.vault.errors import (
    OutcomeUnknownError,
    SealedError,
    ServerUnreachableError,
    UninitializedError,
)
from skyflowctl.vault.gateway import MOUNT_SECONDS, Gateway, GatewayForNode
from skyflowctl.vault.live import LiveConfig, LiveMount
from skyflowctl.vault.login_api import OwnLogin
from skyflowctl.vault.responses import CatalogEntry
from skyflowctl.vault.server_state import refuse_not_serving
from skyflowctl.vault.waits import within

_HEADERS = "sys/config/auditing/request-headers"


@dataclass(frozen=True, slots=True)
class PostureRequest:
    """The request, and how the server was named.

    Args:
        addresses: the addresses that the user named; the server's own is the first.
        checks_certificates: whether the connection checks certificates.
        manifest: the desired state; None: not compared.
        plugin_name: the mount type of this engine.
        exercised: the roles used according to an audit log; None: none was given.
        max_readers: the most logins that may read a role without a finding.
        parallelism: how many requests run at once.
    """

    addresses: tuple[str, ...]
    checks_certificates: bool = True
    manifest: Manifest | None = None
    plugin_name: str = "skyflow"
    exercised: Exercised | None = None
    max_readers: int = 5
    parallelism: int = 10


def posture(
    gateway: Gateway, question: PostureRequest, *, connect: GatewayForNode, clock: Clock
) -> PostureReport:
    """Read the server and return the findings.

    It makes about 11 + 3N requests for N mounts, 1 + N more for each node of a cluster, and one for
    each live token and, if a policy grants any token or lifts a guard, for each login, entity and
    group. Data that this login may not read is a finding, and so is a server that is sealed or does
    not answer.

    Raises:
        ForbiddenError: the login is invalid, or may not even read its own capabilities.
        VaultError: the answers are not those of a server.
    """
    return run_checks(gather(gateway, question, connect=connect, clock=clock))


def gather(
    gateway: Gateway, question: PostureRequest, *, connect: GatewayForNode, clock: Clock
) -> Facts:
    """Return all data for the checks; raises as :func:`posture`."""
    server = Server(question.addresses[0], skip_verify=not question.checks_certificates)
    try:
        health = gateway.sys.health()
        refuse_not_serving(health.state)
        known = replace(server, version=health.version)
        return _Gathering(gateway, question, connect, clock).facts(known)
    except (SealedError, ServerUnreachableError) as error:
        return Facts(
            clock.now(),
            replace(server, down=error.problems[0].summary, down_kind=_down_kind(error)),
        )


def _down_kind(error: SealedError | ServerUnreachableError) -> Down:
    if isinstance(error, UninitializedError):
        return Down.NEW
    return Down.SEALED if isinstance(error, SealedError) else Down.SILENT


@dataclass(frozen=True, slots=True)
class _Gathering:
    """The reads of one run; independent ones run in parallel."""

    gateway: Gateway
    question: PostureRequest
    connect: GatewayForNode
    clock: Clock

    def facts(self, server: Server) -> Facts:
        """Read everything, in three waves."""
        own = self._own()
        known = self._server_wide(server, own)
        mounts = self._mounts()
        known = replace(known, mounts=mounts)
        paths = [one.path for one in known.ours]
        known = replace(
            known, nodes=nodes(self.gateway, paths, self.connect, self.question.parallelism)
        )
        return self._with_logins(known)

    def _own(self) -> OwnLogin | NotRead:
        """Return the data of this login's token; a dead token ends the command.

        A login that may not look itself up may still read everything else.
        """
        own = reads.own_token(self.gateway.transport)
        if isinstance(own, NotRead):
            self.gateway.sys.capabilities(["sys/mounts"])
        return own

    def _server_wide(self, server: Server, own: OwnLogin | NotRead) -> Facts:
        transport, most = self.gateway.transport, self.question.parallelism
        accessor = "" if isinstance(own, NotRead) else own.accessor
        with Workers(most) as pool:
            devices = pool.submit(reads.read_audit_devices, transport)
            headers = pool.submit(self._headers)
            listening = pool.submit(reads.listeners, transport)
            seal = pool.submit(reads.seal_type, transport)
            catalog = pool.submit(self._catalog)
            policies = pool.submit(reads.policies, transport, most)
            ends = pool.map(reads.certificate, self.question.addresses)
            described = replace(
                server,
                seal_type=seal.result(),
                listeners=listening.result(),
                certificates=tuple(end for end in ends if end is not None),
            )
            return Facts(
                now=self.clock.now(),
                server=described,
                own_policies=None if isinstance(own, NotRead) else own.policies,
                audit_devices=devices.result(),
                audited_headers=headers.result(),
                **catalog.result(),
                policies=policies.result(),
                least_policies=least_policies(),
                tokens=reads.live_tokens(transport, accessor, most),
                manifest=self.question.manifest,
                exercised=self.question.exercised,
                max_readers=self.question.max_readers,
            )

    def _headers(self) -> Mapping[str, bool] | NotRead:
        found = or_not_read(self.gateway.sys.audited_headers, _HEADERS, "read", "sudo")
        return NotRead(_HEADERS, ("read", "sudo")) if found is None else found

    def _catalog(self) -> dict[str, Any]:
        """Return the catalog's entries; an entry that is only listed is kept without details."""
        path = "sys/plugins/catalog"
        found = or_not_read(self.gateway.sys.catalog.list, path, "read")
        if isinstance(found, NotRead):
            return {"catalog": found}
        ours = [entry for entry in found if entry.name == self.question.plugin_name]
        read = [(entry, self._completed(entry)) for entry in ours]
        return {
            "catalog": tuple(listed if isinstance(one, NotRead) else one for listed, one in read),
            "catalog_unread": tuple(one for _, one in read if isinstance(one, NotRead)),
        }

    def _completed(self, entry: CatalogEntry) -> CatalogEntry | NotRead:
        path = f"sys/plugins/catalog/secret/{entry.name}"
        return or_not_read(lambda: completed(self.gateway.sys.catalog, entry), path, "read", "sudo")

    def _mounts(self) -> tuple[MountFacts, ...] | NotRead:
        mounted = or_not_read(self.gateway.sys.mounts, "sys/mounts", "read")
        if isinstance(mounted, NotRead):
            return mounted
        ours = [one for _, one in sorted(mounted.items()) if one.type == self.question.plugin_name]
        with Workers(self.question.parallelism) as pool:
            return tuple(pool.map(self._mount, ours))

    def _mount(self, mount: LiveMount) -> MountFacts:
        path, gateway = mount.path, self.gateway
        config = _part(lambda: gateway.engine(path).config(), f"{path}/config", "read")
        roles = _part(lambda: gateway.engine(path).roles(), f"{path}/roles", "list")
        history = _part(lambda: gateway.engine(path).history(), f"{path}/config/history", "list")
        declared = self._declared(path)
        live = None if isinstance(config, NotRead) else config
        rule = declared.rotation if declared else RotationRule()
        return MountFacts(
            mount=mount,
            config=live,
            roles={} if isinstance(roles, NotRead) else roles,
            history=None if isinstance(history, NotRead) else history,
            due=_due(rule, live, self.clock.now()) if live else "",
            declared=declared,
            not_read=tuple(one for one in (config, roles, history) if isinstance(one, NotRead)),
        )

    def _declared(self, path: str) -> Mount | None:
        manifest = self.question.manifest
        return (
            next((one for one in manifest.mounts if one.path == path), None) if manifest else None
        )

    def _with_logins(self, known: Facts) -> Facts:
        """Read the logins, unless no policy grants any token or lifts a guard."""
        if isinstance(known.policies, NotRead):
            return known
        reach = reach_of(known)
        opens = any(found for name, found in reach.by_policy.items() if name != "root")
        lifts = lifting_policies(known.policies)
        if not opens and not reach.templated and not lifts:
            return replace(known, logins=ServerLogins())
        transport, most = self.gateway.transport, self.question.parallelism
        found = logins(transport, known.tokens, known.policies, most)
        if lifts:
            aliases = aliases_of(transport, found.found, found.identities, most)
            found = replace(found, aliases=aliases)
        return replace(known, logins=found)


def _part(read: Callable[[], T], path: str, capability: str) -> T | NotRead:
    """Return a part of a mount; a hanging process must not stop the other reads."""
    try:
        with within(MOUNT_SECONDS):
            return or_not_read(read, path, capability)
    except OutcomeUnknownError as error:
        return NotRead(path, (), error.problems[0].why)


def _due(rule: RotationRule, config: LiveConfig, now: datetime) -> str:
    """Return why it is due; empty if the engine writes times in another format."""
    try:
        return due_reason(rule, config, now)
    except ValueError:
        return ""
