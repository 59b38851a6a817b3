"""Builds the HCL of a policy that allows a denied request: one exact path and no more."""

import re
from dataclasses import dataclass

# Valid names (DESIGN): no character that a policy reads as a wildcard or a delimiter.
_ROLE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MOUNT = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True, slots=True)
class CtxWords:
    """A role's ctx rule: ``pattern`` may have ``*`` at its ends; empty allows any ctx."""

    required: bool = False
    pattern: str = ""


def missing_policy(
    mount: str, role: str, operation: str, ctx: CtxWords | None = None
) -> str | None:
    """Return the policy that a login needs to read a role's tokens.

    Args:
        mount: path of the mount, in its namespace.
        role: the engine's role.
        operation: ``read`` or ``update`` (an object ctx), as logged.
        ctx: the role's rule, if known; the policy then enforces it.

    Returns:
        HCL; None if a name is not valid for an engine. The caller chose the name, and a path
        with ``*`` or ``+`` would allow more than was asked for.
    """
    if not _ROLE.fullmatch(role) or not _MOUNT.fullmatch(mount):
        return None
    capability = "read" if operation == "read" else "update"
    lines = [f'path "{mount}/creds/{role}" {{', f'  capabilities = ["{capability}"]']
    if ctx is not None and ctx.required:
        lines.append('  required_parameters = ["ctx"]')
    if ctx is not None and ctx.pattern:
        lines.append(f'  allowed_parameters = {{ "ctx" = ["{_quoted(ctx.pattern)}"] }}')
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
