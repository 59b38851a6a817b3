"""The problem for an unexpected error."""

from skyflowctl.errors import SkyflowctlError


def unforeseen(path: str, error: Exception) -> SkyflowctlError:
    """Return the problem for an unexpected error, without its text, which may contain secrets."""
    return SkyflowctlError(
        f"an error that was not expected: {path}",
        why=f"{type(error).__name__} in skyflowctl itself",
        fix="run the same command again; if it comes back, report it",
        code="unexpected",
    )
