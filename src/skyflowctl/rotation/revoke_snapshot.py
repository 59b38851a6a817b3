"""What there is before a cut-off, seen within a few seconds or not at all."""

from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from skyflowctl.clock import parse_rfc3339
from skyflowctl.errors import Problem
from skyflowctl.rotation import revoke_messages as words
from skyflowctl.rotation.model import RotationJob, StepName
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.rotation.sibling_mounts import (
    Doors,
    SiblingMounts,
    health_states,
    sibling_mounts,
)
from skyflowctl.rotation.write_recorder import Recorder
from skyflowctl.vault.decode import REVOKED_MARK
from skyflowctl.vault.live import CredentialVersion, LiveConfig, LiveRevocation
from skyflowctl.vault.role_tokens import role_tokens
from skyflowctl.vault.workers import Workers

LAST_LOOK = 10.0
"""Seconds that the look at what the cut-off might end may take before it goes on without."""
_TOKEN_LIFE = timedelta(minutes=60)

Roles = Mapping[str, str | Mapping[str, Any] | None]
"""Roles with the ctx of each one's probe."""


@dataclass(slots=True)
class RevocationSession:
    """A cut-off as it goes: what it works with, what it has done and met.

    Args:
        job: the mount.
        world: everything outside.
        reason: why, as the person gave it.
        pool: threads for what is looked at.
        ways: the nodes.
        recorder: of its steps.
        problems: why it is not all well.
        warnings: what the reader should know.
        cut_off_at: RFC 3339, when the config was deleted last; empty: not yet.
        cut_off: no credential was there afterwards.
        kept: the words of the cut-off that the engine keeps, perhaps of an earlier run; None:
            it keeps none.
        tokens_until: RFC 3339, when the last token ends that was minted before, as the engine
            has it; empty: it does not say.
    """

    job: RotationJob
    world: Dependencies
    reason: str
    pool: Workers
    ways: Doors
    recorder: Recorder
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    cut_off_at: str = ""
    cut_off: bool = False
    kept: LiveRevocation | None = None
    tokens_until: str = ""


@dataclass(slots=True)
class Snapshot:
    """What was seen before the cut-off; what has not answered in time is as it is here."""

    config: LiveConfig
    history: Mapping[int, CredentialVersion] = field(default_factory=dict)
    roles: Roles = field(default_factory=dict)
    beside: SiblingMounts = field(
        default_factory=lambda: SiblingMounts({}, {"": words.NOT_IN_TIME})
    )
    paths: tuple[str, ...] = ()
    states: dict[tuple[str, str], str] = field(default_factory=dict)
    token_life: timedelta = _TOKEN_LIFE


def look_before(scene: RevocationSession) -> Snapshot:
    """See what there is, at most so long; only the config itself must answer.

    Raises:
        VaultError: no engine is there, or it may not be read.
    """
    with scene.recorder.step(StepName.LOOK) as found:
        before = Snapshot(_known_config(scene))
        looks = [scene.pool.submit(look, before) for look in _looks(scene, before.config)]
        late = wait(looks, timeout=LAST_LOOK).not_done
        failed = [look for look in looks if look not in late and _error_of(look)]
        scene.warnings += [words.look_failed(_error_of(look)) for look in failed]
        found.detail = f"live is {before.config.key_id or 'nothing'}"
        if late:
            found.detail += f"; not all was told within {LAST_LOOK:g} s"
        # What comes late speaks of the time after the cut-off: it goes to the old value.
        return replace(before, states=dict(before.states))


def _known_config(scene: RevocationSession) -> LiveConfig:
    """Return the config; one that was cut off on a basic engine with what its mark tells."""
    gateway, path = scene.world.gateway, scene.job.path
    config = gateway.engine_config(path)
    if config.revoked is None or config.api.has("history"):
        return config
    mount = gateway.read_mount(path)
    options = mount.options if mount else {}
    scene.tokens_until = options.get(f"{REVOKED_MARK}tokens_until", "")
    account = options.get(f"{REVOKED_MARK}client_id", "")
    return replace(config, client_id=account, key_id=config.revoked.key_id)


def _looks(scene: RevocationSession, config: LiveConfig) -> tuple[Any, ...]:
    looks = (
        partial(_look_at_history, scene),
        partial(look_at_roles, scene),
        partial(_look_beside, scene),
    )
    if not config.configured:
        return looks
    last = _last_verify if config.api.has("verify") else _last_token
    return (*looks, partial(last, scene))


def _look_at_history(scene: RevocationSession, before: Snapshot) -> None:
    before.history = scene.world.gateway.read_history(scene.job.path) or {}


def look_at_roles(scene: RevocationSession, before: Snapshot) -> None:
    """List the roles, each with the ctx of its probe."""
    roles = scene.world.gateway.list_roles(scene.job.path)
    before.roles = {name: role.ctx_probe or None for name, role in roles.items()}


def _look_beside(scene: RevocationSession, before: Snapshot) -> None:
    before.beside = sibling_mounts(scene.world.gateway, scene.job.path)
    before.paths = before.beside.paths

    def known(path: str, node: str, state: str) -> None:
        before.states[path, node] = state

    # A node that stands still must not be waited for mount by mount, once it is late.
    health_states(scene.ways, before.paths, lambda: not scene.cut_off_at, known)


def _last_verify(scene: RevocationSession, before: Snapshot) -> None:
    """Learn how long a token lives that was minted until now."""
    started = scene.world.clock.now()
    report = scene.world.gateway.verify_config(scene.job.path)
    ends = [proof.expires_at for proof in report.roles.values() if proof.expires_at]
    if ends:
        before.token_life = max(parse_rfc3339(end) for end in ends) - started


def _last_token(scene: RevocationSession, before: Snapshot) -> None:
    """Learn from a token of a basic engine which key is live, and how long a token lives."""
    gateway, path, started = scene.world.gateway, scene.job.path, scene.world.clock.now()
    for _, token in role_tokens(gateway, path, gateway.list_roles(path)):
        if token.error is not None:
            continue  # another role may mint
        before.config = replace(before.config, client_id=token.client_id, key_id=token.key_id)
        if token.expires_at is not None:
            before.token_life = token.expires_at - started
        return


def _error_of(look: Future[Any]) -> BaseException | None:
    return look.exception()
