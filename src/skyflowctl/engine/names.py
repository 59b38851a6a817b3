"""The rules for role names and role ids."""

import re
from collections.abc import Sequence

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
# What an engine with the basic API takes: a role of such a name may at least be deleted.
FOREIGN_NAME = re.compile(r"\w(?:[\w.-]{0,250}\w)?", re.ASCII)
# A blank would make one scope of two.
ROLE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SIGN_MAX_TTL, SIGN_LONGEST_TTL = 900, 24 * 60 * 60
"""The longest life of a role's signed data tokens where the role does not say, and the most that
it may say, in seconds."""
REUSE_SHORTEST_TTL, REUSE_LONGEST_TTL = 5 * 60, 50 * 60
"""The least and the most that a role's ``reuse_min_ttl`` may be, in seconds."""
PER_ENTITY, PER_ROLE = "entity", "role"
"""Who shares a reused token: the callers of one identity entity, or all readers of the role."""
NAME_RULE = "a name has 1 to 63 lower-case letters, digits, _ and -, the first no _ or -"


def is_name(text: str) -> bool:
    """Tell whether a text is a name: it then is one part of a path and nothing else."""
    return NAME.fullmatch(text) is not None


def role_refusal(name: str, role_ids: Sequence[str]) -> str:
    """Return why this engine cannot take over another engine's role; empty: it can."""
    if not is_name(name):
        return NAME_RULE
    if len(role_ids) != 1:
        return f"it has {len(role_ids)} role_ids, and exactly one is needed"
    if not ROLE_ID.fullmatch(role_ids[0]):
        return "its role id has other characters than letters, digits, . _ and -"
    return ""
