"""Checks whether mounts still have the settings of this run's plan.

Two applies may change one mount at the same time. Roles and configs have check-and-set, but a
mount's settings have none. So they are compared before and after, and the run whose settings
were overwritten reports it.
"""

from collections.abc import Collection, Mapping
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.planner import fields
from skyflowctl.planner.plan import Plan
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveMount


def overwritten_settings(
    plan: Plan, gateway: Gateway, names: Collection[str]
) -> dict[str, Problem]:
    """Return why mounts do not match the plan, by mount name; one request.

    Args:
        plan: the desired settings.
        gateway: the server.
        names: the mounts to check; their own settings were written, or already matched.
    """
    wanted = {name: plan.settings[name] for name in names if name in plan.settings}
    if not wanted:
        return {}
    try:
        live = gateway.sys.mounts()
    except VaultError as error:
        return {name: _unread(name, error.problems[0]) for name in wanted}
    found = {}
    for name, settings in wanted.items():
        differing = _differing(live.get(settings.path), settings.fields)
        if differing:
            found[name] = _overwritten(settings.path, differing)
    return found


def _differing(live: LiveMount | None, wanted: Mapping[str, Any]) -> list[str]:
    if live is None:
        return ["path"]
    return [change.field for change in fields.differences(fields.live_mount(live), wanted)]


def _overwritten(path: str, differing: list[str]) -> Problem:
    return Problem(
        "mount-overwritten",
        f"{path} changed after this run wrote it: {', '.join(differing)}",
        "another apply or a manual change wrote the mount while this one ran",
        "see which manifest is right, then run that apply again, alone",
    )


def _unread(name: str, cause: Problem) -> Problem:
    return Problem(
        "mount-not-read-back",
        f"{name} may have changed after this run wrote it: its settings could not be read",
        f"{cause.summary}: {cause.why}" if cause.why else cause.summary,
        "run the same command again: it compares them again",
    )
