"""The rules of login methods and of logins of every type. They add problems and never raise."""

from collections.abc import Iterator, Mapping

from skyflowctl.errors import Problem, Where
from skyflowctl.manifest.logins import (
    APPLICATIONS,
    GITHUB_ISSUER,
    KEY_SOURCES,
    PRESET_CLAIMS,
    TYPES,
    consumer_entries,
    issuer,
    method_roles,
    method_type,
    public_text,
    why_unread,
)
from skyflowctl.manifest.messages import did_you_mean, joined_names, shown
from skyflowctl.manifest.nodes import (
    Path,
    YamlNode,
    as_text,
    at_key,
    at_value,
    child,
    entries,
    items,
)
from skyflowctl.manifest.schema import consumer_rule
from skyflowctl.text import name_one_of

_Found = Iterator[tuple[Path, Problem]]

_METHOD_KEYS: Mapping[str, frozenset[str]] = {
    "approle": frozenset(),
    "cert": frozenset({"certificate"}),
    "jwt": frozenset({*KEY_SOURCES, "bound_issuer", "ca"}),
    "oidc": frozenset(
        {"discovery_url", "client_id", "client_secret", "default_role", "ca", "secret_version"}
    ),
    "userpass": frozenset({"users"}),
    "kubernetes": frozenset(
        {"host", "ca", "disable_local_ca_jwt", "token_reviewer_jwt", "secret_version"}
    ),
}
_ANY_METHOD = frozenset({"type", "description"})
_SANS = ("common_names", "dns_sans", "uri_sans")
_GITHUB_SERVER = "/_services/token"  # the end of the issuer of a GitHub Enterprise Server
_EVERY_PRESET = frozenset(key for keys in PRESET_CLAIMS.values() for key in keys)
_PEM = {"jwt_validation_pubkeys": "PUBLIC KEY"}


def login_rules(root: YamlNode) -> _Found:
    """Yield settings that a login method or a login of its type does not have, or needs."""
    for name, node in entries(child(root, "auth")):
        yield from _method(root, ("auth", name), node)
    yield from _unknown_methods(root)
    for path, node in method_roles(root):
        yield from _login(root, str(path[1]), path, node)
    for path, _, _, node in consumer_entries(root):
        yield from _login(root, str(path[-2]), path, node)


def _method(root: YamlNode, path: Path, node: YamlNode) -> _Found:
    name = str(path[1])
    kind = method_type(root, name)
    if not kind:
        if isinstance(node.value, dict) and child(node, "type") is None:
            summary = f"the login method {shown(name)} has no type"
            why = "its name is not the name of a type"
            fix = "add type: approle" if not child(node, "host") else "add type: kubernetes"
            yield path, Problem("missing-key", summary, why, fix, at_key(node, path))
        return
    has_roles = {"roles"} if kind in TYPES and kind != "userpass" else set()
    known = _METHOD_KEYS.get(kind, frozenset()) | _ANY_METHOD | has_roles
    yield from _other_keys(path, node, known, kind)
    if kind not in TYPES and (close := did_you_mean(kind, TYPES)):
        about, found = (*path, "type"), child(node, "type")
        summary = f"{shown(kind)} is not a type of login method that skyflowctl configures"
        why = f"it configures {joined_names(sorted(TYPES))}"
        where = at_value(found, about) if found else at_key(node, path)
        yield about, Problem("bad-value", summary, why, close, where)
    yield from _key_sources(path, node)
    yield from _live_keys(path, node)
    for key in ("ca", "certificate"):
        yield from _public_file((*path, key), child(node, key))
    for index, one in enumerate(items(child(node, "jwt_validation_pubkeys"))):
        yield from _public_file((*path, "jwt_validation_pubkeys", index), one)
    if kind == "kubernetes" and child(node, "host") is None:
        yield from _needs(path, node, "host", ("ca", "token_reviewer_jwt", "disable_local_ca_jwt"))
    if kind == "kubernetes" and child(node, "token_reviewer_jwt") is None:
        yield from _needs(path, node, "token_reviewer_jwt", ("secret_version",))
    if kind == "oidc":
        yield from _oidc_method(path, node)
    if kind == "jwt" and not any(child(node, key) for key in KEY_SOURCES):
        yield from _needs(path, node, KEY_SOURCES[0], ("bound_issuer", "ca"))


def _oidc_method(path: Path, node: YamlNode) -> _Found:
    needed = ("client_id", "client_secret")
    if child(node, "discovery_url") is None:
        others = (*needed, "default_role", "ca", "secret_version")
        yield from _needs(path, node, "discovery_url", others)
    else:
        for key in needed:
            yield from _required(path, node, key, "the server refuses an issuer without it")
    roles = [name for name, _ in entries(child(node, "roles"))]
    default = child(node, "default_role")
    if default is not None and roles and as_text(default) not in roles:
        about = (*path, "default_role")
        summary = f"{shown(str(path[1]))} has no role {shown(as_text(default))}"
        fix = did_you_mean(as_text(default), roles) or name_one_of(roles)
        why = "a login that names no role would fail"
        yield about, Problem("bad-value", summary, why, fix, at_value(default, about))


