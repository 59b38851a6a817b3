"""Plans objects that are read and written by their path alone: their owners and their secrets.

``access.py`` compares the other fields, as it does for login roles.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from skyflowctl.errors import Problem, Where
from skyflowctl.manifest.model import (
    DeclaredObject,
    FieldSource,
    GeneratedText,
    LiveValue,
    Reference,
)
from skyflowctl.planner.plan import NOT_READABLE, TYPE_DIFFERS, Change, own_path
from skyflowctl.vault.live import LiveAccess

_VERSION = "secret_version"


def live_value(found: Mapping[str, Any], name: str) -> Any:
    """Return a field of the server's answer, or None.

    Some answers have the fields that were sent in a nested map (``connection_details``).
    """
    if name in found:
        return found[name]
    nested = (one for one in found.values() if isinstance(one, Mapping) and name in one)
    return next(nested, {}).get(name)


def is_readable(found: Mapping[str, Any], name: str) -> bool:
    """Whether the server's answer has a field."""
    return name in found or any(name in one for one in found.values() if isinstance(one, Mapping))


def secret_changes(
    declared: DeclaredObject, live: LiveAccess, *, exists: bool
) -> tuple[Change, ...]:
    """Return the changes of the fields that the server never returns; the sources are shown."""
    sources = _written(declared)
    if not sources:
        return ()
    before = written_version(declared, live)
    if exists and before >= declared.secret_version:
        return ()
    shown = "set" if exists and before else None
    version = declared.secret_version
    return (
        *((Change(_VERSION, before or None, version),) if version else ()),
        *(Change(name, shown, source_text(source)) for name, source in sources.items()),
    )


def _written(declared: DeclaredObject) -> dict[str, FieldSource]:
    """Return the sources of the secret fields that are not kept as they are."""
    found = declared.secret.items()
    return {name: source for name, source in found if not isinstance(source, LiveValue)}


def with_live_values(declared: DeclaredObject, found: Mapping[str, Any]) -> DeclaredObject:
    """Return the object with the server's values of the fields that it keeps."""
    kept = {
        name: live_value(found, name)
        for name, value in declared.fields.items()
        if isinstance(value, LiveValue)
    }
    return replace(declared, fields={**declared.fields, **kept}) if kept else declared


def nothing_to_keep(declared: DeclaredObject) -> Problem | None:
    """Return why an absent object cannot be made, or None: a value is only on the server."""
    values = {**declared.fields, **declared.secret}
    return no_live_value(declared.path, values, declared.where)


def no_live_value(path: str, values: Mapping[str, Any], where: Where) -> Problem | None:
    """Return why absent values cannot be written: they are to be kept. None: none is."""
    names = [name for name, value in values.items() if isinstance(value, LiveValue)]
    if not names:
        return None
    return Problem(
        "nothing-to-keep",
        f"{path} cannot be written: the server has no {', '.join(names)} to keep",
        "the manifest says live: true, which keeps what is there",
        "give it a source, such as {env: NAME}; for a certificate, {file: NAME}",
        where,
    )


def would_forget(declared: DeclaredObject) -> Problem | None:
    """Return why an object cannot be changed: a write without its secret clears it. Or None."""
    names = [name for name, one in declared.secret.items() if isinstance(one, LiveValue)]
    if not names or declared.keeps_secret:
        return None
    return Problem(
        "would-forget",
        f"{declared.path} cannot be changed: the server would forget {', '.join(names)}",
        "the manifest says live: true; a write must have it, and the server never shows it",
        "give it a source, such as {env: NAME}, and raise secret_version",
        declared.where,
    )


def written_version(declared: DeclaredObject, live: LiveAccess) -> int:
    """Return the ``secret_version`` that was written last; 0 for none."""
    there = live.mounted(declared.owner)
    return noted_version(there.options, declared.version_option) if there else 0


def noted_version(options: Mapping[str, str], name: str) -> int:
    """Return the number in one of a mount's options; 0 without one."""
    text = options.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def source_text(source: FieldSource) -> str:
    """Return where a value comes from, which is all that is ever shown of it."""
    if isinstance(source, Reference):
        return f"from {source.text}"
    if isinstance(source, GeneratedText):
        size = f"{source.length} characters" if source.length else f"{source.bytes} bytes"
        return f"generated, {size}"
    return "from the manifest"


def fix_of_not_readable(path: str, owner: str) -> str:
    """Return what to do about a field that the server takes and never returns.

    Args:
        path: the object's path.
        owner: the API path of its engine or login method.
    """
    engine = own_path(owner)
    if engine == owner:  # a login has no keys for such fields
        return "remove it"
    return (
        f"if it is to be written only once: once: {{exists: {path.removeprefix(f'{engine}/')}}}; "
        "if it is a secret, declare it below secret with a secret_version; else remove it"
    )


def not_readable(path: str, names: list[str], owner: str, where: Where) -> Problem:
    """Return the warning that fields of a live object cannot be compared."""
    listed = ", ".join(names)
    return Problem(
        NOT_READABLE,
        f"{path} cannot be compared: the server does not return {listed}",
        "a field that is never returned would be written by every apply, or never",
        fix_of_not_readable(path, owner),
        where,
    )


def cannot_change(path: str, changes: list[Change], where: Where) -> Problem:
    """Return the warning that live fields differ which the server never changes."""
    named = ", ".join(f"{one.field} is {one.before!r}, not {one.after!r}" for one in changes)
    return Problem(
        TYPE_DIFFERS,
        f"{path} cannot be changed: {named}",
        "the server sets this when the object is made, and never changes it",
        "declare what is there, or use another name in the manifest",
        where,
    )


def as_written(
    declared: DeclaredObject, changes: tuple[Change, ...], live: LiveAccess, *, exists: bool
) -> Mapping[str, Any]:
    """Return the body of an action: fields to send, and sources of its secret fields.

    A write without a secret field clears it, unless the server keeps it. ``appears`` says that the
    server has the object, with its defaults, as soon as what it belongs to is made.
    """
    rises = any(one.field == _VERSION for one in changes)
    sends = rises or not exists or not declared.keeps_secret
    new_owner = bool(declared.owner) and live.mounted(declared.owner) is None
    return {
        "fields": {**({} if exists else declared.fixed), **declared.fields},
        "flags": dict(declared.flags),
        "read_path": declared.read_path,
        "appears": not exists and (new_owner or bool(declared.read_at)),
        "secret": _written(declared) if sends else {},
        "once": declared.once,
        "owner": declared.owner,
        "options": {declared.version_option: str(declared.secret_version)} if rises else {},
    }
