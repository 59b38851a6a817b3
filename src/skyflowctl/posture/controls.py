"""Which checks support which control of a standard. No mapping says that a control is fulfilled.

The names are shortened; the standard's own text decides.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from skyflowctl.frozen import dataclass
from skyflowctl.posture.model import CheckResult, PostureReport

CONTROLS_NOTE = (
    "a passed check supports a control; it does not show that the control, or the standard, is "
    "fulfilled"
)


@dataclass(frozen=True, slots=True)
class Control:
    """A control, and the ids of the checks that support it."""

    id: str
    title: str
    checks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ControlProfile:
    """The controls of one version of a standard that checks support."""

    standard: str
    controls: tuple[Control, ...]


_LEAST = ("creds-readers", "creds-wildcards", "least-policies", "root-tokens", "unused-roles")
_TRAIL = ("audit-devices", "audited-headers")
_KEYS = ("credential-age", "kept-keys", "shared-account")
_CODE = ("engine-digest", "engine-process")

PROFILES: Mapping[str, ControlProfile] = {
    "pci": ControlProfile(
        "PCI DSS v4.0.1",
        (
            Control("2.2.7", "Non-console administrative access is encrypted", ("tls",)),
            Control(
                "3.7.4",
                "Keys are changed at the end of their cryptoperiod",
                ("credential-age",),
            ),
            Control("3.7.5", "Keys are retired, replaced or destroyed", ("kept-keys",)),
            Control("4.2.1", "Strong cryptography on open, public networks", ("tls",)),
            Control("7.2.2", "Access by job function and least privilege", _LEAST),
            Control(
                "7.2.5",
                "System and application accounts have least privilege",
                ("creds-readers", "creds-wildcards", "shared-account", "shared-tokens"),
            ),
            Control("10.2.1", "Audit logs are enabled and active", _TRAIL),
            Control(
                "10.3.1", "Audit logs are read by those who need to", ("audit-raw", "audit-ctx")
            ),
            Control("11.5.2", "Changes of critical files are detected", ("engine-digest",)),
        ),
    ),
    "soc2": ControlProfile(
        "SOC 2, Trust Services Criteria 2017 (points of focus revised 2022)",
        (
            Control(
                "CC6.1",
                "Logical access security protects information assets",
                (*_KEYS, "guarded-keys", "seal-wrap", "root-tokens"),
            ),
            Control(
                "CC6.3",
                "Access by role, least privilege, segregation of duties",
                (*_LEAST, "lifted-guards"),
            ),
            Control("CC6.7", "Transmission of information is restricted and protected", ("tls",)),
            Control("CC6.8", "Unauthorized software is prevented or detected", _CODE),
            Control(
                "CC7.1", "Changes of configuration are detected", ("undeclared", "engine-digest")
            ),
            Control("CC7.2", "Components are monitored for anomalies", _TRAIL),
            Control("A1.2", "Environmental protections, backup and recovery", ("server", "mounts")),
        ),
    ),
    "hipaa": ControlProfile(
        "HIPAA Security Rule, 45 CFR Part 164 Subpart C",
        (
            Control("164.308(a)(4)", "Information access management", _LEAST),
            Control("164.312(a)(1)", "Access control", ("creds-readers", "creds-wildcards")),
            Control(
                "164.312(a)(2)(i)", "Unique user identification", ("shared-tokens", "root-tokens")
            ),
            Control("164.312(b)", "Audit controls", (*_TRAIL, "audit-raw")),
            Control("164.312(c)(1)", "Integrity", _CODE),
            Control("164.312(d)", "Person or entity authentication", _KEYS),
            Control("164.312(e)(1)", "Transmission security", ("tls",)),
        ),
    ),
    "gdpr": ControlProfile(
        "GDPR, Regulation (EU) 2016/679",
        (
            Control("Art. 5(1)(c)", "Data minimisation", ("audit-ctx", "audit-raw")),
            Control("Art. 5(1)(f)", "Integrity and confidentiality", (*_LEAST, "tls")),
            Control("Art. 25(2)", "Data protection by default: access", _LEAST),
            Control("Art. 32(1)(a)", "Pseudonymisation and encryption", ("tls", "audit-ctx")),
            Control(
                "Art. 32(1)(b)",
                "Confidentiality, integrity, availability and resilience",
                (*_KEYS, *_CODE, "server", "mounts"),
            ),
            Control("Art. 33", "Notification of a breach: what happened can be told", _TRAIL),
        ),
    ),
}


def profile_json(name: str, report: PostureReport) -> dict[str, Any]:
    """Return a profile's controls with the results of their checks."""
    profile = PROFILES[name]
    results = {one.check.id: one for one in report.checks}
    return {
        "name": name,
        "standard": profile.standard,
        "note": CONTROLS_NOTE,
        "controls": [
            {"id": one.id, "title": one.title, "checks": list(_checks(one, results))}
            for one in profile.controls
        ],
    }


def _checks(control: Control, results: Mapping[str, CheckResult]) -> Iterator[dict[str, str]]:
    for name in control.checks:
        yield {"id": name, "result": results[name].result.value}
