"""Where a role lives below its mount, and that nothing else is reached by its name."""

from skyflowctl.engine.names import NAME_RULE, is_name
from skyflowctl.vault.errors import BadRoleNameError


def role_path(path: str, branch: str, name: str) -> str:
    """Return the path of one role; a name with a slash or dots would be another path.

    Raises:
        BadRoleNameError: it is no name.
    """
    if not is_name(name):
        raise BadRoleNameError(
            f"{ascii(name)[:80]} is not a valid role name",
            why=NAME_RULE,
            fix=f"'skyflowctl role list {path}' lists the roles of this mount",
        )
    return f"{path}/{branch}/{name}"