def _needs(path: Path, node: YamlNode, key: str, used: tuple[str, ...]) -> _Found:
    """Yield the keys that have no effect without another one."""
    for name in used:
        found = child(node, name)
        if found is not None:
            about = (*path, name)
            summary = f"{name} has no effect without {key}"
            fix = f"add {key}, or remove {name}"
            why = "the configuration of the login method is left as it is"
            yield about, Problem("unused-key", summary, why, fix, at_key(found, about))


def _key_sources(path: Path, node: YamlNode) -> _Found:
    given = [key for key in KEY_SOURCES if child(node, key) is not None]
    for key in given[1:]:
        about, found = (*path, key), child(node, key)
        summary = f"{shown(str(path[1]))} has its keys from {given[0]} and from {key}"
        why, fix = "the server takes exactly one of them", f"keep one of {joined_names(given)}"
        if found is not None:
            yield about, Problem("two-sources", summary, why, fix, at_key(found, about))


def _live_keys(path: Path, node: YamlNode) -> _Found:
    """Yield keys beside the live ones: either all are kept, or none is."""
    given = list(items(child(node, KEY_SOURCES[2])))
    kept = next((one for one in given if child(one, "live") is not None), None)
    if kept is not None and len(given) > 1:
        about = (*path, KEY_SOURCES[2])
        summary = f"{shown(str(path[1]))} keeps its live keys and names others"
        why, fix = "live: true keeps all that the server has", "keep live: true alone, or the files"
        yield about, Problem("two-sources", summary, why, fix, at_value(kept, about))


def _other_keys(path: Path, node: YamlNode, known: frozenset[str], kind: str) -> _Found:
    for key, one in entries(node):
        if key not in known:
            about = (*path, key)
            summary = f"{shown(key)} is not a setting of the type {kind}"
            why = f"known here: {joined_names(sorted(known))}"
            fix = did_you_mean(key, known) or f"remove {shown(key)}"
            yield about, Problem("unknown-key", summary, why, fix, at_key(one, about))


def _public_file(path: Path, node: YamlNode | None) -> _Found:
    """Yield a file that cannot be read, has another content, or has a private key."""
    source = child(node, "file")
    if source is None or not isinstance(source.value, str):
        return
    about: Path = (*path, "file")
    wanted = _PEM.get(str(path[2]) if path[0] == "auth" else "", "CERTIFICATE")
    text = public_text(node)
    where = at_value(source, about)
    if text is None:
        summary = f"cannot read the file {shown(source.value)}"
        why = why_unread(source.source.folder, source.value)
        fix = "check its name, relative to the manifest, and its permissions"
        yield about, Problem("file-unreadable", summary, why, fix, where)
    elif "PRIVATE KEY-----" in text:
        summary = f"{shown(source.value)} contains a private key"
        why = "this file is public: everyone who can read the login method can read it"
        fix = "name a file with certificates or the public key alone"
        yield about, Problem("private-key", summary, why, fix, where)
    elif f"-----BEGIN {wanted}-----" not in text:
        summary = f"{shown(source.value)} contains no {wanted.lower()} in PEM form"
        fix = f"give a file with -----BEGIN {wanted}-----"
        yield about, Problem("bad-pem", summary, "the server refuses it", fix, where)


def _unknown_methods(root: YamlNode) -> _Found:
    """Yield login methods of consumers whose type is unknown."""
    known = {*TYPES, *(name for name, _ in entries(child(root, "auth")))}
    for mount, body in entries(child(root, "mounts")):
        for role, node in entries(child(body, "roles")):
            consumers = child(node, "consumers")
            for method, one in entries(consumers):
                if method in known:
                    continue
                path: Path = ("mounts", mount, "roles", role, "consumers", method)
                summary = f'unknown key "{shown(method)}" in {".".join(map(str, path[:-1]))}'
                why = "it is neither a type of login method nor declared below auth"
                declare = f"declare it: auth: {{{shown(method)}: {{type: jwt}}}}"
                fix = did_you_mean(method, known) or declare
                yield path, Problem("unknown-key", summary, why, fix, at_key(one, path))


def _login(root: YamlNode, method: str, path: Path, node: YamlNode) -> _Found:
    kind = method_type(root, method)
    if not kind or not isinstance(node.value, dict):
        return
    if kind not in APPLICATIONS:
        yield from _persons_login(kind, path, node)
        return
    rule = consumer_rule(kind)
    known = frozenset(rule["properties"]) | ({"policies"} if path[0] == "auth" else set())
    yield from _other_keys(path, node, known, kind)
    for key in rule.get("required", ()):
        yield from _required(path, node, key, f"a login of the type {kind} needs it")
    if kind == "cert":
        yield from _public_file((*path, "certificate"), child(node, "certificate"))
        if not any(child(node, key) for key in _SANS):
            summary = f"{shown(str(path[-1]))} does not say which client certificates may log in"
            why = "every certificate of the authority could log in"
            fix = "add common_names, dns_sans or uri_sans"
            yield path, Problem("missing-key", summary, why, fix, at_key(node, path))
    if kind == "jwt":
        yield from _jwt(path, node)
        yield from _issuer(child(root, "auth", method), method, path, node)


