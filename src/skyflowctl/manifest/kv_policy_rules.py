"""The rule of policies for kv engines: a secret's path has a part that many people forget."""

from collections.abc import Collection, Iterator

from skyflowctl.errors import Problem, Where
from skyflowctl.hcl import Block, HclError, parse_hcl
from skyflowctl.manifest.access import policy_text
from skyflowctl.manifest.messages import shown
from skyflowctl.manifest.nodes import (
    Path,
    YamlNode,
    as_text,
    at_key,
    at_value,
    child,
    entries,
    items,
    text_of,
)

_PARTS = (
    "data", "metadata", "delete", "undelete", "destroy", "subkeys", "detailed-metadata", "config",
)  # fmt: skip


def kv_policy_rules(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield rules of policies that can reach no path of a kv engine of this manifest."""
    engines = [
        name
        for name, body in entries(child(root, "engines"))
        if as_text(child(body, "type")) == "kv"
    ]
    for policy, node in entries(child(root, "policies")):
        for path, place, name, words in _rules(("policies", policy), node):
            engine = next((one for one in engines if name.startswith(f"{one}/")), "")
            rest = name[len(engine) + 1 :]
            if engine and rest and not _reaches(rest.split("/")[0], is_last="/" not in rest):
                yield path, _without_part(engine, rest, words, place)


def _rules(path: Path, node: YamlNode) -> Iterator[tuple[Path, Where, str, Collection[str]]]:
    """Yield where a rule is, its path and its capabilities."""
    for name, words in entries(child(node, "rules")):
        about = (*path, "rules", name)
        yield about, at_key(words, about), name, [text_of(one) or "" for one in items(words)]
    for key in ("text", "file"):
        source = child(node, key)
        if source is None or text_of(source) is None:
            continue
        about = (*path, key)
        for name, given in _of_text(policy_text(node) or ""):
            yield about, at_value(source, about), name, given


def _of_text(text: str) -> Iterator[tuple[str, Collection[str]]]:
    try:
        found = parse_hcl(text)
    except HclError:
        return  # this was reported
    for keys, rule in found.items:
        if keys[:1] == ("path",) and isinstance(rule, Block):
            words = next((one for one in rule.values("capabilities") if isinstance(one, list)), [])
            yield "/".join(keys[1:]), words


def _reaches(segment: str, *, is_last: bool) -> bool:
    """Whether the first segment below the engine is, or may be, one of its parts."""
    if segment in _PARTS or segment == "+" or "{{" in segment:
        return True
    start = segment.removesuffix("*")
    return is_last and start != segment and any(one.startswith(start) for one in _PARTS)


def _without_part(engine: str, rest: str, words: Collection[str], where: Where) -> Problem:
    only_list = bool(words) and set(words) <= {"list", "scan"}
    part = "metadata" if only_list else "data"
    told = "/".join(map(shown, rest.split("/")))  # a long path as a whole looks like a key
    done = "listed" if only_list else "read"
    return Problem(
        "bad-policy",
        f"the rule {engine}/{told} reaches no secret",
        f"{engine} is a kv engine of version 2: its secrets are {done} at {engine}/{part}/NAME",
        f"write {engine}/{part}/{told}",
        where,
    )
