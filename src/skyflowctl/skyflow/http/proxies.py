"""Which proxy an HTTPS host is asked through, by the usual environment variables.

``https_proxy`` wins over ``HTTPS_PROXY`` and ``no_proxy`` over ``NO_PROXY``, as in curl;
one that is set and empty means none.
"""

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit

from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that takes CONNECT.

    Args:
        host: its name or address, without brackets.
        port: its TCP port.
        authorization: the value of ``Proxy-Authorization``, or None.
    """

    host: str
    port: int
    authorization: Secret | None = None


def proxy_for(host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for ``https://host:port``, or None for a direct connection.

    Raises:
        ValueError: the variable names no ``http://`` proxy; the text repeats nothing of
            it, for it can hold a password.
    """
    url = _variable("https_proxy", environ).strip()
    if not url or is_excepted(host, port, _variable("no_proxy", environ)):
        return None
    return _parse(url)


def _variable(name: str, environ: Mapping[str, str]) -> str:
    return environ.get(name, environ.get(name.upper(), ""))


def _parse(url: str) -> Proxy:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("HTTPS_PROXY is not a URL") from None
    if parts.scheme != "http" or not host or not host.isprintable() or " " in host:
        raise ValueError("HTTPS_PROXY is not a proxy of the form http://host:port")
    return Proxy(host, port or 80, proxy_authorization(parts))


def proxy_authorization(url: SplitResult) -> Secret | None:
    """Return the value of ``Proxy-Authorization`` for a proxy's URL; None: it has no login."""
    if url.username is None:
        return None
    login = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return Secret("Basic " + b64encode(login.encode()).decode())


def is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Tell whether a list as in NO_PROXY names this host: by name, address, network, port."""
    return any(_matches(rule, host.lower(), port) for rule in exceptions.lower().split(","))


def _matches(rule: str, host: str, port: int) -> bool:
    rule = rule.strip()
    if rule == "*":
        return True
    network = _network(rule)
    if network is not None:
        address = _address(host)
        return address is not None and address in network
    name, colon, rule_port = rule.rpartition(":")
    if colon and rule_port.isdecimal():
        if int(rule_port) != port:
            return False
        rule = name
    rule = rule.removeprefix("*").strip("[].")
    return bool(rule) and (host == rule or host.endswith(f".{rule}"))


def _network(rule: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(rule.strip("[]"), strict=False)
    except ValueError:
        return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
