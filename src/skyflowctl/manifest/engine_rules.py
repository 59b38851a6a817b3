"""The rules of ``engines``: paths, and sources of secrets. They add problems and never raise."""

from collections.abc import Iterator, Mapping

from skyflowctl.errors import Problem
from skyflowctl.manifest.interpolate import looks_secret
from skyflowctl.manifest.messages import looks_like_credential, shown
from skyflowctl.manifest.nodes import Path, YamlNode, at_key, at_value, child, entries, text_of
from skyflowctl.manifest.paths import RESERVED, mount_path, parents

ROTATE_VERSION = "rotate_version"
LEASE_TTLS = ("default_lease_ttl", "max_lease_ttl")


def engine_rules(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield engines whose path is taken, secrets in the file, and unclear sources."""
    yield from _paths(root)
    for engine, node in entries(child(root, "engines")):
        for name, secret in entries(child(node, "secrets")):
            place: Path = ("engines", engine, "secrets", name)
            yield from _secret(place, secret)
            yield from source_rules(
                place, {key: one for key, one in entries(secret) if key != ROTATE_VERSION}
            )
        for name, one in entries(child(node, "objects")):
            place = ("engines", engine, "objects", name, "secret")
            yield from source_rules(place, dict(entries(child(one, "secret"))))


def _paths(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    taken = {mount_path(root, name): f"the mount {shown(name)}" for name, _ in _mounts(root)}
    for engine, node in entries(child(root, "engines")):
        path: Path = ("engines", engine)
        first = engine.split("/")[0]
        around = next((one for one in taken if _overlap(one, engine)), None)
        if first.lower() in RESERVED:
            summary = f"the path {shown(engine)} is reserved"
            why, fix = f"{shown(first)}/ is reserved by the server", "choose another path"
            yield path, Problem("reserved-path", summary, why, fix, at_key(node, path))
        elif around is not None:
            summary = f"the engine {shown(engine)} and {taken[around]} have overlapping paths"
            why, fix = f"the server refuses it beside {shown(around)}", "move one of them"
            yield path, Problem("overlapping-path", summary, why, fix, at_key(node, path))
        kind = child(node, "type")
        if kind is not None and text_of(kind) == (
            text_of(child(root, "plugin", "name")) or "skyflow"
        ):
            about = (*path, "type")
            summary = f"an engine of type {shown(text_of(kind) or '')} is declared below mounts"
            why, fix = "it has a config and roles", f"write mounts: {{NAME: {{path: {engine}}}}}"
            yield about, Problem("bad-value", summary, why, fix, at_value(kind, about))
        taken[engine] = f"the engine {shown(engine)}"


def _mounts(root: YamlNode) -> Iterator[tuple[str, YamlNode]]:
    return entries(child(root, "mounts"))


def _overlap(one: str, other: str) -> bool:
    return one == other or one in parents(other) or other in parents(one)


def _secret(path: Path, secret: YamlNode) -> Iterator[tuple[Path, Problem]]:
    fields = [(name, node) for name, node in entries(secret) if name != ROTATE_VERSION]
    if isinstance(secret.value, dict) and secret.value and not fields:
        summary, why = f"the secret {shown(str(path[-1]))} has no field", "nothing would be written"
        fix = "add one, such as password: {generate: {length: 32}}"
        yield path, Problem("empty-value", summary, why, fix, at_key(secret, path))


def source_rules(path: Path, fields: Mapping[str, YamlNode]) -> Iterator[tuple[Path, Problem]]:
    """Yield fields whose value looks like a secret, or that are generated in no clear way."""
    for name, node in fields.items():
        value, made = child(node, "value"), child(node, "generate")
        if value is not None:
            yield from _value((*path, name, "value"), name, value)
        if made is not None and isinstance(made.value, dict):
            yield from _generated((*path, name, "generate"), made)


def _value(path: Path, name: str, value: YamlNode) -> Iterator[tuple[Path, Problem]]:
    if not looks_secret(name) and not looks_like_credential(text_of(value) or ""):
        return
    summary = f"{shown(name)} looks like a secret, which a manifest must not contain"
    why = "many people read a manifest, and it is kept in version control"
    fix = "use generate: {length: 32}, or reference it: env, file or keyring"
    yield path, Problem("inline-credential", summary, why, fix, at_value(value, path))


def _generated(path: Path, made: YamlNode) -> Iterator[tuple[Path, Problem]]:
    length, alphabet, size = (child(made, key) for key in ("length", "alphabet", "bytes"))
    if (length is None) == (size is None):
        summary = "generate needs either length or bytes"
        why = "length counts characters, bytes counts random bytes in base64"
        yield path, Problem("bad-generate", summary, why, "keep one of them", at_key(made, path))
    elif alphabet is not None and length is None:
        about = (*path, "alphabet")
        summary, why = "alphabet is used only with length", "bytes are written as base64"
        yield about, Problem("unused-key", summary, why, "remove it", at_key(alphabet, about))
    letters = text_of(alphabet) or ""
    if alphabet is not None and len(set(letters)) != len(letters):
        about = (*path, "alphabet")
        summary, why = "the alphabet has a character twice", "it would be chosen more often"
        yield about, Problem("bad-value", summary, why, "keep it once", at_value(alphabet, about))
