"""The state before a cut-off, read within a few seconds or left out."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from skyflowctl.clock import parse_rfc3339
from skyflowctl.concurrency import Workers
from skyflowctl.errors import Problem, SkyflowctlError
from skyflowctl.rotation.model import StepName
from skyflowctl.rotation.session import RotationSession
from skyflowctl.rotation.sibling_mounts import (
    NodeGateways,
    SiblingMounts,
    health_states,
    sibling_mounts,
)
from skyflowctl.vault.decode import REVOKED_MARK
from skyflowctl.vault.live import CredentialVersion, LiveConfig
from skyflowctl.vault.role_tokens import role_tokens

LAST_LOOK = 10.0
"""Seconds for the snapshot before the cut-off; what is not read by then is left out."""
_HEALTH_SECONDS = 5.0
"""Seconds; short, so that a hanging mount is recognised before the snapshot ends."""
_TOKEN_LIFE = timedelta(minutes=60)
_NOT_IN_TIME = "it did not answer in time, and the cut-off does not wait"

Roles = Mapping[str, str | Mapping[str, Any] | None]
"""Roles with the ctx of each one's probe."""


@dataclass(slots=True)
class Snapshot:
    """The state before the cut-off; a field without an answer in time keeps its default.

    Args:
        tokens_until: RFC 3339, of a cut-off that was made before; empty: none is recorded.
    """

    config: LiveConfig
    history: Mapping[int, CredentialVersion] = field(default_factory=dict)
    roles: Roles = field(default_factory=dict)
    siblings: SiblingMounts = field(default_factory=lambda: SiblingMounts({}, {"": _NOT_IN_TIME}))
    paths: tuple[str, ...] = ()
    states: dict[tuple[str, str], str] = field(default_factory=dict)
    token_life: timedelta = _TOKEN_LIFE
    tokens_until: str = ""


def take_revocation_snapshot(
    session: RotationSession, nodes: NodeGateways, pool: Workers
) -> Snapshot:
    """Read the state within ``LAST_LOOK``; only the config itself must answer.

    Raises:
        VaultError: there is no engine, or it may not be read.
    """
    with session.step(StepName.LOOK) as found:
        before, late = _known_config(session), threading.Event()
        looks = [pool.submit(look, before) for look in _looks(session, before.config, nodes, late)]
        missing = wait(looks, timeout=LAST_LOOK).not_done
        late.set()
        failed = [look for look in looks if look not in missing and _error_of(look)]
        session.warn(*(look_failed(_error_of(look)) for look in failed))
        found.detail = f"live is {before.config.key_id or 'nothing'}"
        if missing:
            found.detail += f"; not everything answered within {LAST_LOOK:g} s"
        # A late answer describes the time after the cut-off, so it goes to the old value.
        return replace(before, states=dict(before.states))


def _known_config(session: RotationSession) -> Snapshot:
    """Return the config; for a basic engine that was cut off, with the data of its mark."""
    config = session.engine.checked_config()
    if config.revoked is None or config.api.has("history"):
        return Snapshot(config)
    mount = session.gateway.sys.mount(session.path)
    options = mount.options if mount else {}
    account = options.get(f"{REVOKED_MARK}client_id", "")
    config = replace(config, client_id=account, key_id=config.revoked.key_id)
    return Snapshot(config, tokens_until=options.get(f"{REVOKED_MARK}tokens_until", ""))


def _looks(
    session: RotationSession, config: LiveConfig, nodes: NodeGateways, late: threading.Event
) -> tuple[Any, ...]:
    looks = (
        partial(_look_at_history, session),
        partial(look_at_roles, session),
        partial(_look_at_siblings, session, nodes, late),
    )
    if not config.configured:
        return looks
    last = _last_verify if config.api.has("verify") else _last_token
    return (*looks, partial(last, session))


def _look_at_history(session: RotationSession, before: Snapshot) -> None:
    before.history = session.engine.history() or {}


def look_at_roles(session: RotationSession, before: Snapshot) -> None:
    """List the roles, each with the ctx of its probe."""
    roles = session.engine.roles()
    before.roles = {name: role.ctx_probe or None for name, role in roles.items()}


def _look_at_siblings(
    session: RotationSession, nodes: NodeGateways, late: threading.Event, before: Snapshot
) -> None:
    before.siblings = sibling_mounts(session.gateway, session.path)
    before.paths = before.siblings.paths

    def known(path: str, node: str, state: str) -> None:
        before.states[path, node] = state

    # Once a node is late, do not wait for it again for each mount.
    health_states(nodes, before.paths, lambda: not late.is_set(), known, _HEALTH_SECONDS)


def _last_verify(session: RotationSession, before: Snapshot) -> None:
    """Read how long a token minted so far is valid."""
    started = session.deps.clock.now()
    report = session.engine.verify()
    ends = [proof.expires_at for proof in report.roles.values() if proof.expires_at]
    if ends:
        before.token_life = max(parse_rfc3339(end) for end in ends) - started


def _last_token(session: RotationSession, before: Snapshot) -> None:
    """Read the live key and the validity of its tokens from a basic engine's token."""
    gateway, path, started = session.gateway, session.path, session.deps.clock.now()
    for _, token in role_tokens(gateway, path, gateway.engine(path).roles()):
        if token.error is not None:
            continue  # another role may mint
        before.config = replace(before.config, client_id=token.client_id, key_id=token.key_id)
        if token.expires_at is not None:
            before.token_life = token.expires_at - started
        return


def _error_of(look: Future[Any]) -> BaseException | None:
    return look.exception()


def look_failed(error: BaseException | None) -> Problem:
    """Return the warning that a part of the state could not be read."""
    text = error.problems[0].summary if isinstance(error, SkyflowctlError) else ""
    return Problem(
        "look-failed",
        "a part of what there was could not be read; the cut-off did not wait for it",
        text or f"{type(error).__name__} in skyflowctl itself",
        "'skyflowctl config history MOUNT' and 'skyflowctl health' show it later",
    )
