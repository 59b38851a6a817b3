"""A manifest of many equal mounts, with the logins of their consumers."""

from __future__ import annotations


def manifest_text(mounts: int, roles: int, consumers: int) -> str:
    """Mounts ``m000`` …, each with these roles, and each role with these AppRole consumers."""
    lines = ["version: 1", "manifest: many", "auth: {approle: {}}", "mounts:"]
    for mount in range(mounts):
        lines += [f"  m{mount:03}:", "    credentials: {file: key.json}", "    roles:"]
        for role in range(roles):
            names = (f"m{mount:03}-{role}-{number}" for number in range(consumers))
            logins = ", ".join(f"{name}: {{token_ttl: 20m}}" for name in names)
            lines += [f"      role-{role}:", f"        role_ids: [role-{role}]"]
            lines += [f"        consumers: {{approle: {{{logins}}}}}"]
    return "\n".join((*lines, ""))
