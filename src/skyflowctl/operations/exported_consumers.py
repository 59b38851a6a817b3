"""Writes live logins: those of consumers by their policies, and others by their methods."""

from collections.abc import Callable
from typing import Any

from skyflowctl.operations.exported_logins import NotExpressibleError, exported_login
from skyflowctl.operations.exported_settings import Warn, warn_of_login
from skyflowctl.planner.access import ADOPTED_POLICY
from skyflowctl.planner.desired import OWNER_POLICY
from skyflowctl.vault.live import LiveAccess, login_role_parts

_Logins = dict[str, dict[str, Any]]


def exported_logins(
    owner: str,
    access: LiveAccess,
    known: set[str],
    is_ours: Callable[[str], bool],
    warn: Warn,
) -> tuple[dict[str, _Logins], _Logins]:
    """Return the consumers by policy, method and name, and other logins by method and name.

    Args:
        owner: the id of the manifest.
        access: the logins that are exported, and their methods.
        known: the names of the policies of exported roles.
        is_ours: whether a login method is exported.
        warn: told what is left out.
    """
    consumers: dict[str, _Logins] = {}
    others: _Logins = {}
    marks = {f"{OWNER_POLICY}{owner}", f"{ADOPTED_POLICY}{owner}"}
    for path, settings in sorted(access.login_roles.items()):
        method, name = login_role_parts(path)
        policies = [one for one in settings.get("token_policies") or () if one not in marks]
        direct = bool(policies) and not any(one.startswith("skyflow.") for one in policies)
        if not direct and (not policies or set(policies) - known):
            why = "its policies are not those of exported roles"
            warn(path, "was left out", why, "export all mounts of the manifest, or " + _BY_HAND)
            continue
        kind = access.login_methods[method].type
        try:
            if (direct or method != kind) and not is_ours(method):
                raise NotExpressibleError("the manifest did not make its login method")
            login = exported_login(kind, settings)
        except NotExpressibleError as error:
            warn(path, "was left out", str(error), _BY_HAND)
            continue
        warn_of_login(warn, kind, path, settings)
        if direct:
            others.setdefault(method, {})[name] = {"policies": policies, **login}
        for policy in () if direct else policies:
            consumers.setdefault(policy, {}).setdefault(method, {})[name] = login
    return consumers, others


_BY_HAND = "declare it by hand"
