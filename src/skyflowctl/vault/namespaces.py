"""Which requests are about the whole server, and what a namespace's name may be.

A namespace has mounts, policies and tokens of its own. What belongs to the server alone is
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
    """Tell whether a path below ``/v1/`` exists in the root namespace alone."""
    return _ROOT_ONLY.match(path) is not None


def namespace_of(path: str, namespace: str) -> str:
    """Return the namespace of a request to a path, made within ``namespace``; empty: the root."""
    return "" if is_root_only(path) else namespace


def check_namespace(name: str) -> str:
    """Return a namespace in its one form, without slashes at its ends; empty: the root.

    Raises:
        UsageError: no namespace has such a name, and no header may carry it.
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
