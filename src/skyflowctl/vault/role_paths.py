"""Builds the path of a role below its mount, and refuses names that lead elsewhere."""

from skyflowctl.engine.names import NAME_RULE, is_name
from skyflowctl.vault.errors import BadRoleNameError


def role_path(path: str, branch: str, name: str) -> str:
    """Return the path of one role; a name with a slash or dots would change the path.

    Raises:
        BadRoleNameError: the name is not valid.
    """
    if not is_name(name):
        raise BadRoleNameError(
            f"{ascii(name)[:80]} is not a valid role name",
            why=NAME_RULE,
            fix=f"'skyflowctl role list {path}' lists the roles of this mount",
        )
    return f"{path}/{branch}/{name}"
