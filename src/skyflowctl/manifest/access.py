"""Builds what applications need around the mounts: consumers, login methods and policies.

The rules of these sections are here too; like those of ``rules.py``, they add problems and never
raise.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from skyflowctl.clock import parse_duration
from skyflowctl.errors import Problem
from skyflowctl.hcl import Block, HclError, parse_hcl
from skyflowctl.manifest.logins import (
    consumer_entries,
    login_settings,
    method_roles,
    method_type,
    network,
    read_file,
    why_unread,
)
from skyflowctl.manifest.messages import did_you_mean, joined_names, shown
from skyflowctl.manifest.model import Consumer, DeclaredPolicy, LoginMethod
from skyflowctl.manifest.nodes import (
    Path,
    YamlNode,
    at_key,
    at_value,
    child,
    entries,
    items,
    plain,
    text_of,
)

_BUILT_IN = frozenset({"root", "default", "response-wrapping", "control-group"})
_GENERATED = ("skyflow.", "skyflowctl.")
_CAPABILITIES = frozenset(
    {"create", "read", "update", "patch", "delete", "list", "scan", "sudo", "deny"}
)
_CIDRS = ("secret_id_bound_cidrs", "token_bound_cidrs")


def role_policy_name(mount_path: str, role: str) -> str:
    """Return the name of the policy that allows to read one role's tokens.

    The server turns names to lower case.
    """
    return f"skyflow.{mount_path.replace('/', '.')}.{role}".lower()


def declared_login_methods(root: YamlNode) -> tuple[LoginMethod, ...]:
    """Return the declared login methods."""
    return tuple(
        LoginMethod(
            name,
            text_of(child(node, "type")) or name,
            text_of(child(node, "description")) or "",
            at_key(node, ("auth", name)),
        )
        for name, node in entries(child(root, "auth"))
    )


def declared_policies(root: YamlNode) -> tuple[DeclaredPolicy, ...]:
    """Return the declared policies; files are read again, after they were checked."""
    return tuple(
        DeclaredPolicy(name, policy_text(node) or "", at_key(node, ("policies", name)))
        for name, node in entries(child(root, "policies"))
    )


def declared_consumers(root: YamlNode) -> tuple[Consumer, ...]:
    """Return each consumer once, with all of its roles, in the manifest's order."""
    found: dict[tuple[str, str], Consumer] = {}
    for path, mount, role, node in consumer_entries(root):
        *_, method, name = (str(part) for part in path)
        earlier = found.get((method, name))
        grants = (*(earlier.grants if earlier else ()), (mount, role))
        where = earlier.where if earlier else at_key(node, path)
        settings, kind = login_settings(root, method, node), method_type(root, method)
        found[method, name] = Consumer(name, method, settings, grants, where, type=kind)
    return (*found.values(), *_declared_roles(root))


def _declared_roles(root: YamlNode) -> Iterator[Consumer]:
    """Yield the logins that are declared below their login method."""
    for path, node in method_roles(root):
        policies = tuple(text_of(one) or "" for one in items(child(node, "policies")))
        where = at_key(node, path)
        method = str(path[1])
        settings, kind = login_settings(root, method, node), method_type(root, method)
        yield Consumer(str(path[-1]), method, settings, (), where, policies, kind)


def with_cidrs(consumer: Consumer, cidr: str) -> Consumer:
    """Return a consumer with another address range, if it is restricted to some."""
    restricted = {name: [cidr] for name in _CIDRS if consumer.settings.get(name)}
    return replace(consumer, settings={**consumer.settings, **restricted})


def policy_text(node: YamlNode) -> str | None:
    """Return a policy's text; None if its file cannot be read."""
    rules = child(node, "rules")
    if rules is not None:
        return "".join(_rule_text(path, plain(words)) for path, words in entries(rules))
    name = text_of(child(node, "file"))
    if name is None:
        return text_of(child(node, "text")) or ""
    try:
        return read_file(node.source.folder, name)
    except (OSError, ValueError):
        return None


def _rule_text(path: str, words: Any) -> str:
    listed = ", ".join(f'"{word}"' for word in words)
    return f'path "{path}" {{\n  capabilities = [{listed}]\n}}\n'


