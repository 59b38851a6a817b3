"""Rules of the references ``exec`` and ``stdin``, which a schema cannot express. Pure."""

from collections.abc import Iterator

from skyflowctl.errors import Problem
from skyflowctl.manifest.engine_rules import ROTATE_VERSION
from skyflowctl.manifest.logins import SECRETS
from skyflowctl.manifest.nodes import Path, YamlNode, at_key, at_value, child, entries, text_of
from skyflowctl.manifest.people import user_entries


def reference_rules(root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    """Yield programs without an absolute path, and every ``stdin`` that cannot be read."""
    first: Path = ()
    for path, reference in _references(root):
        program, stdin = child(reference, "exec"), child(reference, "stdin")
        argv = program.value if program is not None and isinstance(program.value, list) else []
        if argv and not (text_of(argv[0]) or "/").startswith("/"):
            yield _relative(argv[0], (*path, "exec", 0))
        if stdin is not None:
            about = (*path, "stdin")
            if stdin.value is False:
                yield _problem(stdin, about, "stdin must be true", _NOT_TRUE, "write stdin: true")
            elif first:
                summary = "the manifest has two references to stdin"
                why = f"standard input can be read only once, and {_owner(first)} reads it"
                fix = "use another reference, such as file or env"
                yield about, Problem("bad-reference", summary, why, fix, at_key(stdin, about))
            first = first or path


_NOT_TRUE = "only its presence says anything"


def _owner(path: Path) -> str:
    """Return the name of a reference's mount, or the path and the field of its secret."""
    return str(path[1]) if path[0] == "mounts" else "/".join(map(str, (path[1], *path[3:])))


def _references(root: YamlNode) -> Iterator[tuple[Path, YamlNode]]:
    for name, mount in entries(child(root, "mounts")):
        for keys in (("credentials",), ("rotation", "operator_token")):
            found = child(mount, *keys)
            if found is not None:
                yield ("mounts", name, *keys), found
    yield from _of_logins(root)
    for engine, node in entries(child(root, "engines")):
        yield from _of_engine(engine, node)


def _of_engine(engine: str, node: YamlNode) -> Iterator[tuple[Path, YamlNode]]:
    for name, secret in entries(child(node, "secrets")):
        for field, found in entries(secret):
            if field != ROTATE_VERSION:
                yield ("engines", engine, "secrets", name, field), found
    for name, one in entries(child(node, "objects")):
        for field, found in entries(child(one, "secret")):
            yield ("engines", engine, "objects", name, field), found
    for name, one in entries(child(node, "connections")):
        password = child(one, "password")
        if password is not None:
            yield ("engines", engine, "connections", name, "password"), password


def _of_logins(root: YamlNode) -> Iterator[tuple[Path, YamlNode]]:
    for method, node in entries(child(root, "auth")):
        for key in SECRETS:
            found = child(node, key)
            if found is not None:
                yield ("auth", method, key), found
    for path, user in user_entries(root):
        found = child(user, "password")
        if found is not None:
            yield (*path, "password"), found


def _relative(program: YamlNode, about: Path) -> tuple[Path, Problem]:
    return _problem(
        program,
        about,
        "the program of exec is not an absolute path",
        "a relative one could be another program in another folder",
        "write it whole, such as /usr/bin/pass",
    )


def _problem(node: YamlNode, about: Path, summary: str, why: str, fix: str) -> tuple[Path, Problem]:
    return about, Problem("bad-reference", summary, why, fix, at_value(node, about))
