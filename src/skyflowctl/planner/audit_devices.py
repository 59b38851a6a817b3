"""Plans audit devices. They are created only: a server changes none of their fields, and a
manifest deletes none."""

from collections.abc import Mapping
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import SECRET_URI_PARTS
from skyflowctl.planner import fields
from skyflowctl.planner.desired import DesiredObject
from skyflowctl.planner.plan import TYPE_DIFFERS, Action
from skyflowctl.text import setting_text
from skyflowctl.vault.audit_devices import stanza

_OPTION = "options."
BY_CONFIGURATION = "audit-device-by-configuration"
_HIDDEN = "options.headers"
"""It may hold a token."""
_URI = "options.uri"


def body_of(one: DesiredObject) -> Mapping[str, Any]:
    """Return the body that enables a device."""
    options = {
        name.removeprefix(_OPTION): value
        for name, value in one.fields.items()
        if name.startswith(_OPTION)
    }
    return {
        "type": one.fields["type"],
        "description": one.fields["description"],
        "options": options,
    }


def live_device(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a device's live fields, with the names of the desired ones."""
    options = {
        f"{_OPTION}{name}": setting_text(one) for name, one in (raw.get("options") or {}).items()
    }
    if _HIDDEN in options:
        options[_HIDDEN] = "set"
    if SECRET_URI_PARTS.intersection(options.get(_URI, "")):
        options[_URI] = "an address with a user, a query or a fragment"
    return {"type": raw.get("type"), "description": raw.get("description") or "", **options}


def differs_from_live(one: DesiredObject, raw: Mapping[str, Any]) -> Problem | None:
    """Return the warning that a live device differs; None: it does not."""
    live = live_device(raw)
    changes = fields.differences(live, {**dict.fromkeys(live), **one.fields})
    if not changes:
        return None
    named = ", ".join(f"{one.field} is {one.before!r}, not {one.after!r}" for one in changes)
    return Problem(
        TYPE_DIFFERS,
        f"{one.path} cannot be changed: {named}",
        "a server refuses its whole configuration if a device in it has other fields than the "
        "live one, so it adds no new device either",
        "declare what is there, or give the device a new name in the manifest and keep the old one "
        "in the configuration until the new one writes",
        one.where,
    )


def by_configuration(one: DesiredObject) -> Problem:
    """Return the warning that a server may take a device only from its configuration."""
    return Problem(
        BY_CONFIGURATION,
        f"{one.path} may need the server's configuration: OpenBao takes audit devices from nothing "
        "else",
        "apply enables it where the API does that (Vault), and on the dev stack; elsewhere it "
        "prints this again and is partly done",
        stanza_fix(stanza(one.path, body_of(one))),
        one.where,
    )


def stanza_fix(text: str) -> str:
    """Return what an operator does with the text for the server's configuration."""
    return (
        "put this into the server's configuration on every node, send SIGHUP to the server process "
        "on every node (a signal reaches one host only), then run the same command again:  "
        f"{text}"
    )


def is_enabled(action: Action, devices: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the device of an action is there as desired."""
    found = devices.get(action.path)
    if found is None:
        return False
    wanted = {change.field: change.after for change in action.changes}
    live = live_device(found)
    return not fields.differences(live, {**dict.fromkeys(live), **wanted})
