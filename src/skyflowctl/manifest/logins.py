"""Builds logins of every type, and the configurations of their login methods.

Field names and units are those of the server's API. Measured on OpenBao 2.7.2: a login role keeps
fields that a write does not have; the configuration of a jwt or kubernetes method does not, and a
write without ``token_reviewer_jwt`` clears it.
"""

import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from skyflowctl.manifest.model import DeclaredObject, LiveValue
from skyflowctl.manifest.nodes import (
    Path,
    YamlNode,
    as_flag,
    as_number,
    as_seconds,
    as_text,
    as_texts,
    at_key,
    child,
    entries,
    items,
)
from skyflowctl.manifest.references import secret_source

APPLICATIONS = ("approle", "cert", "jwt", "kubernetes")
PEOPLE = ("oidc", "userpass")
TYPES = (*APPLICATIONS, *PEOPLE)
CALLBACK = "http://localhost:8250/oidc/callback"
"""Where the server's own command line waits for the issuer's answer."""
GITHUB_ISSUER = "https://token.actions.githubusercontent.com"
FILE_MAX_BYTES = 64 * 1024
_CIDRS = ("secret_id_bound_cidrs", "token_bound_cidrs")

PRESET_CLAIMS: Mapping[str, tuple[str, ...]] = {
    "github": ("repository", "ref", "environment", "workflow"),
    "gitlab": ("project_path", "ref", "ref_type", "ref_protected", "environment"),
}
"""The claims that each preset binds; the first two must be given."""


def method_type(root: YamlNode, method: str) -> str:
    """Return the type of a login method; empty if the manifest does not say it."""
    declared = as_text(child(root, "auth", method, "type"))
    return declared or (method if method in TYPES else "")


def method_roles(root: YamlNode) -> Iterator[tuple[Path, YamlNode]]:
    """Yield each login that is declared below its login method, with its path."""
    for method, body in entries(child(root, "auth")):
        for name, node in entries(child(body, "roles")):
            yield ("auth", method, "roles", name), node


def consumer_entries(root: YamlNode) -> Iterator[tuple[Path, str, str, YamlNode]]:
    """Yield each entry below ``consumers`` with its path, mount and role."""
    for mount, body in entries(child(root, "mounts")):
        for role, node in entries(child(body, "roles")):
            for method, logins in entries(child(node, "consumers")):
                for name, one in entries(logins):
                    path: Path = ("mounts", mount, "roles", role, "consumers", method, name)
                    yield path, mount, role, one


def login_settings(root: YamlNode, method: str, node: YamlNode) -> dict[str, Any]:
    """Return every setting of a login role as the server stores it: seconds, numbers and lists."""
    return _SETTINGS[method_type(root, method)](node, child(root, "auth", method))


def _approle(node: YamlNode, _: YamlNode | None) -> dict[str, Any]:
    seconds = {key: as_seconds(child(node, key)) for key in ("secret_id_ttl",)}
    numbers = {key: as_number(child(node, key)) for key in ("secret_id_num_uses",)}
    both = {name: _networks(node) for name in _CIDRS}
    return {"bind_secret_id": True, **common_settings(node), **seconds, **numbers, **both}


def _kubernetes(node: YamlNode, _: YamlNode | None) -> dict[str, Any]:
    return {
        "bound_service_account_names": list(as_texts(child(node, "service_accounts"))),
        "bound_service_account_namespaces": list(as_texts(child(node, "namespaces"))),
        "bound_service_account_namespace_selector": "",
        "audience": as_text(child(node, "audience")),
        **common_settings(node),
    }


