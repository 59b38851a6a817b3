"""Builds people's logins besides those of oidc roles: users with a password, and groups."""

from collections.abc import Iterator

from skyflowctl.manifest.logins import common_settings
from skyflowctl.manifest.model import DeclaredGroup, DeclaredObject
from skyflowctl.manifest.nodes import (
    Path,
    YamlNode,
    as_number,
    as_text,
    as_texts,
    at_key,
    child,
    entries,
)
from skyflowctl.manifest.references import secret_source


def user_entries(root: YamlNode) -> Iterator[tuple[Path, YamlNode]]:
    """Yield each user of a userpass method with its path."""
    for method, body in entries(child(root, "auth")):
        for name, node in entries(child(body, "users")):
            yield ("auth", method, "users", name), node


def declared_users(root: YamlNode) -> tuple[DeclaredObject, ...]:
    """Return each user as an object whose password the server never returns, and keeps."""
    return tuple(_user(path, node) for path, node in user_entries(root))


def _user(path: Path, node: YamlNode) -> DeclaredObject:
    _, method, _, name = path
    password = secret_source(child(node, "password"), (*path, "password"))
    return DeclaredObject(
        kind="login_role",
        path=f"auth/{method}/users/{name}",
        fields={
            **common_settings(node),
            "token_policies": list(as_texts(child(node, "policies"))),
        },
        where=at_key(node, path),
        owner=f"sys/auth/{method}",
        secret={"password": password} if password else {},
        secret_version=as_number(child(node, "secret_version")) or 1,
        keeps_secret=True,
    )


def declared_groups(root: YamlNode) -> tuple[DeclaredGroup, ...]:
    """Return the declared groups."""
    return tuple(_group(name, node) for name, node in entries(child(root, "groups")))


def _group(name: str, node: YamlNode) -> DeclaredGroup:
    aliases = [(method, as_text(one)) for method, one in entries(child(node, "aliases"))]
    return DeclaredGroup(
        name=name,
        policies=as_texts(child(node, "policies")),
        alias=next(iter(aliases), None),
        where=at_key(node, ("groups", name)),
    )
