"""What an application imports to get Skyflow tokens through OpenBao or Vault.

::

    from pathlib import Path
    from skyflowctl.client import AppRole, TokenSource

    source = TokenSource(AppRole(Path("/etc/order/role-id"), Path("/etc/order/secret-id")))
    token = source.token("skyflow/order", "order-producer", ctx="order:ORD-42")

It uses the standard library alone and imports nothing else of skyflowctl: the distribution
``skyflowctl-client`` ships the same files as the module ``skyflowctl_client``.
"""

from typing import TYPE_CHECKING, Any

from .errors import (
    ClientSettingsError,
    LoginRefusedError,
    PermissionDeniedError,
    RequestRefusedError,
    ServerUnavailableError,
    TokenSourceError,
)
from .logins import AgentLogin, AppRole, FixedToken, Jwt, Kubernetes, ServerLogin, TokenFile
from .server import ServerEndpoint
from .session import ClientLimits
from .source import TokenSource
from .values import BearerToken, SecretFields, SignedToken

if TYPE_CHECKING:
    from .aio import AsyncTokenSource

__all__ = [
    "AgentLogin",
    "AppRole",
    "AsyncTokenSource",
    "BearerToken",
    "ClientLimits",
    "ClientSettingsError",
    "FixedToken",
    "Jwt",
    "Kubernetes",
    "LoginRefusedError",
    "PermissionDeniedError",
    "RequestRefusedError",
    "SecretFields",
    "ServerEndpoint",
    "ServerLogin",
    "ServerUnavailableError",
    "SignedToken",
    "TokenFile",
    "TokenSource",
    "TokenSourceError",
]


def __getattr__(name: str) -> Any:
    if name == "AsyncTokenSource":  # asyncio is imported only where it is used
        from .aio import AsyncTokenSource

        return AsyncTokenSource
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
