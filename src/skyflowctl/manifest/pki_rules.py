"""The rules of how long certificates of a pki engine are valid. They add problems, never raise."""

from collections.abc import Iterator

from skyflowctl.clock import parse_duration
from skyflowctl.errors import Problem
from skyflowctl.manifest.nodes import Path, YamlNode, as_text, at_value, child, entries

_SERVERS = "768h"


def pki_rules(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield certificates that the server would shorten to the engine's max_lease_ttl."""
    for engine, body in entries(child(root, "engines")):
        if as_text(child(body, "type")) != "pki":
            continue
        path: Path = ("engines", engine)
        longest = child(body, "max_lease_ttl")
        yield from _longer((*path, "root", "ttl"), child(body, "root", "ttl"), longest)
        for name, role in entries(child(body, "roles")):
            key = "max_ttl" if seconds(child(role, "max_ttl")) else "ttl"
            yield from _longer((*path, "roles", name, key), child(role, key), longest)


def _longer(
    path: Path, ttl: YamlNode | None, longest: YamlNode | None
) -> Iterator[tuple[Path, Problem]]:
    given = seconds(longest)
    most = given or parse_duration(_SERVERS).total_seconds()
    if ttl is None or seconds(ttl) <= most:
        return
    length, limit = as_text(ttl), as_text(longest)
    summary = f"{path[-1]} is longer than the engine's max_lease_ttl"
    why = f"the server would shorten it to {limit if given else f'its own limit, {_SERVERS}'}"
    if "root" in path:
        why += ", and the root is made only once"
    fix = f"use {limit}, or max_lease_ttl: {length}" if given else f"add max_lease_ttl: {length}"
    yield path, Problem("bad-duration", summary, why, fix, at_value(ttl, path))


def seconds(node: YamlNode | None) -> float:
    """Return the seconds of a duration; 0 for none, or one that the schema refuses."""
    try:
        return parse_duration(as_text(node)).total_seconds() if node else 0
    except (ValueError, OverflowError):
        return 0
