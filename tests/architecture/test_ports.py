"""A port is complete: nobody asks an object which of a port's members it has."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import skyflowctl

SOURCE = Path(skyflowctl.__file__).parent


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(SOURCE.rglob("*.py")):
        yield str(file.relative_to(SOURCE)), ast.parse(file.read_text())


def _name(node: ast.expr) -> str:
    return ast.unparse(node.value if isinstance(node, ast.Subscript) else node)


def ports(modules: list[tuple[str, ast.Module]]) -> set[str]:
    """The names of all classes that are Protocols."""
    classes = {
        node.name: {_name(base) for base in node.bases}
        for _, tree in modules
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    return {name for name, bases in classes.items() if bases & {"Protocol", "typing.Protocol"}}


def _asked(call: ast.Call) -> set[str]:
    """The last parts of the names that a call asks for; asyncio has a Transport of its own."""
    names = {
        ast.unparse(one)
        for argument in call.args[1:]
        for one in ast.walk(argument)
        if isinstance(one, ast.Name | ast.Attribute)
    }
    return {one.rpartition(".")[2] for one in names if not one.startswith("asyncio.")}


def questions(tree: ast.Module, known: set[str]) -> list[str]:
    """Each place that asks an object for its kind of port, or for a member."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            asks = any(alias.name == "runtime_checkable" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            kind = node.func.id in {"isinstance", "issubclass"}
            asks = node.func.id == "hasattr" or (kind and bool(_asked(node) & known))
        else:
            asks = isinstance(node, ast.Attribute) and node.attr == "runtime_checkable"
        if asks:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def test_ports_are_found():
    found = ports(list(_modules()))
    assert {"Transport", "CredentialSource", "KeyService", "TokenService", "Storage"} <= found


def test_no_object_is_asked_which_port_it_is():
    modules = list(_modules())
    known = ports(modules)
    assert [f"{name}:{one}" for name, tree in modules for one in questions(tree, known)] == []


def test_each_form_of_the_question_is_seen():
    tree = ast.parse(
        "from typing import runtime_checkable\n"
        "isinstance(one, Port)\n"
        "isinstance(one, str | ports.Port)\n"
        "issubclass(kind, (str, Port))\n"
        "hasattr(one, 'close')\n"
        "typing.runtime_checkable\n"
        "isinstance(one, asyncio.Port)\n"
    )
    assert {int(one.partition(":")[0]) for one in questions(tree, {"Port"})} == {1, 2, 3, 4, 5, 6}
