"""Input and outcome of a rotation, as frozen values."""

from collections.abc import Callable
from dataclasses import field
from datetime import timedelta
from enum import StrEnum

from skyflowctl.credentials.model import Credential
from skyflowctl.errors import ExitCode, Problem
from skyflowctl.frozen import dataclass


class Result(StrEnum):
    """The result for one mount, as in the JSON output."""

    ROTATED = "rotated"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"
    FAILED = "failed"
    NOT_DUE = "not_due"
    PENDING = "pending"
    RETIRED = "retired"
    WOULD_ROTATE = "would_rotate"


class StepName(StrEnum):
    """The steps, in the order in which they may occur; the last five belong to a cut-off."""

    RESUME = "resume"
    INTENT = "intent"
    CREATE_KEY = "create-key"
    LINT = "lint"
    PROVE = "prove"
    NOTE = "note"
    WRITE = "write"
    VERIFY_NODES = "verify-nodes"
    CANARY = "canary"
    WATCH = "watch"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    DISCARD_KEY = "discard-key"
    WAIT_FOR_OLD_TOKENS = "wait-for-old-tokens"
    DELETE_OLD_KEY = "delete-old-key"
    DESTROY_KEPT = "destroy-kept"
    LOOK = "look"
    CUT_OFF = "cut-off"
    KEYS_AT_SKYFLOW = "keys-at-skyflow"
    PROVE_CUT_OFF = "prove-cut-off"
    PROVE_OTHERS = "prove-other-mounts"


@dataclass(frozen=True, slots=True)
class Step:
    """One step that has ended: its duration, its success, and what it found."""

    name: StepName
    ms: float
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """How to rotate.

    Args:
        watch: how long the new credential is watched on every node before the commit.
        canaries: roles whose creds are read after the write.
        allow_different_account: take a credential of another service account.
        no_rollback: rotate on an engine that cannot roll back.
        unverified_nodes: rotate although some nodes are not named.
        allow_revoked: key ids that may be live again although a cut-off revoked them.
        stale_after: take over an open rotation that was not renewed for this long.
        poll: how long servers without the index headers are polled for the new key.
        retire_old: wait for the end of the old tokens, then retire the old key.
        retire_margin: how long the old key is kept after its last token has ended.
    """

    watch: timedelta = timedelta()
    canaries: tuple[str, ...] = ()
    allow_different_account: bool = False
    no_rollback: bool = False
    unverified_nodes: bool = False
    allow_revoked: frozenset[str] = frozenset()
    stale_after: timedelta = timedelta(seconds=10)
    poll: timedelta = timedelta(seconds=30)
    retire_old: bool = False
    retire_margin: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class MountOutcome:
    """The outcome for one mount.

    Args:
        name: as the person said it.
        path: of the mount.
        result: ``rotated``, ``failed`` and so on.
        from_key: the key that was live before; empty for none.
        to_key: the key that was to be live; empty while none was known.
        live_key_id: the key that is live now; empty for none or not known.
        steps: what was done, in order.
        old_tokens_valid_until: RFC 3339; empty when no token was replaced, or not known.
        problems: why the result is not ``rotated``; the first one is the cause.
        warnings: findings that do not change the result.
        serves: whether the mount mints at the end, as far as it was seen.
        exit_code: the exit code for this mount alone.
        from_revoked: a cut-off revoked ``from_key``, so a rollback to it has to name it.
    """

    name: str
    path: str
    result: Result
    from_key: str = ""
    to_key: str = ""
    live_key_id: str = ""
    steps: tuple[Step, ...] = ()
    old_tokens_valid_until: str = ""
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    serves: bool = True
    exit_code: ExitCode = ExitCode.OK
    from_revoked: bool = False


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key of a service account, as Skyflow lists it. Times are RFC 3339; empty: unknown."""

    key_id: str
    valid_after: str = ""
    valid_before: str = ""


@dataclass(frozen=True, slots=True)
class RotationJob:
    """One mount that is to be rotated.

    Args:
        name: as the person said it.
        path: of the mount.
        options: how to rotate it.
        previous: returns the live credential, for a rollback on an engine that keeps none; called
            at most once. None: no rollback is possible there.
    """

    name: str
    path: str
    options: Options = field(default_factory=Options)
    previous: Callable[[], Credential] | None = None
