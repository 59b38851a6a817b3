"""What users and their programs rely on, held to a file: change it only on purpose.

Flags and defaults, exit codes, problem codes, step names and JSON schemas are there; texts
for people (summary, why, fix, descriptions, examples) are not. After a deliberate change,
run ``python tests/architecture/test_published_surface.py``, read the difference, and name
it in the CHANGELOG.
"""

from __future__ import annotations

import ast
import enum
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import skyflowctl
from skyflowctl.cli.command import load
from skyflowctl.cli.registry import COMMANDS
from skyflowctl.errors import ExitCode
from skyflowctl.planner.plan import ActionType, DriftKind, ObjectKind
from skyflowctl.rotation.model import Result, StepName

SURFACE = Path(__file__).with_name("published_surface.txt")
SOURCE = Path(skyflowctl.__file__).parent
SCHEMAS = Path(__file__).parents[2] / "schemas"
FOR_PEOPLE = frozenset({"title", "description", "examples", "$comment", "markdownDescription"})


def _value(value: Any) -> Any:
    """A default as JSON: an enum's value, a path's text."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _parameter(parameter: Any) -> str:
    choices = getattr(parameter.type, "choices", None)
    facts = {
        "type": [str(_value(one)) for one in choices] if choices else parameter.type.name,
        "required": parameter.required,
        "nargs": None if parameter.nargs == 1 else parameter.nargs,
        "multiple": getattr(parameter, "multiple", False),
        "flag": getattr(parameter, "is_flag", False),
        "hidden": getattr(parameter, "hidden", False),
        "default": _value(None if callable(parameter.default) else parameter.default),
        "env": parameter.envvar,
    }
    told = {key: value for key, value in facts.items() if value is not None and value is not False}
    names = [*parameter.opts, *parameter.secondary_opts]
    return f"{' '.join(names)} {json.dumps(told, ensure_ascii=False)}"


def commands() -> Iterator[str]:
    for row in COMMANDS:
        command: Any = load(row)
        yield f"command {row.name}"
        yield from sorted(f"  {_parameter(one)}" for one in command.params)


def _codes(tree: ast.AST) -> Iterator[str]:
    """Problem codes in a module: of problems, of errors, and the errors' own."""
    for node in ast.walk(tree):
        values: list[ast.expr] = []
        if isinstance(node, ast.Call):
            values = [word.value for word in node.keywords if word.arg == "code"]
            if isinstance(node.func, ast.Name) and node.func.id == "Problem" and node.args:
                values.append(node.args[0])
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {one.id for one in targets if isinstance(one, ast.Name)}
            if "default_code" in names and node.value is not None:
                values = [node.value]
        for value in values:
            parts = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
            for part in parts:
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value:
                    yield part.value


def problem_codes() -> list[str]:
    files = SOURCE.rglob("*.py")
    return sorted({code for file in files for code in _codes(ast.parse(file.read_text()))})


def _for_programs(schema: Any, *, names: bool = False) -> Any:
    """A schema without its texts for people; ``names``: the keys are of properties."""
    if isinstance(schema, list):
        return [_for_programs(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _for_programs(value, names=not names and key in {"properties", "$defs"})
        for key, value in schema.items()
        if names or key not in FOR_PEOPLE
    }


def schemas() -> Iterator[str]:
    for path in sorted(SCHEMAS.rglob("*.schema.json")):
        kept = json.dumps(_for_programs(json.loads(path.read_text())), sort_keys=True)
        name = path.relative_to(SCHEMAS)
        yield f"schema {name} {hashlib.sha256(kept.encode()).hexdigest()[:16]}"


def surface() -> str:
    lines = [
        *commands(),
        *(f"exit {code.value} {code.name}" for code in ExitCode),
        *(f"step {name.value}" for name in StepName),
        *(f"result {result.value}" for result in Result),
        *(f"action {one.value}" for one in ActionType),
        *(f"kind {one.value}" for one in ObjectKind),
        *(f"drift {one.value}" for one in DriftKind),
        *(f"problem {code}" for code in problem_codes()),
        *schemas(),
    ]
    return "\n".join(lines) + "\n"


def test_the_published_surface_is_as_recorded():
    assert surface() == SURFACE.read_text()


def test_a_schemas_texts_are_for_people_and_its_properties_are_not():
    schema = {"title": "x", "properties": {"title": {"type": "string", "description": "y"}}}
    assert _for_programs(schema) == {"properties": {"title": {"type": "string"}}}


if __name__ == "__main__":
    SURFACE.write_text(surface())
