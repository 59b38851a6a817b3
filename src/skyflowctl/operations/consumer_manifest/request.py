"""What a snippet is made of: the consumer, the path that it reads, and what is to be filled in."""

from collections.abc import Callable, Mapping
from typing import Any

from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Consumer

REFRESH = "45m"
"""How often a token is read again. It lives about 60 minutes and has no lease, so no client knows
by itself when it ends."""

BLANKS: Mapping[str, str] = {
    "FILL_IN_ADDRESS": "the server's address, or give --address",
    "FILL_IN_AUDIENCE": "the audience that the login role is bound to",
    "FILL_IN_CTX": "the ctx that the role requires, or give --ctx",
    "FILL_IN_ROLE_ID": "the role id, which 'skyflowctl consumer issue NAME' prints",
    "FILL_IN_SERVICE_ACCOUNT": "the Kubernetes service account that logs in",
}
"""The words in a snippet that its reader replaces, and by what."""


@dataclass(frozen=True, slots=True)
class SnippetRequest:
    """One consumer's read of one role's tokens.

    Args:
        consumer: the login.
        mount: the API path of the mount.
        role: the name of the role.
        ctx: the ctx, or the blank for it; empty: the request has none.
        address: the server's address, or the blank for it.
    """

    consumer: Consumer
    mount: str
    role: str
    ctx: str
    address: str

    @property
    def path(self) -> str:
        """The API path of the role's tokens."""
        return f"{self.mount}/creds/{self.role}"

    @property
    def name(self) -> str:
        """The name of what the snippet creates: dashes and letters, as Kubernetes wants it."""
        return self.consumer.name.replace("_", "-").strip("-")

    @property
    def audience(self) -> str:
        """The audience that the login role is bound to; empty: any."""
        listed = self.consumer.settings.get("bound_audiences") or ()
        return str(next(iter(listed), "") or self.consumer.settings.get("audience") or "")

    @property
    def service_account(self) -> str:
        """The first service account that may log in, or the blank for it."""
        return self._first("bound_service_account_names") or "FILL_IN_SERVICE_ACCOUNT"

    @property
    def metadata(self) -> dict[str, str]:
        """The name and, if the login is bound to one, the namespace of a Kubernetes object."""
        namespace = self._first("bound_service_account_namespaces")
        return {"name": self.name, **({"namespace": namespace} if namespace else {})}

    def _first(self, setting: str) -> str:
        names = self.consumer.settings.get(setting) or ()
        return next((one for one in names if "*" not in one), "")


@dataclass(frozen=True, slots=True)
class Family:
    """A program that reads tokens for applications.

    Args:
        title: its name in messages.
        types: the types of login that it supports.
        render: returns the snippet.
        keeps_login: whether it makes many requests with one login.
        comment: what begins a comment in the snippet.
        refresh: how often it reads a token.
    """

    title: str
    types: tuple[str, ...]
    render: Callable[[SnippetRequest], str]
    keeps_login: bool = True
    comment: str = "#"
    refresh: str = REFRESH


def present(**fields: Any) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value}
