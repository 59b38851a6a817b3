"""Lists the roles of a mount, or shows one."""

from collections.abc import Mapping

from skyflowctl.errors import UsageError
from skyflowctl.operations.mounts import not_found_is_usage_error
from skyflowctl.text import name_one_of
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveRole


def list_roles(gateway: Gateway, path: str) -> Mapping[str, LiveRole]:
    """Return a mount's roles by name.

    One request; a second one if the answer could be that of another kind of mount.

    Raises:
        UsageError: nothing is mounted there, or not this engine.
    """
    with not_found_is_usage_error(path):
        roles = gateway.engine(path).roles()
        if not roles or not all(role.role_ids for role in roles.values()):
            gateway.engine(path).checked_config()
    return roles


def show_role(gateway: Gateway, path: str, name: str) -> LiveRole:
    """Return one role.

    Raises:
        UsageError: nothing is mounted there, not this engine, or it has no such role.
    """
    with not_found_is_usage_error(path):
        role = gateway.engine(path).role(name)
        if role is None or not role.role_ids:
            gateway.engine(path).checked_config()
    if role is None:
        raise no_such_role(gateway, path, name)
    return role


def no_such_role(gateway: Gateway, path: str, name: str) -> UsageError:
    """Return the error for a name on the command line that is no role of the mount.

    It names the existing roles, if this login may list them; one request.
    """
    try:
        names = sorted(gateway.engine(path).roles())
    except VaultError:
        names = []
    return UsageError(
        f"{path} has no role {name}",
        why="the engine says that it does not exist",
        fix=name_one_of(names) if names else f"'skyflowctl role list {path}' names its roles",
        code="no-such-role",
    )
