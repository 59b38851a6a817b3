"""Break-glass: destroys every credential of a mount at once, and verifies the result.

The cut-off comes first. It waits for no part that may be broken: the token service, a sealed
standby, a node that was not named. The snapshot before it is limited to a few seconds; all other
requests, deletions and checks follow it.

The engine keeps the reason and the run id until the next credential, and every key that was
destroyed counts as revoked for good.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from skyflowctl.clock import rfc3339, rfc3339_or_empty, time_or_none
from skyflowctl.concurrency import Workers
from skyflowctl.engine.rotations import NODES_LEARN
from skyflowctl.errors import ExitCode, Problem, UsageError
from skyflowctl.rotation.messages import mounts_not_read
from skyflowctl.rotation.model import RotationJob, StepName
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.rotation.revocation.cut import delete_until_gone, mark_cut_off
from skyflowctl.rotation.revocation.keys import KeySweep, keys_of
from skyflowctl.rotation.revocation.model import (
    AtSkyflow,
    CutOffState,
    NodeCut,
    OtherMount,
    Remains,
    RevokedKey,
    RevokeOutcome,
)
from skyflowctl.rotation.revocation.snapshot import (
    Snapshot,
    look_failed,
    take_revocation_snapshot,
)
from skyflowctl.rotation.revocation.verify import verify_cut_off, verify_others
from skyflowctl.rotation.session import RotationSession
from skyflowctl.rotation.sibling_mounts import (
    NodeGateways,
    SiblingMounts,
    open_node_gateways,
    sibling_mounts,
)
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.live import CredentialVersion, LiveConfig, LiveRevocation, way_out

_BEARERS = "bearer tokens that were minted before: Skyflow cannot revoke one"
_WRAPPED = (
    "tokens that lie wrapped in the server: each can be unwrapped until its wrapping ends, "
    "and is a bearer token like the others"
)
_UNKNOWN_KEY = (
    "the key that was live, which neither the engine nor a token named: it is valid at Skyflow "
    "until it is deleted there"
)
_SNAPSHOTS = (
    "snapshots of the server that hold the credential: restored, it is live again as long as "
    "its key is valid at Skyflow"
)


def revoke_mount(
    job: RotationJob, deps: Dependencies, *, reason: str, delete_keys: bool = False
) -> RevokeOutcome:
    """Destroy the live and every kept credential of a mount, and verify that they are gone.

    It wins against every concurrent writer: it uses no check-and-set, and destroys a credential
    that is written meanwhile as well. After a kill at any instant, the same call completes the work
    and reports it in full from the history.

    Args:
        job: the mount.
        deps: ``operator`` lists the keys at Skyflow, and deletes them if asked to.
        reason: for the incident file.
        delete_keys: delete at Skyflow every key that this mount has held, except those live on
            another mount.

    Raises:
        UsageError: the reason is blank.
        VaultError: the mount is no engine, may not be read, or could not be cut off. After the
            cut-off no error is raised; failures are in the outcome.
    """
    if not reason.strip():
        raise UsageError(
            "a cut-off needs a reason",
            why="the server stores it with the run id, for the audit trail",
            fix="give --reason TEXT",
            code="no-reason",
        )
    session = RotationSession(job, deps)
    with open_node_gateways(deps) as ways, Workers(4) as pool:
        return _revoke(session, ways, pool, reason.strip(), delete_keys=delete_keys)


def _revoke(
    session: RotationSession, ways: NodeGateways, pool: Workers, reason: str, *, delete_keys: bool
) -> RevokeOutcome:
    """Take the snapshot, cut off, verify."""
    before = take_revocation_snapshot(session, ways, pool)
    config, name = before.config, session.job.name
    cut = delete_until_gone(session, reason, before.tokens_until)
    cut = mark_cut_off(session, before, cut, reason)
    kept = _kept(session, config, cut, reason)
    if config.revoked is not None and not config.configured:
        session.warn(_cut_off_before(session, config, kept, reason))
    keys, ends = _check_keys(session, before, delete_keys=delete_keys)
    nodes, cut = verify_cut_off(session, before, ways, cut, reason)
    verified_at = session.deps.clock.now()
    others = verify_others(session, before, ways, {node.node for node in nodes if node.proved})
    session.problems += _keys_left(keys, name) if delete_keys else []
    last = _last_token(before, cut, verified_at)
    return RevokeOutcome(
        name=name,
        path=session.path,
        reason=kept.reason,
        run_id=kept.run,
        cut_off=cut.done,
        done_before=not config.configured,
        live_key_id=next((key.key_id for key in keys if key.was == "live"), ""),
        cut_off_at=_since(config, cut),
        keys=keys,
        nodes=nodes,
        others=others,
        cannot_revoke=_remains(before, last, keys, ends, nodes),
        steps=session.steps,
        problems=tuple(session.problems),
        warnings=tuple(session.warnings),
        exit_code=_exit_code(session, others),
    )


def _cut_off_before(
    session: RotationSession, config: LiveConfig, first: LiveRevocation, reason: str
) -> Problem:
    """Return the warning that an earlier run cut the mount off; its reason is kept."""
    name = session.job.name
    dropped = "; the reason that was given now is not stored" if first.reason != reason else ""
    return Problem(
        "cut-off-before",
        f"{name} was cut off already: it is {first.sentence()}",
        f"the first reason, run and time stay; this run only verified the cut-off again{dropped}",
        way_out(name, config.api),
    )


def _kept(
    session: RotationSession, config: LiveConfig, cut: CutOffState, reason: str
) -> LiveRevocation:
    """Return the record to keep: that of the first cut-off, else this run's."""
    first = cut.kept or (config.revoked if not config.configured else None)
    if first is not None and first.reason:
        return first
    at = first.at if first else cut.at
    return LiveRevocation(at, reason=reason, run=session.deps.run_id)


