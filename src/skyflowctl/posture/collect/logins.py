"""Lists the logins and the policies of their tokens, as far as they may be read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from skyflowctl.concurrency import Workers
from skyflowctl.frozen import dataclass
from skyflowctl.posture.collect.identities import read_identities
from skyflowctl.posture.collect.reads import MAX_LOGINS, keys, or_not_read, read_fresh
from skyflowctl.posture.facts import Identities, Login, NotRead, ServerLogins, Tokens
from skyflowctl.vault.transport import Transport


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where an auth method stores its logins; ``any_of``: a token may have any single policy."""

    name: str
    folder: str
    fields: tuple[str, ...] = ("token_policies", "policies")
    any_of: bool = False


_KINDS: Mapping[str, tuple[_Kind, ...]] = {
    "approle": (_Kind("approle role", "role"),),
    "userpass": (_Kind("userpass user", "users"),),
    "kubernetes": (_Kind("kubernetes role", "role"),),
    "jwt": (_Kind("jwt role", "role"),),
    "oidc": (_Kind("oidc role", "role"),),
    "cert": (_Kind("certificate", "certs"),),
    "ldap": (_Kind("ldap user", "users"), _Kind("ldap group", "groups")),
    "radius": (_Kind("radius user", "users"),),
    "aws": (_Kind("aws role", "role"),),
    "azure": (_Kind("azure role", "role"),),
    "gcp": (_Kind("gcp role", "role"),),
    "token": (_Kind("token role", "roles", ("allowed_policies",), any_of=True),),
}
# Listed as auth methods, but no logins of people or applications.
_NO_LOGINS = frozenset({"ns_token"})


@dataclass(frozen=True, slots=True)
class _Entry:
    """One login that has yet to be read."""

    kind: _Kind
    folder: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"


def logins(
    transport: Transport,
    tokens: Tokens | NotRead,
    policies: Iterable[str],
    parallelism: int,
    *,
    identities: bool = True,
) -> ServerLogins:
    """Return every login with the identities, in 1 + 2 requests per kind and one for each login.

    Args:
        transport: to the server.
        tokens: live tokens; those that were created without a login count as logins.
        policies: names of all policies, for token roles that allow them by a pattern.
        parallelism: how many requests run at once.
        identities: also count entities and groups as logins.
    """
    found: list[Login] = []
    not_read: list[NotRead] = []
    with Workers(parallelism) as pool:
        folders, unknown = _folders(transport)
        not_read += unknown
        entries: list[_Entry] = []
        for one in pool.map(lambda pair: _entries(transport, *pair), folders):
            if isinstance(one, NotRead):
                not_read.append(one)
            else:
                entries += one
        known = tuple(policies)
        for login in pool.map(lambda entry: _login(transport, entry, known), entries[:MAX_LOGINS]):
            if isinstance(login, NotRead):
                not_read.append(login)
            else:
                found.append(login)
    known_to = read_identities(transport, parallelism)
    not_read += known_to.not_read
    found += [*(_of_identities(known_to) if identities else ()), *_of_tokens(tokens)]
    left_out = max(0, len(entries) - MAX_LOGINS)
    return ServerLogins(tuple(found), tuple(dict.fromkeys(not_read)), left_out, known_to)


def _of_identities(identities: Identities) -> Iterator[Login]:
    for kind, every in (("entity", identities.entities), ("group", identities.groups)):
        for one in every:
            if one.own:
                yield Login(kind, one.name, tuple(sorted(one.own | {"default"})))


def _folders(transport: Transport) -> tuple[list[tuple[_Kind, str]], list[NotRead]]:
    """Return the folders to list, and the auth methods whose logins are not supported."""
    folders: list[tuple[_Kind, str]] = []
    mounted = or_not_read(lambda: read_fresh(transport, "sys/auth"), "sys/auth", "read")
    if isinstance(mounted, NotRead):
        return folders, [mounted]
    unknown = []
    for path, raw in sorted(mounted.items()):
        kind = str(raw.get("type") or "") if isinstance(raw, Mapping) else ""
        if kind in _KINDS:
            where = f"auth/{path.strip('/')}"
            folders += [(one, f"{where}/{one.folder}") for one in _KINDS[kind]]
        elif kind and kind not in _NO_LOGINS:
            why = f"logins of the type {kind} are not known here"
            unknown.append(NotRead(f"auth/{path.strip('/')}", why=why))
    return folders, unknown


def _entries(transport: Transport, kind: _Kind, folder: str) -> list[_Entry] | NotRead:
    names = or_not_read(lambda: keys(transport, folder), folder, "list")
    return names if isinstance(names, NotRead) else [_Entry(kind, folder, one) for one in names]


def _login(transport: Transport, entry: _Entry, policies: Sequence[str]) -> Login | NotRead:
    found = or_not_read(lambda: read_fresh(transport, entry.path), f"{entry.folder}/*", "read")
    if isinstance(found, NotRead):
        return found
    names = _named(found, entry.kind.fields)
    if entry.kind.any_of:
        names |= _by_pattern(found, policies)
    if not found.get("token_no_default_policy"):
        names.add("default")
    where = entry.folder.removeprefix("auth/").rpartition("/")[0]
    names_of = tuple(sorted(names))
    return Login(entry.kind.name, f"{where}/{entry.name}", names_of, any_of=entry.kind.any_of)


def _named(found: Mapping[str, Any], fields: Sequence[str]) -> set[str]:
    names: set[str] = set()
    for field in fields:
        value = found.get(field) or ()
        listed = value.split(",") if isinstance(value, str) else value
        names |= {str(one).strip().lower() for one in listed}
    return names - {""}


def _by_pattern(found: Mapping[str, Any], policies: Sequence[str]) -> set[str]:
    """Return the policies that a token role allows by a pattern."""
    from fnmatch import fnmatchcase

    patterns = _named(found, ("allowed_policies_glob",))
    return {name for name in policies if any(fnmatchcase(name, one) for one in patterns)}


def _of_tokens(tokens: Tokens | NotRead) -> list[Login]:
    """Return live tokens that were created without a login."""
    if isinstance(tokens, NotRead):
        return []
    return [
        Login("live token", one.display_name, one.policies)
        for one in tokens.found
        if one.created_by.startswith("auth/token/")
    ]
