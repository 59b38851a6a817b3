"""``rotate --retire``: which old keys there are to retire, before anybody is asked."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from skyflowctl.clock import parse_rfc3339
from skyflowctl.concurrency import Workers
from skyflowctl.errors import ExitCode, RefusedError, SkyflowctlError
from skyflowctl.operations.rotation import RotateRequest, not_due
from skyflowctl.operations.rotation_supply import RotationTarget
from skyflowctl.rotation.model import MountOutcome, Result
from skyflowctl.rotation.retirement_plan import Retirement, killed_by_haste, retirement, too_early
from skyflowctl.vault.gateway import Gateway

_NOTHING = "no-rotation"


def with_old_keys(
    gateway: Gateway,
    subjects: Sequence[RotationTarget],
    errand: RotateRequest,
    now: datetime,
    *,
    every: bool,
    parallelism: int,
) -> tuple[RotationTarget, ...]:
    """Return each mount with its old key, or with its outcome where nothing can be done.

    One request a mount. What cannot be told here is left to the retirement itself.

    Args:
        gateway: the server.
        subjects: from ``look``.
        errand: the retirement.
        now: the time.
        every: nobody named the mounts one by one, so that one which has nothing to
            retire, or not yet, is fine.
        parallelism: requests at once.
    """

    def one(subject: RotationTarget) -> RotationTarget:
        try:
            return _with_old_key(gateway, subject, errand, now, every=every)
        except SkyflowctlError:
            return subject

    with Workers(parallelism) as pool:
        return tuple(pool.map(one, subjects))


def _with_old_key(
    gateway: Gateway, subject: RotationTarget, errand: RotateRequest, now: datetime, *, every: bool
) -> RotationTarget:
    if subject.config is None:
        return subject
    history = gateway.read_history(subject.named.path)
    try:
        old = retirement(errand.job_of(subject.named), subject.config, history)
    except RefusedError as error:
        if every and error.problems[0].code == _NOTHING:
            return replace(subject, known=not_due(subject))
        raise
    if old is None:
        return replace(subject, known=not_due(subject)) if every else subject
    kills = killed_by_haste(subject.config, history)
    early = None if errand.now or errand.wait else _too_early(subject, old, errand, now)
    if early is None:
        return replace(subject, old_key=_names(old), kills=kills)
    known = not_due(subject) if every else _refused(subject, old, early)
    return replace(subject, known=known, old_key=_names(old))


def _names(old: Retirement) -> str:
    return ", ".join(key.key_id for key in old.keys)


def _too_early(
    subject: RotationTarget, old: Retirement, errand: RotateRequest, now: datetime
) -> RefusedError | None:
    if not old.tokens_until or not any(key.kept for key in old.keys):
        return None
    ends = parse_rfc3339(old.tokens_until) + errand.margin_of(subject.named)
    if now >= ends:
        return None
    name, replaced = subject.named.name, old.keys[0].key_id
    return too_early(replaced, name, old.tokens_until, ends)


def _refused(subject: RotationTarget, old: Retirement, error: RefusedError) -> MountOutcome:
    return MountOutcome(
        subject.named.name,
        subject.named.path,
        Result.REFUSED,
        from_key=old.keys[0].key_id,
        to_key=old.successor,
        live_key_id=old.successor,
        old_tokens_valid_until=old.tokens_until,
        problems=error.problems,
        exit_code=ExitCode.REFUSED,
    )
