"""Break-glass: a mount loses every credential at once, and what that reached is proved.

The cut-off comes first and waits for nothing that may be broken: not for the token service,
not for a sealed standby, not for a node that nobody named. What is looked at before it has a
few seconds; everything else is asked, deleted and proved after it.

The server learns the run id alone, with every request; the reason and the run id together
stand in what this run prints. Nothing that the mount says of itself is changed for it.
"""

from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.errors import ExitCode, Problem, SkyflowctlError, UsageError
from skyflowctl.rotation import revoke_words as words
from skyflowctl.rotation.model import Job, StepName
from skyflowctl.rotation.neighbours import (
    Doors,
    Neighbours,
    doors,
    health_states,
    neighbours,
    paths_beside,
)
from skyflowctl.rotation.nodes import open_nodes
from skyflowctl.rotation.ports import World, names
from skyflowctl.rotation.recording import Recorder
from skyflowctl.rotation.revoked import (
    AtSkyflow,
    NodeCut,
    OtherMount,
    Remains,
    RevokedKey,
    RevokeOutcome,
)
from skyflowctl.rotation.revoked_keys import KeySweep, keys_of
from skyflowctl.vault.failures import VaultError
from skyflowctl.vault.live import HistoryEntry, LiveConfig
from skyflowctl.vault.workers import Workers

LAST_LOOK = 10.0
"""Seconds that the look at what the cut-off might end may take before it goes on without."""
_TOKEN_LIFE = timedelta(minutes=60)
_ROUNDS = 3
_HEALTH_TRIES = 3
_PAUSE = 1.0

_Roles = Mapping[str, str | Mapping[str, Any] | None]


def revoke_mount(
    job: Job, world: World, *, reason: str, delete_keys: bool = False
) -> RevokeOutcome:
    """Destroy the live and every kept credential of a mount, and prove that it is so.

    It wins against whoever writes at the same time: no check-and-set, and a credential that
    is written meanwhile is destroyed as well. Killed at any instant, the same call again
    ends well and tells the whole picture again, from what the history keeps.

    Args:
        job: the mount.
        world: ``operator`` lists the keys at Skyflow, and deletes them if told to.
        reason: for the incident file.
        delete_keys: have Skyflow delete every key that this mount has held, save those by
            which another mount lives.

    Raises:
        UsageError: the reason is blank.
        VaultError: the mount is no engine, may not be read, or could not be cut off. After
            the cut-off nothing is raised: what fails then is in the outcome.
    """
    if not reason.strip():
        raise UsageError(
            "a cut-off needs a reason",
            why="it stands in the incident file beside the run id",
            fix="give --reason TEXT",
            code="no-reason",
        )
    with doors(world) as ways, Workers(4) as pool:
        return _Revocation(job, world, pool, ways).run(reason, delete_keys=delete_keys)


@dataclass(slots=True)
class _Before:
    """What was seen before the cut-off; what has not answered in time is as it is here."""

    config: LiveConfig
    history: Mapping[int, HistoryEntry] = field(default_factory=dict)
    roles: _Roles = field(default_factory=dict)
    beside: Neighbours = field(default_factory=lambda: Neighbours({}, {"": words.NO_TIME}))
    paths: tuple[str, ...] = ()
    states: dict[tuple[str, str], str] = field(default_factory=dict)
    token_life: timedelta = _TOKEN_LIFE


