"""Builds the objects of engines that have no keys of their own in the manifest, and checks them."""

from collections.abc import Iterator

from skyflowctl.errors import Problem
from skyflowctl.manifest.messages import looks_like_credential, shown
from skyflowctl.manifest.model import DeclaredObject
from skyflowctl.manifest.nodes import (
    Path,
    YamlNode,
    as_number,
    as_text,
    at_key,
    at_value,
    child,
    entries,
    plain,
)
from skyflowctl.manifest.references import field_source
from skyflowctl.manifest.typed_engines import TYPED_KEYS

_KEYS = {"kv": ("version", "secrets"), **TYPED_KEYS}
"""By type of engine: the keys that it alone has. A type without an entry has ``objects``."""


_SECRET_ENDINGS = ("password", "private_key", "secret", "secret_key", "token")
"""Fields of a server's API with such a name are secret; key_type and token_ttl are not."""


def declared_objects(root: YamlNode) -> tuple[DeclaredObject, ...]:
    """Return the objects of every engine, in the manifest's order."""
    return tuple(_object(engine, path, node) for engine, path, node in _objects(root))


def _objects(root: YamlNode) -> Iterator[tuple[str, str, YamlNode]]:
    for engine, body in entries(child(root, "engines")):
        for path, node in entries(child(body, "objects")):
            yield engine, path, node


def _object(engine: str, path: str, node: YamlNode) -> DeclaredObject:
    place: Path = ("engines", engine, "objects", path)
    once = as_text(child(node, "once", "exists"))
    return DeclaredObject(
        kind="object",
        path=f"{engine}/{path}",
        fields={name: plain(value) for name, value in entries(child(node, "fields"))},
        where=at_key(node, place),
        owner=f"sys/mounts/{engine}",
        secret={
            name: field_source(source, (*place, "secret", name))
            for name, source in entries(child(node, "secret"))
        },
        secret_version=as_number(child(node, "secret_version")),
        once=f"{engine}/{once}" if once else "",
    )


def object_rules(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield secrets among the fields of objects, and unclear versions."""
    for engine, name, node in _objects(root):
        place: Path = ("engines", engine, "objects", name)
        yield from _versions(place, node)
        yield from _generated(place, node)
        both = {field for field, _ in entries(child(node, "fields"))}
        for field, source in entries(child(node, "secret")):
            if field in both:
                about = (*place, "secret", field)
                summary = f"{shown(field)} is below fields and below secret"
                why, fix = "one write has one value for it", "keep one of the two"
                yield about, Problem("bad-value", summary, why, fix, at_key(source, about))
        for field, value in entries(child(node, "fields")):
            yield from _secret_field((*place, "fields", field), field, value)


def foreign_keys(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield keys that only engines of another type have; what is below them is not checked."""
    for engine, body in entries(child(root, "engines")):
        yield from _foreign_keys(("engines", engine), body)


def _foreign_keys(path: Path, body: YamlNode) -> Iterator[tuple[Path, Problem]]:
    kind = as_text(child(body, "type"))
    known = _KEYS.get(kind, ("objects",))
    for key in {key for keys in _KEYS.values() for key in keys} | {"objects"}:
        node = child(body, key)
        if kind and node is not None and key not in known:
            about = (*path, key)
            summary = f"an engine of type {shown(kind)} has no {key}"
            why = f"it has {' and '.join(known)}"
            fix = "remove it"
            if known == ("objects",) and isinstance(node.value, dict):
                fix = f"write objects: {{{key}/NAME: {{fields: …}}}}"
            yield about, Problem("unknown-key", summary, why, fix, at_key(node, about))


def _versions(place: Path, node: YamlNode) -> Iterator[tuple[Path, Problem]]:
    secret, version, once = (child(node, key) for key in ("secret", "secret_version", "once"))
    if secret is not None and version is None and once is None:
        about = (*place, "secret")
        summary = "secret fields need a secret_version"
        why = "the server never returns them, so nothing else tells when they are written"
        fix = "add secret_version: 1"
        yield about, Problem("missing-key", summary, why, fix, at_key(secret, about))
    if version is not None and (secret is None or once is not None):
        about = (*place, "secret_version")
        summary = "secret_version has no effect"
        why = "there is no secret" if secret is None else "with once, the object is written once"
        yield about, Problem("unused-key", summary, why, "remove it", at_key(version, about))


def _generated(place: Path, node: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield generated values that would be made anew whenever another field changes."""
    if child(node, "fields") is None or child(node, "once") is not None:
        return
    for name, source in entries(child(node, "secret")):
        made = child(source, "generate")
        if made is not None:
            about = (*place, "secret", name, "generate")
            summary = f"{shown(name)} would be generated anew whenever a field changes"
            why = "the server forgets a secret field that a write does not have"
            fix = "reference the value, as in env: NAME, or declare the object without fields"
            yield about, Problem("bad-generate", summary, why, fix, at_key(made, about))


def _secret_field(path: Path, name: str, value: YamlNode) -> Iterator[tuple[Path, Problem]]:
    text = as_text(value)
    if not text or not (looks_like_credential(text) or name.endswith(_SECRET_ENDINGS)):
        return
    summary = f"{shown(name)} looks like a secret, which a manifest must not contain"
    why = "many people read a manifest, and it is kept in version control"
    fix = f"declare it below secret:  secret: {{{name}: {{env: NAME}}}}, secret_version: 1"
    yield path, Problem("inline-credential", summary, why, fix, at_value(value, path))
