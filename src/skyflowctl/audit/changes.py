"""Decides what an entry on an engine's mount is about, and how it ended."""

import re
from typing import NamedTuple

from skyflowctl.audit.entries import Entry, RequestData
from skyflowctl.audit.model import ChangeKind, CredentialChange, RequestOutcome

FORWARDED = "cannot write to readonly storage"
"""The error that makes a standby forward a write to the leader (trial 17)."""

CREDS = "creds"
SIGN = "sign"
TOKEN_PATHS = frozenset({CREDS, SIGN})
"""Paths whose requests are rows: for a bearer, or for signed data tokens."""
ROLE = "role"
_CHANGES = {
    ("config/commit", "update"): ChangeKind.ROTATION_COMMITTED,
    ("config/rollback", "update"): ChangeKind.ROLLBACK,
    ("config", "delete"): ChangeKind.REVOKED,
}
_COUNTING = re.compile(r"\d+ errors? occurred:")
_HISTORY = "config/history/"
_NAMED = {"creds": CREDS, "sign": SIGN, "roles": ROLE}
_UNKNOWN_MOUNT = re.compile(r"(.+?/)(?:creds/|sign/|roles/|config(?:/|$))")
_READS = frozenset({"read", "update", "create"})


class AuditTarget(NamedTuple):
    """The target of a path on an engine's mount; ``kind`` is ``creds``, ``sign``, ``role``,
    ``config`` or empty."""

    kind: str
    mount: str
    name: str


NO_TARGET = AuditTarget("", "", "")


def target_of(mount_point: str, path: str) -> AuditTarget:
    """Return the target of this path: a role's creds, a part of the config, or none.

    Args:
        mount_point: with a trailing slash, as in the path. Empty if the server does not
            log it; it is then derived from the path.
        path: the path of the request.
    """
    if not mount_point:
        match = _UNKNOWN_MOUNT.match(path)
        mount_point = match[1] if match else ""
    if not mount_point or not path.startswith(mount_point):
        return NO_TARGET
    mount, rest = mount_point.rstrip("/"), path[len(mount_point) :].lstrip("/")
    first, _, name = rest.partition("/")
    if name and (kind := _NAMED.get(first)) is not None:
        return AuditTarget(kind, mount, name)
    if rest == "config" or rest.startswith("config/"):
        return AuditTarget("config", mount, rest)
    return NO_TARGET


def asks_for_token(operation: str) -> bool:
    """Return whether this operation on ``creds/<role>`` or ``sign/<role>`` asks for tokens."""
    return operation in _READS


def change_kind(target: AuditTarget, operation: str, data: RequestData | None) -> ChangeKind | None:
    """Return how a request on the config changes the credential; None if it does not."""
    name = target.name
    if operation == "create":
        operation = "update"
    if name == "config" and operation == "update":
        return _write_kind(data)
    if name.startswith(_HISTORY) and operation == "delete":
        return ChangeKind.KEPT_DESTROYED
    return _CHANGES.get((name, operation))


def _write_kind(data: RequestData | None) -> ChangeKind | None:
    if data is None:
        return None
    written = data.credentials_json is not None or data.credentials_file_path is not None
    if data.rotation_id is not None:
        if written:
            return ChangeKind.ROTATION_WRITTEN
        # The second write of an open rotation only adds the id of the new key.
        return None if data.rotation_to is not None else ChangeKind.ROTATION_OPENED
    return ChangeKind.WRITE if written else None


def is_cut_off(change: CredentialChange) -> bool:
    """Return whether a run of skyflowctl cut a mount off. Requests of the same run that the mount
    refuses afterwards are probes that verify the cut-off; they do not count as failures."""
    done = change.outcome is RequestOutcome.GRANTED
    return done and change.kind is ChangeKind.REVOKED and bool(change.run_id)


def is_parked(entry: Entry) -> bool:
    """Return whether the answer is a wrapping token that the caller did not ask for, so that a
    control group issued it."""
    response = entry.response
    return response is not None and response.wrap_info is not None and not entry.request.wrap_ttl


def is_guard_probe(entry: Entry, outcome: RequestOutcome) -> bool:
    """Return whether a request only probed for a control group, and wrote nothing.

    An engine with the basic API drops the field that marks a probe, so that a real write
    may carry it. Only a refused or parked request counts as a probe.
    """
    data = entry.request.data
    if data is None or data.skyflowctl_guard_probe is None:
        return False
    return outcome in (RequestOutcome.REFUSED, RequestOutcome.PENDING)


def outcome_of(entry: Entry, *, token: bool, signed: bool = False) -> RequestOutcome:
    """Return how a request ended, from its response.

    Args:
        entry: an entry of type response.
        token: whether the request asked for a token; an answer without one is then no success.
        signed: whether it asked for signed data tokens, whose answer names the key instead.
    """
    response = entry.response
    data = None if response is None else response.data
    if entry.error:
        return _failure(entry) if token else _change_failure(entry)
    if data is not None and data.error is not None:
        return RequestOutcome.REFUSED
    if is_parked(entry):
        return RequestOutcome.PENDING
    if not token or (response is not None and response.wrap_info is not None):
        return RequestOutcome.GRANTED
    answered = data is not None and (data.key_id if signed else data.access_token) is not None
    return RequestOutcome.GRANTED if answered else RequestOutcome.FAILED


_REFUSALS = (
    "unsupported path",
    "unsupported operation",
    "invalid request",
    "unknown role",
    "mount not configured",
    "token service refused",
)


CONFLICTS = (
    "check-and-set failed",
    "the role exists already",
    "there is no earlier credential",
    "the credential of that version is destroyed",
    "this credential is the live one",
    "the open rotation may need this credential",
    "this rotation ",
    "another rotation ",
    "this key was revoked by a cut-off",
    "path is already in use",
)
"""How the error texts of a 409 begin, from the engine and the server: the log has no status."""


def _change_failure(entry: Entry) -> RequestOutcome:
    """Return how a change failed. A conflict (409) is neither a refusal nor a fault here, and
    neither is a token service that refused or could not be reached (502, 503)."""
    words = error_text(entry.error)
    if words.startswith("token service refused"):
        return RequestOutcome.FAILED
    if words.startswith(CONFLICTS):
        return RequestOutcome.CONFLICT
    return _failure(entry)


def error_text(error: str) -> str:
    """Return a response's error in one line, without the server's ``1 error occurred`` prefix."""
    lines = [line.strip().removeprefix("* ") for line in error.splitlines()]
    return "; ".join(line for line in lines if line and not _COUNTING.fullmatch(line))


def _failure(entry: Entry) -> RequestOutcome:
    """Distinguish a refusal from a missing answer. The order of the tests matters: Skyflow's own
    text follows ``token service refused`` and may contain any of the others."""
    error = entry.error
    if "token service refused" in error:
        return RequestOutcome.REFUSED
    results = None if entry.auth is None else entry.auth.policy_results
    if (results is not None and not results.allowed) or "permission denied" in error:
        return RequestOutcome.DENIED
    if "skyflow: " in error:
        return RequestOutcome.FAILED
    return (
        RequestOutcome.REFUSED
        if any(words in error for words in _REFUSALS)
        else RequestOutcome.FAILED
    )