def check_consumers(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield settings that differ between the roles of one consumer, and bad address ranges."""
    yield from _check_roles(root)
    first: dict[tuple[str | int, ...], tuple[Path, YamlNode]] = {}
    for path, _, _, node in consumer_entries(root):
        yield from bad_values(path, node)
        earlier = first.setdefault(path[-2:], (path, node))
        if earlier[0] == path or plain(earlier[1]) == plain(node):
            continue
        where = at_key(node, path)
        there = at_key(earlier[1], earlier[0])
        yield (
            path,
            Problem(
                "consumer-differs",
                f"the consumer {shown(str(path[-1]))} has two different settings",
                f"it is one login, also declared at {there.file}:{there.line}",
                "give both entries the same settings, or two names",
                where,
            ),
        )


def _check_roles(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield logins of ``auth`` with a consumer's name, a policy of the server's or bad values."""
    consumers = {path[-2:] for path, *_ in consumer_entries(root)}
    for path, node in method_roles(root):
        yield from bad_values(path, node)
        if (path[1], path[-1]) in consumers:
            summary = f"the login {shown(str(path[-1]))} is also a consumer of a role"
            why, fix = "both would be one login role on the server", "give one of them another name"
            yield path, Problem("same-login", summary, why, fix, at_key(node, path))
        yield from reserved_policies(path, node)


def reserved_policies(path: Path, node: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield policies that no login and no group can be given."""
    for index, item in enumerate(items(child(node, "policies"))):
        name = text_of(item) or ""
        if name == "root" or name.startswith(_GENERATED):
            about = (*path, "policies", index)
            whose = "group" if path[0] == "groups" else "login"
            summary = f"a {whose} cannot have the policy {shown(name)}"
            why = "it permits everything" if name == "root" else "skyflowctl generates it"
            fix = "name a policy of the manifest or of the server"
            yield about, Problem("reserved-name", summary, why, fix, at_value(item, about))


def bad_values(path: Path, node: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield address ranges and durations of a login that the server refuses."""
    for index, item in enumerate(items(child(node, "cidrs"))):
        about: Path = (*path, "cidrs", index)
        try:
            network(text_of(item) or "")
        except ValueError:
            summary = f"{shown(text_of(item) or '')} is not an address range"
            fix = "write CIDR notation, such as 10.0.0.0/8"
            where = at_value(item, about)
            yield about, Problem("bad-value", summary, "the server refuses it", fix, where)
    ttl, longest = child(node, "token_ttl"), child(node, "token_max_ttl")
    try:
        spans = [parse_duration(text_of(one) or "") for one in (ttl, longest) if one]
    except (ValueError, OverflowError):
        return  # the schema reports the form
    if len(spans) == 2 and spans[1] and spans[0] > spans[1] and ttl is not None:
        about = (*path, "token_ttl")
        summary, why = "token_ttl is longer than token_max_ttl", "the server refuses that"
        yield (
            about,
            Problem("bad-duration", summary, why, "use 20m and 24h", at_value(ttl, about)),
        )


def check_policies(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield policies with a reserved name, an unreadable file or an invalid text."""
    for name, node in entries(child(root, "policies")):
        path: Path = ("policies", name)
        if name in _BUILT_IN or name.startswith(_GENERATED):
            whose = "the server" if name in _BUILT_IN else "generated policies"
            summary = f"the policy name {shown(name)} is reserved"
            why = f"it belongs to {whose}"
            fix = "choose another name"
            yield path, Problem("reserved-name", summary, why, fix, at_key(node, path))
        yield from _bad_policy(path, node)


def _bad_policy(path: Path, node: YamlNode) -> Iterator[tuple[Path, Problem]]:
    if not isinstance(node.value, dict):
        return
    key = next(iter(node.value), "")
    source = child(node, key)
    if key == "rules":
        yield from _bad_rules((*path, key), source)
    if source is None or text_of(source) is None:
        return
    about, text = (*path, key), policy_text(node)
    where = at_value(source, about)
    if text is None:
        summary = f"cannot read the policy file {shown(text_of(source) or '')}"
        why = why_unread(node.source.folder, text_of(source) or "")
        fix = "check its name, relative to the manifest, and its permissions"
        yield about, Problem("policy-unreadable", summary, why, fix, where)
        return
    if text.lstrip().startswith("{"):
        summary, why = "the policy is JSON", "skyflowctl marks a policy by a comment in its text"
        yield about, Problem("bad-policy", summary, why, "write it as HCL, or use rules", where)
        return
    try:
        found = parse_hcl(text)
    except HclError as error:
        summary, why = "the policy is not valid HCL", str(error)
        yield about, Problem("bad-policy", summary, why, "correct its text", where)
        return
    rules = [(keys[1:], rule) for keys, rule in found.items if keys[:1] == ("path",)]
    for paths, rule in rules:
        unknown = _bad_capability(rule)
        if unknown is not None:
            name = shown("/".join(paths))
            summary = f'"{shown(unknown)}" is not a capability'
            why = f"the server refuses the policy; it is at path {name}"
            known = sorted(_CAPABILITIES)
            fix = did_you_mean(unknown, known) or f"use {joined_names(known)}"
            yield about, Problem("bad-policy", summary, why, fix, where)
    if not rules:
        summary, why = "the policy has no path", "it would allow nothing"
        fix = 'add a rule, such as path "secret/data/backend" { capabilities = ["read"] }'
        yield about, Problem("bad-policy", summary, why, fix, where)


def _bad_capability(rule: object) -> str | None:
    """Return a word of a rule that is not a capability; None: there is none."""
    found = rule.values("capabilities") if isinstance(rule, Block) else []
    words = found[0] if found and isinstance(found[0], list) else []
    return next((str(one) for one in words if one not in _CAPABILITIES), None)


def _bad_rules(path: Path, rules: YamlNode | None) -> Iterator[tuple[Path, Problem]]:
    """Yield paths that no request can have, and capabilities that deny makes useless."""
    for name, words in entries(rules):
        about = (*path, name)
        summary = _bad_path(name)
        if summary:
            why = "a policy's path is compared with the request's path, which has no such part"
            fix = "write it as in 'bao read PATH'; * only at the end, + only as a whole segment"
            yield about, Problem("bad-policy", summary, why, fix, at_key(words, about))
        given = [text_of(one) for one in items(words)]
        if "deny" in given and len(given) > 1:
            summary = f"{shown(name)} has deny and other capabilities"
            why, fix = "deny alone counts: the others have no effect", "keep deny, or the others"
            yield about, Problem("bad-policy", summary, why, fix, at_value(words, about))


def _bad_path(name: str) -> str:
    if name.startswith("v1/"):
        return f"the path {shown(name)} begins with v1/"
    if name.startswith("/") or "//" in name:
        return f"the path {shown(name)} has an empty segment"
    if "*" in name[:-1]:
        return f"the path {shown(name)} has a * that is not at its end"
    if any("+" in one and one != "+" for one in name.split("/")):
        return f"the path {shown(name)} has a + that is not a whole segment"
    return ""
