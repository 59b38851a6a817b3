"""Writes live engines, groups and further logins as a manifest declares them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from skyflowctl.engine.names import is_name
from skyflowctl.errors import Problem
from skyflowctl.operations.exported_logins import span
from skyflowctl.planner.groups import live_group
from skyflowctl.text import listed
from skyflowctl.vault.errors import ForbiddenError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.kv import is_kv2
from skyflowctl.vault.live import GROUP_PATHS, LiveMount

Warn = Callable[[str, str, str, str], None]
"""Adds a warning: path, what was left out, why, and the fix."""

_BY_HAND = "declare it by hand"


def exported_engine(
    gateway: Gateway, engine: LiveMount, description: str, warn: Warn
) -> dict[str, Any] | None:
    """Return an engine as a manifest writes it; None if it is left out.

    Its secrets and objects are not written; a warning names them.
    """
    if engine.type == "kv" and not is_kv2(engine):
        warn(engine.path, "was left out", "a manifest has only version 2 of kv", _BY_HAND)
        return None
    if engine.type == "kv":
        _warn_of_secrets(gateway, engine.path, warn)
    else:
        warn(
            engine.path,
            "its objects were left out",
            "export writes an engine's type, description and lease times; "
            "the rest stays on the server as it is",
            "copy its section from the manifest that made it",
        )
    ttls = {name: span(engine.ttls, name) for name in engine.ttls}
    data = {"type": engine.type, "description": description, **ttls}
    return {key: value for key, value in data.items() if value}


def _warn_of_secrets(gateway: Gateway, engine: str, warn: Warn) -> None:
    why = "their values are never read; they stay on the server as they are"
    fix = "declare each below secrets, with the source of each field"
    try:
        found = gateway.sys.access.kv.secrets(engine)
    except ForbiddenError as error:
        warn(engine, "its secrets were left out, and not listed", error.problems[0].summary, fix)
        return
    if found:
        warn(engine, f"these secrets were left out: {listed(sorted(found))}", why, fix)


def exported_groups(groups: Mapping[str, Mapping[str, Any]], warn: Warn) -> dict[str, Any]:
    """Return groups as a manifest writes them, by name."""
    written: dict[str, Any] = {}
    for path, found in sorted(groups.items()):
        name, live = path.removeprefix(GROUP_PATHS), live_group(found)
        method, alias = live["alias.login_method"], live["alias.name"]
        if not is_name(name) or not live["policies"]:
            why = "a manifest's group has a plain name and at least one policy"
            warn(path, "was left out", why, _BY_HAND)
            continue
        written[name] = {"policies": live["policies"]}
        if method and alias:
            written[name]["aliases"] = {method: alias}
    return written


def unread_logins(unread: Mapping[str, Problem], warn: Warn) -> Iterable[Problem]:
    """Return what could not be read, besides logins and groups, of which each is a warning."""
    for path, problem in sorted(unread.items()):
        if path.startswith(("auth/", GROUP_PATHS)):
            what = "its entries were left out" if path.endswith("/") else "was left out"
            warn(path.rstrip("/"), what, problem.summary, problem.fix)
        else:
            yield problem
