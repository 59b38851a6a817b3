"""Modules are worth their name, and files, functions and parameter lists have a bound."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import skyflowctl

SOURCE = Path(skyflowctl.__file__).parent
FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 50, 6
SMALL_LINES = 40

# A small module with one importer is a section of it, unless its name is a contract.
CONTRACTS = (
    "__main__",
    "cli/commands/",
    "engine/paths/",
    "credentials/schemes/",
    "posture/checks/",
)

# This list may only shrink.
LONG_PARAMETER_LISTS = frozenset({
    "executor/run:execute",
    "operations/apply:apply",
    "operations/health:health",
    "operations/status:status",
    "vault/connection:send",
    "vault/errors:__init__",
    "vault/http_transport:__init__",
})  # fmt: skip

Modules = dict[str, str]
"""The source of each module by its path below src/skyflowctl, without ``.py``."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> Modules:
    files = [file for file in sorted(SOURCE.rglob("*.py")) if not file.stem.endswith("_pb2")]
    return {
        file.relative_to(SOURCE).with_suffix("").as_posix(): file.read_text()
        for file in files
        if file.name != "__init__.py"
    }


def importers(every: Modules) -> dict[str, set[str]]:
    """For each module the others that import it, in whatever form and place."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, text in every.items():
        for node in ast.walk(ast.parse(text)):
            targets: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module:
                targets = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
            elif isinstance(node, ast.Import):
                targets = [one.name for one in node.names]
            for target in targets:
                found[target.removeprefix("skyflowctl.").replace(".", "/")].add(name)
    return found


def small_modules(every: Modules) -> set[str]:
    """Modules under 40 lines with one importer at most, contracts excepted."""
    imported_by = importers(every)
    return {
        name
        for name, text in every.items()
        if len(text.splitlines()) < SMALL_LINES
        and len(imported_by[name] - {name}) <= 1
        and not name.startswith(CONTRACTS)
    }


def functions(every: Modules) -> Iterator[tuple[str, Function]]:
    for name, text in every.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, Function):
                yield name, node


def parameters(function: Function) -> int:
    """How many a caller sees: all but ``self`` and ``cls``."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def long_parameter_lists(every: Modules) -> set[str]:
    """Functions with more than six; the flags of a command are its interface, and excepted."""
    return {
        f"{name}:{function.name}"
        for name, function in functions(every)
        if parameters(function) > PARAMETERS and not name.startswith("cli/commands/")
    }


def test_a_small_module_has_two_importers_or_is_a_contract():
    assert small_modules(modules()) == set()


def test_files_are_short():
    found = {name for name, text in modules().items() if len(text.splitlines()) > FILE_LINES}
    assert found == set()


def test_functions_are_short():
    found = [
        f"{name}:{one.name}"
        for name, one in functions(modules())
        if (one.end_lineno or one.lineno) - one.lineno >= FUNCTION_LINES
    ]
    assert found == []


def test_parameter_lists_are_short():
    assert long_parameter_lists(modules()) == LONG_PARAMETER_LISTS


def test_each_rule_sees_what_breaks_it():
    every = {
        "a/one": "X = 1\n",
        "a/two": "Y = 1\n",
        "engine/paths/read": "Z = 1\n",
        "b/user": "from skyflowctl.a.one import X\nfrom skyflowctl.a import two\n" + "\n" * 40,
        "b/other": "def f():\n    import skyflowctl.a.two\n" + "\n" * 40,
    }
    assert small_modules(every) == {"a/one"}
    wide = "class C:\n    def f(self, a, b, c, *, d, e, f): ...\n    def g(a, b, c, d, *, e, f, h): ..."
    assert long_parameter_lists({"a/wide": wide, "cli/commands/wide": wide}) == {"a/wide:g"}
