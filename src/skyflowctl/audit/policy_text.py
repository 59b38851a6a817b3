"""A policy that allows what was denied, as HCL: one exact path and nothing around it."""

import re
from dataclasses import dataclass

# What a name may be (DESIGN): nothing that a policy would read as a wildcard or an end.
_ROLE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MOUNT = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True, slots=True)
class CtxWords:
    """What a role asks of ctx: ``pattern`` with a ``*`` at its ends, empty for any."""

    required: bool = False
    pattern: str = ""


def missing_policy(
    mount: str, role: str, operation: str, ctx: CtxWords | None = None
) -> str | None:
    """Return the policy that a login lacks for a role's tokens.

    Args:
        mount: path of the mount, in its namespace.
        role: of the engine.
        operation: ``read`` or ``update`` (an object ctx), as the log has it.
        ctx: the role's rule, where it is known: the policy then holds callers to it.

    Returns:
        HCL; None when a name is none that an engine can have. It was chosen by the
        caller, and a path with ``*`` or ``+`` in it would open more than was asked for.
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
