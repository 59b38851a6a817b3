"""Builds the audit devices of a manifest, and checks them."""

from collections.abc import Iterator, Mapping
from posixpath import normpath

from skyflowctl.errors import Problem
from skyflowctl.manifest.messages import shown
from skyflowctl.manifest.model import AUDIT_PLACES, SECRET_URI_PARTS, DeclaredObject
from skyflowctl.manifest.nodes import (
    Path,
    YamlNode,
    as_text,
    at_key,
    at_value,
    child,
    entries,
    plain,
)
from skyflowctl.text import setting_text

_OWN: Mapping[str, tuple[str, ...]] = {
    "file": ("file_path", "mode"),
    "socket": ("address", "socket_type", "write_timeout"),
    "http": ("uri",),
    "syslog": ("facility", "tag"),
}
_SHARED = frozenset({"elide_list_responses", "format", "hmac_accessor", "log_raw", "prefix"})
AUDIT_OPTIONS = frozenset(key for keys in _OWN.values() for key in keys) | _SHARED
"""The options that a manifest has keys for."""
_NO_PATHS = ("stdout", "discard")


def declared_audit_devices(root: YamlNode) -> tuple[DeclaredObject, ...]:
    """Return the audit devices in the manifest's order, with options as the server keeps them."""
    return tuple(_device(name, node) for name, node in entries(child(root, "audit_devices")))


def _device(name: str, node: YamlNode) -> DeclaredObject:
    options = {
        f"options.{key}": setting_text(plain(one)) for key, one in entries(child(node, "options"))
    }
    fields = {
        "type": as_text(child(node, "type")),
        "description": as_text(child(node, "description")),
        **options,
    }
    where = at_key(node, ("audit_devices", name))
    return DeclaredObject("audit_device", f"sys/audit/{name}", fields, where)


def audit_device_rules(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield options that the type lacks or needs, and two devices that write to one place."""
    owner: dict[tuple[str, str], str] = {}
    for name, node in entries(child(root, "audit_devices")):
        kind, options = as_text(child(node, "type")), child(node, "options")
        if kind not in AUDIT_PLACES:
            continue
        about: Path = ("audit_devices", name)
        yield from _foreign_options((*about, "options"), kind, options)
        where = AUDIT_PLACES[kind]
        found = child(options, where) if where else None
        if found is not None:
            yield from _bad_place((*about, "options", where), kind, found)
            earlier = owner.setdefault((kind, _spelled(as_text(found))), name)
            yield from _same_place((*about, "options", where), earlier, found)
        elif where and not _has_unknown(options):
            summary = f"the audit device {shown(name)} has no {where}"
            why, fix = f"a device of type {kind} writes there", f"add {where} to its options"
            yield about, Problem("missing-key", summary, why, fix, at_key(node, about))


def _spelled(place: str) -> str:
    """Return a path in its shortest spelling, and any other place unchanged."""
    return f"/{normpath(place).lstrip('/')}" if place.startswith("/") else place


def _same_place(place: Path, earlier: str, node: YamlNode) -> Iterator[tuple[Path, Problem]]:
    name = str(place[1])
    if earlier != name and as_text(node) not in _NO_PATHS:
        summary = f"the audit devices {shown(earlier)} and {shown(name)} write to one place"
        why = "when it cannot be written, both fail, and the server answers no request"
        fix = "give one another place"
        yield place, Problem("same-path", summary, why, fix, at_value(node, place))


def _has_unknown(options: YamlNode | None) -> bool:
    """Whether a key may be a misspelled one; the schema has refused it."""
    return any(key not in AUDIT_OPTIONS for key, _ in entries(options))


def _foreign_options(
    place: Path, kind: str, options: YamlNode | None
) -> Iterator[tuple[Path, Problem]]:
    for key, node in entries(options):
        owners = [one for one, keys in _OWN.items() if key in keys]
        if owners and kind not in owners:
            about = (*place, key)
            summary = f"an audit device of type {shown(kind)} has no option {key}"
            why = f"it has {' and '.join(_OWN[kind])}, and those that every type has"
            yield about, Problem("unknown-key", summary, why, "remove it", at_key(node, about))


def _bad_place(place: Path, kind: str, node: YamlNode) -> Iterator[tuple[Path, Problem]]:
    text = as_text(node)
    if kind == "file" and not text.startswith("/") and text not in _NO_PATHS:
        summary = f"{place[-1]} cannot be {shown(text)}"
        why = "the server would take it from its own working folder"
        fix = "use an absolute path, such as /var/log/openbao/audit.log"
    elif kind == "http" and SECRET_URI_PARTS.intersection(text):
        summary = f"{place[-1]} cannot have a user, a query or a fragment"
        why = "they may hold a secret, and plans, errors and the server's list show the whole uri"
        fix = "leave them out, and let the receiver know the server by its network or certificate"
    else:
        return
    yield place, Problem("bad-value", summary, why, fix, at_value(node, place))
