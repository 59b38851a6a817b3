"""Checks the audit trail: whether it exists, what it has in clear text, whether it shows runs."""

from collections.abc import Iterator

from skyflowctl.posture.facts import AuditDevice, Facts, MountFacts, NotRead
from skyflowctl.posture.model import Check, Finding, FindingSubject, Severity
from skyflowctl.posture.text import SERVER, unchecked
from skyflowctl.text import listed

# From OpenBao 2.3 on, devices are declared in the server's own configuration.
_ADD_DEVICE = (
    "in the configuration of every node, then SIGHUP (on Vault: vault audit enable)\n"
    'audit "file" "second" { options { file_path = "/var/log/openbao/audit-2.log" } }'
)
_NOWHERE = frozenset({"/dev/null", "discard"})
_HEADERS = {
    "x-skyflowctl-run": "a run of skyflowctl cannot be found in the audit log",
    "application-source": "the name that a caller claims is not in the audit log",
}
_SECRET_RESPONSES = frozenset({"access_token"})
_SECRET_REQUESTS = frozenset({"credentials_json"})


def check_audit_devices(facts: Facts) -> Iterator[Finding]:
    """At least two audit devices that write to different places."""
    devices = facts.audit_devices
    if isinstance(devices, NotRead):
        yield unchecked("audit-devices", devices, core=True)
        return
    places = {_place(one): one for one in devices if not _writes_nowhere(one)}
    seen = tuple(f"{one.path} ({one.type}) {_place(one)}".rstrip() for one in devices)
    if not places:
        yield Finding(
            "audit-devices",
            Severity.CRITICAL,
            SERVER,
            "no request is recorded: no audit device stores anything",
            "there is no record of who requested which token",
            seen,
            _ADD_DEVICE,
        )
    elif len(places) == 1:
        yield Finding(
            "audit-devices",
            Severity.MEDIUM,
            SERVER,
            "there is only one audit device",
            "when it cannot write, every request fails, and there is no second record",
            seen,
            _ADD_DEVICE,
        )


def _place(device: AuditDevice) -> str:
    options = device.options
    return options.get("file_path") or options.get("address") or options.get("uri") or device.path


def _writes_nowhere(device: AuditDevice) -> bool:
    return device.type == "file" and device.options.get("file_path", "") in _NOWHERE


def audit_raw(facts: Facts) -> Iterator[Finding]:
    """No audit device writes secrets in clear text."""
    if isinstance(facts.audit_devices, NotRead):
        yield unchecked("audit-raw", facts.audit_devices, core=True)
        return
    for device in facts.audit_devices:
        subject = FindingSubject("audit-device", device.path)
        if _is_true(device, "log_raw"):
            yield Finding(
                "audit-raw",
                Severity.CRITICAL,
                subject,
                f"the audit device {device.path} writes every secret in plain text",
                "anyone who reads the log can read tokens and credentials",
                (f"{device.path} has log_raw=true",),
                "declare it again under another name without log_raw, remove this one, destroy "
                "its files, and rotate: skyflowctl rotate --all",
            )
        if device.options.get("hmac_accessor", "true") == "false":
            yield Finding(
                "audit-raw",
                Severity.LOW,
                subject,
                f"the audit device {device.path} writes token accessors in plain text",
                "a permitted login can look up and revoke a token by its accessor",
                (f"{device.path} has hmac_accessor=false",),
                "declare it again without hmac_accessor, unless something relies on it",
            )


def _is_true(device: AuditDevice, name: str) -> bool:
    return device.options.get(name, "").lower() in {"true", "1", "t"}


def audit_ctx(facts: Facts) -> Iterator[Finding]:
    """A ctx is hashed or readable in the audit log as declared; a secret is always hashed."""
    for one in facts.ours:
        yield from _secrets_in_clear(one)
        finding = _ctx(one)
        if finding:
            yield finding


def _ctx(one: MountFacts) -> Finding | None:
    plain = "ctx" in one.mount.audit_non_hmac_request_keys
    if one.declared is None:
        if not plain:
            return None
        grade, summary = Severity.INFO, "ctx is readable in the audit log"
        reason = "a ctx may name a person or an order; no manifest allows it in plain text"
    elif plain == one.declared.plain_ctx:
        return None
    elif plain:
        grade, summary = Severity.HIGH, "ctx is readable in the audit log, against the manifest"
        reason = "a ctx may name a person or an order, and the manifest says plain_ctx: false"
    else:
        grade, summary = Severity.LOW, "ctx is hashed in the audit log, against the manifest"
        reason = "the manifest says plain_ctx: true, but the purpose of a token cannot be read"
    keys = one.mount.audit_non_hmac_request_keys
    return Finding(
        "audit-ctx",
        grade,
        FindingSubject("mount", one.path),
        f"{one.path}: {summary}",
        reason,
        (f"audit_non_hmac_request_keys = [{listed(keys)}]",),
        "skyflowctl apply"
        if one.declared
        else f"'skyflowctl apply -f FILE' with a manifest that has {one.path}",
        one.declared.where if one.declared else None,
    )


def _secrets_in_clear(one: MountFacts) -> Iterator[Finding]:
    sides = (
        ("request", _SECRET_REQUESTS.intersection(one.mount.audit_non_hmac_request_keys)),
        ("response", _SECRET_RESPONSES.intersection(one.mount.audit_non_hmac_response_keys)),
    )
    for side, names in sides:
        for name in sorted(names):
            yield Finding(
                "audit-ctx",
                Severity.CRITICAL,
                FindingSubject("mount", one.path),
                f"{one.path}: {name} is in plain text in the audit log",
                "anyone who reads the log can use it",
                (f"audit_non_hmac_{side}_keys holds {name}",),
                f"bao secrets tune -audit-non-hmac-{side}-keys= {one.path}/, then 'skyflowctl "
                "apply', and rotate what was written there",
            )


def check_audited_headers(facts: Facts) -> Iterator[Finding]:
    """The audit log has the headers that name a run and an application, in readable form."""
    headers = facts.audited_headers
    if isinstance(headers, NotRead):
        yield unchecked("audited-headers", headers)
        return
    for name, reason in _HEADERS.items():
        if headers.get(name) is False:
            continue
        hashed = name in headers
        yield Finding(
            "audited-headers",
            Severity.LOW,
            SERVER,
            f"the header {name} is {'hashed' if hashed else 'not written'} in the audit log",
            reason,
            (f"audited headers: {listed(sorted(headers)) or 'none'}",),
            f"bao write sys/config/auditing/request-headers/{name} hmac=false, or skyflowctl apply",
        )


CHECKS = (
    Check(
        "audit-devices",
        "two audit devices",
        "Two devices record requests, so that a failing device neither blocks nor hides any.",
        check_audit_devices,
    ),
    Check(
        "audit-raw",
        "no secret in the audit log",
        "Audit devices hash secrets.",
        audit_raw,
    ),
    Check(
        "audit-ctx",
        "ctx in the audit log as declared",
        "A ctx is hashed in the audit log unless the manifest sets plain_ctx.",
        audit_ctx,
        of_mounts=True,
    ),
    Check(
        "audited-headers",
        "runs and callers in the audit log",
        "The headers X-Skyflowctl-Run and Application-Source are logged in plain text.",
        check_audited_headers,
    ),
)
