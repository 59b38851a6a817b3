"""Every problem has three lines: none is made in the source without all of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import skyflowctl
from skyflowctl import errors
from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.vault import errors as vault_errors

SOURCE = Path(skyflowctl.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
KINDS = {
    name
    for module in (errors, vault_errors)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, errors.SkyflowctlError)
} | {UnresolvedReferenceError.__name__}
PARTS = ("summary", "why", "fix")


def made_in(tree: ast.AST) -> Iterator[tuple[ast.Call, dict[str, ast.expr]]]:
    """Every call that makes a problem or an error, with its arguments by name."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        places = {"Problem": ("code", *PARTS, "where")} | dict.fromkeys(KINDS, PARTS[:1])
        if node.func.id in places:
            named = {word.arg: word.value for word in node.keywords if word.arg}
            yield node, named | dict(zip(places[node.func.id], node.args, strict=False))


def is_missing(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and not value.value)


def incomplete(tree: ast.AST) -> list[str]:
    return [
        f"line {call.lineno}: no {part}"
        for call, given in made_in(tree)
        for part in PARTS
        if is_missing(given.get(part))
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_problem_lacks_a_line(file):
    assert incomplete(ast.parse(file.read_text())) == []


@pytest.mark.parametrize(
    "text",
    [
        "Problem('c', 's', '', 'f')",
        "UsageError('s', why='w')",
        "RefusedError('s', why='', fix='f')",
    ],
)
def test_a_line_that_lacks_is_found(text):
    assert len(incomplete(ast.parse(text))) == 1


def test_the_search_meets_what_there_is():
    found = [call for file in FILES for call, _ in made_in(ast.parse(file.read_text()))]
    assert len(found) > 100
