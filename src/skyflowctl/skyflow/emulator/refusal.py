"""How the emulator says no: the error body that Skyflow documents, as an exception."""

from http import HTTPStatus
from typing import Any

INVALID_ARGUMENT = 3
NOT_FOUND = 5
PERMISSION_DENIED = 7
INTERNAL = 13
UNAVAILABLE = 14
UNAUTHENTICATED = 16

_GRPC_CODES = {
    400: INVALID_ARGUMENT,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: NOT_FOUND,
    429: 8,
    503: UNAVAILABLE,
}


class ExchangeRefusedError(Exception):
    """A request that is answered with an error.

    The message holds no ctx, no assertion and no token: what a caller sent is not
    sent back.

    Args:
        status: the HTTP status, 400 to 599.
        message: one line for the caller.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def body(self) -> dict[str, Any]:
        """Return the documented error object (OpenAPI "Management API 2026.04")."""
        return error_body(self.status, self.message)


def error_body(status: int, message: str) -> dict[str, Any]:
    """Return ``{"error": {grpc_code, http_code, http_status, message, details}}``."""
    return {
        "error": {
            "grpc_code": _GRPC_CODES.get(status, INTERNAL),
            "http_code": status,
            "http_status": _phrase(status),
            "message": message,
            "details": [],
        }
    }


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