def _last_token(before: Snapshot, cut: CutOffState, verified_at: datetime) -> datetime:
    """Return when the last token minted before the cut-off ends.

    Proving a cut-off again does not move this time.
    """
    config = before.config
    # A token's exp is in whole seconds, so another may live up to one second longer than it.
    seen = verified_at + before.token_life + timedelta(seconds=1)
    ends = [time_or_none(cut.tokens_until)]
    if config.configured:
        ends.append(seen)
    elif (since := time_or_none(_since(config, cut))) and not cut.tokens_until:
        ends.append(since + before.token_life + NODES_LEARN)
    if config.rotation is not None:
        ends.append(time_or_none(config.rotation.old_tokens_valid_until))
    return max(filter(None, ends), default=seen)


def _since(config: LiveConfig, cut: CutOffState) -> str:
    """Return when the mount lost its credential; if before this run, the config's last change."""
    since = "" if config.configured else rfc3339_or_empty(config.last_updated)
    if config.revoked is not None and not config.configured:
        since = config.revoked.at or since
    return since or cut.at


def _exit_code(session: RotationSession, others: tuple[OtherMount, ...]) -> ExitCode:
    if any(other.broken for other in others):
        return ExitCode.UNHEALTHY
    return ExitCode.PARTIAL if session.problems else ExitCode.OK


def _check_keys(
    session: RotationSession, before: Snapshot, *, delete_keys: bool
) -> tuple[tuple[RevokedKey, ...], Mapping[str, str]]:
    """Return the keys with their state at Skyflow, and when each ends."""
    with session.step(StepName.KEYS_AT_SKYFLOW) as found:
        keys = keys_of(before.config, before.history, _later_history(session))
        sweep = KeySweep(session.deps.operator, _siblings(session, before), delete_keys)
        keys = tuple(sweep.check(key) for key in keys)
        session.problems += sweep.problems
        ends = {before.config.key_id: rfc3339_or_empty(before.config.key_valid_before)}
        may_mint = [key for key in keys if key.at_skyflow in (AtSkyflow.LEFT, AtSkyflow.UNKNOWN)]
        deleted = sum(key.at_skyflow is AtSkyflow.DELETED for key in keys)
        found.ok = not sweep.problems and not may_mint
        found.detail = f"{deleted} of {len(keys)} deleted there by this run"
        if may_mint:
            found.detail += f"; {len(may_mint)} may still be valid"
    return keys, {**ends, **{key: end for key, end in sweep.valid_before.items() if end}}


def _siblings(session: RotationSession, before: Snapshot) -> SiblingMounts:
    siblings = before.siblings
    if "" in siblings.unread:
        siblings = sibling_mounts(session.gateway, session.path)
    if siblings.unread:
        session.warn(mounts_not_read("a revoked key", siblings.unread))
    return siblings


def _later_history(session: RotationSession) -> Mapping[int, CredentialVersion]:
    try:
        return session.engine.history() or {}
    except VaultError as error:
        session.warn(look_failed(error))
        return {}


def _remains(
    before: Snapshot,
    last: datetime,
    keys: tuple[RevokedKey, ...],
    ends: Mapping[str, str],
    nodes: tuple[NodeCut, ...],
) -> tuple[Remains, ...]:
    """Return what no cut-off ends: tokens, wrapped tokens, keys at Skyflow, snapshots."""
    until = rfc3339(last)
    unproved = [
        Remains(f"tokens that {node.node} may mint: its cut-off is not verified", "")
        for node in nodes
        if not node.proved
    ]
    left = [key for key in keys if key.at_skyflow in (AtSkyflow.LEFT, AtSkyflow.UNKNOWN)]
    at_skyflow = [Remains(_key_left(key), ends.get(key.key_id, "")) for key in left]
    unknown = before.config.configured and not keys
    return (
        *(Remains(what, until) for what in (_BEARERS, _WRAPPED) if keys or unknown),
        *((Remains(_UNKNOWN_KEY, ""),) if unknown else ()),
        *unproved,
        *at_skyflow,
        *((Remains(_SNAPSHOTS, ""),) if left else ()),
    )


def _key_left(key: RevokedKey) -> str:
    """Return what a key that may not be deleted can still do."""
    known = "Skyflow lists it" if key.at_skyflow is AtSkyflow.LEFT else "perhaps valid at Skyflow"
    why = f" ({key.detail})" if key.detail else ""
    return f"the key {key.key_id} of {key.client_id}, {known}{why}: a copy of it mints"


def _keys_left(keys: Iterable[RevokedKey], name: str) -> list[Problem]:
    """Return a problem for each key that was to be deleted at Skyflow and is not."""
    return [
        Problem(
            "key-left",
            f"the key {key.key_id} of {key.client_id} is not deleted at Skyflow",
            key.detail or "Skyflow still lists it",
            f"settle that, then run the same command for {name} again, or delete it in Skyflow "
            "Studio",
        )
        for key in keys
        if key.at_skyflow in (AtSkyflow.LEFT, AtSkyflow.UNKNOWN)
    ]
