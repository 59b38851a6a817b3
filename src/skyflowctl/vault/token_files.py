"""Finds the token that the stock clients stored, for an address from the environment.

The order is: the token helper that ``~/.bao`` names, the file that BAO_TOKEN_PATH names,
``~/.vault-token``. The settings file is read as in ``bao`` 2.7.2: HCL or JSON with the single
key ``token_helper``, whose last value counts. ``~/.vault`` is for the ``vault`` client.
"""

import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from skyflowctl.errors import Problem, UsageError, os_reason
from skyflowctl.hcl import HclError, parse_hcl
from skyflowctl.secret import Secret
from skyflowctl.vault.environment import variable

_HELPER_SECONDS = 30
_MAX_TOKEN = 8192


def checked_token(text: str, origin: str) -> Secret:
    """Return a token, or raise if the text cannot be one.

    Raises:
        UsageError: it is empty, too long, or has characters that a header must not contain.
    """
    token = text.strip()
    if not token or len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable():
        raise UsageError(
            f"the token from {origin} is not valid",
            why="it is empty, longer than 8192 characters, or not one line of printable ASCII",
            fix="log in again, or name another source",
            code="bad-token",
        )
    return Secret(token)


def read_token_file(path: str) -> Secret:
    """Return the token in a file of the user's, or on standard input for ``-``.

    Raises:
        UsageError: the file cannot be read, is readable by others, or contains no token.
    """
    if path == "-":
        return checked_token(sys.stdin.read(_MAX_TOKEN + 2), "standard input")
    file = Path(path)
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError.of_file(
            f"the token file cannot be read: {path}",
            error,
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


def stored_token(environ: Mapping[str, str], address: str) -> Secret | None:
    """Return the token that the stock clients stored, or None if there is none.

    Args:
        environ: the process environment.
        address: the server's address, which is passed to a token helper.

    Raises:
        UsageError: the client's settings are invalid, the user's token helper failed, or a
            stored token cannot be read or is no token.
    """
    home = Path(environ.get("HOME") or "~").expanduser()
    helper = token_helper(environ)
    if helper:
        named = {"BAO_ADDR": address, "VAULT_ADDR": address}
        return _ask_helper(helper, {**environ, **named})
    path = variable(environ, "TOKEN_PATH")
    file = Path(path) if path else home / ".vault-token"
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError.of_file(
            f"the stored token cannot be read: {file}",
            error,
            fix="make it readable for you, or set BAO_TOKEN",
            code="bad-token-file",
        ) from None
    return checked_token(text, str(file)) if text.strip() else None


def token_helper(environ: Mapping[str, str]) -> str:
    """Return the token helper's path from the client's settings; empty if there is none.

    The settings are in the file that BAO_CONFIG_PATH names, else in ``~/.bao``.

    Raises:
        UsageError: the settings cannot be read, or are invalid.
    """
    home = Path(environ.get("HOME") or "~").expanduser()
    named = variable(environ, "CONFIG_PATH") or "~/.bao"
    return _helper_in(home / named[2:] if named.startswith("~/") else Path(named))


def unused_settings(environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """Return a warning if only the ``vault`` client has settings."""
    home = Path(environ.get("HOME") or "~").expanduser()
    named = variable(environ, "TOKEN") or variable(environ, "CONFIG_PATH")
    if named or (home / ".bao").exists() or not (home / ".vault").is_file():
        return ()
    why = "bao does not read it either; only the vault client does"
    fix = "set BAO_CONFIG_PATH=~/.vault to use the token helper in it, or copy it to ~/.bao"
    return (Problem("environment-not-used", "~/.vault is there and not used", why, fix),)


def _helper_in(file: Path) -> str:
    """Return the helper that a settings file names; empty if none, or no such file.

    Raises:
        UsageError: the file cannot be read, or the stock client would reject it.
    """
    if not file.exists():
        return ""
    try:
        items = parse_hcl(file.read_text(encoding="utf-8")).items
    except OSError as error:
        raise _bad_settings(file, os_reason(error)) from None
    except UnicodeDecodeError:
        raise _bad_settings(file, "it is not UTF-8") from None
    except HclError as error:
        raise _bad_settings(file, str(error)) from None
    helper: object = ""
    for keys, value in items:
        if keys != ("token_helper",):
            raise _bad_settings(file, "it has a key other than token_helper")
        helper = "" if value is None else value
    if not isinstance(helper, str):
        raise _bad_settings(file, "token_helper is not a quoted string")
    return helper


def _bad_settings(file: Path, why: str) -> UsageError:
    return UsageError(
        f"the client settings cannot be parsed: {file}",
        why=why,
        fix='have it say token_helper = "/absolute/path" and no more, or set BAO_TOKEN',
        code="bad-client-settings",
    )


def _ask_helper(helper: str, environ: Mapping[str, str]) -> Secret | None:
    """Run ``<helper> get``, which prints only the token, or nothing if it has none."""
    if not Path(helper).is_absolute() or not helper.isprintable():
        raise _helper_failed(helper, "it is not an absolute path of printable characters")
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
            reason = os_reason(error)
        raise _helper_failed(helper, reason) from None
    if done.returncode != 0:
        raise _helper_failed(helper, f"it ended with status {done.returncode}")
    text = done.stdout.decode(errors="replace").strip()
    return checked_token(text, "the token helper") if text else None


def _helper_failed(helper: str, why: str) -> UsageError:
    return UsageError(
        f"the token helper returned no token: {helper}",
        why=why,
        fix="repair token_helper in ~/.bao, or set BAO_TOKEN",
        code="token-helper-failed",
    )