class _Revocation:
    """One mount's cut-off. What it has done and met stands in its fields."""

    def __init__(self, job: Job, world: World, pool: Workers, ways: Doors) -> None:
        self._job = job
        self._world = world
        self._pool = pool
        self._ways = ways
        self._recorder = Recorder(world, job.name)
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []
        self._cut_off_at = ""
        self._cut_off = False

    def run(self, reason: str, *, delete_keys: bool) -> RevokeOutcome:
        """Look, cut off, prove."""
        before = self._look()
        self._cut()
        keys, ends = self._settle_keys(before, delete_keys=delete_keys)
        nodes = self._prove_nodes(before)
        proved_at = self._world.clock.now()
        others = self._prove_others(before)
        self._problems += words.of_keys(keys, self._job.name, delete_keys=delete_keys)
        config = before.config
        return RevokeOutcome(
            name=self._job.name,
            path=self._job.path,
            reason=reason.strip(),
            run_id=self._world.run_id,
            cut_off=self._cut_off,
            done_before=not config.configured,
            live_key_id=next((key.key_id for key in keys if key.was == "live"), ""),
            cut_off_at=self._since(config),
            keys=keys,
            nodes=nodes,
            others=others,
            cannot_revoke=_remains(before, proved_at, keys, ends, nodes),
            steps=self._recorder.steps,
            problems=tuple(self._problems),
            warnings=tuple(self._warnings),
            exit_code=self._exit_code(others),
        )

    def _since(self, config: LiveConfig) -> str:
        """When the mount lost its credential; one that had none tells it by its last change."""
        told = "" if config.configured else str(config.raw.get("last_updated") or "")
        return told or self._cut_off_at

    def _exit_code(self, others: tuple[OtherMount, ...]) -> ExitCode:
        if any(other.broken for other in others):
            return ExitCode.UNHEALTHY
        return ExitCode.PARTIAL if self._problems else ExitCode.OK

    # Before ------------------------------------------------------------------------

    def _look(self) -> _Before:
        """See what there is, at most so long; only the config itself must answer.

        Raises:
            VaultError: no engine is there, or it may not be read.
        """
        with self._recorder.step(StepName.LOOK) as found:
            before = _Before(self._world.gateway.engine_config(self._job.path))
            looks = [self._pool.submit(look, before) for look in self._looks(before.config)]
            late = wait(looks, timeout=LAST_LOOK).not_done
            failed = [look for look in looks if look not in late and _error_of(look)]
            self._warnings += [words.look_failed(_error_of(look)) for look in failed]
            found.detail = f"live is {before.config.key_id or 'nothing'}"
            if late:
                found.detail += f"; not all was told within {LAST_LOOK:g} s"
            # What comes late speaks of the time after the cut-off: it goes to the old value.
            return replace(before, states=dict(before.states))

    def _looks(self, config: LiveConfig) -> tuple[Any, ...]:
        looks = (self._look_at_history, self._look_at_roles, self._look_beside)
        return (*looks, self._last_verify) if config.configured else looks

    def _look_at_history(self, before: _Before) -> None:
        before.history = self._world.gateway.read_history(self._job.path) or {}

    def _look_at_roles(self, before: _Before) -> None:
        roles = self._world.gateway.list_roles(self._job.path)
        before.roles = {name: role.ctx_probe or None for name, role in roles.items()}

    def _look_beside(self, before: _Before) -> None:
        before.beside = neighbours(self._world.gateway, self._job.path)
        before.paths = paths_beside(self._world.gateway, self._job.path)

        def known(path: str, node: str, state: str) -> None:
            before.states[path, node] = state

        health_states(self._ways, before.paths, known)

    def _last_verify(self, before: _Before) -> None:
        """Learn how long a token lives that was minted until now."""
        started = self._world.clock.now()
        report = self._world.gateway.verify_config(self._job.path)
        ends = [proof.expires_at for proof in report.roles.values() if proof.expires_at]
        if ends:
            before.token_life = max(parse_rfc3339(end) for end in ends) - started

    # The cut-off ---------------------------------------------------------------------

    def _cut(self) -> None:
        """Delete the config until nobody has written it again.

        Raises:
            VaultError: it could not be deleted, or whether it was is not known.
        """
        with self._recorder.step(StepName.CUT_OFF) as found:
            for _ in range(_ROUNDS):
                self._world.gateway.cut_off(self._job.path)
                self._cut_off_at = rfc3339(self._world.clock.now())
                self._cut_off = self._is_cut_off()
                if self._cut_off:
                    found.detail = "no credential is live and none is kept"
                    return
            found.ok, found.detail = False, "somebody writes it again"

    def _is_cut_off(self) -> bool:
        try:
            return not self._world.gateway.read_config(self._job.path).configured
        except VaultError as error:
            # The server has confirmed the deletion; the nodes are asked in a moment.
            self._problems.append(words.not_read_back(self._job.name, error))
            return True

    # Skyflow ---------------------------------------------------------------------------

    def _settle_keys(
        self, before: _Before, *, delete_keys: bool
    ) -> tuple[tuple[RevokedKey, ...], Mapping[str, str]]:
        """Return the keys with what has become of them at Skyflow, and when each ends."""
        with self._recorder.step(StepName.KEYS_AT_SKYFLOW) as found:
            keys = keys_of(before.config, before.history, self._later_history())
            sweep = KeySweep(self._world.operator, self._beside(before), delete_keys)
            keys = tuple(sweep.settle(key) for key in keys)
            self._problems += sweep.problems
            ends = {before.config.key_id: str(before.config.raw.get("key_valid_before") or "")}
            deleted = sum(key.at_skyflow is AtSkyflow.DELETED for key in keys)
            found.ok = not sweep.problems
            found.detail = f"{deleted} of {len(keys)} deleted there by this run"
        return keys, {**ends, **{key: end for key, end in sweep.valid_before.items() if end}}

    def _beside(self, before: _Before) -> Neighbours:
        beside = before.beside
        if "" in beside.unread:
            beside = neighbours(self._world.gateway, self._job.path)
        if beside.unread:
            self._warnings.append(words.others_unread(beside.unread))
        return beside

    def _later_history(self) -> Mapping[int, HistoryEntry]:
        try:
            return self._world.gateway.read_history(self._job.path) or {}
        except VaultError as error:
            self._warnings.append(words.look_failed(error))
            return {}

    # Proofs ------------------------------------------------------------------------------

    def _prove_nodes(self, before: _Before) -> tuple[NodeCut, ...]:
        """Prove every node; a credential that was written meanwhile is destroyed again."""
        with self._recorder.step(StepName.PROVE_CUT_OFF) as found:
            roles = before.roles or self._roles_now()
            nodes = self._ask_nodes(roles)
            rounds = 1
            while (again := self._written_again()) and rounds < _ROUNDS:
                nodes, rounds = self._ask_nodes(roles), rounds + 1
            unproved = [node for node in nodes if not node.proved]
            found.ok = self._cut_off and not unproved and not again
            found.detail = f"{len(nodes) - len(unproved)} of {len(nodes)} nodes give no token"
        self._problems += [words.not_proved(self._job.name, node) for node in unproved]
        if again or not self._cut_off:
            self._problems.append(words.written_again(self._job.name))
        return nodes

    def _roles_now(self) -> _Roles:
        before = _Before(LiveConfig(False, "", "", "", (), 0, 0))
        try:
            self._look_at_roles(before)
        except VaultError as error:
            self._problems.append(words.roles_unknown(self._job.name, error))
        return before.roles

    def _written_again(self) -> bool:
        """Whether the mount was configured by now; then it is cut off once more."""
        try:
            if not self._world.gateway.read_config(self._job.path).configured:
                self._cut_off = True
                return False
            self._cut()
        except VaultError as error:
            self._problems.append(words.not_read_back(self._job.name, error))
            return False
        return True

    def _ask_nodes(self, roles: _Roles) -> tuple[NodeCut, ...]:
        options = replace(self._job.options, unverified_nodes=True)
        try:
            with open_nodes(self._world, replace(self._job, options=options)) as nodes:
                cuts = nodes.prove_cut_off(self._job.path, roles)
                unasked = [name for name in self._listed() if name not in nodes.names]
                said = nodes.warnings
        except SkyflowctlError as error:
            return (NodeCut("the server's nodes", problem=error.problems[0].summary),)
        missing = tuple(NodeCut(name, problem=words.unasked(name, said)) for name in unasked)
        if said and not missing:
            missing = (NodeCut("other nodes", problem=said[0].summary),)
        return (*cuts, *missing)

    def _listed(self) -> tuple[str, ...]:
        """Return the nodes that the cluster has; a login that may not know is told of already."""
        try:
            listed = self._world.gateway.nodes() if self._world.connect else ()
        except VaultError:
            return ()
        return names(listed) if len(listed) > 1 else ()

    def _prove_others(self, before: _Before) -> tuple[OtherMount, ...]:
        """See that the other mounts serve; one that did not before is not blamed."""
        with self._recorder.step(StepName.PROVE_OTHERS) as found:
            paths = before.paths or self._paths_beside()
            others = self._compare(before, paths)
            for _ in range(_HEALTH_TRIES - 1):
                if not any(other.broken for other in others):
                    break
                # Another mount's trouble may pass, and is not ours to report too early.
                self._world.sleep(_PAUSE)
                others = self._compare(before, paths)
            broken = [other for other in others if other.broken]
            found.ok = not broken
            found.detail = f"{len(others) - len(broken)} of {len(others)} serve as before"
        self._problems[:0] = [words.broken(other) for other in broken]
        unknown = [other for other in others if not other.before and other.after != "ok"]
        self._problems += [words.other_not_proved(other) for other in unknown]
        return others

    def _paths_beside(self) -> tuple[str, ...]:
        try:
            return paths_beside(self._world.gateway, self._job.path)
        except VaultError as error:
            self._problems.append(words.others_unknown(self._job.name, error))
            return ()

    def _compare(self, before: _Before, paths: tuple[str, ...]) -> tuple[OtherMount, ...]:
        after = health_states(self._ways, paths, _tell_nobody)
        rows: dict[str, list[OtherMount]] = {}
        for (path, node), state in after.items():
            row = OtherMount(path, before.states.get((path, node), ""), state, node)
            rows.setdefault(path, []).append(row)
        return tuple(max(of_one, key=_how_bad) for of_one in rows.values())


