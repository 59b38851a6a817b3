"""Where a token for an address from the environment is stored by the stock clients.

In this order: the token helper that ``~/.bao`` or ``~/.vault`` names, the file that
BAO_TOKEN_PATH names, ``~/.vault-token``.
"""

import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from skyflowctl.errors import UsageError
from skyflowctl.secret import Secret

_HELPER = re.compile(r'^[ \t]*token_helper\s*=\s*"([^"]*)"\s*$', re.MULTILINE)
_HELPER_SECONDS = 30
_MAX_TOKEN = 8192


def checked_token(text: str, origin: str) -> Secret:
    """Return a token, or raise when its text cannot be one.

    Raises:
        UsageError: it is empty, too long, or holds characters that no header may hold.
    """
    token = text.strip()
    if not token or len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable():
        raise UsageError(
            f"the token from {origin} cannot be one",
            why="it is empty, longer than 8192 characters, or not one line of printable ASCII",
            fix="log in again, or name another source",
            code="bad-token",
        )
    return Secret(token)


def read_token_file(path: str) -> Secret:
    """Return the token in a file of the user's, or on standard input for ``-``.

    Raises:
        UsageError: it cannot be read, others may read it, or it holds no token.
    """
    if path == "-":
        return checked_token(sys.stdin.read(_MAX_TOKEN + 2), "standard input")
    file = Path(path)
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(
            f"the token file cannot be read: {path}",
            why=error.strerror or type(error).__name__,
            fix="name a file that you may read, or - for standard input",
            code="bad-token-file",
        ) from None
    if stat.S_ISREG(mode) and mode & 0o077:
        raise UsageError(
            f"the token file can be read by others: {path}",
            why=f"its mode is {stat.S_IMODE(mode):04o}",
            fix=f"chmod 600 {path}",
            code="token-file-mode",
        )
    return checked_token(text, path)


def stored_token(environ: Mapping[str, str]) -> Secret | None:
    """Return the token that the stock clients stored, or None when there is none.

    Raises:
        UsageError: the user's token helper failed, or a stored token is no token.
    """
    home = Path(environ.get("HOME") or "~").expanduser()
    helper = _helper(environ, home)
    if helper:
        return _ask_helper(helper, environ)
    path = environ.get("BAO_TOKEN_PATH")
    file = Path(path) if path else home / ".vault-token"
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return checked_token(text, str(file)) if text.strip() else None


def _helper(environ: Mapping[str, str], home: Path) -> str:
    """Return the token helper's path, the first that a client's own settings name."""
    named = [environ.get("BAO_CONFIG_PATH"), environ.get("VAULT_CONFIG_PATH")]
    files = [Path(path) for path in named if path] or [home / ".bao", home / ".vault"]
    for file in files:
        try:
            found = _HELPER.search(file.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if found and found[1]:
            return found[1]
    return ""


def _ask_helper(helper: str, environ: Mapping[str, str]) -> Secret | None:
    """Run ``<helper> get``: the token alone is on its stdout, nothing when it has none."""
    if not Path(helper).is_absolute():
        raise _helper_failed(helper, "its path is not absolute")
    import subprocess

    try:
        done = subprocess.run(
            [helper, "get"],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = f"no answer in {_HELPER_SECONDS} s"
        if isinstance(error, OSError):
            reason = error.strerror or type(error).__name__
        raise _helper_failed(helper, reason) from None
    if done.returncode != 0:
        raise _helper_failed(helper, f"it ended with status {done.returncode}")
    text = done.stdout.decode(errors="replace").strip()
    return checked_token(text, "the token helper") if text else None


def _helper_failed(helper: str, why: str) -> UsageError:
    return UsageError(
        f"the token helper gave no token: {helper}",
        why=why,
        fix="repair token_helper in ~/.bao or ~/.vault, or set BAO_TOKEN",
        code="token-helper-failed",
    )
