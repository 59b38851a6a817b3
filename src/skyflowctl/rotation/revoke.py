"""Break-glass: a mount loses every credential at once, and what that reached is proved.

The cut-off comes first and waits for nothing that may be broken: not for the token service,
not for a sealed standby, not for a node that nobody named. What is looked at before it has a
few seconds; everything else is asked, deleted and proved after it.

The engine keeps the reason and the run id until the next credential, and every key that was
destroyed counts as revoked for good.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from skyflowctl.clock import rfc3339, time_or_none
from skyflowctl.engine.rotations import NODES_LEARN
from skyflowctl.errors import ExitCode, UsageError
from skyflowctl.rotation import revoke_messages as words
from skyflowctl.rotation.model import RotationJob, StepName
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.rotation.retire_messages import unread_mounts
from skyflowctl.rotation.revoke_cut import delete_until_gone, mark_cut_off
from skyflowctl.rotation.revoke_proof import prove_nodes, prove_others
from skyflowctl.rotation.revoke_snapshot import RevocationSession, Snapshot, look_before
from skyflowctl.rotation.revoked import (
    AtSkyflow,
    NodeCut,
    OtherMount,
    Remains,
    RevokedKey,
    RevokeOutcome,
)
from skyflowctl.rotation.revoked_keys import KeySweep, keys_of
from skyflowctl.rotation.sibling_mounts import (
    SiblingMounts,
    doors,
    sibling_mounts,
)
from skyflowctl.rotation.write_recorder import Recorder
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.live import CredentialVersion, LiveConfig, LiveRevocation
from skyflowctl.vault.workers import Workers


def revoke_mount(
    job: RotationJob, world: Dependencies, *, reason: str, delete_keys: bool = False
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
        scene = RevocationSession(job, world, reason.strip(), pool, ways, Recorder(world, job.name))
        return _revoke(scene, delete_keys=delete_keys)


def _revoke(scene: RevocationSession, *, delete_keys: bool) -> RevokeOutcome:
    """Look, cut off, prove."""
    before = look_before(scene)
    delete_until_gone(scene)
    mark_cut_off(scene, before)
    kept = _kept(scene, before.config)
    if before.config.revoked is not None and not before.config.configured:
        given = scene.reason if kept.reason != scene.reason else ""
        scene.warnings.append(words.cut_off_before(scene.job.name, kept, given, before.config.api))
    keys, ends = _settle_keys(scene, before, delete_keys=delete_keys)
    nodes = prove_nodes(scene, before)
    proved_at = scene.world.clock.now()
    proved = {node.node for node in nodes if node.proved}
    others = prove_others(scene, before, proved)
    scene.problems += words.of_keys(keys, scene.job.name, delete_keys=delete_keys)
    config = before.config
    return RevokeOutcome(
        name=scene.job.name,
        path=scene.job.path,
        reason=kept.reason,
        run_id=kept.run,
        cut_off=scene.cut_off,
        done_before=not config.configured,
        live_key_id=next((key.key_id for key in keys if key.was == "live"), ""),
        cut_off_at=_since(scene, config),
        keys=keys,
        nodes=nodes,
        others=others,
        cannot_revoke=_remains(before, _last_token(scene, before, proved_at), keys, ends, nodes),
        steps=scene.recorder.steps,
        problems=tuple(scene.problems),
        warnings=tuple(scene.warnings),
        exit_code=_exit_code(scene, others),
    )


def _kept(scene: RevocationSession, config: LiveConfig) -> LiveRevocation:
    """Return the words that stay: those of the first cut-off, else this run's."""
    first = scene.kept or (config.revoked if not config.configured else None)
    if first is not None and first.reason:
        return first
    at = first.at if first else scene.cut_off_at
    return LiveRevocation(at, reason=scene.reason, run=scene.world.run_id)


def _last_token(scene: RevocationSession, before: Snapshot, proved_at: datetime) -> datetime:
    """Return when the last token ends that was minted before the cut-off.

    A cut-off that is proved once more moves it no further.
    """
    config = before.config
    # A token's exp is in whole seconds, so another may live up to one longer than the one seen.
    seen = proved_at + before.token_life + timedelta(seconds=1)
    ends = [time_or_none(scene.tokens_until)]
    if config.configured:
        ends.append(seen)
    elif (since := time_or_none(_since(scene, config))) and not scene.tokens_until:
        ends.append(since + before.token_life + NODES_LEARN)
    if config.rotation is not None:
        ends.append(time_or_none(config.rotation.old_tokens_valid_until))
    return max(filter(None, ends), default=seen)


def _since(scene: RevocationSession, config: LiveConfig) -> str:
    """When the mount lost its credential; one that had none tells it by its last change."""
    told = "" if config.configured else str(config.raw.get("last_updated") or "")
    if config.revoked is not None and not config.configured:
        told = config.revoked.at or told
    return told or scene.cut_off_at


def _exit_code(scene: RevocationSession, others: tuple[OtherMount, ...]) -> ExitCode:
    if any(other.broken for other in others):
        return ExitCode.UNHEALTHY
    return ExitCode.PARTIAL if scene.problems else ExitCode.OK


def _settle_keys(
    scene: RevocationSession, before: Snapshot, *, delete_keys: bool
) -> tuple[tuple[RevokedKey, ...], Mapping[str, str]]:
    """Return the keys with what has become of them at Skyflow, and when each ends."""
    with scene.recorder.step(StepName.KEYS_AT_SKYFLOW) as found:
        keys = keys_of(before.config, before.history, _later_history(scene))
        sweep = KeySweep(scene.world.operator, _beside(scene, before), delete_keys)
        keys = tuple(sweep.settle(key) for key in keys)
        scene.problems += sweep.problems
        ends = {before.config.key_id: str(before.config.raw.get("key_valid_before") or "")}
        deleted = sum(key.at_skyflow is AtSkyflow.DELETED for key in keys)
        found.ok = not sweep.problems
        found.detail = f"{deleted} of {len(keys)} deleted there by this run"
    return keys, {**ends, **{key: end for key, end in sweep.valid_before.items() if end}}


def _beside(scene: RevocationSession, before: Snapshot) -> SiblingMounts:
    beside = before.beside
    if "" in beside.unread:
        beside = sibling_mounts(scene.world.gateway, scene.job.path)
    if beside.unread:
        scene.warnings.append(unread_mounts("a revoked key", beside.unread))
    return beside


def _later_history(scene: RevocationSession) -> Mapping[int, CredentialVersion]:
    try:
        return scene.world.gateway.read_history(scene.job.path) or {}
    except VaultError as error:
        scene.warnings.append(words.look_failed(error))
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
    unproved = [Remains(words.minting_node(node.node), "") for node in nodes if not node.proved]
    left = [key for key in keys if key.at_skyflow in (AtSkyflow.LEFT, AtSkyflow.UNKNOWN)]
    at_skyflow = [Remains(words.key_left(key), ends.get(key.key_id, "")) for key in left]
    unknown = before.config.configured and not keys
    return (
        *(Remains(what, until) for what in (words.BEARERS, words.WRAPPED) if keys or unknown),
        *((Remains(words.UNKNOWN_KEY, ""),) if unknown else ()),
        *unproved,
        *at_skyflow,
        *((Remains(words.SNAPSHOTS, ""),) if left else ()),
    )
