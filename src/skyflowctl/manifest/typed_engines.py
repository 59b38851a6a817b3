"""Builds the objects of database, pki and transit engines, and checks their sections.

Fields have the names and units of the server's API. An absent setting is compared with the
server's default (measured on OpenBao 2.7.2), so that a change by hand is found.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.manifest.messages import shown
from skyflowctl.manifest.model import DeclaredObject
from skyflowctl.manifest.nodes import (
    Path,
    YamlNode,
    as_flag,
    as_number,
    as_seconds,
    as_text,
    as_texts,
    at_key,
    at_value,
    child,
    entries,
    plain,
)
from skyflowctl.manifest.pki_rules import seconds
from skyflowctl.manifest.references import secret_source

TYPED_KEYS: Mapping[str, tuple[str, ...]] = {
    "database": ("connections", "roles"),
    "pki": ("root", "intermediate", "urls", "roles"),
    "transit": ("keys",),
}
"""By type of engine: the keys of its section."""

_HOUR = 3600
SPANS = ("default_ttl", "max_ttl", "ttl", "auto_rotate_period")
ROLE_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "database": {
        "creation_statements": [],
        "revocation_statements": [],
        "renew_statements": [],
        "rollback_statements": [],
        "default_ttl": 0,
        "max_ttl": 0,
    },
    "pki": {
        "ttl": 0,
        "max_ttl": 0,
        "allowed_domains": [],
        "allow_bare_domains": False,
        "allow_subdomains": False,
        "allow_glob_domains": False,
        "allow_any_name": False,
        "allow_localhost": True,
        "allow_ip_sans": True,
        "allowed_uri_sans": [],
        "server_flag": True,
        "client_flag": True,
        "key_type": "rsa",
        "no_store": False,
    },
}
_UNCOMPARED = {"database": ("connection",), "pki": ("key_bits",)}
_ROLE_KEYS = {kind: (*_UNCOMPARED[kind], *defaults) for kind, defaults in ROLE_DEFAULTS.items()}
URL_DEFAULTS: Mapping[str, Any] = {
    "issuing_certificates": [],
    "crl_distribution_points": [],
    "ocsp_servers": [],
}
KEY_FIXED = {"type": "aes256-gcm96", "exportable": False}
KEY_CONFIG = {"deletion_allowed": False, "auto_rotate_period": 0}
_KEY_VERSIONS = ("min_decryption_version", "min_encryption_version")
_AUTHORITY = ("common_name", "issuer_name", "organization", "ttl", "key_type", "key_bits")
_PASSWORD_SETTING = re.compile(r"password=(?!\{\{)[^\s&]", re.IGNORECASE)


def typed_objects(root: YamlNode) -> Iterator[DeclaredObject]:
    """Yield the objects of every typed engine, in the order in which they are written."""
    for path, body in entries(child(root, "engines")):
        build = _BUILDERS.get(as_text(child(body, "type")))
        if build is not None:
            yield from build(path, body)


def _database(engine: str, body: YamlNode) -> Iterator[DeclaredObject]:
    roles = dict(entries(child(body, "roles")))
    for name, node in entries(child(body, "connections")):
        using = [role for role, one in roles.items() if as_text(child(one, "connection")) == name]
        yield _connection(engine, name, node, using)
    for name, node in roles.items():
        connection = as_text(child(node, "connection"))
        fields = {"db_name": connection, **_settings(node, ROLE_DEFAULTS["database"])}
        after = (f"{engine}/config/{connection}",)
        yield _object(engine, f"roles/{name}", fields, node, ("roles", name), after=after)


def _connection(engine: str, name: str, node: YamlNode, roles: list[str]) -> DeclaredObject:
    keys = ("connections", name)
    password = secret_source(child(node, "password"), ("engines", engine, *keys, "password"))
    verify, allowed = child(node, "verify_connection"), child(node, "allowed_roles")
    optional = {key: plain(one) for key in _CONNECTION if (one := child(node, key))}
    return _object(
        engine,
        f"config/{name}",
        {
            "plugin_name": as_text(child(node, "plugin")),
            "connection_url": as_text(child(node, "connection_url")),
            **optional,
            "allowed_roles": list(as_texts(allowed)) if allowed else roles,
        },
        node,
        keys,
        secret={"password": password} if password else {},
        secret_version=as_number(child(node, "secret_version")),
        keeps_secret=True,
        flags={"verify_connection": as_flag(verify)} if verify else {},
    )


_CONNECTION = ("username", "max_open_connections")


def _pki(engine: str, body: YamlNode) -> Iterator[DeclaredObject]:
    urls = child(body, "urls")
    after: tuple[str, ...] = ()
    if urls is not None:
        yield _object(engine, "config/urls", _settings(urls, URL_DEFAULTS), urls, ("urls",))
        after = (f"{engine}/config/urls",)  # the certificate has them too
    for key, path in (("root", "root"), ("intermediate", "intermediate")):
        node = child(body, key)
        if node is not None:
            yield _authority(engine, f"{path}/generate/internal", node, key, after)
            after = (f"{engine}/{path}/generate/internal",)
    for name, node in entries(child(body, "roles")):
        bits = child(node, "key_bits")
        fields = _settings(node, ROLE_DEFAULTS["pki"]) | (
            {"key_bits": as_number(bits)} if bits else {}
        )
        yield _object(engine, f"roles/{name}", fields, node, ("roles", name), after=after)


def _authority(
    engine: str, path: str, node: YamlNode, key: str, after: tuple[str, ...]
) -> DeclaredObject:
    fields = {name: _value(name, one) for name in _AUTHORITY if (one := child(node, name))}
    signer = as_text(child(node, "signed_by"))
    if signer:
        fields["signed_by"] = signer
        after = (*after, f"{signer}/root/generate/internal")
    once = as_text(child(node, "once", "exists")) or "cert/ca"
    return _object(engine, path, fields, node, (key,), once=f"{engine}/{once}", after=after)


def _transit(engine: str, body: YamlNode) -> Iterator[DeclaredObject]:
    for name, node in entries(child(body, "keys")):
        keys, path = ("keys", name), f"keys/{name}"
        versions = {one: as_number(child(node, one)) for one in _KEY_VERSIONS if child(node, one)}
        yield _object(engine, path, {}, node, keys, fixed=_settings(node, KEY_FIXED))
        yield _object(
            engine,
            f"{path}/config",
            {**_settings(node, KEY_CONFIG), **versions},
            node,
            keys,
            read_at=f"{engine}/{path}",
            after=(f"{engine}/{path}",),
        )


_BUILDERS = {"database": _database, "pki": _pki, "transit": _transit}


def _object(
    engine: str,
    path: str,
    fields: Mapping[str, Any],
    node: YamlNode,
    keys: tuple[str, ...],
    **more: Any,
) -> DeclaredObject:
    where = at_key(node, ("engines", engine, *keys))
    return DeclaredObject(
        "object", f"{engine}/{path}", fields, where, f"sys/mounts/{engine}", **more
    )


def _settings(node: YamlNode, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return each setting of a node, or its default."""
    found = {name: child(node, name) for name in defaults}
    return {name: _value(name, one) if one else defaults[name] for name, one in found.items()}


