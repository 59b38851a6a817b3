"""The values of contexts: named targets that the user stored, each with its way to log in."""

from collections.abc import Mapping
from dataclasses import field

from skyflowctl.frozen import dataclass


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """How to log in to a context. Nothing here is secret; empty fields are not set.

    Args:
        method: token, approle, userpass, jwt, oidc, kubernetes, github or gitlab.
        mount: the path of the login method; empty: the method's usual one.
        role: the login role.
        username: of userpass.
        role_id: of AppRole.
        secret: a reference to the secret, as on a command line; empty: it is asked for.
        audience: of a token that GitHub issues.
    """

    method: str
    mount: str = ""
    role: str = ""
    username: str = ""
    role_id: str = ""
    secret: str = ""
    audience: str = ""


@dataclass(frozen=True, slots=True)
class ContextEntry:
    """A named target that the user stored."""

    name: str
    address: str
    namespace: str = ""
    ca_cert: str = ""
    nodes: tuple[str, ...] = ()
    ca_path: str = ""
    client_cert: str = ""
    client_key: str = ""
    tls_server_name: str = ""
    path_prefix: str = ""
    login: LoginSettings | None = None


@dataclass(frozen=True, slots=True)
class Contexts:
    """All contexts of the user.

    Args:
        current: the name of the current one; empty: none is current.
        entries: by name.
    """

    current: str = ""
    entries: Mapping[str, ContextEntry] = field(default_factory=dict)
