"""The rotation of one mount: never without a credential that mints, never half."""

from dataclasses import replace

from skyflowctl.errors import SkyflowctlError
from skyflowctl.rotation import legacy_engine
from skyflowctl.rotation import rotate_messages as words
from skyflowctl.rotation.cluster import Cluster
from skyflowctl.rotation.commit import verify_and_commit
from skyflowctl.rotation.cutover import write
from skyflowctl.rotation.intent import (
    PendingRotation,
    conflicts_reported,
    new_attempt,
    record_intent,
    undone_on_failure,
)
from skyflowctl.rotation.model import MountOutcome, NewCredential, Result, RotationJob, StepName
from skyflowctl.rotation.ports import (
    Dependencies,
    FromReference,
    Generated,
    KeyService,
    KeySource,
    ServerFile,
)
from skyflowctl.rotation.resume import (
    LiveSnapshot,
    clean_up_reference,
    delete_orphaned_key,
    resume,
    take_snapshot,
)
from skyflowctl.rotation.revoked_keys import revoked_and_allowed
from skyflowctl.rotation.serving import broken_roles
from skyflowctl.rotation.session import RotationSession, finished, opened_nodes
from skyflowctl.rotation.verify import verify_candidate
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import BadRequestError
from skyflowctl.vault.guards import secret_paths
from skyflowctl.vault.live import SERVER_FILE, CredentialVersion, LiveConfig


def rotate_mount(job: RotationJob, source: KeySource | None, world: Dependencies) -> MountOutcome:
    """Replace a mount's credential; or finish the rotation that an earlier run left.

    Killed at any instant, the same call again goes on from what the engine knows.

    Args:
        job: which mount, and how.
        source: where the new credential comes from; None: nobody said.
        world: everything outside.

    Returns:
        What became of the mount. No error is raised; one that ends the process (a
        subclass of ``BaseException`` alone) is not caught.
    """
    run = RotationSession(job, world)
    return finished(run, lambda: _rotate(run, source))


def preview_mount(job: RotationJob, source: KeySource | None, world: Dependencies) -> MountOutcome:
    """Say what :func:`rotate_mount` would do, with the same checks and without a write.

    No key is created, so a credential that is to be generated is not tried.
    """
    run = RotationSession(job, world)
    return finished(run, lambda: _preview(run, source))


def _rotate(run: RotationSession, source: KeySource | None) -> Result:
    seen = take_snapshot(run)
    keys = source.keys if isinstance(source, Generated) else run.world.operator
    _refuse_guarded(run, seen, source)
    if seen.basic:
        return legacy_engine.rotate(run, seen.config, source)
    if seen.written is not None:
        return resume(run, seen.written, keys)
    if source is None:
        raise words.no_source(run.path)
    if isinstance(source, Generated):
        return _generated(run, seen, source.keys)
    return _from_reference(run, seen, source, keys)


def _refuse_guarded(run: RotationSession, seen: LiveSnapshot, source: KeySource | None) -> None:
    """Refuse to show a key to an approver; the path of a file is no secret.

    Raises:
        GuardedError: a control group guards the write of the config or the proof before it.
    """
    if source is None or seen.written is not None or isinstance(source, ServerFile):
        return
    for path in secret_paths(run.path, verified=not seen.basic):
        if unknown := run.gateway.transport.refuse_guarded("POST", path):
            run.warn(unknown)


def _from_reference(
    run: RotationSession,
    seen: LiveSnapshot,
    source: FromReference | ServerFile,
    keys: KeyService | None,
) -> Result:
    new = lint(run, seen, source)
    with opened_nodes(run) as nodes:
        # Tried before anything of an earlier run is touched: a refusal writes nothing.
        broken = verify_candidate(run, seen.config, new, fresh=False)
        config = clean_up_reference(run, seen, keys)
        attempt = new_attempt(run, config)
        with undone_on_failure(run, attempt):
            note(run, nodes, config)
            return verify_and_commit(run, nodes, write(run, attempt, new, broken), keys)


def _generated(run: RotationSession, seen: LiveSnapshot, keys: KeyService) -> Result:
    last = _last(run, seen)
    with opened_nodes(run) as nodes:
        with conflicts_reported(run):
            config = delete_orphaned_key(run, seen, keys)
        attempt = replace(new_attempt(run, config, keys), client_id=last.client_id)
        with undone_on_failure(run, attempt):
            with conflicts_reported(run):
                new = _created(run, attempt, last, keys)
            broken = verify_candidate(run, config, new, fresh=True)
            note(run, nodes, config)
            return verify_and_commit(run, nodes, write(run, attempt, new, broken), keys)


def _last(run: RotationSession, seen: LiveSnapshot) -> CredentialVersion:
    """Return the credential for whose service account a key is made.

    Raises:
        RefusedError: the mount has never had one.
    """
    if seen.last is None:
        raise words.nothing_live(run.path, run.job.name, seen.config.revoked)
    return seen.last


