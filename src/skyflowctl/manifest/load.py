"""Loads manifest files to a checked manifest; reports all problems, each with its position."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce

from skyflowctl.errors import InvalidInputError, Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.build import build
from skyflowctl.manifest.files import read_manifest, source_name
from skyflowctl.manifest.logins import TYPES
from skyflowctl.manifest.messages import shown
from skyflowctl.manifest.model import Manifest
from skyflowctl.manifest.nodes import ManifestFile, Path, YamlNode, as_text, at_value, child
from skyflowctl.manifest.objects import foreign_keys
from skyflowctl.manifest.rules import check_privacy, check_rules
from skyflowctl.manifest.schema_problems import check_schema, is_below
from skyflowctl.manifest.yaml_tree import read_tree


@dataclass(frozen=True, slots=True)
class LoadedManifest:
    """A valid manifest with its warnings.

    Args:
        manifest: the files' merged content.
        warnings: what does not make it invalid.
        files: each file with its own content, after ``${NAME}`` was replaced.
    """

    manifest: Manifest
    warnings: tuple[Problem, ...] = ()
    files: tuple[tuple[str, YamlNode], ...] = ()


def load_manifest(files: Sequence[str], *, environ: Mapping[str, str]) -> LoadedManifest:
    """Read, merge and check manifest files; a later file takes precedence.

    References are not resolved, and no server is asked.

    Args:
        files: their paths, at least one; ``-`` is standard input.
        environ: the variables for ``${NAME}``.

    Raises:
        InvalidInputError: contains every problem, in the order of the files and lines.
    """
    with _collector_paused():
        root, roots = _read(files, environ)
        return LoadedManifest(
            build(root, tuple(files)),
            check_privacy(root),
            tuple(zip(files, roots, strict=True)),
        )


def text_problems(text: str) -> list[Problem]:
    """Return every problem of one manifest without ``${NAME}``, with its pointer."""
    tree = read_tree(text, ManifestFile("", "."), {})
    checked = _check(tree.root, set(tree.refused)) if tree.root is not None else []
    return [*tree.problems, *checked]


def _read(files: Sequence[str], environ: Mapping[str, str]) -> tuple[YamlNode, Sequence[YamlNode]]:
    """Return the merged tree, and that of each file."""
    problems: list[Problem] = []
    refused: set[Path] = set()
    roots: list[YamlNode] = []
    for file in files:
        try:
            source, text = read_manifest(file)
        except InvalidInputError as error:
            problems += error.problems
            continue
        tree = read_tree(text, source, environ)
        problems += tree.problems
        refused |= tree.refused
        if tree.root is not None:
            roots.append(tree.root)
    if len(roots) == len(files):
        root = merge(roots)
        problems += [*_other_manifests(roots), *_check(root, refused)]
        if not problems:
            return root, roots
    raise InvalidInputError.of(_in_order(problems, [source_name(file) for file in files]))


def _other_manifests(roots: Sequence[YamlNode]) -> Iterator[Problem]:
    """Yield each id of a file that is not the id of the first: they would be one manifest."""
    named = [one for root in roots if (one := child(root, "manifest")) and as_text(one)]
    for one in named[1:]:
        if as_text(one) != as_text(named[0]):
            first, where = at_value(named[0], ("manifest",)), at_value(one, ("manifest",))
            yield Problem(
                "manifest-differs",
                f"this file is of the manifest {shown(as_text(one))}, "
                f"not of {shown(as_text(named[0]))}",
                f"{first.file}:{first.line}:{first.column} names the other; files that are given "
                "together are one manifest",
                "give them the same id, or apply them one after the other",
                where,
            )


def _check(root: YamlNode, refused: set[Path]) -> list[Problem]:
    foreign = [one for one in foreign_keys(root) if not is_below(one[0], refused)]
    refused = refused | {path for path, _ in foreign}
    problems, about = check_schema(root, refused)
    return [one for _, one in foreign] + problems + check_rules(root, refused | about)


def _in_order(problems: Sequence[Problem], names: Sequence[str]) -> list[Problem]:
    def place(problem: Problem) -> tuple[int, int, int, str]:
        where = problem.where
        if where is None:
            return len(names), 0, 0, problem.code
        file = names.index(where.file) if where.file in names else len(names)
        return file, where.line or 0, where.column or 0, problem.code

    return sorted(dict.fromkeys(problems), key=place)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector, which would traverse the growing tree repeatedly.

    For 1,000 mounts it takes two thirds of the time, and there are no cycles to find.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# A single value in the form of a map: a later file replaces all of it, because a merge could
# combine two schemes (file and env) in one reference.
_WHOLE_VALUES = frozenset(
    {"ca", "client_secret", "credentials", "once", "operator_token", "password", "probe"}
    | {"token_reviewer_jwt"}
)
_WHOLE_ENTRIES = frozenset({"policies", "fields", "secret"})
_WITH_SOURCES = frozenset({"secrets"})
_NAMED_BY_USER = frozenset(
    {"mounts", "namespaces", "roles", "auth", "engines", "objects", "connections", "keys", *TYPES}
)


def merge(roots: Sequence[YamlNode]) -> YamlNode:
    """Return one tree; a later root takes precedence. Values keep their own file and position."""
    return reduce(lambda left, right: _merge(left, right, names_are_free=False), roots)


def _merge(left: YamlNode, right: YamlNode, *, names_are_free: bool) -> YamlNode:
    if not isinstance(left.value, dict) or not isinstance(right.value, dict):
        return right
    merged = dict(left.value)
    for key, value in right.value.items():
        earlier = merged.get(key)
        is_whole = key in _WHOLE_VALUES and not names_are_free
        if earlier is None or is_whole:
            merged[key] = value
        elif key in _WHOLE_ENTRIES and not names_are_free:
            merged[key] = _with_entries(earlier, value)
        elif key in _WITH_SOURCES and not names_are_free:
            merged[key] = _with_fields(earlier, value)
        else:
            free = key in _NAMED_BY_USER and not names_are_free
            merged[key] = _merge(earlier, value, names_are_free=free)
    return left._replace(value=merged)


def _with_fields(left: YamlNode, right: YamlNode) -> YamlNode:
    """Return the secrets of both maps; a field of the right one replaces that of the left one."""
    if not isinstance(left.value, dict) or not isinstance(right.value, dict):
        return right
    both = left.value.keys() & right.value.keys()
    joined = {path: _with_entries(left.value[path], right.value[path]) for path in both}
    return left._replace(value={**left.value, **right.value, **joined})


def _with_entries(left: YamlNode, right: YamlNode) -> YamlNode:
    """Return both maps' entries; an entry of the right one replaces that of the left one."""
    if not isinstance(left.value, dict) or not isinstance(right.value, dict):
        return right
    return left._replace(value={**left.value, **right.value})
