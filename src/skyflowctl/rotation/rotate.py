"""Rotates one mount: its credential mints at every moment, and no rotation stays half done."""

from dataclasses import replace

from skyflowctl.credentials.model import Credential, CredentialId
from skyflowctl.errors import RefusedError, SkyflowctlError
from skyflowctl.rotation import legacy_engine, messages
from skyflowctl.rotation.cluster import Cluster
from skyflowctl.rotation.commit import verify_and_commit
from skyflowctl.rotation.cutover import cut_over
from skyflowctl.rotation.intent import (
    PendingRotation,
    conflicts_reported,
    new_attempt,
    record_intent,
    undone_on_failure,
)
from skyflowctl.rotation.model import MountOutcome, Result, RotationJob, StepName
from skyflowctl.rotation.ports import (
    Dependencies,
    FromReference,
    Generated,
    KeyService,
    KeySource,
    ServerFile,
)
from skyflowctl.rotation.recovery import (
    LiveSnapshot,
    clean_up_reference,
    delete_orphaned_key,
    resume,
    take_snapshot,
)
from skyflowctl.rotation.serving import broken_roles
from skyflowctl.rotation.session import RotationSession, conclude, opened_nodes
from skyflowctl.rotation.verify import revoked_and_allowed, verify_candidate
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import BadRequestError, VaultError
from skyflowctl.vault.guards import secret_paths
from skyflowctl.vault.live import SERVER_FILE, CredentialVersion, LiveConfig


def rotate_mount(job: RotationJob, source: KeySource | None, deps: Dependencies) -> MountOutcome:
    """Replace a mount's credential, or finish the rotation that an earlier run left.

    After a kill at any instant, the same call continues from the engine's records.

    Args:
        job: which mount, and how.
        source: where the new credential comes from; None: it is not named.
        deps: everything outside.

    Returns:
        The outcome. No error is raised; one that ends the process (a subclass of ``BaseException``
        alone) is not caught.
    """
    session = RotationSession(job, deps)
    return conclude(session, lambda: _rotate(session, source))


def preview_mount(job: RotationJob, source: KeySource | None, deps: Dependencies) -> MountOutcome:
    """Return what :func:`rotate_mount` would do, with the same checks and without a write.

    No key is created, so a credential that is to be generated is not tried.
    """
    session = RotationSession(job, deps)
    return conclude(session, lambda: _preview(session, source))


def _rotate(session: RotationSession, source: KeySource | None) -> Result:
    seen = take_snapshot(session)
    keys = source.keys if isinstance(source, Generated) else session.deps.operator
    _refuse_guarded(session, seen, source)
    if seen.basic:
        return legacy_engine.rotate(session, seen.config, source)
    if seen.written is not None:
        session.from_revoked = _is_revoked(session, seen, seen.written.from_key)
        return resume(session, seen.written, keys)
    if source is None:
        raise messages.no_source(session.path)
    if isinstance(source, Generated):
        session.from_revoked = _is_revoked(session, seen, seen.config.key_id)
        return _generated(session, seen, source.keys)
    return _from_reference(session, seen, source, keys)


def _is_revoked(session: RotationSession, seen: LiveSnapshot, key_id: str) -> bool:
    """Whether a cut-off revoked the key to be replaced; also False if unknown."""
    try:
        return key_id in session.engine.revoked_keys(seen.config, seen.history)
    except VaultError:
        return False


def _refuse_guarded(session: RotationSession, seen: LiveSnapshot, source: KeySource | None) -> None:
    """Refuse to show a key to an approver; the path of a file is not secret.

    Raises:
        GuardedError: a control group guards the write of the config or the proof before it.
    """
    if source is None or seen.written is not None or isinstance(source, ServerFile):
        return
    for path in secret_paths(session.path, verified=not seen.basic):
        if unknown := session.gateway.transport.refuse_guarded("POST", path):
            session.warn(unknown)


