"""What a rollback has to say."""

from skyflowctl.errors import Problem, RefusedError
from skyflowctl.vault.errors import ConflictError, TokenServiceFailedError
from skyflowctl.vault.live import CredentialVersion


def _history(path: str) -> str:
    return f"'skyflowctl config history {path}' lists the versions and which are kept"


def none_before(path: str) -> RefusedError:
    """The mount has had one credential only, or none."""
    return RefusedError(
        f"there is no earlier credential to go back to: {path}",
        why="the mount's history holds none before the live one",
        fix=f"{_history(path)}; to replace the live one use 'skyflowctl rotate {path}'",
        code="no-earlier-credential",
    )


def unknown_version(path: str, name: str, wanted: int) -> RefusedError:
    """No entry of that version."""
    return RefusedError(
        f"there is no credential version {wanted}: {path}",
        why="the mount's history does not hold it",
        fix=_history(name),
        code="no-such-version",
    )


def destroyed_version(path: str, target: CredentialVersion) -> RefusedError:
    """Its words are there, its key is not."""
    return RefusedError(
        f"credential version {target.credential_version} is destroyed: {path}",
        why=f"its key {target.key_id} was retired or revoked, or newer ones took its place",
        fix=f"go back to a version that is kept, or rotate forward; {_history(path)}",
        code="destroyed-version",
    )


def uncommitted_version(path: str, name: str, rotation_id: str) -> RefusedError:
    """The version that was asked for is live, and not committed."""
    return RefusedError(
        f"this version is live, and its rotation is not committed: {path}",
        why=f"rotation {rotation_id} made it live",
        fix=f"'skyflowctl rotate {name}' finishes it, 'skyflowctl rotate --rollback {name}' "
        "rolls it back",
        code="open-rotation",
    )


def does_not_mint(
    path: str, target: CredentialVersion, error: TokenServiceFailedError
) -> RefusedError:
    """The engine tried it first."""
    return RefusedError(
        f"credential version {target.credential_version} was not made live: {path}",
        why=error.problems[0].why,
        fix="what was live is live as before; "
        f"'skyflowctl health {path} --refresh' says how the service is",
        code="does-not-mint",
    )


def changed(path: str, error: ConflictError) -> RefusedError:
    """Somebody else wrote meanwhile."""
    return RefusedError(
        f"the credential was replaced or destroyed meanwhile: {path}",
        why=error.problems[0].why,
        fix=f"look at what is live now, then decide; {_history(path)}",
        code="lost-check-and-set",
    )


def live_already(path: str, name: str, target: CredentialVersion) -> Problem:
    """A rollback that has been made before."""
    return Problem(
        "rolled-back-already",
        f"key {target.key_id} is live already: {path}",
        "it was live before too, so the mount has been rolled back to it, or never left it",
        f"to make another version live name it: 'skyflowctl rotate --rollback {name} --to V'",
    )


def role_left(path: str, said: str) -> Problem:
    """The way back was taken although this role does not mint with it; in the engine's words."""
    return Problem(
        "role-left-behind",
        f"a role gets no token from the credential that is live again: {path}",
        said,
        "assign the role at Skyflow to the service account that is live, or rotate forward",
    )
