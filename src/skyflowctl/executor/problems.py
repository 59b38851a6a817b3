"""What stands for an error that nobody foresaw."""

from skyflowctl.errors import SkyflowctlError


def unforeseen(path: str, error: Exception) -> SkyflowctlError:
    """Return what stands for an error that nobody foresaw; its text may hold anything."""
    return SkyflowctlError(
        f"an error that was not expected: {path}",
        why=f"{type(error).__name__} in skyflowctl itself",
        fix="run the same command again; if it comes back, report it",
        code="unexpected",
    )