def _from_reference(
    session: RotationSession,
    seen: LiveSnapshot,
    source: FromReference | ServerFile,
    keys: KeyService | None,
) -> Result:
    new = lint(session, seen, source)
    with opened_nodes(session) as nodes:
        # Checked before changing anything of an earlier run: a refusal writes nothing.
        broken = verify_candidate(session, seen.config, new, fresh=False)
        config = clean_up_reference(session, seen, keys)
        attempt = new_attempt(session, config)
        with undone_on_failure(session, attempt):
            note(session, nodes, config)
            return verify_and_commit(session, nodes, cut_over(session, attempt, new, broken), keys)


def _generated(session: RotationSession, seen: LiveSnapshot, keys: KeyService) -> Result:
    last = _last(session, seen)
    with opened_nodes(session) as nodes:
        with conflicts_reported(session):
            config = delete_orphaned_key(session, seen, keys)
        attempt = replace(new_attempt(session, config, keys), client_id=last.client_id)
        with undone_on_failure(session, attempt):
            with conflicts_reported(session):
                new = _created(session, attempt, last, keys)
            broken = verify_candidate(session, config, new, fresh=True)
            note(session, nodes, config)
            return verify_and_commit(session, nodes, cut_over(session, attempt, new, broken), keys)


def _last(session: RotationSession, seen: LiveSnapshot) -> CredentialVersion:
    """Return the credential for whose service account a key is made.

    Raises:
        RefusedError: the mount has never had one.
    """
    if seen.last is None:
        raise messages.nothing_live(session.path, session.job.name, seen.config.revoked)
    return seen.last


def _created(
    session: RotationSession, attempt: PendingRotation, last: CredentialVersion, keys: KeyService
) -> Credential:
    """Create a key; record the intent before it, and the key's id right after."""
    session.check_stop()
    session.begin(attempt.id)
    with session.step(StepName.INTENT):
        listed = [key.key_id for key in keys.list_keys(attempt.client_id)] or [last.key_id]
        _record(session, attempt, listed)
    session.check_stop()
    with session.step(StepName.CREATE_KEY) as found:
        new = _create(session, attempt, keys, listed)
        attempt.key_id = session.to_key = new.key_id
        found.detail = f"key {new.key_id}"
        record_intent(session, attempt, {"rotation_to": new.key_id})
    with session.step(StepName.LINT):
        session.warn(*new.warnings)
        if new.client_id != attempt.client_id:
            raise messages.other_account(session.path, attempt.client_id, new.client_id)
    return new


def _record(session: RotationSession, attempt: PendingRotation, listed: list[str]) -> None:
    """Record the existing keys before one is created.

    Raises:
        RefusedError: an earlier release of the engine records nothing after a cut-off.
    """
    try:
        record_intent(session, attempt, {"rotation_keys": listed})
    except BadRequestError as error:
        if attempt.from_key or not error.says("mount not configured"):
            raise
        attempt.opened = False
        raise RefusedError(
            f"no key is made for {session.path}",
            why="its engine is of an earlier release: after a cut-off it cannot record which key a "
            "rotation makes, so a killed run would lose one",
            fix=f"name a new key: 'skyflowctl rotate {session.path} --credentials REF'; or "
            "upgrade the engine first: 'skyflowctl plugin list' names what runs",
            code="not-recorded",
        ) from error


def _create(
    session: RotationSession, attempt: PendingRotation, keys: KeyService, before: list[str]
) -> Credential:
    """Create a key; after a failure, name each key that may have been created anyway."""
    try:
        return keys.create_key(attempt.client_id)
    except SkyflowctlError:
        now = [key.key_id for key in keys.list_keys(attempt.client_id)]
        if strangers := [key for key in now if key not in before]:
            session.warn(messages.unrecorded(session.path, attempt.client_id, strangers))
        raise


def note(session: RotationSession, nodes: Cluster, config: LiveConfig) -> None:
    """Report the live credential and the nodes that will be asked."""
    with session.step(StepName.NOTE) as found:
        session.from_key = config.key_id
        live = f"key {config.key_id}" if config.configured else "nothing"
        found.detail = (
            f"live is {live}, credential version {config.credential_version}; "
            f"nodes: {', '.join(nodes.names)}"
        )