def _value(name: str, node: YamlNode) -> Any:
    return as_seconds(node) if name in SPANS else plain(node)


def typed_rules(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield settings of other types, connections that are not there, and secrets in URLs."""
    for engine, body in entries(child(root, "engines")):
        kind = as_text(child(body, "type"))
        path: Path = ("engines", engine)
        if kind in _ROLE_KEYS:
            for name, node in entries(child(body, "roles")):
                yield from _role(kind, (*path, "roles", name), node, body)
        for name, node in entries(child(body, "connections")):
            yield from _bad_connection((*path, "connections", name), node)
        yield from _authorities(path, body)
        for name, node in entries(child(body, "keys")):
            yield from _bad_period((*path, "keys", name), node)


def _bad_period(path: Path, node: YamlNode) -> Iterator[tuple[Path, Problem]]:
    period = child(node, "auto_rotate_period")
    if period is not None and 0 < seconds(period) < _HOUR:
        about = (*path, "auto_rotate_period")
        summary, why = "auto_rotate_period is shorter than an hour", "the server refuses that"
        where = at_value(period, about)
        yield about, Problem("bad-duration", summary, why, "use 1h or more", where)


def _role(kind: str, path: Path, node: YamlNode, body: YamlNode) -> Iterator[tuple[Path, Problem]]:
    for key, value in entries(node):
        if key not in _ROLE_KEYS[kind]:
            about = (*path, key)
            summary = f"a role of a {kind} engine has no {shown(key)}"
            why = f"it has {', '.join(sorted(_ROLE_KEYS[kind]))}"
            yield about, Problem("unknown-key", summary, why, "remove it", at_key(value, about))
    if kind == "database":
        yield from _bad_database_role(path, node, body)
    shorter, longest = child(node, "default_ttl") or child(node, "ttl"), child(node, "max_ttl")
    spans = [seconds(one) for one in (shorter, longest)]
    if shorter is not None and spans[0] and spans[1] and spans[0] > spans[1]:
        about = (*path, "default_ttl" if child(node, "default_ttl") else "ttl")
        summary, why = f"{about[-1]} is longer than max_ttl", "the server would shorten it"
        where = at_value(shorter, about)
        yield about, Problem("bad-duration", summary, why, "use 1h and 24h", where)


def _bad_database_role(
    path: Path, node: YamlNode, body: YamlNode
) -> Iterator[tuple[Path, Problem]]:
    for key in ("connection", "creation_statements"):
        if child(node, key) is None:
            about = (*path, key)
            summary = f"the role {shown(str(path[-1]))} has no {key}"
            why = "without it, the engine can make no user"
            yield about, Problem("missing-key", summary, why, f"add {key}", at_key(node, path))
    named = child(node, "connection")
    known = [name for name, _ in entries(child(body, "connections"))]
    if named is not None and as_text(named) and as_text(named) not in known:
        about = (*path, "connection")
        summary = f"the engine has no connection {shown(as_text(named))}"
        why = f"its connections: {', '.join(known) or 'none'}"
        fix = "declare it below connections, or name one of those"
        yield about, Problem("unknown-name", summary, why, fix, at_value(named, about))


def _bad_connection(path: Path, node: YamlNode) -> Iterator[tuple[Path, Problem]]:
    password, version = child(node, "password"), child(node, "secret_version")
    if (password is None) != (version is None):
        has, lacks = (
            ("password", "secret_version") if version is None else ("secret_version", "password")
        )
        summary = f"{has} needs {lacks}"
        why = "the server never returns a password, so the version tells when to write it"
        fix = "add secret_version: 1" if version is None else "remove secret_version"
        yield (*path, lacks), Problem("missing-key", summary, why, fix, at_key(node, path))
    url = child(node, "connection_url")
    if url is not None and _has_password(as_text(url)):
        about = (*path, "connection_url")
        summary = "the connection URL contains a password"
        why = "many people read a manifest, and the server shows the URL to readers of the config"
        fix = "write {{username}}:{{password}} in it, and give username and password"
        yield about, Problem("inline-credential", summary, why, fix, at_value(url, about))


def _has_password(url: str) -> bool:
    """Whether a connection URL contains a password instead of ``{{password}}``."""
    login = (url.partition("://")[2] or url).rpartition("@")[0]
    password = login.partition(":")[2]
    inline = password not in ("", "{{password}}") and "(" not in login
    return inline or bool(_PASSWORD_SETTING.search(url))


def _authorities(path: Path, body: YamlNode) -> Iterator[tuple[Path, Problem]]:
    root, intermediate = child(body, "root"), child(body, "intermediate")
    if root is not None and intermediate is not None:
        about = (*path, "intermediate")
        summary = "an engine has either a root or an intermediate"
        why, fix = "each would be its default issuer", "declare a second pki engine for one of them"
        yield about, Problem("unused-key", summary, why, fix, at_key(intermediate, about))
    for node, key, wanted in ((root, "root", False), (intermediate, "intermediate", True)):
        signer = child(node, "signed_by")
        if node is None or (signer is not None) == wanted:
            continue
        about = (*path, key, "signed_by")
        if signer is not None:
            summary, why = "a root signs itself", "signed_by is for an intermediate"
            yield about, Problem("unused-key", summary, why, "remove it", at_key(signer, about))
        else:
            summary, why = "the intermediate has no signed_by", "another engine signs it"
            fix = "name the path of that pki engine, such as signed_by: pki"
            where = at_key(node, about[:-1])
            yield about, Problem("missing-key", summary, why, fix, where)
