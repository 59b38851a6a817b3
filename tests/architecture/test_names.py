"""One word, one thing: a public name is defined once, and modules have names of the field."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import skyflowctl

SOURCE = Path(skyflowctl.__file__).parent
FILES = [file for file in sorted(SOURCE.rglob("*.py")) if not file.stem.endswith("_pb2")]

MAY_REPEAT = frozenset({
    "main",  # the entry of a module that runs as a program
    "CHECKS",  # each module of checks lists its own
    "read",  # each scheme of references has one
    "T",  # a type variable
})  # fmt: skip
BANNED_MODULES = frozenset(
    {
        "words",
        "notes",
        "findings",
        "patience",
        "misc",
        "utils",
        "util",
        "base",
        "manager",
        "helpers",
    }
)
# Words of our own where the field has one; ``docs/glossary.md`` has the right ones.
PRIVATE_WORDS = frozenset(
    {
        "wishes", "errand", "supplied", "behind", "linting", "greet", "claim", "tidy", "believed",
        "patience", "persist", "twins", "strangers", "nameless", "overtaken", "rehearsal", "cast",
        "desk", "unsent", "unanswered", "settle", "undo", "neighbours", "journal", "hurry",
    }
)  # fmt: skip


def words_of(name: str) -> set[str]:
    """The words of a name, in snake_case or CamelCase."""
    return set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_"))


def public_names(tree: ast.Module) -> Iterator[str]:
    """The names that a module defines for others at its top level."""
    for node in tree.body:
        names: list[str] = []
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [one.id for one in targets if isinstance(one, ast.Name)]
        yield from (name for name in names if not name.startswith("_"))


def defined() -> dict[str, list[str]]:
    places: dict[str, list[str]] = defaultdict(list)
    for file in FILES:
        place = str(file.relative_to(SOURCE))
        if place.startswith("cli/commands/"):
            continue  # a command may have the name of the verb that it calls
        for name in public_names(ast.parse(file.read_text())):
            places[name].append(place)
    return places


def test_a_public_name_is_defined_in_one_module():
    twice = {
        name: places
        for name, places in defined().items()
        if len(places) > 1 and name not in MAY_REPEAT
    }
    assert twice == {}


@pytest.mark.parametrize("name", sorted(MAY_REPEAT))
def test_what_may_repeat_does(name):
    assert len(defined()[name]) > 1


def test_no_module_has_a_name_that_says_nothing():
    parts = {file: set(file.stem.split("_")) for file in FILES}
    assert [str(file.relative_to(SOURCE)) for file in FILES if parts[file] & BANNED_MODULES] == []


def test_no_public_name_is_of_a_private_vocabulary():
    words = {name: words_of(name) for name in defined()}
    assert sorted(name for name in words if words[name] & PRIVATE_WORDS) == []
    modules = {file.stem: set(file.stem.split("_")) for file in FILES}
    assert sorted(stem for stem in modules if modules[stem] & PRIVATE_WORDS) == []