def lint(
    session: RotationSession, seen: LiveSnapshot, source: FromReference | ServerFile
) -> Credential:
    """Return the new credential, fully checked, also against the mount's history.

    Raises:
        InvalidInputError: it is no valid credential, or cannot be read.
        RefusedError: it is live already, was live before, or is of another account.
    """
    config = seen.config
    with session.step(StepName.LINT) as found:
        new = _on_server(session, source) if isinstance(source, ServerFile) else source()
        session.to_key = new.key_id
        found.detail = f"key {new.key_id}"
        session.warn(*new.warnings)
        if (new.client_id, new.key_id) == (config.client_id, config.key_id):
            raise RefusedError(
                f"nothing to rotate to: {session.path}",
                why=f"the reference holds key {new.key_id}, which is live already",
                fix=messages.three_ways(session.path),
                code=messages.UNCHANGED,
            )
        if not revoked_and_allowed(session, config, new.key_id, seen.history):
            for entry in reversed(list((seen.history or {}).values())):
                if (entry.client_id, entry.key_id) == (new.client_id, new.key_id):
                    raise _was_live_before(session.path, session.job.name, entry)
        other = config.configured and config.client_id and new.client_id != config.client_id
        if other and not session.job.options.allow_different_account:
            raise messages.other_account(session.path, config.client_id, new.client_id)
    return new


def _on_server(session: RotationSession, source: ServerFile) -> Credential:
    """Let the engine read the file and try it; return whose key it is."""
    report = session.engine.verify({SERVER_FILE: source.path})
    return Credential(
        CredentialId(report.client_id, report.key_id), Secret(""), server_file=source.path
    )


def _preview(session: RotationSession, source: KeySource | None) -> Result:
    seen = take_snapshot(session, claim=False)
    _refuse_guarded(session, seen, source)
    if seen.basic:
        return legacy_engine.preview(session, seen.config, source)
    if seen.written is not None:
        session.from_key, session.to_key = seen.written.from_key, seen.written.to_key
        session.tell(f"rotation {seen.written.id} is open: a rotation would finish it, and no more")
        with opened_nodes(session) as nodes, session.step(StepName.VERIFY_NODES) as found:
            broken = broken_roles(session.gateway, session.path)
            found.detail = str(nodes.verify(session.path, session.to_key, roles_may_fail=broken))
        return Result.WOULD_ROTATE
    if source is None:
        raise messages.no_source(session.path)
    if isinstance(source, Generated):
        _as_far_as_it_goes(session, seen.config, _last(session, seen).client_id, source.keys)
    else:
        verify_candidate(session, seen.config, lint(session, seen, source), fresh=False)
    with opened_nodes(session) as nodes:
        note(session, nodes, seen.config)
    return Result.WOULD_ROTATE


def _as_far_as_it_goes(
    session: RotationSession, config: LiveConfig, client_id: str, keys: KeyService
) -> None:
    """Prove the operator's token and the live credential; the new key does not exist yet."""
    with session.step(StepName.PROVE) as found:
        listed = keys.list_keys(client_id)
        live = "no key is live"
        if config.configured:
            roles = session.engine.verify().roles.values()
            minted = sum(proof.ok for proof in roles)
            live = f"{minted} of {len(roles)} roles mint with the live one"
        found.detail = (
            f"the operator sees {len(listed)} keys of the account, and {live}; the new key was "
            "not created, and so not tried"
        )


def _was_live_before(path: str, name: str, entry: CredentialVersion) -> RefusedError:
    """The reference holds an earlier key of this mount."""
    way = f"{messages.live_again(name, entry.credential_version)} (it is verified first); else"
    return RefusedError(
        f"this would go back, not forward: {path}",
        why=f"key {entry.key_id} was this mount's credential version {entry.credential_version}"
        + ("" if entry.kept else ", and was destroyed or dropped since"),
        fix=f"{way} {messages.three_ways(path)}" if entry.kept else messages.three_ways(path),
        code=messages.EARLIER,
    )