_OIDC_ROLE = frozenset(
    {"bound_claims", "bound_claims_type", "bound_subject", "cidrs", "groups_claim", "policies"}
    | {"redirect_uris", "scopes", "token_max_ttl", "token_num_uses", "token_ttl", "user_claim"}
)


def _persons_login(kind: str, path: Path, node: YamlNode) -> _Found:
    if path[0] == "mounts":
        summary = f"{shown(str(path[-1]))} cannot log in by {shown(str(path[-2]))}"
        why = f"its type is {shown(kind)}, and applications log in by {joined_names(APPLICATIONS)}"
        fix = "declare the login below another login method"
        yield path, Problem("bad-consumer", summary, why, fix, at_key(node, path))
    elif kind == "oidc":
        yield from _other_keys(path, node, _OIDC_ROLE, kind)
        yield from _globs(path, node)
        bound = child(node, "bound_claims") or child(node, "bound_subject")
        policies = [as_text(one) for one in items(child(node, "policies"))]
        if not bound and policies not in ([], ["default"]):
            summary = f"{shown(str(path[-1]))} is bound to no claim"
            why = "everyone whom the issuer knows would have its policies"
            fix = "add bound_claims, or policies: [default] and a group with the policies"
            yield path, Problem("missing-key", summary, why, fix, at_key(node, path))


def _required(path: Path, node: YamlNode, key: str, why: str) -> _Found:
    if child(node, key) is None:
        summary = f"{'.'.join(shown(str(part)) for part in path)} has no {key}"
        about = (*path, key)
        yield about, Problem("missing-key", summary, why, f"add {key}", at_key(node, path))


def _jwt(path: Path, node: YamlNode) -> _Found:
    preset = as_text(child(node, "preset"))
    claims = PRESET_CLAIMS.get(preset, ())
    for key in claims[:2]:
        yield from _required(path, node, key, f"the preset {preset} binds this claim")
    if preset != "github":
        yield from _required(path, node, "audience", "the server refuses a token for no audience")
    if not preset and not (child(node, "bound_claims") or child(node, "bound_subject")):
        summary = f"{shown(str(path[-1]))} is bound to no claim"
        why, fix = "every token of the issuer could log in", "add a preset, or bound_claims"
        yield path, Problem("missing-key", summary, why, fix, at_key(node, path))
    bound = {"bound_claims", "bound_subject"} if preset else set()
    for key in sorted({*_EVERY_PRESET.difference(claims), *bound}):
        found = child(node, key)
        if found is not None:
            yield (*path, key), _not_of_preset(preset, key, at_key(found, (*path, key)))
    yield from _globs(path, node)


def _not_of_preset(preset: str, key: str, where: Where) -> Problem:
    if not preset:
        summary, why = f"{key} is used only with a preset", "without one it binds nothing"
        fix = f"add a preset, or write {key} below bound_claims"
        return Problem("unused-key", summary, why, fix, where)
    summary = f"{key} is not a claim of the preset {preset}"
    why = f"it binds {joined_names(PRESET_CLAIMS[preset])}"
    fix = f"remove {key}, or leave out preset and write each claim below bound_claims"
    return Problem("unused-key", summary, why, fix, where)


def _globs(path: Path, node: YamlNode) -> _Found:
    """Yield values with a ``*``, which would be compared as it is."""
    if as_text(child(node, "bound_claims_type")) == "glob":
        return
    found: list[tuple[Path, YamlNode]] = [
        ((*path, key), one) for key in sorted(_EVERY_PRESET) if (one := child(node, key))
    ]
    for name, claim in entries(child(node, "bound_claims")):
        about: Path = (*path, "bound_claims", name)
        found += [((*about, index), one) for index, one in enumerate(items(claim))]
    for about, one in found:
        if "*" in as_text(one):
            key = next(part for part in reversed(about) if isinstance(part, str))
            summary = f"the value of {shown(key)} has a *"
            why = "claims are compared as they are, so no token would match"
            fix = "write the whole value, or add bound_claims_type: glob"
            yield about, Problem("bad-value", summary, why, fix, at_value(one, about))


def _issuer(method: YamlNode | None, name: str, path: Path, node: YamlNode) -> _Found:
    """Yield a preset whose tokens have another issuer than the declared login method accepts."""
    preset, found = child(node, "preset"), issuer(method)
    if preset is None or not any(child(method, key) for key in KEY_SOURCES):
        return
    is_github = found == GITHUB_ISSUER or found.endswith(_GITHUB_SERVER)
    if found and is_github == (preset.value == "github"):
        return
    about = (*path, "preset")
    summary = f"the login method {shown(name)} does not accept tokens of {preset.value}"
    why = f"its issuer is {shown(found)}" if found else "it accepts tokens of any issuer"
    fix = f"give auth.{shown(name)} " + (
        f"bound_issuer: {GITHUB_ISSUER}" if preset.value == "github" else "GitLab's bound_issuer"
    )
    yield about, Problem("issuer-differs", summary, why, fix, at_value(preset, about))