def _how_bad(other: OtherMount) -> tuple[bool, bool]:
    return other.broken, other.after != "ok"


def _tell_nobody(_path: str, _node: str, _state: str) -> None:
    """Wait for the whole answer."""


def _error_of(look: Future[Any]) -> BaseException | None:
    return look.exception()


def _remains(
    before: _Before,
    proved_at: datetime,
    keys: tuple[RevokedKey, ...],
    ends: Mapping[str, str],
    nodes: tuple[NodeCut, ...],
) -> tuple[Remains, ...]:
    """Return what no cut-off ends: tokens, wrapped tokens, keys at Skyflow, snapshots."""
    last = proved_at + before.token_life
    rotation = before.config.rotation
    if rotation is not None and rotation.old_tokens_valid_until:
        last = max(last, parse_rfc3339(rotation.old_tokens_valid_until))
    until = rfc3339(last)
    unproved = [Remains(words.minting_node(node.node), "") for node in nodes if not node.proved]
    left = [key for key in keys if key.at_skyflow in (AtSkyflow.LEFT, AtSkyflow.UNKNOWN)]
    at_skyflow = [Remains(words.key_left(key), ends.get(key.key_id, "")) for key in left]
    return (
        *(Remains(what, until) for what in (words.BEARERS, words.WRAPPED) if keys),
        *unproved,
        *at_skyflow,
        *((Remains(words.SNAPSHOTS, ""),) if left else ()),
    )
