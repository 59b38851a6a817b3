"""Decides which manifest files a command reads if the user names none."""

from collections.abc import Mapping, Sequence
from pathlib import Path

DEFAULT_PLUGIN = "skyflow"
DEFAULT_PREFIX = "skyflow"
FILE_VARIABLE = "SKYFLOWCTL_FILE"
DEFAULT = "mounts.yaml"


def default_files(flag_values: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files of ``-f``, else of $SKYFLOWCTL_FILE, else ``mounts.yaml``.

    ``mounts.yaml`` is returned even if it is missing; reading it then reports that.
    """
    if flag_values:
        return tuple(flag_values)
    named = environ.get(FILE_VARIABLE, "")
    return (named,) if named else (DEFAULT,)


def existing_files(flag_values: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the same, but nothing if no file was named and there is no ``mounts.yaml``.

    For commands that do not need a manifest.
    """
    files = default_files(flag_values, environ)
    was_named = bool(flag_values or environ.get(FILE_VARIABLE))
    return files if was_named or Path(DEFAULT).is_file() else ()
