"""A policy's text in the form in which two policies are compared: rule by rule, by meaning."""

import re
from collections import defaultdict
from typing import Any

from skyflowctl.hcl import Block, HclError, parse_hcl

_MARK = re.compile(r"\s*#\s*managed-by:skyflowctl/([a-z0-9][a-z0-9_-]{0,62})( adopted)?[ \t\r]*\n")


def mark_line(manifest_id: str, *, adopted: bool = False) -> str:
    """Return the first line of a manifest's policies."""
    return f"# managed-by:skyflowctl/{manifest_id}{' adopted' if adopted else ''}"


def policy_mark(text: str) -> tuple[str, bool]:
    """Return the id of the manifest in a policy's first line, and whether it adopted the policy.

    The id is empty without such a line.
    """
    found = _MARK.match(text)
    return (found[1], bool(found[2])) if found else ("", False)


def unmarked(text: str) -> str:
    """Return a policy's text without the line that has its mark."""
    found = _MARK.match(text)
    return text[found.end() :] if found else text


def policy_fields(text: str) -> dict[str, Any]:
    """Return a policy's mark and its rules; spaces, comments and the order have no effect.

    A rule's field is ``path "…"``; its value lists the capabilities, then everything else.
    """
    owner, adopted = policy_mark(text)
    found: dict[str, Any] = {"manifest": owner or None, "adopted": adopted}
    try:
        items = parse_hcl(text).items
    except HclError as error:
        return {**found, "text": f"not valid HCL: {error}"}
    rules: dict[str, list[str]] = defaultdict(list)
    for keys, value in items:
        name = f'{keys[0]} "{keys[1]}"' if len(keys) > 1 else keys[0]
        rules[name].append(_rule(value))
    return {**found, **{name: " + ".join(sorted(texts)) for name, texts in rules.items()}}


def _rule(value: Any) -> str:
    if not isinstance(value, Block):
        return _value(value)
    words = [one for listed in value.values("capabilities") for one in _listed(listed)]
    others = sorted(
        f"{' '.join(keys)}: {_value(inner)}"
        for keys, inner in value.items
        if keys != ("capabilities",)
    )
    return "; ".join([", ".join(sorted(set(words))), *others])


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _value(value: Any) -> str:
    if isinstance(value, Block):
        return f"{{{_rule_items(value)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_value(one) for one in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _rule_items(block: Block) -> str:
    return ", ".join(sorted(f"{' '.join(keys)}: {_value(inner)}" for keys, inner in block.items))
