"""What a namespace contains. A server deletes all of it with the namespace, except for namespaces
within it: with those it refuses (measured on OpenBao 2.7.2)."""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.vault.errors import BadRequestError, ForbiddenError, NotFoundError
from skyflowctl.vault.live import NAMESPACE_PATHS, RATE_LIMITS
from skyflowctl.vault.namespaces import NAMESPACE_HEADER
from skyflowctl.vault.transport import Request, Transport

_BUILT_IN: Mapping[str, frozenset[str]] = {
    "sys/mounts": frozenset({"cubbyhole", "identity", "sys"}),
    "sys/auth": frozenset({"token"}),
    "auth/token/roles": frozenset(),
    "sys/namespaces": frozenset(),
    "sys/policies/acl": frozenset({"default"}),
    "sys/policies/password": frozenset(),
    "identity/entity/id": frozenset(),
    "identity/group/id": frozenset(),
    "identity/mfa/method": frozenset(),
    "identity/mfa/login-enforcement": frozenset(),
    "identity/oidc/assignment": frozenset({"allow_all"}),
    "identity/oidc/client": frozenset(),
    "identity/oidc/key": frozenset({"default"}),
    "identity/oidc/provider": frozenset({"default"}),
    "identity/oidc/role": frozenset(),
    "identity/oidc/scope": frozenset(),
}
"""What every list of a new namespace has (measured on OpenBao 2.7.2). Tokens are left out: they
end with a namespace, and can use nothing of an empty one."""

_AT_ROOT = {NAMESPACE_HEADER: ""}


def namespace_contents(transport: Transport, path: str) -> tuple[str, ...]:
    """Return the API paths of what a namespace contains, and of the quotas on it.

    Args:
        transport: sends the requests.
        path: the API path of the namespace, such as ``sys/namespaces/shop``.

    Raises:
        VaultError: one of the lists could not be read, so it is unknown whether it is empty.
    """
    return _contents(transport, path, lambda: _limited_paths(transport))


def _contents(
    transport: Transport, path: str, limited: Callable[[], Mapping[str, str]]
) -> tuple[str, ...]:
    name = path.removeprefix(NAMESPACE_PATHS)
    found = [
        f"{name}/{collection}/{one}"
        for collection, built_in in _BUILT_IN.items()
        for one in _names(transport, f"{name}/{collection}")
        if one not in built_in
    ]
    within = "/".join(filter(None, (transport.server.namespace, name)))
    below = (quota for quota, at in limited().items() if f"{at}/".startswith(f"{within}/"))
    return (*found, *below)


def known_contents(
    transport: Transport, paths: Collection[str]
) -> dict[str, tuple[str, ...] | Problem]:
    """Return what each of these namespaces contains, or why that is not known.

    The quotas, which are the same for all, are read once.
    """
    limited = cache(lambda: _limited_paths(transport))
    found: dict[str, tuple[str, ...] | Problem] = {}
    for path in sorted(paths):
        try:
            found[path] = _contents(transport, path, limited)
        except (BadRequestError, ForbiddenError, NotFoundError) as error:
            found[path] = error.problems[0]
    return found


def _names(transport: Transport, path: str, at_root: bool = False) -> Iterator[str]:
    """Yield the names in a list, without a slash at the end."""
    method = "GET" if path.endswith(("/sys/mounts", "/sys/auth")) else "LIST"
    headers = _AT_ROOT if at_root else None
    try:
        data = transport.send(Request(method, path, headers=headers, fresh=True)).data or {}
    except NotFoundError as error:
        if not error.empty:
            raise
        return
    for one in data if method == "GET" else data.get("keys") or ():
        yield str(one).strip("/")


def _limited_paths(transport: Transport) -> dict[str, str]:
    """Return the path that each quota limits, by its API path; only the root namespace tells."""
    limited = {}
    for name in _names(transport, RATE_LIMITS, at_root=True):
        path = f"{RATE_LIMITS}/{name}"
        quota: Mapping[str, Any] = (
            transport.send(Request("GET", path, headers=_AT_ROOT, fresh=True)).data or {}
        )
        limited[path] = str(quota.get("path") or "")
    return limited
