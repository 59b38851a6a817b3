"""Files that a command keeps up to date: only an earlier output of its own is replaced."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from skyflowctl.errors import RefusedError, UsageError, os_reason
from skyflowctl.private_files import check_replaceable


def check_output_file(path: Path, what: str, is_own: Callable[[bytes], bool]) -> None:
    """Check that a file may be replaced, before anything is read for it.

    Args:
        path: of the file.
        what: what is written to it, such as ``the metrics``.
        is_own: whether the beginning of a file is an earlier output.

    Raises:
        RefusedError: something else is there.
    """
    try:
        check_replaceable(path, is_own)
    except OSError as error:
        raise RefusedError(
            f"{what} may not replace {path}",
            why=os_reason(error),
            fix="name a path that does not exist yet, or an earlier file of this command",
            code="output-in-the-way",
        ) from None


@contextmanager
def writing_output_file(path: Path, what: str) -> Iterator[None]:
    """Turn a failure of the block to write a file into an error with a fix.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{what} cannot be written to {path}",
            why=os_reason(error),
            fix="name a file in a folder where this user may write",
            code="unusable-file",
        ) from None
