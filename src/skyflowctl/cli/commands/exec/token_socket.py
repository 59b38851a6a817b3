"""A Unix socket that answers a fresh token, over HTTP, to processes of the same user only."""

import json
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

from skyflowctl.errors import UsageError, os_reason
from skyflowctl.operations.keep_token import TokenKeeper

_PREFIX = "unix:"
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid of SO_PEERCRED
_LONGEST = 107  # bytes of a socket's path on Linux
_TIMEOUT = 5.0


class _TokenServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64
    keeper: TokenKeeper

    def verify_request(self, request: object, _address: object) -> bool:
        """Refuse processes of other users, although the folder's mode keeps them out already."""
        assert isinstance(request, socket.socket)
        raw = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return bool(_CREDENTIALS.unpack(raw)[1] == os.geteuid())

    def handle_error(self, _request: object, _address: object) -> None:
        """Ignore a client that goes away."""


class _Handler(BaseHTTPRequestHandler):
    server: _TokenServer
    timeout = _TIMEOUT

    def do_GET(self) -> None:
        """Answer the newest token; 503 if it has ended and none could be read."""
        keeper = self.server.keeper
        token, left = keeper.token, keeper.seconds_left()
        if left <= 0:
            self._answer(503, {"error": "the token has expired, and no new one could be read"})
            return
        fields = {
            "access_token": token.access_token.reveal(),
            "token_type": token.token_type,
            "expires_at": token.expires_at,
            "ttl": int(left),
        }
        self._answer(200, fields)

    def _answer(self, status: int, fields: dict[str, object]) -> None:
        body = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_words: object) -> None:  # noqa: A002 - the library's name
        """Log nothing."""


def socket_path(text: str) -> Path:
    """Return the path of ``unix:PATH``, which must not exist, in a folder of this user alone.

    Raises:
        UsageError: it has another form, it exists, or others may enter the folder.
    """
    named = text.removeprefix(_PREFIX)
    path = Path(named).absolute()
    if not text.startswith(_PREFIX) or not named or named.endswith("/"):
        raise _refused(text, "it is not unix: and a path", "for example unix:run/token.sock")
    if len(os.fsencode(path)) > _LONGEST:
        raise _refused(text, f"the path has more than {_LONGEST} bytes", "choose a shorter one")
    _check_folder(text, path.parent)
    if _is_left_over(path):
        path.unlink()
    if path.exists() or path.is_symlink():
        raise _refused(text, "something is there already", "remove it, or choose another path")
    return path


def _is_left_over(path: Path) -> bool:
    """Whether a socket of this user is there on which nothing listens: its process was killed."""
    try:
        info = path.lstat()
        if not stat.S_ISSOCK(info.st_mode) or info.st_uid != os.geteuid():
            return False
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(path))
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _check_folder(text: str, folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        info = folder.lstat()
    except OSError as error:
        fix = "create its folder with mode 0700"
        raise _refused(text, os_reason(error), fix) from None
    private = stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid()
    if not private or info.st_mode & 0o077:
        raise _refused(
            text,
            "others may enter its folder",
            f"choose a folder of your own with mode 0700: {folder}",
        )


def _refused(text: str, why: str, fix: str) -> UsageError:
    return UsageError(f"no socket can be made at {text}", why=why, fix=fix, code="bad-socket")


@contextmanager
def listening(path: Path) -> Iterator[_TokenServer]:
    """Listen at a path while the block runs, and remove it afterwards.

    Raises:
        UsageError: the system refuses it.
    """
    before = os.umask(0o177)
    try:
        server = _TokenServer(str(path), _Handler)
    except OSError as error:
        raise _refused(f"unix:{path}", os_reason(error), "choose another path") from None
    finally:
        os.umask(before)
    try:
        yield server
    finally:
        server.server_close()
        with suppress(FileNotFoundError):
            path.unlink()
