"""Rotation on an engine with the basic API: no history, no check-and-set, no verification.

Such a server records no rotation. So the previous credential is one that the user names, and a
killed run is recognised only by the live key.
"""

from collections.abc import Mapping
from dataclasses import field

from skyflowctl.credentials.model import Credential
from skyflowctl.errors import ExitCode, Problem, RefusedError, SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.rotation import messages
from skyflowctl.rotation.model import Result, StepName
from skyflowctl.rotation.ports import FromReference, Generated, KeySource, ServerFile
from skyflowctl.rotation.serving import is_inconclusive
from skyflowctl.rotation.session import RotationAborted, RotationSession
from skyflowctl.rotation.verify import revoked_and_allowed
from skyflowctl.skyflow.minting import mint_each
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.skyflow.token_service import TokenService
from skyflowctl.vault.errors import BadRequestError, ForbiddenError, TokenServiceFailedError
from skyflowctl.vault.live import LiveConfig, LiveRole
from skyflowctl.vault.responses import RoleResult
from skyflowctl.vault.role_tokens import role_tokens

# With these errors the engine refuses a write.
_NOES = (BadRequestError, ForbiddenError, TokenServiceFailedError, RefusedError)


@dataclass(frozen=True, slots=True)
class _LiveTokens:
    """The creds of each role, and the key that minted them.

    Args:
        roles: every role's definition.
        failed: the reason by role, where creds gave no token.
        key_id: the key that the tokens, or the engine, name; empty: none does.
        client_id: their service account; empty: none does.
    """

    roles: Mapping[str, LiveRole]
    failed: Mapping[str, str] = field(default_factory=dict)
    key_id: str = ""
    client_id: str = ""

    @property
    def minting(self) -> list[str]:
        """The roles that give a token."""
        return [name for name in self.roles if name not in self.failed]


def rotate(session: RotationSession, config: LiveConfig, source: KeySource | None) -> Result:
    """Replace the credential; a later failure restores the previous one.

    Raises:
        RefusedError: there is no previous credential to return to, or the new one is unusable.
        RotationAborted: the previous credential was restored, or could not be.
    """
    live, new, previous = _proved(session, config, source)
    session.check_stop()
    with session.step(StepName.NOTE) as found:
        way = f"the rollback target is key {previous.key_id}" if previous else "no rollback target"
        found.detail = f"live is {_named(config, live)}; {way}"
    try:
        _write(session, new)
        _verify(session, new, live)
    except Exception as error:  # noqa: BLE001 - whatever failed, the old one goes back
        _go_back(session, new, previous, live, error)
    session.live_key_id = new.key_id
    return Result.ROTATED


def preview(session: RotationSession, config: LiveConfig, source: KeySource | None) -> Result:
    """Run the checks of :func:`rotate` that write nothing."""
    _proved(session, config, source)
    return Result.WOULD_ROTATE


def _named(config: LiveConfig, live: _LiveTokens) -> str:
    if not config.configured:
        return "nothing"
    return f"key {live.key_id}" if live.key_id else "a key that neither engine nor tokens name"


def _proved(
    session: RotationSession, config: LiveConfig, source: KeySource | None
) -> tuple[_LiveTokens, Credential, Credential | None]:
    """Return the live tokens, the new credential and the previous one; writes nothing.

    Raises:
        RefusedError: one of them is not the expected one, or does not mint.
    """
    source = _checked(session, config, source)
    with session.step(StepName.LINT) as found:
        new = source()
        previous = session.job.previous() if session.job.previous else None
        session.to_key = new.key_id
        found.detail = f"key {new.key_id}"
        session.warn(*new.warnings)
    with session.step(StepName.LOOK) as found:
        live = _read_live(session, config)
        session.from_key = session.live_key_id = live.key_id
        found.detail = f"live is {_named(config, live)}; {len(live.minting)} of {len(live.roles)}"
        found.detail += " roles give tokens"
        _compare(session, config, live, new)
    if previous is not None:
        _verify_previous(session, live, previous)
    _verify_new(session, live, new)
    return live, new, previous


def _checked(
    session: RotationSession, config: LiveConfig, source: KeySource | None
) -> FromReference:
    options = session.job.options
    if source is None:
        raise messages.no_source(session.path)
    if isinstance(source, Generated):
        raise RefusedError(
            f"no key is created for this engine: {session.path}",
            why="it cannot record which key a rotation created, so a killed run would lose one",
            fix="create the key in Skyflow Studio, then name it: "
            f"'skyflowctl rotate {session.path} --credentials REF'",
            code="cannot-generate",
        )
    if isinstance(source, ServerFile):
        raise RefusedError(
            f"a server_file is not rotated to on this engine: {session.path}",
            why="it has no config/verify, so it is not known which key the file holds or if it "
            "mints",
            fix=f"name the key itself: 'skyflowctl rotate {session.path} --credentials REF'",
            code="cannot-prove-file",
        )
    # A mount without a credential has none to return to.
    if config.configured and session.job.previous is None and not options.no_rollback:
        raise RefusedError(
            f"there would be nothing to roll back to: {session.path}",
            why="this engine has no history and no check-and-set, so it keeps no earlier "
            "credential",
            fix="name the live credential with --previous REF, or accept it with --no-rollback",
            code="no-way-back",
        )
    if options.canaries or options.watch:
        session.warn(
            Problem(
                "not-watched",
                f"canaries and watching are left out: {session.path}",
                "this engine does not say which key minted a token",
                f"watch 'skyflowctl health {session.path}' and the applications for a while",
            )
        )
    return source


