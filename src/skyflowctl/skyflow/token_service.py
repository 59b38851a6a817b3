"""The port to a Skyflow token service, and how an exchange can fail.

Implementations: :class:`skyflowctl.skyflow.http.token_service.HttpTokenService` for the
real one and the emulator, :class:`skyflowctl.skyflow.emulator.InProcessTokenService`
for dry runs without sockets. Both pass ``tests/contract/test_token_service.py``.
"""

from typing import Protocol

from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret

# The message of a refusal when the answer was good in form and held no token.
NO_TOKEN = "answer holds no usable token"  # noqa: S105 - a message, no password


@dataclass(frozen=True, slots=True)
class Exchange:
    """A token service's good answer: status 200 with a token in it."""

    access_token: Secret
    token_type: str
    request_id: str


class TokenServiceRefusedError(Exception):
    """The service refused, or its answer is not a token.

    Args:
        status: its HTTP status.
        message: its own message, one line, at most 500 characters.
        request_id: its ``x-request-id``, empty when it sent none.
    """

    def __init__(self, status: int, message: str, request_id: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.request_id = request_id


class TokenServiceUnreachableError(Exception):
    """No answer: connection, TLS, redirect elsewhere, or the deadline passed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HostRefusedError(TokenServiceUnreachableError):
    """No token service was asked: the credential's tokenURI is not one that may be."""


class TokenService(Protocol):
    """Exchanges a signed assertion for a bearer token."""

    async def exchange(
        self, token_uri: str, assertion: Secret, scope: str | None, *, deadline: float
    ) -> Exchange:
        """Post the assertion to the service that ``token_uri`` names.

        Args:
            token_uri: the credential's tokenURI, already checked against the allow-list.
            assertion: the signed JWT.
            scope: ``role:<id>``, or None for a token without scope.
            deadline: seconds that the whole exchange may take.

        Raises:
            TokenServiceRefusedError: the service said no. Never retried.
            TokenServiceUnreachableError: there was no answer in time.
        """

    async def aclose(self) -> None:
        """Close its connections."""