def _created(
    run: RotationSession, attempt: PendingRotation, last: CredentialVersion, keys: KeyService
) -> NewCredential:
    """Have a key created, with the intent on record before and its id right after."""
    run.check_stop()
    run.begin(attempt.id)
    with run.step(StepName.INTENT):
        listed = [key.key_id for key in keys.list_keys(attempt.client_id)] or [last.key_id]
        _record(run, attempt, listed)
    run.check_stop()
    with run.step(StepName.CREATE_KEY) as found:
        new = _create(run, attempt, keys, listed)
        attempt.key_id = run.to_key = new.key_id
        found.detail = f"key {new.key_id}"
        record_intent(run, attempt, {"rotation_to": new.key_id})
    with run.step(StepName.LINT):
        run.warn(*new.warnings)
        if new.client_id != attempt.client_id:
            raise words.other_account(run.path, attempt.client_id, new.client_id)
    return new


def _record(run: RotationSession, attempt: PendingRotation, listed: list[str]) -> None:
    """Record which keys there are before one is created.

    Raises:
        RefusedError: an earlier release of the engine records nothing after a cut-off.
    """
    try:
        record_intent(run, attempt, {"rotation_keys": listed})
    except BadRequestError as error:
        if attempt.from_key or not error.says("mount not configured"):
            raise
        attempt.opened = False
        raise words.not_recorded(run.path) from error


def _create(
    run: RotationSession, attempt: PendingRotation, keys: KeyService, before: list[str]
) -> NewCredential:
    """Create a key; after a failure, name what may have been created all the same."""
    try:
        return keys.create_key(attempt.client_id)
    except SkyflowctlError:
        now = [key.key_id for key in keys.list_keys(attempt.client_id)]
        if strangers := [key for key in now if key not in before]:
            run.warn(words.unrecorded(run.path, attempt.client_id, strangers))
        raise


def note(run: RotationSession, nodes: Cluster, config: LiveConfig) -> None:
    """Say what is live, and which nodes will be asked."""
    with run.step(StepName.NOTE) as found:
        run.from_key = config.key_id
        live = f"key {config.key_id}" if config.configured else "nothing"
        found.detail = (
            f"live is {live}, credential version {config.credential_version}; "
            f"nodes: {', '.join(nodes.names)}"
        )


def lint(
    run: RotationSession, seen: LiveSnapshot, source: FromReference | ServerFile
) -> NewCredential:
    """Return the new credential, checked in full and against what the mount has had.

    Raises:
        InvalidInputError: it is no valid credential, or cannot be read.
        RefusedError: it is live already, was live before, or is of another account.
    """
    config = seen.config
    with run.step(StepName.LINT) as found:
        new = _on_server(run, source) if isinstance(source, ServerFile) else source()
        run.to_key = new.key_id
        found.detail = f"key {new.key_id}"
        run.warn(*new.warnings)
        if (new.client_id, new.key_id) == (config.client_id, config.key_id):
            raise words.already_live(run.path, new.key_id)
        if not revoked_and_allowed(run, config, new.key_id, seen.history):
            for entry in reversed(list((seen.history or {}).values())):
                if (entry.client_id, entry.key_id) == (new.client_id, new.key_id):
                    raise words.was_live_before(run.path, run.job.name, entry)
        other = config.configured and config.client_id and new.client_id != config.client_id
        if other and not run.job.options.allow_different_account:
            raise words.other_account(run.path, config.client_id, new.client_id)
    return new


def _on_server(run: RotationSession, source: ServerFile) -> NewCredential:
    """Have the engine read the file, try it, and say whose key it is."""
    report = run.gateway.verify_config(run.path, {SERVER_FILE: source.path})
    return NewCredential(report.client_id, report.key_id, Secret(""), server_file=source.path)


def _preview(run: RotationSession, source: KeySource | None) -> Result:
    seen = take_snapshot(run, claim=False)
    _refuse_guarded(run, seen, source)
    if seen.basic:
        return legacy_engine.preview(run, seen.config, source)
    if seen.written is not None:
        run.from_key, run.to_key = seen.written.from_key, seen.written.to_key
        run.tell(f"rotation {seen.written.id} is open: a rotation would finish it, and no more")
        with opened_nodes(run) as nodes, run.step(StepName.VERIFY_NODES) as found:
            broken = broken_roles(run.gateway, run.path)
            found.detail = str(nodes.prove(run.path, run.to_key, roles_may_fail=broken))
        return Result.WOULD_ROTATE
    if source is None:
        raise words.no_source(run.path)
    if isinstance(source, Generated):
        _as_far_as_it_goes(run, seen.config, _last(run, seen).client_id, source.keys)
    else:
        verify_candidate(run, seen.config, lint(run, seen, source), fresh=False)
    with opened_nodes(run) as nodes:
        note(run, nodes, seen.config)
    return Result.WOULD_ROTATE


def _as_far_as_it_goes(
    run: RotationSession, config: LiveConfig, client_id: str, keys: KeyService
) -> None:
    """Prove the operator's token and what is live; the new key does not exist yet."""
    with run.step(StepName.PROVE) as found:
        listed = keys.list_keys(client_id)
        live = "no key is live"
        if config.configured:
            roles = run.gateway.verify_config(run.path).roles.values()
            minted = sum(proof.ok for proof in roles)
            live = f"{minted} of {len(roles)} roles mint with the live one"
        found.detail = (
            f"the operator sees {len(listed)} keys of the account, and {live}; the new key was "
            "not created, and so not tried"
        )