def _jwt(node: YamlNode, _: YamlNode | None) -> dict[str, Any]:
    preset = as_text(child(node, "preset"))
    claims = PRESET_CLAIMS.get(preset, ())
    audience = as_text(child(node, "audience"))
    if preset == "github" and not audience:
        owner = as_text(child(node, "repository")).partition("/")[0]
        audience = f"https://github.com/{owner}"  # GitHub's own default
    return {
        "role_type": "jwt",
        "user_claim": as_text(child(node, "user_claim")) or next(iter(claims), "sub"),
        "bound_audiences": [audience] if audience else [],
        "bound_subject": as_text(child(node, "bound_subject")),
        "bound_claims": _preset_claims(preset, node) if preset else _bound_claims(node),
        "bound_claims_type": as_text(child(node, "bound_claims_type")) or "string",
        **common_settings(node),
    }


def _oidc(node: YamlNode, _: YamlNode | None) -> dict[str, Any]:
    return {
        "role_type": "oidc",
        "user_claim": as_text(child(node, "user_claim")) or "sub",
        "groups_claim": as_text(child(node, "groups_claim")),
        "oidc_scopes": list(as_texts(child(node, "scopes"))),
        "allowed_redirect_uris": list(as_texts(child(node, "redirect_uris"))) or [CALLBACK],
        "bound_subject": as_text(child(node, "bound_subject")),
        "bound_claims": _bound_claims(node),
        "bound_claims_type": as_text(child(node, "bound_claims_type")) or "string",
        **common_settings(node),
    }


def _preset_claims(preset: str, node: YamlNode) -> dict[str, Any]:
    """Return the claims of a preset; the presets' tokens have every claim as a text."""
    given = {key: child(node, key) for key in PRESET_CLAIMS[preset]}
    claims = {key: _claim(one) for key, one in given.items() if one is not None}
    return (
        {**claims, "ref_type": claims.get("ref_type", "branch")} if preset == "gitlab" else claims
    )


def _bound_claims(node: YamlNode) -> dict[str, Any]:
    return {name: list(as_texts(one)) for name, one in entries(child(node, "bound_claims"))}


def _claim(node: YamlNode) -> str:
    return ("true" if node.value else "false") if isinstance(node.value, bool) else as_text(node)


def _cert(node: YamlNode, method: YamlNode | None) -> dict[str, Any]:
    certificate = child(node, "certificate") or child(method, "certificate")
    return {
        **({"certificate": public_text(certificate) or ""} if certificate else {}),
        "allowed_common_names": list(as_texts(child(node, "common_names"))),
        "allowed_dns_sans": list(as_texts(child(node, "dns_sans"))),
        "allowed_uri_sans": list(as_texts(child(node, "uri_sans"))),
        **common_settings(node),
    }


_SETTINGS: Mapping[str, Callable[[YamlNode, YamlNode | None], dict[str, Any]]] = {
    "approle": _approle,
    "cert": _cert,
    "jwt": _jwt,
    "kubernetes": _kubernetes,
    "oidc": _oidc,
}


def common_settings(node: YamlNode) -> dict[str, Any]:
    """Return the settings that logins of every type have."""
    return {
        "token_ttl": as_seconds(child(node, "token_ttl")),
        "token_max_ttl": as_seconds(child(node, "token_max_ttl")),
        "token_num_uses": as_number(child(node, "token_num_uses")),
        "token_bound_cidrs": _networks(node),
    }


def _networks(node: YamlNode) -> list[str]:
    return [network(as_text(one)) for one in items(child(node, "cidrs"))]


def network(text: str) -> str:
    """Return an address range in the form in which the server returns it.

    Raises:
        ValueError: it is none.
    """
    return str(ipaddress.ip_network(text, strict=False))


def login_configs(root: YamlNode) -> tuple[DeclaredObject, ...]:
    """Return the configurations of the login methods that have one."""
    found = ((name, node, _config(root, name, node)) for name, node in entries(child(root, "auth")))
    return tuple(_login_config(*one) for one in found if one[2])


SECRETS = {"token_reviewer_jwt": "token_reviewer_jwt", "client_secret": "oidc_client_secret"}
"""The secret keys of a login method, with their names in the server's API."""


