"""How a server starts the plugin: the variables that it sets and the line that it reads."""

# ruff: noqa: PTH112, PTH118 - pathlib, with what it imports, keeps 0.6 MB in every plugin process
import os
from base64 import b64encode
from collections.abc import Mapping

from skyflowctl.frozen import dataclass

_COOKIE = ("VAULT_BACKEND_PLUGIN", "6669da05-b1c8-4f49-97d9-c8e5bed98e20")
_CORE_PROTOCOL = 1
_APP_PROTOCOL = 5
_TEMPORARY = "/tmp"  # noqa: S108 - where the server itself looks, if nothing else is named
# A unix socket's address holds 108 bytes on Linux, the closing NUL included.
_SOCKET_PATH_LIMIT = 107


class HandshakeError(Exception):
    """The plugin cannot serve the process that started it; the message says why."""


class NotStartedByServerError(HandshakeError):
    """The plugin was started by a user, not by a server."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """The server's request at the start.

    Args:
        host_certificate: PEM of the server's own certificate, the only peer accepted.
        socket_dir: the folder of the plugin's socket.
        socket_group: a group that may also connect (name or number); empty: none.
        tells_multiplexing: the server expects the line's seventh field.
    """

    host_certificate: str
    socket_dir: str
    socket_group: str = ""
    tells_multiplexing: bool = False


def read_handshake(environ: Mapping[str, str]) -> Handshake:
    """Return the handshake from the environment.

    Raises:
        NotStartedByServerError: the server's cookie is missing.
        HandshakeError: the server speaks another protocol, or no mutual TLS.
    """
    name, value = _COOKIE
    if environ.get(name) != value:
        raise NotStartedByServerError(
            "this program is the skyflow secrets engine; it is started by an OpenBao or "
            "Vault server that has it in its plugin catalog, never by hand"
        )
    if str(_APP_PROTOCOL) not in environ.get("PLUGIN_PROTOCOL_VERSIONS", "").split(","):
        raise HandshakeError(f"the server does not speak plugin protocol {_APP_PROTOCOL}")
    certificate = environ.get("PLUGIN_CLIENT_CERT", "")
    if not certificate:
        raise HandshakeError("the server offers no mutual TLS (PLUGIN_CLIENT_CERT is not set)")
    return Handshake(
        host_certificate=certificate,
        socket_dir=environ.get("PLUGIN_UNIX_SOCKET_DIR") or environ.get("TMPDIR") or _TEMPORARY,
        socket_group=environ.get("PLUGIN_UNIX_SOCKET_GROUP", ""),
        tells_multiplexing=bool(environ.get("PLUGIN_MULTIPLEX_GRPC")),
    )


def new_socket_path(directory: str, pid: int) -> str:
    """Return a short, unused socket path with the process id in its name.

    Raises:
        HandshakeError: the folder is missing, or its path too long for a socket.
    """
    if not os.path.isdir(directory):
        raise HandshakeError(f"the folder for the plugin's socket, {directory}, does not exist")
    path = os.path.join(directory, f"sky{pid}-{os.urandom(3).hex()}")
    if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
        raise HandshakeError(
            f"{path} is too long for a unix socket ({_SOCKET_PATH_LIMIT} bytes); "
            "set PLUGIN_UNIX_SOCKET_DIR to a shorter folder"
        )
    return path


def handshake_line(socket_path: str, certificate_der: bytes, *, with_multiplexing: bool) -> str:
    """Return the one line that the server reads from the plugin's standard output."""
    certificate = b64encode(certificate_der).rstrip(b"=").decode()
    fields = [str(_CORE_PROTOCOL), str(_APP_PROTOCOL), "unix", socket_path, "grpc"]
    fields.append(certificate)
    if with_multiplexing:
        fields.append("false")
    return "|".join(fields)
