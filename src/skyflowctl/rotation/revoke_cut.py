"""The cut-off itself: the config is deleted until nobody has written it again."""

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.engine.rotations import NODES_LEARN
from skyflowctl.rotation import revoke_messages as words
from skyflowctl.rotation.model import StepName
from skyflowctl.rotation.revoke_snapshot import RevocationSession, Snapshot
from skyflowctl.vault import rights
from skyflowctl.vault.decode import REVOKED_MARK
from skyflowctl.vault.errors import VaultError

CUT_ROUNDS = 3


def delete_until_gone(scene: RevocationSession) -> None:
    """Delete the config until nobody has written it again.

    The engine keeps the reason and the run. An earlier release that knows neither is cut
    off all the same, with a warning.

    Raises:
        VaultError: it could not be deleted, or whether it was is not known.
    """
    gateway = scene.world.gateway
    with scene.recorder.step(StepName.CUT_OFF) as found:
        for _ in range(CUT_ROUNDS):
            told = gateway.cut_off(scene.job.path, scene.reason, scene.world.run_id)
            scene.tokens_until = told.tokens_valid_until or scene.tokens_until
            scene.cut_off_at = rfc3339(scene.world.clock.now())
            scene.cut_off = _read_back(scene)
            if scene.cut_off:
                found.detail = "no credential is live and none is kept"
                if not told.words_kept:
                    scene.warnings.append(words.reason_not_kept(scene.job.name))
                return
        found.ok, found.detail = False, "somebody writes it again"


def mark_cut_off(scene: RevocationSession, before: Snapshot) -> None:
    """Leave on the mount itself what a basic engine keeps nowhere; an earlier mark stays.

    Without it the next apply would write the manifest's credential again. What keeps it
    from being written is a problem of the outcome.
    """
    config = before.config
    if config.api.has("history") or config.revoked is not None:
        return
    if config.configured and not config.key_id:
        scene.warnings.append(words.key_not_known(scene.job.name))
    end = parse_rfc3339(scene.cut_off_at) + before.token_life + NODES_LEARN
    scene.tokens_until = rfc3339(end)
    told = {
        "at": scene.cut_off_at,
        "by": _who(scene),
        "reason": scene.reason,
        "run": scene.world.run_id,
        "key_id": config.key_id,
        "client_id": config.client_id,
        "tokens_until": scene.tokens_until,
    }
    options = {f"{REVOKED_MARK}{name}": text for name, text in told.items()}
    try:
        scene.world.gateway.tune_mount(scene.job.path, {"options": options})
    except VaultError as error:
        scene.problems.append(words.not_marked(scene.job.name, error))


def _who(scene: RevocationSession) -> str:
    try:
        return rights.display_name(scene.world.gateway.transport)
    except VaultError:
        return ""


def _read_back(scene: RevocationSession) -> bool:
    """Return whether the mount has no credential; the time is the engine's, if it tells one."""
    try:
        config = scene.world.gateway.read_config(scene.job.path)
    except VaultError as error:
        # The server has confirmed the deletion; the nodes are asked in a moment.
        scene.problems.append(words.not_read_back(scene.job.name, error))
        return True
    scene.kept = config.revoked
    if config.revoked and not config.revoked.key_id:
        scene.warnings.append(words.key_not_known(scene.job.name))
    if config.revoked:
        scene.cut_off_at = config.revoked.at
    return not config.configured
