"""What a token source raises. No text contains a token, a ctx, or a secret's value."""


class TokenSourceError(Exception):
    """Base of all errors of a token source.

    Args:
        summary: what happened, for a person.
        status: the HTTP status of the server's last answer; 0 if there was none.
    """

    def __init__(self, summary: str, status: int = 0) -> None:
        super().__init__(summary)
        self.summary = summary
        self.status = status

    @property
    def is_decision(self) -> bool:
        """Whether the server itself said no, so that what it gave before is over."""
        return self.status != 0

    def again(self) -> "TokenSourceError":
        """Return an equal error, for another thread to raise: a traceback belongs to one raise."""
        return type(self)(self.summary, self.status)


class ClientSettingsError(TokenSourceError):
    """An address, a file or a parameter cannot be used. Nothing was sent."""


class LoginRefusedError(TokenSourceError):
    """The server refused the login itself; with status 0: the login's file cannot be read."""


class PermissionDeniedError(TokenSourceError):
    """The server denied a request (403), also with a new login."""


class RequestRefusedError(TokenSourceError):
    """The same request would be refused again: a broken ctx rule, an unknown role or mount, a
    credential that the token service refuses."""


class ServerUnavailableError(TokenSourceError):
    """No usable answer within the attempts and the deadline: unreachable, sealed, electing a
    leader, or the token service does not answer."""

    @property
    def is_decision(self) -> bool:
        """It is none: the next attempt may be answered."""
        return False


def closed_error() -> TokenSourceError:
    """Return what every call of a closed source raises."""
    return TokenSourceError("the token source is closed")
