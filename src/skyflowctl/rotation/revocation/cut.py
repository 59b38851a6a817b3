"""The cut-off itself: deletes the config until no writer has written it again."""

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.engine.rotations import NODES_LEARN
from skyflowctl.errors import Problem, SkyflowctlError
from skyflowctl.rotation.model import StepName
from skyflowctl.rotation.revocation.model import CutOffState
from skyflowctl.rotation.revocation.snapshot import Snapshot
from skyflowctl.rotation.session import RotationSession
from skyflowctl.vault.decode import REVOKED_MARK
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.live import LiveRevocation

CUT_ROUNDS = 3


def delete_until_gone(session: RotationSession, reason: str, tokens_until: str = "") -> CutOffState:
    """Delete the config until no writer has written it again.

    The engine keeps the reason and the run. An earlier release that keeps neither is cut off too,
    with a warning.

    Args:
        session: the mount's.
        reason: for the incident file.
        tokens_until: when the last token ends, as known so far.

    Raises:
        VaultError: it was not deleted, or it is unknown whether it was.
    """
    with session.step(StepName.CUT_OFF) as found:
        for _ in range(CUT_ROUNDS):
            answer = session.engine.cut_off(reason, session.deps.run_id)
            tokens_until = answer.tokens_valid_until or tokens_until
            at = rfc3339(session.deps.clock.now())
            done, kept = _read_back(session)
            cut = CutOffState(kept.at if kept else at, done, kept, tokens_until)
            if done:
                found.detail = "no credential is live and none is kept"
                if not answer.words_kept:
                    session.warn(_reason_not_kept(session.job.name))
                return cut
        found.ok, found.detail = False, "another client writes it again"
        return cut


def mark_cut_off(
    session: RotationSession, before: Snapshot, cut: CutOffState, reason: str
) -> CutOffState:
    """Mark a basic engine's mount as cut off, which the engine cannot store; keep an earlier mark.

    Without the mark the next apply would write the manifest's credential again. A failure to write
    it is a problem of the outcome.
    """
    config = before.config
    if config.api.has("history") or config.revoked is not None:
        return cut
    if config.configured and not config.key_id:
        session.warn(_key_not_known(session.job.name))
    end = rfc3339(parse_rfc3339(cut.at) + before.token_life + NODES_LEARN)
    mark = {
        "at": cut.at,
        "by": _display_name(session),
        "reason": reason,
        "run": session.deps.run_id,
        "key_id": config.key_id,
        "client_id": config.client_id,
        "tokens_until": end,
    }
    options = {f"{REVOKED_MARK}{name}": text for name, text in mark.items()}
    try:
        session.gateway.sys.tune_mount(session.path, {"options": options})
    except VaultError as error:
        session.problems.append(_not_marked(session.job.name, error))
    return CutOffState(cut.at, cut.done, cut.kept, end)


def _display_name(session: RotationSession) -> str:
    try:
        return session.gateway.sys.display_name()
    except VaultError:
        return ""


def _read_back(session: RotationSession) -> tuple[bool, LiveRevocation | None]:
    """Return whether the mount has no credential, and the engine's record of the cut-off."""
    try:
        config = session.engine.config()
    except VaultError as error:
        # The server has confirmed the deletion; the nodes are asked in a moment.
        session.problems.append(not_read_back(session.job.name, error))
        return True, None
    if config.revoked and not config.revoked.key_id:
        session.warn(_key_not_known(session.job.name))
    return not config.configured, config.revoked


def not_read_back(name: str, error: SkyflowctlError) -> Problem:
    """Return the problem that the leader could not be read after the cut-off."""
    return Problem(
        "not-read-back",
        f"whether {name} stays cut off could not be read back",
        error.problems[0].summary,
        "run the same command again: what is destroyed stays destroyed, "
        "and everything is checked again",
    )


def _reason_not_kept(name: str) -> Problem:
    return Problem(
        "reason-not-kept",
        f"{name} is cut off, and its engine keeps neither the reason nor the run",
        "an earlier release of the engine runs there; it does not refuse a revoked key either",
        "put this page into the incident file, and upgrade the engine: 'skyflowctl plugin list'",
    )


def _key_not_known(name: str) -> Problem:
    """Return the warning that the live key's id is unknown, so nothing refuses that key."""
    return Problem(
        "revoked-key-unknown",
        f"{name} is cut off, and which key was live is not known",
        "its engine did not report it, or read it from a file on the server; without a key id that "
        "key is not refused if it is written again",
        "delete it in Skyflow Studio, and the file that held it",
    )


def _not_marked(name: str, error: SkyflowctlError) -> Problem:
    return Problem(
        "not-marked",
        f"{name} is cut off, and its mount could not be marked so",
        f"its engine keeps no reason, and: {error.problems[0].summary}",
        "run the same command again with a login that may tune the mount; until then an apply "
        "would write the manifest's credential",
    )