def _compare(
    session: RotationSession, config: LiveConfig, live: _LiveTokens, new: Credential
) -> None:
    """Refuse a key that is live or was revoked, or is of another account, where known."""
    if live.key_id and new.key_id == live.key_id:
        raise RefusedError(
            f"nothing to rotate to: {session.path}",
            why=f"the reference holds key {new.key_id}, which is live already",
            fix="make the reference lead to a new key, or name one with "
            f"'skyflowctl rotate {session.path} --credentials REF --previous REF'",
            code="unchanged-credential",
        )
    revoked_and_allowed(session, config, new.key_id)
    other = live.client_id and live.client_id != new.client_id
    if other and not session.job.options.allow_different_account:
        raise messages.other_account(session.path, live.client_id, new.client_id)


def _write(session: RotationSession, new: Credential) -> None:
    with session.step(StepName.WRITE):
        fields = {"credentials_json": new.json, "validate_credentials": True}
        try:
            session.engine.write_config(fields)
        except BadRequestError as error:
            if not error.says("validate_credentials"):
                raise
            session.engine.write_config({"credentials_json": new.json})


def _verify(session: RotationSession, credential: Credential, live: _LiveTokens) -> None:
    """Have the engine verify it: its health says only that a config exists."""
    with session.step(StepName.VERIFY_NODES) as found:
        health = session.engine.health(refresh=True)
        if health.state == "unconfigured":
            raise SkyflowctlError(
                f"the engine is not healthy with the new credential: {session.path}",
                why=f"it says: {(health.error or health.configuration_status) or 'nothing'}",
                fix="check the key and its account's roles in Skyflow",
                code="unhealthy-after-write",
            )
        found.detail = _verify_live(session, credential, live)


def _go_back(
    session: RotationSession,
    new: Credential,
    previous: Credential | None,
    live: _LiveTokens,
    cause: Exception,
) -> None:
    """Restore the previous credential, and end the run.

    Raises:
        RefusedError: the engine refused the new one and never replaced the old one.
        RotationAborted: always; it says what is live.
    """
    if isinstance(cause, _NOES) and _is_not_live(session, new):
        raise messages.not_taken(session.path, cause) from cause
    problems = messages.problems_of(session.path, cause)
    if previous is None:
        left = Problem(
            "left-live",
            f"the new credential may be live, and there is nothing to roll back to: {session.path}",
            f"key {new.key_id} was written or may have been, and no earlier credential was named",
            f"'skyflowctl health {session.path}' says whether it serves; if not, write a good one "
            f"with 'skyflowctl rotate {session.path} --credentials REF'",
        )
        raise RotationAborted(Result.FAILED, [left, *problems], ExitCode.PARTIAL) from cause
    try:
        with session.step(StepName.ROLLBACK) as found:
            found.detail = f"key {previous.key_id}"
            session.engine.write_config({"credentials_json": previous.json})
        _verify(session, previous, live)
    except Exception as error:
        left = Problem(
            "not-written-back",
            f"the previous credential is not written back, or not verified: {session.path}",
            f"key {previous.key_id} should be live again",
            f"see 'skyflowctl health {session.path}'; write a good one with "
            f"'skyflowctl rotate {session.path} --credentials REF'",
        )
        raise RotationAborted(Result.FAILED, [left, *problems], ExitCode.PARTIAL) from error
    raise RotationAborted(Result.ROLLED_BACK, problems, ExitCode.PARTIAL) from cause


def _is_not_live(session: RotationSession, new: Credential) -> bool:
    """Whether the engine, or one of its tokens, names another key than the new one."""
    try:
        live = _read_live(session, session.look())
    except SkyflowctlError:
        return False
    return bool(live.key_id) and live.key_id != new.key_id


def _read_live(session: RotationSession, config: LiveConfig) -> _LiveTokens:
    """Read a token of every role through the server, and discard it.

    Raises:
        VaultError: the server itself does not answer.
    """
    roles = session.engine.roles()
    failed: dict[str, str] = {}
    key_id, client_id = config.key_id, config.client_id
    asked = roles if config.configured else {}
    for name, token in role_tokens(session.gateway, session.path, asked):
        if token.error is not None:
            failed[name] = token.why
        key_id, client_id = key_id or token.key_id, client_id or token.client_id
    return _LiveTokens(roles, failed, key_id, client_id)


