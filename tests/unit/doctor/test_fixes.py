"""Every finding that is not ok names a command: read from the source, so that none is forgotten."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import skyflowctl
from skyflowctl.doctor.model import Grade
from skyflowctl.operations.doctor.nodes import node_findings
from skyflowctl.operations.node_states import NODE_STATES, NodeStatus

SOURCE = Path(skyflowctl.__file__).parent
FILES = sorted(
    [*(SOURCE / "doctor").glob("*.py"), *(SOURCE / "operations" / "doctor").glob("*.py")]
)
COMMAND = re.compile(
    r"\b(?:skyflowctl|bao|unset|export|timedatectl|kill|pip install)(?: |$|')|doctor/[a-z]+"
)
FROM_ELSEWHERE = {"fix", "one.fix", "problem.fix", "row.fix or f'skyflowctl health {mount.path}'"}
"""The fixes of problems, nodes and posture; tests/architecture/test_problems.py has the first."""

Scope = Mapping[str, list[ast.expr]]


def assigned(tree: ast.AST) -> dict[str, list[ast.expr]]:
    """Each name of a module or a function, with all values that it is given."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                for name, value in zip(names, values, strict=False):
                    if isinstance(name, ast.Name):
                        found.setdefault(name.id, []).append(value)
    return found


def texts(node: ast.expr, scope: Scope, returns: Scope) -> Iterator[str]:
    """Every text that an expression may be; an unknown part is ``1``."""
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        parts = [list(texts(one, scope, returns)) for one in node.values]
        yield from map("".join, itertools.product(*parts))
    elif isinstance(node, ast.FormattedValue):
        yield from list(texts(node.value, scope, returns)) or ["1"]
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body, scope, returns)
        yield from texts(node.orelse, scope, returns)
    elif isinstance(node, ast.BoolOp):
        yield from texts(node.values[-1], scope, returns)
    elif isinstance(node, ast.Name):
        for value in scope.get(node.id, ()):
            yield from texts(value, scope, returns)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        for value in returns.get(node.func.id, ()):
            yield from texts(value, scope, returns)


def fixes() -> Iterator[tuple[str, str, list[str]]]:
    trees = {file: ast.parse(file.read_text()) for file in FILES}
    tops = [one for tree in trees.values() for one in tree.body if isinstance(one, ast.Assign)]
    whole = assigned(ast.Module(tops, []))
    returns: dict[str, list[ast.expr]] = {}
    for one in (node for tree in trees.values() for node in ast.walk(tree)):
        if isinstance(one, ast.FunctionDef):
            said = [r.value for r in ast.walk(one) if isinstance(r, ast.Return) and r.value]
            returns.setdefault(one.name, []).extend(said)
    for file, tree in trees.items():
        functions = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
        for function in [*functions, ast.Module(tree.body, [])]:
            scope = whole | assigned(function)
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "Diagnosis":
                    grade, fix = ast.unparse(call.args[1]), call.args[4]
                    if grade != "Grade.OK":
                        where = f"{file.stem}:{call.lineno}"
                        yield where, ast.unparse(fix), list(texts(fix, scope, returns))


FOUND = {where: (fix, said) for where, fix, said in fixes()}


def test_the_findings_are_found():
    assert len(FOUND) > 30


@pytest.mark.parametrize("where", FOUND)
def test_a_finding_that_is_not_ok_names_a_command(where):
    fix, said = FOUND[where]
    assert said or fix in FROM_ELSEWHERE, f"{where}: {fix} is not known"
    assert all(COMMAND.search(one) for one in said), (where, said)


@pytest.mark.parametrize("state", NODE_STATES)
def test_a_node_names_the_command_for_its_state(state):
    fix = "on that node: skyflowctl plugin list --directory D" if state == "plugin_missing" else ""
    for one in node_findings(
        NodeStatus("https://n1:8200", state, "why", fix, clock_skew_seconds=90)
    ):
        assert one.grade is not Grade.OK or not one.fix
        assert one.grade is Grade.OK or COMMAND.search(one.fix), one
