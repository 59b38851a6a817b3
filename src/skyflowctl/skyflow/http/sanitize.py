"""Makes a token service's message printable: one line, without tokens."""

import re
from urllib.parse import urljoin, urlsplit

_MAXIMUM_MESSAGE = 500
_JWT = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*){0,2}")


def one_line(text: str) -> str:
    """Return the text as one printable line of at most 500 characters, without tokens."""
    shown = "".join(char if char.isprintable() else " " for char in _JWT.sub("***", text))
    return " ".join(shown.split())[:_MAXIMUM_MESSAGE].rstrip()


def redirect_reason(status: int, location: str, token_uri: str) -> str:
    """Return why a redirect is an error: it is never followed. The text names its host.

    A host that receives the assertion can mint for an hour.

    Args:
        status: the HTTP status, 300 to 399.
        location: the header's value; empty when there was none.
        token_uri: what was asked, for a relative location.
    """
    try:
        target = urlsplit(urljoin(token_uri, location)).netloc if location else ""
    except ValueError:
        target = ""
    # Without a user name: a redirect could carry a password.
    host = one_line(target.rpartition("@")[2])[:255] or "nowhere"
    return f"HTTP {status} redirects to {host}; redirects are refused"