def _login_config(name: str, node: YamlNode, fields: Mapping[str, Any]) -> DeclaredObject:
    path: Path = ("auth", name)
    secret = {
        field: found
        for key, field in SECRETS.items()
        if (found := secret_source(child(node, key), (*path, key)))
    }
    return DeclaredObject(
        kind="login_config",
        path=f"auth/{name}/config",
        fields=fields,
        where=at_key(node, path),
        owner=f"sys/auth/{name}",
        secret=secret,
        secret_version=as_number(child(node, "secret_version")) or 1,
    )


def _config(root: YamlNode, name: str, node: YamlNode) -> dict[str, Any]:
    """Return the fields of a login method's configuration; none if it is left as it is."""
    kind = method_type(root, name)
    if kind == "kubernetes" and child(node, "host"):
        return {
            "kubernetes_host": as_text(child(node, "host")),
            "kubernetes_ca_cert": _authority(node),
            "disable_local_ca_jwt": as_flag(child(node, "disable_local_ca_jwt")),
        }
    if kind == "jwt" and any(child(node, key) for key in KEY_SOURCES):
        authority = _authority(node)
        discovery, keys = (as_text(child(node, key)) for key in KEY_SOURCES[:2])
        return {
            "oidc_discovery_url": discovery,
            "oidc_discovery_ca_pem": authority if discovery else "",
            "jwks_url": keys,
            "jwks_ca_pem": authority if keys else "",
            "jwt_validation_pubkeys": _public_keys(node),
            "bound_issuer": issuer(node),
        }
    if kind == "oidc" and child(node, "discovery_url"):
        return {
            "oidc_discovery_url": as_text(child(node, "discovery_url")),
            "oidc_discovery_ca_pem": _authority(node),
            "oidc_client_id": as_text(child(node, "client_id")),
            "default_role": as_text(child(node, "default_role")),
        }
    return {}


def _authority(node: YamlNode) -> str | LiveValue:
    authority = child(node, "ca")
    return LiveValue() if child(authority, "live") else public_text(authority) or ""


def _public_keys(node: YamlNode) -> list[str] | LiveValue:
    given = items(child(node, KEY_SOURCES[2]))
    if any(child(one, "live") for one in given):
        return LiveValue()
    return [(public_text(one) or "").strip() for one in given]


KEY_SOURCES = ("oidc_discovery_url", "jwks_url", "jwt_validation_pubkeys")
"""Where the server of a jwt method has the keys from: one of these."""


def issuer(method: YamlNode | None) -> str:
    """Return the issuer that the tokens of a jwt method must name; empty for any."""
    return as_text(child(method, "bound_issuer")) or as_text(child(method, "oidc_discovery_url"))


def public_text(node: YamlNode | None) -> str | None:
    """Return the content of a file that is not secret; None if there is none or it is unreadable.

    The file is read when it is checked, and again when the manifest is built.
    """
    name = as_text(child(node, "file"))
    if node is None or not name:
        return None
    try:
        return read_file(node.source.folder, name)
    except (OSError, ValueError):
        return None


def read_file(folder: str, name: str) -> str:
    """Return the text of a small file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text, or too large.
    """
    with open(FilePath(folder, name), "rb", opener=_without_waiting) as file:  # noqa: PTH123 - opener
        raw = file.read(FILE_MAX_BYTES + 1)
    if len(raw) > FILE_MAX_BYTES:
        raise ValueError("too large")
    return raw.decode("utf-8")


def why_unread(folder: str, name: str) -> str:
    """Return why :func:`read_file` fails for a file."""
    try:
        exists = FilePath(folder, name).exists()
    except (OSError, ValueError):  # no file can have such a name, or its folder is closed
        exists = True
    if not exists:
        return "there is no such file"
    return f"it is not a readable UTF-8 text file of at most {FILE_MAX_BYTES // 1024} KiB"


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC)
