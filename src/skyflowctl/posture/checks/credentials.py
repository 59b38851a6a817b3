"""Checks the credentials: their age, old ones that are kept, one account on two mounts."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from skyflowctl.clock import rfc3339, time_or_none
from skyflowctl.posture.facts import Facts, MountFacts
from skyflowctl.posture.model import Check, Finding, FindingSubject, Severity
from skyflowctl.text import counted, duration, listed
from skyflowctl.vault.live import CredentialVersion, LiveConfig, LiveRotation, way_out

_SOON = timedelta(days=14)
_OLD = timedelta(days=365)
_OPEN_TOO_LONG = timedelta(hours=1)
_RETIRE_WITHIN = timedelta(days=1)
_KEEP_WITHIN = timedelta(days=7)


def ages(facts: Facts) -> Iterator[Finding]:
    """No live key is expired, about to expire, or due by the manifest's rotation rule."""
    for one in facts.ours:
        if one.config is None:
            continue
        if not one.config.configured:
            yield _unconfigured(one, one.config)
            continue
        if one.config.api.missing:
            yield _not_reported(one)
            continue
        finding = _age(one, one.config, facts.now)
        if finding:
            yield finding


def _not_reported(one: MountFacts) -> Finding:
    return Finding(
        "credential-age",
        Severity.LOW,
        FindingSubject("mount", one.path),
        f"not checked: {one.path} runs another engine, which does not report its credential",
        "its key, its age and whether Skyflow still accepts it cannot be read",
        (f"the engine lacks {listed(one.config.api.missing if one.config else ())}",),
        f"'skyflowctl health {one.path} --mint' proves that it mints",
        unchecked=True,
    )


def _unconfigured(one: MountFacts, config: LiveConfig) -> Finding:
    return Finding(
        "credential-age",
        Severity.LOW,
        FindingSubject("mount", one.path),
        f"{one.path} has no credential",
        "it issues no token" + _why_none(one, config),
        fix=_configured_by(one, config),
        where=one.declared.where if one.declared else None,
    )


def _why_none(one: MountFacts, config: LiveConfig) -> str:
    if config.revoked:
        return f": it has been {config.revoked.sentence()}"
    return ", but had one: it was cut off" if one.history else ""


def _configured_by(one: MountFacts, config: LiveConfig) -> str:
    """Return the command that gives a mount a credential; a plain apply, or a revoked key, does not
    end a cut-off."""
    advice = way_out(one.declared.name if one.declared else one.path, config.api)
    unused = "" if one.declared else f"bao secrets disable {one.path}, if unused"
    if one.history or config.revoked:
        return "; ".join(filter(None, (advice, unused)))
    unknown = f"; if it was cut off, {advice}" if one.history is None else ""
    return unused or f"skyflowctl apply{unknown}"


def _age(one: MountFacts, config: LiveConfig, now: datetime) -> Finding | None:
    until = config.key_valid_before
    since = config.key_valid_after or config.credential_updated
    if until is not None and until <= now:
        grade, word = Severity.CRITICAL, f"expired {duration(now - until)} ago"
        reason = "Skyflow refuses it: the mount issues no token"
    elif until is not None and until - now <= _SOON:
        grade, word = Severity.HIGH, f"expires in {duration(until - now)}"
        reason = "from then on the mount issues no token"
    elif one.due:
        grade, word = Severity.MEDIUM, "is due for rotation"
        reason = one.due
    elif since is not None and now - since >= _OLD:
        grade, word = Severity.MEDIUM, f"is {duration(now - since)} old"
        reason = "anyone who has copied it since then can use it"
    else:
        return None
    seen = (
        f"key {config.key_id}",
        f"valid from {rfc3339(since)}" if since else "",
        f"valid until {rfc3339(until)}" if until else "",
    )
    return Finding(
        "credential-age",
        grade,
        FindingSubject("mount", one.path),
        f"{one.path}: the key {word}",
        reason,
        tuple(line for line in seen if line),
        f"skyflowctl rotate {one.path}",
        one.declared.where if one.declared else None,
    )


def kept_keys(facts: Facts) -> Iterator[Finding]:
    """No rotation is left unfinished, and no old key is kept long after it was needed."""
    for one in facts.ours:
        if one.config is None:
            continue
        rotation = one.config.rotation
        if rotation is not None and rotation.state == "open":
            yield from _open(one, rotation, facts.now)
        yield from _kept(one, one.config, facts.now)


