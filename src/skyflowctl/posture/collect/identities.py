"""Reads entities and groups, and which of them log in by which login."""

from collections.abc import Mapping, Sequence
from typing import Any

from skyflowctl.concurrency import Workers
from skyflowctl.posture.collect.reads import MAX_LOGINS, keys, or_not_read, read_fresh
from skyflowctl.posture.facts import (
    Entity,
    EntityAlias,
    Identities,
    IdentityGroup,
    Login,
    NotRead,
)
from skyflowctl.posture.identity import auth_mount_of
from skyflowctl.vault.transport import Transport

_NAMED_BY_ALIAS = frozenset({"userpass user", "ldap user"})


def read_identities(transport: Transport, parallelism: int) -> Identities:
    """Return the entities and groups, in 2 requests and one for each of them."""
    not_read: list[NotRead] = []
    found = {}
    with Workers(parallelism) as pool:
        for kind in ("group", "entity"):
            folder = f"identity/{kind}/name"
            names = or_not_read(lambda at=folder: keys(transport, at), folder, "list")  # type: ignore[misc]
            if isinstance(names, NotRead):
                not_read.append(names)
                names = []
            if len(names) > MAX_LOGINS:
                not_read.append(NotRead(folder, why=f"{len(names)} of them are beyond the limit"))
            paths = [f"{folder}/{name}" for name in names[:MAX_LOGINS]]
            read = pool.map(
                lambda path: or_not_read(
                    lambda: read_fresh(transport, path), f"{path.rpartition('/')[0]}/*", "read"
                ),
                paths,
            )
            not_read += [one for one in read if isinstance(one, NotRead)]
            found[kind] = [
                {"name": name, **one}
                for name, one in zip(names, read, strict=False)
                if not isinstance(one, NotRead)
            ]
    raw = {str(one.get("id")): one for one in found["group"]}
    by_id = {id_: _inherited(id_, raw) for id_ in raw}
    return Identities(
        tuple(_entity(one, by_id) for one in found["entity"] if not one.get("disabled")),
        tuple(_group(one, by_id[id_]) for id_, one in raw.items()),
        tuple(dict.fromkeys(not_read)),
    )


def aliases_of(
    transport: Transport, found: Sequence[Login], identities: Identities, parallelism: int
) -> dict[Login, str | NotRead | None]:
    """Return the aliases of the logins on mounts where an entity has one.

    None: each person who logs in there has one of his own. An AppRole's costs a request.
    """
    asked = [one for one in found if not one.any_of and identities.at(auth_mount_of(one))]
    with Workers(parallelism) as pool:
        return dict(zip(asked, pool.map(lambda one: _alias(transport, one), asked), strict=True))


def _alias(transport: Transport, login: Login) -> str | NotRead | None:
    mount, _, name = login.name.rpartition("/")
    if login.kind in _NAMED_BY_ALIAS:
        return name
    if login.kind != "approle role":
        return None
    folder = f"auth/{mount}/role"
    found = or_not_read(
        lambda: read_fresh(transport, f"{folder}/{name}/role-id"), f"{folder}/+/role-id", "read"
    )
    return found if isinstance(found, NotRead) else str(found.get("role_id") or "") or None


def _inherited(group: str, raw: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Return the policies of a group and of all groups that it is a member of."""
    found: set[str] = set()
    seen: set[str] = set()
    left = [group]
    while left:
        one = left.pop()
        if one not in seen and one in raw:
            seen.add(one)
            found |= _names(raw[one])
            left += [str(parent) for parent in raw[one].get("parent_group_ids") or ()]
    return frozenset(found)


def _entity(raw: Mapping[str, Any], groups: Mapping[str, frozenset[str]]) -> Entity:
    own, ids = _names(raw), raw.get("group_ids") or ()
    names = own.union(*(groups.get(str(one), frozenset()) for one in ids))
    aliases = tuple(
        EntityAlias(_mount(one), str(one.get("name") or "")) for one in raw.get("aliases") or ()
    )
    return Entity(str(raw.get("name") or ""), names, aliases, own)


def _group(raw: Mapping[str, Any], policies: frozenset[str]) -> IdentityGroup:
    return IdentityGroup(
        str(raw.get("name") or ""),
        policies,
        _names(raw),
        _mount(raw.get("alias") or {}),
        raw.get("type") == "external",
    )


def _mount(alias: Mapping[str, Any]) -> str:
    return str(alias.get("mount_path") or "").removeprefix("auth/").strip("/")


def _names(raw: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(str(one).lower() for one in raw.get("policies") or ())
