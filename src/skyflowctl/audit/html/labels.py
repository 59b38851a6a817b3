"""The page's headings, and what it calls anomalies, changes and outcomes."""

from skyflowctl.audit.model import ChangeKind, RequestOutcome
from skyflowctl.audit.report_model import UnusualKind

SECTIONS = (
    ("unusual", "Anomalies", "Anomalies"),
    ("time", "Requests over time", "Over time"),
    ("when", "Requests by day and hour", "By hour"),
    ("apps", "Most active applications", "Applications"),
    ("usage", "Usage by application and role", "Usage"),
    ("changes", "Changes affecting token access", "Changes"),
    ("sources", "Sources and method", "Sources"),
)
"""Each section's id, its heading, and its name in the navigation."""
COLUMNS = {
    "unusual": (
        ("Anomaly", "text"),
        ("Application", "text"),
        ("Mount", "text"),
        ("Role", "text"),
        ("Details", "text wide"),
        ("Requests", "number"),
        ("First (UTC)", "time"),
        ("Last (UTC)", "time"),
    ),
    "usage": (
        ("Application", "text"),
        ("Mount", "text"),
        ("Role", "text"),
        ("Requests", "number"),
        ("No token issued", "number"),
        ("Distinct contexts", "number"),
        ("Busiest hour (UTC)", "number"),
        ("First (UTC)", "time"),
        ("Last (UTC)", "time"),
        ("Anomalies", "text"),
    ),
    "changes": (
        ("Time (UTC)", "time"),
        ("Change", "text"),
        ("Object", "text wide"),
        ("Before and after", "text wide"),
        ("Made by", "text"),
        ("Outcome", "text"),
        ("Run", "text"),
        ("Request", "text wide"),
    ),
    "inputs": (
        ("File", "text"),
        ("Bytes", "number"),
        ("SHA-256", "text wide"),
    ),
}
"""The titles of each table's columns, with their classes; the first class is how one sorts."""
INCIDENT_COLUMNS = {
    "mounts": (
        ("Mount", "text"),
        ("Tokens", "number"),
        ("First (UTC)", "time"),
        ("Last (UTC)", "time"),
        ("Alive until (UTC)", "text"),
        ("Ended by", "text wide"),
    ),
    "groups": (
        ("Application", "text"),
        ("Mount", "text"),
        ("Role", "text"),
        ("Tokens", "number"),
        ("Distinct contexts", "number"),
        ("First (UTC)", "time"),
        ("Last (UTC)", "time"),
        ("Alive until (UTC)", "text"),
    ),
    "tokens": (
        ("Time (UTC)", "time"),
        ("Application", "text"),
        ("Path", "text"),
        ("Context", "text wide"),
        ("Alive until (UTC)", "text"),
        ("Key", "text wide"),
        ("Request", "text wide"),
    ),
}
"""The same for the page of an incident."""
KINDS = {
    UnusualKind.ROLE_ID_CHANGED: "Role ID changed manually",
    UnusualKind.ROOT_TOKEN: "Root token used",
    UnusualKind.UNDECLARED_ROLE: "Undeclared role",
    UnusualKind.FAILURE_JUMP: "Surge in failures",
    UnusualKind.FIRST_SEEN_APP: "New application",
    UnusualKind.OUTSIDE_USUAL_HOURS: "Outside usual hours",
    UnusualKind.CTX_OUTSIDE_PATTERN: "Context outside pattern",
}
CHANGES = {
    ChangeKind.WRITE: "Credential written",
    ChangeKind.ROTATION_OPENED: "Rotation opened",
    ChangeKind.ROTATION_WRITTEN: "Rotation: new key written",
    ChangeKind.ROTATION_COMMITTED: "Rotation committed",
    ChangeKind.ROLLBACK: "Rolled back",
    ChangeKind.KEPT_DESTROYED: "Kept credential destroyed",
    ChangeKind.REVOKED: "Credential revoked",
    ChangeKind.ROLE_WRITTEN: "Role written",
    ChangeKind.ROLE_DELETED: "Role deleted",
    ChangeKind.MOUNT_ENABLED: "Mount enabled",
    ChangeKind.MOUNT_DISABLED: "Mount disabled",
    ChangeKind.MOUNT_TUNED: "Mount tuned",
    ChangeKind.MOUNT_MOVED: "Mount moved",
    ChangeKind.POLICY_WRITTEN: "Policy written",
    ChangeKind.POLICY_DELETED: "Policy deleted",
    ChangeKind.PLUGIN_REGISTERED: "Plugin registered",
    ChangeKind.PLUGIN_REMOVED: "Plugin removed",
    ChangeKind.PLUGIN_RELOADED: "Plugin reloaded",
    ChangeKind.AUDIT_DEVICE_ENABLED: "Audit device enabled",
    ChangeKind.AUDIT_DEVICE_DISABLED: "Audit device disabled",
    ChangeKind.SNAPSHOT_RESTORED: "Snapshot restored",
    ChangeKind.ROOT_TOKEN_GENERATED: "Root token generated",
    ChangeKind.ROOT_TOKEN_USED: "Root token used",
}
OUTCOMES = {
    RequestOutcome.GRANTED: "Done",
    RequestOutcome.DENIED: "Denied",
    RequestOutcome.REFUSED: "Refused",
    RequestOutcome.FAILED: "Failed",
    RequestOutcome.UNKNOWN: "Unknown",
    RequestOutcome.CONFLICT: "Conflict",
    RequestOutcome.PENDING: "Awaiting approval",
}
