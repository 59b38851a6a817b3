"""Decides which token services a credential may name on this machine, besides Skyflow's own."""

from collections.abc import Mapping, Sequence

from skyflowctl.errors import UsageError
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS, parse_host

HOSTS_VARIABLE = "SKYFLOWCTL_ALLOW_HOSTS"


def token_hosts(flags: Sequence[str] | None, environ: Mapping[str, str]) -> frozenset[str]:
    """Return ``host:port`` of Skyflow's token services and of those that the user named.

    The engine has its own list, in the plugin's catalog entry; this one applies to checks and
    requests from this machine.

    Args:
        flags: the values of ``--allow-host``; without any, the variable applies.
        environ: may set SKYFLOWCTL_ALLOW_HOSTS, a comma-separated list.

    Raises:
        UsageError: one of them is not ``HOST:PORT``.
    """
    origin, named = "--allow-host", [*(flags or ())]
    if not named:
        listed = environ.get(HOSTS_VARIABLE, "").split(",")
        origin, named = HOSTS_VARIABLE, [host.strip() for host in listed if host.strip()]
    try:
        return SKYFLOW_HOSTS | {parse_host(host) for host in named}
    except ValueError as error:
        raise UsageError(
            f"{origin}: {error}",
            why="host and port are compared exactly with a credential's tokenURI",
            fix="for example --allow-host tokens.example.com:443",
        ) from None
