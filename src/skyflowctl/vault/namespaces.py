"""Decides which requests concern the whole server, and which names of namespaces are valid.

A namespace has its own mounts, policies and tokens. Requests that concern the whole server are
refused there: on OpenBao 2.7.2 ``sys/health`` ("operation unavailable in namespaces"),
audited headers ("operation only available in root namespace") and single catalog entries
("unsupported path"). Listing the catalog, ``sys/ha-status`` and reloading work in both, and
a namespace's token may use them only there.
"""

import re

from skyflowctl.errors import UsageError

NAMESPACE_HEADER = "X-Vault-Namespace"
_ROOT_ONLY = re.compile(r"sys/(health$|config/auditing/|plugins/catalog/[^/]+/.)")


def is_root_only(path: str) -> bool:
    """Return whether a path below ``/v1/`` exists only in the root namespace."""
    return _ROOT_ONLY.match(path) is not None


def namespace_of(path: str, namespace: str) -> str:
    """Return the namespace of a request to a path within ``namespace``; empty for the root."""
    return "" if is_root_only(path) else namespace


def check_namespace(name: str) -> str:
    """Return a namespace in canonical form, without slashes at its ends; empty for the root.

    Raises:
        UsageError: the name is not valid for a namespace, nor in a header.
    """
    cleaned = name.strip("/")
    if cleaned.isascii() and cleaned.isprintable() and " " not in cleaned:
        return cleaned
    raise UsageError(
        "the namespace cannot be used",
        why="it contains a character that a header may not contain, such as a space",
        fix="use a form such as --namespace team or team/shop, or correct BAO_NAMESPACE",
        code="bad-namespace",
    )
