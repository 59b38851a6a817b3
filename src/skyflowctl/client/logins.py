"""How an application logs in to the server.

A value that is a :class:`~pathlib.Path` names a file, which is read again at every login: a secret
id or a service account's token may be replaced while the application runs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .errors import ClientSettingsError, LoginRefusedError
from .server import environment_value
from .values import MaskedText

_MOST_BYTES = 65_536
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class LoginRequest(NamedTuple):
    """A request that answers a token: its path, and its body with masked values."""

    path: str
    body: Mapping[str, str | MaskedText]


class ServerLogin:
    """Base of all logins. Each has a token already, or a request that answers one."""

    def request(self) -> LoginRequest | None:
        """Return the request to log in with; None if none is needed.

        Raises:
            LoginRefusedError: a file cannot be read.
        """
        return None

    def held_token(self) -> MaskedText | None:
        """Return the token that is held already; None if the requests carry none."""
        return None


class AppRole(ServerLogin):
    """Logs in with a role id and a secret id.

    Args:
        role_id: the id, or the file that has it.
        secret_id: the secret id, or the file that has it.
        mount: the path of the login method.
    """

    def __init__(
        self, role_id: str | Path, secret_id: str | Path, *, mount: str = "approle"
    ) -> None:
        self._role_id, self._secret_id = _source(role_id), _source(secret_id)
        self._mount = mount.strip("/")

    def request(self) -> LoginRequest:
        """Return the request to log in with."""
        body = {"role_id": _text(self._role_id), "secret_id": _text(self._secret_id)}
        return LoginRequest(f"auth/{self._mount}/login", body)


class Jwt(ServerLogin):
    """Logs in with a JWT of an identity provider, such as that of a CI job.

    Args:
        role: the login role.
        token: the JWT, or the file that has it.
        mount: the path of the login method.
    """

    def __init__(self, role: str, token: str | Path, *, mount: str = "jwt") -> None:
        self._role, self._token, self._mount = role, _source(token), mount.strip("/")

    def request(self) -> LoginRequest:
        """Return the request to log in with."""
        body: dict[str, str | MaskedText] = {"role": self._role, "jwt": _text(self._token)}
        return LoginRequest(f"auth/{self._mount}/login", body)


class Kubernetes(Jwt):
    """Logs in with the token of the pod's service account.

    Args:
        role: the login role.
        token: the token, or the file that has it; a pod's own by default.
        mount: the path of the login method.
    """

    def __init__(
        self, role: str, token: str | Path = _SERVICE_ACCOUNT, *, mount: str = "kubernetes"
    ) -> None:
        super().__init__(role, token, mount=mount)


class TokenFile(ServerLogin):
    """Uses a token that another program, such as an agent, keeps in a file.

    Args:
        path: the file; it is read again when the server refuses the token.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).expanduser()

    def held_token(self) -> MaskedText:
        """Return the token in the file."""
        return _text(self._path)


class FixedToken(ServerLogin):
    """Uses one token of the server, as long as it is valid.

    Raises:
        ClientSettingsError: it is no token.
    """

    def __init__(self, token: str) -> None:
        if not token.strip():
            raise ClientSettingsError("the token is empty")
        if not (token.strip().isprintable() and token.isascii()):
            raise ClientSettingsError("the token has characters that no header may have")
        self._token = MaskedText(token.strip())

    def held_token(self) -> MaskedText:
        """Return the token."""
        return self._token


class AgentLogin(ServerLogin):
    """Sends no token: an agent or proxy at the server's address adds its own."""


def _source(value: str | Path) -> MaskedText | Path:
    return value.expanduser() if isinstance(value, Path) else MaskedText(value.strip())


def _text(source: MaskedText | Path) -> MaskedText:
    if isinstance(source, MaskedText):
        return source
    reason = "it is empty"
    try:
        with source.open("rb") as file:
            text = file.read(_MOST_BYTES).decode().strip()
        if text.isprintable() and text.isascii() and text:
            return MaskedText(text)
        reason = "it has more than printable characters" if text else reason
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    except UnicodeDecodeError:
        reason = "it is not text"
    raise LoginRefusedError(f"the login's file {source} cannot be used: {reason}")


def environment_login(environ: Mapping[str, str], *, agent: bool) -> ServerLogin | None:
    """Return the login that belongs to the environment's address; None if there is none.

    Args:
        environ: the process environment.
        agent: whether the address is an agent's, which needs no token.
    """
    token = environment_value(environ, "TOKEN")
    if token:
        return FixedToken(token)
    if agent:
        return AgentLogin()
    path = environment_value(environ, "TOKEN_PATH") or "~/.vault-token"
    file = TokenFile(path)
    return file if Path(path).expanduser().is_file() else None