def _verify_new(session: RotationSession, live: _LiveTokens, new: Credential) -> None:
    """Mint with the candidate for every role, from this machine; discard the tokens."""
    service = session.deps.token_service
    if service is None:
        session.warn(_local_proof_left_out(session.path))
        return
    with session.step(StepName.PROVE) as found:
        proofs = _mint_all(session, service, new, live.roles)
        for name, proof in proofs.items():
            if is_inconclusive(proof):
                raise messages.unverified_credential(session.path, name, proof)
            if proof.ok:
                continue
            if name in live.minting:
                raise messages.role_lost(session.path, name, proof)
            if not any(one.ok for one in proofs.values()):
                raise messages.mints_nothing(session.path, name, proof)
            session.warn(messages.neither(session.path, name, proof))
        minted = sum(one.ok for one in proofs.values())
        found.detail = f"{minted} of {len(proofs)} roles mint with the new credential"


def _verify_previous(session: RotationSession, live: _LiveTokens, previous: Credential) -> None:
    """Compare the previous credential with the live one, and mint with it for its roles."""
    with session.step(StepName.PROVE) as found:
        _compare_previous(session, live, previous)
        if not live.key_id:
            session.warn(
                Problem(
                    "previous-not-compared",
                    "whether --previous holds the live credential could not be seen: "
                    f"{session.path}",
                    f"neither the engine nor a token names the live key; key {previous.key_id} "
                    "mints",
                    "check that it is the key that was written last",
                )
            )
        service = session.deps.token_service
        if service is None:
            session.warn(_local_proof_left_out(session.path))
            return
        wanted = {name: role for name, role in live.roles.items() if name in live.minting}
        for name, proof in _mint_all(session, service, previous, wanted).items():
            if not proof.ok:
                raise _previous_does_not_mint(session.path, name, proof)
        found.detail = f"the rollback target, key {previous.key_id}, mints"


def _compare_previous(session: RotationSession, live: _LiveTokens, previous: Credential) -> None:
    ids = ((live.key_id, previous.key_id), (live.client_id, previous.client_id))
    for wanted, given in ids:
        if wanted and given != wanted:
            raise RefusedError(
                f"--previous is not the live credential: {session.path}",
                why=f"--previous holds key {given}, and key {wanted} is live",
                fix="name the credential that is live now",
                code="wrong-previous",
            )
    if live.roles and not live.minting:
        role, why = next(iter(live.failed.items()))
        raise RefusedError(
            f"the live credential mints no token, so --previous is not verified: {session.path}",
            why=f"role {role}: {why}",
            fix="fix that, or leave out --previous and accept it with --no-rollback",
            code="live-gives-no-token",
        )


def _verify_live(session: RotationSession, credential: Credential, live: _LiveTokens) -> str:
    """Read a token of every role that must mint, and check that this key minted it.

    Returns:
        The step's detail.
    """
    now = _read_live(session, session.look())
    for name in live.minting:
        if why := now.failed.get(name):
            raise _role_gives_no_token(session.path, name, why)
    if now.roles and not now.minting:
        raise _role_gives_no_token(session.path, *next(iter(now.failed.items())))
    if now.key_id and now.key_id != credential.key_id:
        raise SkyflowctlError(
            f"another key is live than the one that was written: {session.path}",
            why=f"the engine says that key {now.key_id} is live",
            fix="find out who writes this mount's config besides you",
            code="other-key",
        )
    whose = f"of key {now.key_id}" if now.key_id else "that name no key"
    return f"{len(now.minting)} of {len(now.roles)} roles give tokens {whose}"


def _mint_all(
    session: RotationSession,
    service: TokenService,
    new: Credential,
    roles: Mapping[str, LiveRole],
) -> dict[str, RoleResult]:
    account = load_trusted(new.json.reveal())
    scopes = {
        name: (role.role_ids[0] if role.role_ids else None, role.ctx_probe or None)
        for name, role in roles.items()
    }
    minted = mint_each(account, scopes, service, session.deps.clock, session.deps.token_hosts)
    return {name: RoleResult.of_mint(result) for name, result in minted.items()}


def _previous_does_not_mint(path: str, role: str, proof: RoleResult) -> RefusedError:
    said = f"{proof.status} {proof.message}".strip() if proof.status else proof.message
    about = messages.role_or_exchange(role)
    return RefusedError(
        f"--previous does not mint: {path}",
        why=f"with the credential of --previous the token service said for {about}: {said}",
        fix="name the credential that is live now with --previous; nothing was written",
        code="previous-does-not-mint",
    )


def _role_gives_no_token(path: str, role: str, why: str) -> SkyflowctlError:
    return SkyflowctlError(
        f"role {role} gives no token with the credential that was written: {path}",
        why=why,
        fix="check the key and its account's roles in Skyflow",
        code="role-gives-no-token",
    )


def _local_proof_left_out(path: str) -> Problem:
    return Problem(
        "not-proved-before",
        f"the new credential is tried only when it is written: {path}",
        "this engine cannot try a candidate, and no token service was asked from here",
        "see that the engine validates credentials on write",
    )
