"""The proof before the cut-over: what the live credential mints, and what the new one does."""

from collections.abc import Mapping

from skyflowctl.rotation import rotate_messages as words
from skyflowctl.rotation.model import NewCredential, StepName
from skyflowctl.rotation.retry import PAUSE
from skyflowctl.rotation.serving import is_inconclusive, live_report
from skyflowctl.rotation.session import RotationSession
from skyflowctl.vault.live import LiveConfig
from skyflowctl.vault.responses import RoleProof, VerifyReport

# How long a key that was created a moment ago may be unknown to Skyflow's token service.
FRESH_SECONDS = 30.0


def verify_candidate(
    run: RotationSession, config: LiveConfig, new: NewCredential, *, fresh: bool
) -> frozenset[str]:
    """Have both credentials mint for every role, and refuse one that would lock anyone out.

    The live one is tried first: so the engine learns how long its tokens live.

    Args:
        run: the mount's.
        config: what is live.
        new: the candidate.
        fresh: it was created a moment ago.

    Returns:
        The roles that neither credential can mint.

    Raises:
        RefusedError: by the rules of :func:`compare_role_results`, or a canary is no role.
    """
    with run.step(StepName.PROVE) as found:
        live = live_report(run.gateway, run.path) if config.configured else None
        roles = live.roles if live else {}
        candidate = _tried(run, new, roles, FRESH_SECONDS if fresh else 0.0)
        for role in run.job.options.canaries:
            if role not in candidate.roles:
                raise words.no_such_canary(run.path, role)
        broken = compare_role_results(run, roles, candidate.roles)
        minted = sum(proof.ok for proof in candidate.roles.values())
        found.detail = f"{minted} of {len(candidate.roles)} roles mint with the new credential"
    return broken


def compare_role_results(
    run: RotationSession, live: Mapping[str, RoleProof], new: Mapping[str, RoleProof]
) -> frozenset[str]:
    """Accept a candidate that mints all that the live credential mints; return what none can.

    A role that neither can mint is a warning. Where nobody knows what the live one can,
    because it got no clear answer, a failure of the new one refuses.

    Raises:
        RefusedError: it lacks a role, mints nothing, or got no clear answer.
    """
    failed = {name: proof for name, proof in new.items() if not proof.ok}
    for name, proof in failed.items():
        before = live.get(name)
        if before is not None and before.ok and not is_inconclusive(proof):
            raise words.role_lost(run.path, name, proof)
    for name, proof in failed.items():
        before = live.get(name)
        if is_inconclusive(proof) or (before is not None and is_inconclusive(before)):
            raise words.unproven_credential(run.path, name, proof)
    if failed and len(failed) == len(new):
        name, proof = next(iter(failed.items()))
        raise words.mints_nothing(run.path, name, proof)
    run.warn(*(words.neither(run.path, name, proof) for name, proof in failed.items()))
    return frozenset(failed)


def _tried(
    run: RotationSession, new: NewCredential, live: Mapping[str, RoleProof], patience: float
) -> VerifyReport:
    """Try the candidate; again while it may not be known everywhere yet."""
    clock = run.world.clock
    until = clock.monotonic() + patience
    told = False
    while True:
        report = run.gateway.verify_config(run.path, new.field)
        if not _may_be_unknown(report.roles, live):
            return report
        # Whoever has taken this rotation over has deleted the key.
        run.heartbeat.beat()
        if clock.monotonic() + PAUSE > until:
            return report
        run.check_stop()
        if not told:
            run.tell(f"the new key is not known to the token service yet; up to {patience:g} s")
            told = True
        run.world.sleep(PAUSE)


def _may_be_unknown(new: Mapping[str, RoleProof], live: Mapping[str, RoleProof]) -> bool:
    """Whether a role got a 401 that may be the key's: a role that no key mints is not such."""
    none = not any(proof.ok for proof in new.values())
    return any(
        not proof.ok and proof.status == 401 and (none or (name in live and live[name].ok))
        for name, proof in new.items()
    )
