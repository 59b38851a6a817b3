"""The proof before the cut-over: what the live credential mints, and what the new one does."""

from collections.abc import Mapping

from skyflowctl.credentials.model import Credential
from skyflowctl.errors import RefusedError
from skyflowctl.retry import retry
from skyflowctl.rotation import messages
from skyflowctl.rotation.model import StepName
from skyflowctl.rotation.serving import is_inconclusive, live_report
from skyflowctl.rotation.session import RETRY_PAUSE, RotationSession
from skyflowctl.vault.errors import RevokedKeyError
from skyflowctl.vault.live import CredentialVersion, LiveConfig
from skyflowctl.vault.responses import RoleResult, VerifyReport

# How long a key that was created a moment ago may be unknown to Skyflow's token service.
FRESH_SECONDS = 30.0


def revoked_and_allowed(
    session: RotationSession,
    config: LiveConfig,
    key_id: str,
    history: Mapping[int, CredentialVersion] | None = None,
) -> bool:
    """Return whether a cut-off revoked this key and the caller allows it anyway.

    Raises:
        RevokedKeyError: the key was revoked, and the caller does not allow it.
    """
    marks = session.engine.revoked_keys(config, history)
    session.from_revoked = session.from_key in marks
    mark = marks.get(key_id)
    if mark is None:
        return False
    if key_id not in session.job.options.allow_revoked:
        raise RevokedKeyError.of_key(session.path, key_id, f"it was {mark.sentence()}")
    return True


def verify_candidate(
    session: RotationSession, config: LiveConfig, new: Credential, *, fresh: bool
) -> frozenset[str]:
    """Let both credentials mint for every role; refuse one that would make a role fail.

    The live one is tried first, so that the engine learns how long its tokens are valid.

    Args:
        session: the mount's.
        config: the live config.
        new: the candidate.
        fresh: it was created a moment ago.

    Returns:
        The roles that neither credential can mint.

    Raises:
        RefusedError: by the rules of :func:`compare_role_results`, or a canary is no role.
    """
    with session.step(StepName.PROVE) as found:
        live = live_report(session.gateway, session.path) if config.configured else None
        roles = live.roles if live else {}
        candidate = _tried(session, new, roles, FRESH_SECONDS if fresh else 0.0)
        for role in session.job.options.canaries:
            if role not in candidate.roles:
                raise RefusedError(
                    f"the mount has no role {role} to be a canary: {session.path}",
                    why="a canary reads a token of a role through creds",
                    fix=f"name a role that 'skyflowctl role list {session.path}' lists",
                    code="unknown-canary",
                )
        broken = compare_role_results(session, roles, candidate.roles)
        minted = sum(proof.ok for proof in candidate.roles.values())
        found.detail = f"{minted} of {len(candidate.roles)} roles mint with the new credential"
    return broken


def compare_role_results(
    session: RotationSession, live: Mapping[str, RoleResult], new: Mapping[str, RoleResult]
) -> frozenset[str]:
    """Accept a candidate that mints all roles of the live credential; return those neither can.

    A role that neither can mint is a warning. If the live credential got no clear answer for a
    role, a failure of the new one refuses it.

    Raises:
        RefusedError: it lacks a role, mints nothing, or got no clear answer.
    """
    failed = {name: proof for name, proof in new.items() if not proof.ok}
    for name, proof in failed.items():
        before = live.get(name)
        if before is not None and before.ok and not is_inconclusive(proof):
            raise messages.role_lost(session.path, name, proof)
    for name, proof in failed.items():
        before = live.get(name)
        if is_inconclusive(proof) or (before is not None and is_inconclusive(before)):
            raise messages.unverified_credential(session.path, name, proof)
    if failed and len(failed) == len(new):
        name, proof = next(iter(failed.items()))
        raise messages.mints_nothing(session.path, name, proof)
    session.warn(*(messages.neither(session.path, name, proof) for name, proof in failed.items()))
    return frozenset(failed)


def _tried(
    session: RotationSession, new: Credential, live: Mapping[str, RoleResult], seconds: float
) -> VerifyReport:
    """Try the candidate; retry while Skyflow may not know it everywhere yet."""
    clock = session.deps.clock
    until = clock.monotonic() + seconds

    def wait(_report: VerifyReport, tries: int) -> bool:
        # Another run may have taken this rotation over and deleted the key.
        session.heartbeat.beat()
        if clock.monotonic() + RETRY_PAUSE > until:
            return False
        session.check_stop()
        if tries == 1:
            session.tell(f"the new key is not known to the token service yet; up to {seconds:g} s")
        session.deps.sleep(RETRY_PAUSE)
        return True

    return retry(
        lambda: session.engine.verify(new.field),
        lambda report: not _may_be_unknown(report.roles, live),
        wait,
    )


def _may_be_unknown(new: Mapping[str, RoleResult], live: Mapping[str, RoleResult]) -> bool:
    """Whether a role got a 401 that may concern the key; a role that no key mints does not."""
    none = not any(proof.ok for proof in new.values())
    return any(
        not proof.ok and proof.status == 401 and (none or (name in live and live[name].ok))
        for name, proof in new.items()
    )
