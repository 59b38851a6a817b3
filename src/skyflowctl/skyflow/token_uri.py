"""Which token services may receive an assertion, and the accepted form of a tokenURI.

An assertion is equivalent to the key for an hour, so it is sent only to named hosts: the two
in Skyflow's documentation, or those in the plugin's catalog entry.
"""

import re
from collections.abc import Set as AbstractSet

TOKEN_PATH = "/v1/auth/sa/oauth/token"  # noqa: S105 - a path, no password
SKYFLOW_HOSTS: frozenset[str] = frozenset(
    {"manage.skyflowapis.com:443", "manage.skyflowapis-preview.com:443"}
)

HOST_NOT_ALLOWED = "names a host that is not allowed"
NOTHING_SENT = "nothing was sent"

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]"
_NAMED = re.compile(rf"(?P<host>{_HOST}):(?P<port>[1-9][0-9]{{0,4}})")
_FORM = re.compile(rf"https://(?P<host>{_HOST})(?::(?P<port>[1-9][0-9]{{0,4}}))?{TOKEN_PATH}")


class HostNotAllowedError(ValueError):
    """A tokenURI of the accepted form names a service that is not allowed.

    Its text reads on after "tokenURI" and names the host, which is no secret.

    Attributes:
        host: ``host:port``, as an allow-list would hold it.
    """

    def __init__(self, host: str, allowed_hosts: AbstractSet[str]) -> None:
        known = ", ".join(sorted(allowed_hosts)) or "none"
        super().__init__(f"{HOST_NOT_ALLOWED}: {host} (allowed: {known})")
        self.host = host


def token_uri_refused(text: str) -> bool:
    """Return whether an engine says that it refuses the tokenURI and sent no assertion."""
    return "tokenURI " in text and NOTHING_SENT in text


def parse_host(text: str) -> str:
    """Return a further token service, named as ``HOST:PORT``, as an allow-list holds it.

    Raises:
        ValueError: it has another form; the port is never left out, because host and port
            are compared exactly.
    """
    match = _NAMED.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return f"{match['host'].lower()}:{match['port']}"


def token_host(uri: str) -> str:
    """Return ``host:port``, in lower case, of a tokenURI in the accepted form.

    Raises:
        ValueError: the URI has another form; the text says what is wrong with it and
            never repeats a part of it.
    """
    match = _FORM.fullmatch(uri)
    if match is None:
        raise ValueError(_what_is_wrong(uri))
    return f"{match['host'].lower()}:{match['port'] or 443}"


def check_token_uri(uri: str, allowed_hosts: AbstractSet[str] = SKYFLOW_HOSTS) -> None:
    """Accept a tokenURI, or say why not.

    Args:
        uri: the credential's tokenURI.
        allowed_hosts: ``host:port`` of every token service that may be asked.

    Raises:
        HostNotAllowedError: the host is not among them.
        ValueError: the form is wrong. The text reads on after "tokenURI" and repeats no
            part of the URI.
    """
    host = token_host(uri)
    if host not in allowed_hosts:
        raise HostNotAllowedError(host, allowed_hosts)


def _what_is_wrong(uri: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]+", uri) or "\\" in uri:
        return "contains spaces, backslashes, control or non-ASCII characters"
    if not uri.startswith("https://"):
        return "is not an https:// URL"
    if "?" in uri or "#" in uri:
        return "holds a query or a fragment"
    host, slash, path = uri.removeprefix("https://").partition("/")
    if "@" in host:
        return "holds a user name or password"
    if slash + path != TOKEN_PATH:
        return f"has another path than {TOKEN_PATH}"
    return "does not name a valid host and port"
