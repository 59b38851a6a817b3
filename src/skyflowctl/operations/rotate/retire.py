"""``rotate --retire``: finds the old keys to retire, before the confirmation."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from skyflowctl.clock import parse_rfc3339
from skyflowctl.concurrency import Workers
from skyflowctl.errors import ExitCode, RefusedError, SkyflowctlError
from skyflowctl.operations.rotate.key_provider import KeyProvider, RotationTarget
from skyflowctl.operations.rotate.run import not_due
from skyflowctl.rotation.model import MountOutcome, Result
from skyflowctl.rotation.retirement_plan import Retirement, killed_by_haste, retirement, too_early
from skyflowctl.vault.gateway import Gateway

_NOTHING = "no-rotation"


def with_old_keys(
    gateway: Gateway,
    targets: Sequence[RotationTarget],
    provider: KeyProvider,
    now: datetime,
    *,
    parallelism: int,
) -> tuple[RotationTarget, ...]:
    """Return each mount with its old key, or with its outcome if there is nothing to do.

    One request a mount. Cases that are not clear here are left to the retirement itself.

    Args:
        gateway: the server.
        targets: from ``look``.
        provider: the provider that holds the retirement's request.
        now: the time.
        parallelism: requests at once.
    """

    def one(target: RotationTarget) -> RotationTarget:
        try:
            return _with_old_key(gateway, target, provider, now)
        except SkyflowctlError:
            return target

    with Workers(parallelism) as pool:
        return tuple(pool.map(one, targets))


def _with_old_key(
    gateway: Gateway, target: RotationTarget, provider: KeyProvider, now: datetime
) -> RotationTarget:
    # With --all a mount that has nothing to retire, or not yet, is fine.
    request, every = provider.request, provider.request.every
    if target.config is None:
        return target
    history = gateway.engine(target.named.path).history()
    try:
        old = retirement(provider.job_of(target.named), target.config, history)
    except RefusedError as error:
        if every and error.problems[0].code == _NOTHING:
            return replace(target, known=not_due(target))
        raise
    if old is None:
        return replace(target, known=not_due(target)) if every else target
    kills = killed_by_haste(target.config, history)
    early = None if request.now or request.wait else _too_early(target, old, provider, now)
    if early is None:
        return replace(target, old_key=_names(old), kills=kills)
    known = not_due(target) if every else _refused(target, old, early)
    return replace(target, known=known, old_key=_names(old))


def _names(old: Retirement) -> str:
    return ", ".join(key.key_id for key in old.keys)


def _too_early(
    target: RotationTarget, old: Retirement, provider: KeyProvider, now: datetime
) -> RefusedError | None:
    if not old.tokens_until or not any(key.kept for key in old.keys):
        return None
    ends = parse_rfc3339(old.tokens_until) + provider.margin_of(target.named)
    if now >= ends:
        return None
    name, replaced = target.named.name, old.keys[0].key_id
    return too_early(replaced, name, old.tokens_until, ends)


def _refused(target: RotationTarget, old: Retirement, error: RefusedError) -> MountOutcome:
    return MountOutcome(
        target.named.name,
        target.named.path,
        Result.REFUSED,
        from_key=old.keys[0].key_id,
        to_key=old.successor,
        live_key_id=old.successor,
        old_tokens_valid_until=old.tokens_until,
        problems=error.problems,
        exit_code=ExitCode.REFUSED,
    )