def _open(one: MountFacts, rotation: LiveRotation, now: datetime) -> Iterator[Finding]:
    started = time_or_none(rotation.started)
    long = started is None or now - started > _OPEN_TOO_LONG
    yield Finding(
        "kept-keys",
        Severity.HIGH if long else Severity.INFO,
        FindingSubject("mount", one.path),
        f"{one.path}: a rotation is open" + (f" for {duration(now - started)}" if started else ""),
        "two keys may be valid, and neither is committed",
        (f"rotation {rotation.id} by {rotation.by or 'unknown'}", f"started {rotation.started}"),
        f"'skyflowctl rotate {one.path}' resumes it",
    )


def _kept(one: MountFacts, config: LiveConfig, now: datetime) -> Iterator[Finding]:
    rotation = config.rotation
    open_from = rotation.from_key if rotation and rotation.state == "open" else ""
    late: list[CredentialVersion] = []
    for entry in (one.history or {}).values():
        if not entry.kept or entry.key_id in {config.key_id, open_from}:
            continue
        if _needed_until(one, entry, rotation) < now:
            late.append(entry)
    if late:
        keys = [entry.key_id for entry in late]
        committed = rotation is not None and rotation.state == "committed"
        retires = committed and rotation is not None and rotation.from_key in keys
        yield Finding(
            "kept-keys",
            Severity.MEDIUM,
            FindingSubject("mount", one.path),
            f"{one.path} still keeps {counted(len(set(keys)), 'old key')}",
            "they are no longer needed, and a rollback would make one live again",
            tuple(
                f"version {entry.credential_version}: key {entry.key_id} of {entry.written_at}"
                for entry in late
            ),
            f"skyflowctl rotate --retire {one.path}"
            if retires
            else "; ".join(
                f"bao delete {one.path}/config/history/{entry.credential_version}" for entry in late
            ),
        )


def _needed_until(
    one: MountFacts, entry: CredentialVersion, rotation: LiveRotation | None
) -> datetime:
    """Return until when an old key may be kept without a finding."""
    if rotation is not None and rotation.from_key == entry.key_id:
        until = time_or_none(rotation.old_tokens_valid_until)
        if until is not None:
            return until + _RETIRE_WITHIN
    newer = [
        moment
        for other in (one.history or {}).values()
        if other.credential_version > entry.credential_version
        and (moment := time_or_none(other.written_at))
    ]
    replaced = min(newer, default=None) or time_or_none(entry.written_at)
    return replaced + _KEEP_WITHIN if replaced else datetime.max.replace(tzinfo=UTC)


def shared_accounts(facts: Facts) -> Iterator[Finding]:
    """Every mount has its own service account."""
    by_account: dict[str, list[MountFacts]] = defaultdict(list)
    for one in facts.ours:
        if one.config is not None and one.config.client_id:
            by_account[one.config.client_id].append(one)
    for client_id, group in sorted(by_account.items()):
        if len(group) > 1:
            yield _shared(client_id, group)


def _shared(client_id: str, group: list[MountFacts]) -> Finding:
    keys = [one.config.key_id for one in group if one.config is not None]
    same = sorted({key for key in keys if keys.count(key) > 1})
    paths = [one.path for one in group]
    return Finding(
        "shared-account",
        Severity.CRITICAL if same else Severity.HIGH,
        FindingSubject("mount", paths[-1]),
        f"one {'key' if same else 'service account'} serves {len(group)} mounts: {listed(paths)}",
        "a cut-off or rotation of one also affects the others"
        if same
        else "disabling the account stops them all, and Skyflow cannot tell them apart",
        (
            f"client_id {client_id}",
            *(f"{one.path}: key {one.config.key_id}" for one in group if one.config is not None),
        ),
        "; ".join(
            f"skyflowctl rotate {path} --credentials file:ITS-OWN-ACCOUNT.json"
            for path in paths[1:]
        ),
        next((one.declared.where for one in reversed(group) if one.declared), None),
    )


CHECKS = (
    Check(
        "credential-age",
        "ages of the credentials",
        "Keys are replaced before they expire, as the manifest's rotation rule requires.",
        ages,
        of_mounts=True,
    ),
    Check(
        "kept-keys",
        "open rotations and old keys",
        "Rotations are finished, and old keys are destroyed once they are no longer needed.",
        kept_keys,
        of_mounts=True,
    ),
    Check(
        "shared-account",
        "one service account, one mount",
        "Mounts do not share service accounts or keys, so that each can be cut off alone.",
        shared_accounts,
        of_mounts=True,
    ),
)
